"""Frames that are fit to be learned from lie in the folder; the others are counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import make_image, png_bytes

from device.bundle.calibration import PreprocessSpec
from device.camera.replay import ReplayCamera
from device.config import HealthConfig, load
from device.errors import FrameError
from device.image.frame import Frame, read_image
from device.image.geometry import Size
from device.inspection.checks import Checks, measure
from device.inspection.preprocess import Preprocessor
from device.learning import collect
from device.learning.collect import Collection, CollectionPlan, Fitness, Progress
from device.line.trigger import FreeRun

SIDE = 64


@pytest.fixture
def health(tmp_path: Path) -> HealthConfig:
    """The limits that a station has by default."""
    path = tmp_path / "config.toml"
    path.write_text("")
    return load(path).health


class Ends:
    """It is time to stop after so many frames were told of."""

    def __init__(self, after: int = 1000) -> None:
        self.told: list[Progress] = []
        self.waited_s: list[float] = []
        self._after = after

    @property
    def requested(self) -> bool:
        return len(self.told) >= self._after

    def wait(self, seconds: float) -> bool:
        self.waited_s.append(seconds)
        return self.requested


def seen(frame: Frame) -> Checks:
    return measure(Preprocessor(PreprocessSpec(Size(SIDE, SIDE), "stretch", "rgb", 114)).prepare(frame))


def collection(folder: Path, health: HealthConfig, ends: Ends, plan: CollectionPlan) -> Collection:
    return Collection(plan, Fitness(health), folder / "taken", seen, ends, ends.told.append)


def camera(folder: Path, images: Sequence[np.ndarray | bytes]) -> ReplayCamera:
    """One that gives these once; bytes are a file that is no image."""
    source = folder / "source"
    source.mkdir()
    for index, image in enumerate(images):
        content = image if isinstance(image, bytes) else png_bytes(image)
        (source / f"{index:03d}.png").write_bytes(content)
    return ReplayCamera(source)


def parts(count: int) -> list[np.ndarray]:
    return [make_image(seed=seed) for seed in range(count)]


def test_as_many_as_wanted_lie_in_the_folder_as_they_were(tmp_path: Path, health: HealthConfig) -> None:
    images, ends = parts(8), Ends()
    made = collection(tmp_path, health, ends, CollectionPlan(6, 2.5))
    made.run(camera(tmp_path, images), FreeRun(), 5.0)
    assert [path.name for path in made.taken] == [f"{n:05d}.png" for n in range(1, 7)]
    for path, image in zip(made.taken, images, strict=False):
        np.testing.assert_array_equal(read_image(path)[0], image)
    assert ends.waited_s == [2.5] * 5
    assert [progress.taken for progress in ends.told] == [1, 2, 3, 4, 5, 6]
    assert ends.told[-1].left_s == 0


@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        (make_image(seed=5), "frozen"),
        (np.zeros((SIDE, SIDE, 3), np.uint8), "black"),
        (make_image(seed=9) // 3, "too dark"),
        (make_image(seed=9) + np.uint8(160), "too bright"),
        (np.full((SIDE, SIDE, 3), 50, np.uint8), "blurred"),
        (b"nothing", "unreadable"),
    ],
)
def test_what_is_not_fit_is_refused_and_the_next_one_taken(
    tmp_path: Path, health: HealthConfig, unfit: np.ndarray | bytes, why: str
) -> None:
    made = collection(tmp_path, health, Ends(), CollectionPlan(7, 0.0))
    made.run(camera(tmp_path, [*parts(6), unfit, make_image(seed=7)]), FreeRun(), 5.0)
    assert made.refused == {why: 1}
    assert len(made.taken) == 7
    np.testing.assert_array_equal(read_image(made.taken[-1])[0], make_image(seed=7))


def test_a_stop_and_the_end_of_the_source_keep_what_was_taken(tmp_path: Path, health: HealthConfig) -> None:
    for name, ends, expected in (("stopped", Ends(after=3), 3), ("ended", Ends(), 5)):
        folder = tmp_path / name
        folder.mkdir()
        made = collection(folder, health, ends, CollectionPlan(100, 0.0))
        made.run(camera(folder, parts(5)), FreeRun(), 5.0)
        assert len(list((folder / "taken").iterdir())) == expected


def test_what_is_never_fit_ends_it_and_says_why(tmp_path: Path, health: HealthConfig) -> None:
    made = collection(tmp_path, health, Ends(), CollectionPlan(100, 0.0))
    black = [np.full((SIDE, SIDE, 3), seed % 2, np.uint8) for seed in range(collect.MOST_REFUSED)]
    with pytest.raises(FrameError, match=r"50 frames in a row .* black: brightness"):
        made.run(camera(tmp_path, black), FreeRun(), 5.0)


def test_progress_in_words() -> None:
    assert str(Progress(0, 100, 0, None)) == "0 of 100 good frames"
    assert str(Progress(12, 100, 3, 600.0)) == "12 of 100 good frames, 3 refused, about 10 min left"
    assert str(Progress(1, 900, 0, 9000.0)) == "1 of 900 good frames, about 2.5 h left"
