"""Images that show the same thing, told from their pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from fixtures_trainer import REPOSITORY
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from device.image.frame import read_image
from device.image.geometry import Size
from trainer.data import near_duplicates
from trainer.synthetic import TEXTURES, render

SHARED = REPOSITORY.parent / "shared" / "data"
SIDE = 192

Pixels = NDArray[np.uint8]


def texture(rng: np.random.Generator, sigma: float, side: int = SIDE) -> NDArray[np.float32]:
    smooth = cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), sigma)
    return np.asarray(smooth / smooth.std())


def photograph(scene: NDArray[np.float32], rng: np.random.Generator, noise: float = 3.0) -> Pixels:
    """With noise of its own, and a brightness."""
    seen = scene * rng.uniform(0.85, 1.15) + rng.normal(0, noise, scene.shape)
    return np.repeat(np.clip(seen, 0, 255).astype(np.uint8)[:, :, np.newaxis], 3, 2)


def moved(scene: NDArray[np.float32], x: float, y: float, degrees: float = 0.0) -> NDArray[np.float32]:
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, 1.0)
    turn[:, 2] += (x, y)
    return np.asarray(cv2.warpAffine(scene, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT))


def template(seed: int) -> NDArray[np.float32]:
    """A part with holes on a ground, as a fixture holds it."""
    rng = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE), 60, np.float32)
    cv2.rectangle(image, (30, 38), (160, 154), 150.0, -1)
    for _ in range(8):
        x, y, radius = (int(value) for value in rng.integers((45, 50, 4), (145, 140, 12)))
        cv2.circle(image, (x, y), radius, float(rng.integers(20, 240)), -1)
    return image


def videos(runs: int, frames: int, degrees: float = 0.0) -> tuple[list[Pixels], list[int]]:
    """Of a camera that drifts over a scene, another one in each run."""
    rng = np.random.default_rng(2)
    images = []
    for _ in range(runs):
        scene = np.asarray(120 + 25 * texture(rng, 1.5) + 20 * texture(rng, 8), np.float32)
        x = y = turned = 0.0
        for _ in range(frames):
            x, y, turned = (
                x + rng.uniform(-2, 2),
                y + rng.uniform(-2, 2),
                turned + rng.uniform(-degrees, degrees),
            )
            images.append(photograph(moved(scene, x, y, turned), rng))
    return images, [run for run in range(runs) for _ in range(frames)]


def on_a_conveyor() -> tuple[list[Pixels], list[int]]:
    """Parts of one shape that pass over a ground which never moves: only their own grain tells them apart."""
    rng = np.random.default_rng(3)
    ground = np.asarray(60 + 10 * texture(rng, 2), np.float32)
    images = []
    for _ in range(4):
        part = (template(9) + 8 * texture(rng, 1.5))[38:154, 30:160]
        for step in range(10):
            frame = ground.copy()
            frame[38:154, 3 * step : 3 * step + 130] = part
            images.append(photograph(frame, rng))
    return images, [part for part in range(4) for _ in range(10)]


def again_and_again() -> tuple[list[Pixels], list[int]]:
    """Six parts in one fixture, ten images of each."""
    rng = np.random.default_rng(4)
    parts = [np.asarray(template(9) + 10 * texture(rng, 2), np.float32) for _ in range(6)]
    return [photograph(part, rng) for part in parts for _ in range(10)], [
        n for n in range(6) for _ in range(10)
    ]


def of_some_kinds(kinds: int, jitter: float) -> list[Pixels]:
    """Different parts of each kind, in one fixture with some play."""
    rng = np.random.default_rng(1)
    return [
        photograph(
            moved(template(9 + n % kinds) + 6 * texture(rng, 2), *rng.uniform(-jitter, jitter, 2)), rng
        )
        for n in range(48)
    ]


def groups_of(images: Sequence[Pixels]) -> NDArray[np.intp]:
    scale = near_duplicates.scale_for([Size(image.shape[1], image.shape[0]) for image in images])
    return near_duplicates.groups([near_duplicates.glance(image, scale) for image in images])


@pytest.mark.parametrize(
    "made",
    [
        lambda: videos(4, 12),
        lambda: videos(2, 24),
        lambda: videos(4, 12, degrees=1.0),
        on_a_conveyor,
        again_and_again,
    ],
)
def test_what_shows_the_same_thing_is_one_group(made: Callable[[], tuple[list[Pixels], list[int]]]) -> None:
    images, truth = made()
    assert adjusted_rand_score(truth, groups_of(images)) == 1.0


@pytest.mark.parametrize(("kinds", "jitter"), [(1, 0.0), (1, 2.0), (2, 0.0), (2, 2.0), (3, 2.0)])
def test_parts_of_one_kind_in_a_fixture_are_different_things(kinds: int, jitter: float) -> None:
    assert len(set(groups_of(of_some_kinds(kinds, jitter)))) >= 46  # of 48


@pytest.mark.parametrize("radius", [20, 30])
@pytest.mark.parametrize("jitter", [0.0, 1.5])
def test_the_same_defect_does_not_make_parts_the_same(radius: int, jitter: float) -> None:
    """A hole too many at one place of smooth parts, which nothing else tells apart."""
    rng = np.random.default_rng(6)
    images = []
    for number in range(40):
        part = template(9) + 2 * texture(rng, 2)
        if number < 10:
            cv2.circle(part, (96, 96), radius * SIDE // 256, 200.0, -1)
        images.append(photograph(moved(np.asarray(part, np.float32), *rng.uniform(-jitter, jitter, 2)), rng))
    assert len(set(groups_of(images)[:10])) >= 9


@pytest.mark.parametrize("name", TEXTURES)
def test_images_of_one_texture_are_different_things(name: str) -> None:
    images = [render(name, (None, "stain")[n % 2], 128, np.random.default_rng(n))[0] for n in range(40)]
    assert len(set(groups_of([np.repeat(image[:, :, np.newaxis], 3, 2) for image in images]))) == 40


def test_a_video_that_is_the_whole_set_can_still_be_divided() -> None:
    """Were it one group, nothing could be held out."""
    numbers = groups_of(videos(1, 40)[0])
    assert np.bincount(numbers).max() <= 27


def test_a_crop_and_another_exposure_are_the_same_thing() -> None:
    rng = np.random.default_rng(5)
    scenes = [np.asarray(110 + 30 * texture(rng, 2, 240), np.float32) for _ in range(6)]
    images = []
    for scene in scenes:
        images += [photograph(scene, rng), photograph(scene[6:230, 9:240] * 0.6 + 20, rng)]
    assert adjusted_rand_score(np.repeat(range(6), 2), groups_of(images)) == 1.0


@pytest.mark.parametrize("side", [1, 3, 24])
def test_images_too_small_to_tell_are_different_things(side: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    assert list(groups_of([image, image, image])) == [0, 1, 2]


def test_flat_images_and_a_single_one() -> None:
    flat = np.full((96, 96, 3), 128, np.uint8)
    assert list(groups_of([flat])) == [0]
    assert list(groups_of([flat, flat, flat])) == [0, 1, 2]


@pytest.mark.parametrize("shape", [(40, 400), (3000, 50), (96, 2000)])
def test_a_glance_is_small_whatever_the_image(shape: tuple[int, int]) -> None:
    seen = near_duplicates.glance(np.zeros((*shape, 3), np.uint8), 0.5)
    assert max(seen.shape) <= near_duplicates.SIDE_PX


# ---- real images


def real(pattern: str) -> list[Pixels]:
    files = sorted(path for path in SHARED.glob(pattern) if "ground_truth" not in path.parts)
    if not files:
        pytest.skip(f"no {pattern} in {SHARED}")
    return [read_image(path)[0] for path in files]


@pytest.mark.shared_data
@pytest.mark.parametrize("pattern", ["dagm/Class8/T*/*.PNG", "mvtec/screw/t*/*/*.png"])
def test_different_real_parts_stay_apart(pattern: str) -> None:
    images = real(pattern)
    assert len(set(groups_of(images))) == len(images)
