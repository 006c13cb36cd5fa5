"""Copies of images: what may be done is done to image and mask alike; no defect is made or lost."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from device.image.geometry import Size
from trainer.config import load as load_config
from trainer.data.augment import GRAINED, Augmentation, Grain, covering_scale

SIDE = 64
STILL = Augmentation()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def marked(side: int = SIDE, corner: tuple[int, int] = (20, 34), extent: int = 9):
    """A dark noisy image with a white square in it, and the square as the mask."""
    pixels = rng(1).integers(40, 60, (side, side, 3)).astype(np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[corner[0] : corner[0] + extent, corner[1] : corner[1] + extent] = 1
    pixels[mask == 1] = 250
    return pixels, mask


def test_nothing_is_done_unless_it_is_allowed():
    pixels, mask = marked()
    copy, moved = STILL.apply(pixels, mask, rng())
    np.testing.assert_array_equal(copy, pixels)
    np.testing.assert_array_equal(moved, mask)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ({}, 1),
        ({"flip_horizontal": True}, 2),
        ({"flip_horizontal": True, "flip_vertical": True}, 4),
        ({"quarter_turns": True}, 4),
        ({"flip_horizontal": True, "quarter_turns": True}, 8),
    ],
)
def test_all_ways_to_mirror_and_turn_come_and_no_others(allowed, expected):
    """The symmetries of a square: 2 mirrors make 4, with quarter turns there are 8."""
    pixels, mask = marked()
    seen = set()
    for seed in range(80):
        copy, moved = Augmentation(**allowed).apply(pixels, mask, rng(seed))
        assert (copy[moved == 1] == 250).all()
        assert moved.sum() == mask.sum()
        seen.add(copy.tobytes())
    assert len(seen) == expected


def test_an_oblong_image_keeps_its_shape():
    pixels, mask = rng().integers(0, 255, (32, 64, 3)).astype(np.uint8), np.zeros((32, 64), np.uint8)
    copies = [Augmentation(quarter_turns=True).apply(pixels, mask, rng(seed))[0] for seed in range(20)]
    assert {copy.shape for copy in copies} == {pixels.shape}
    assert {copy.tobytes() for copy in copies} == {pixels.tobytes(), pixels[::-1, ::-1].tobytes()}


@pytest.mark.parametrize("fill", ["zoom", "level", "edge"])
@pytest.mark.parametrize("move", [{"rotation_deg": 180.0}, {"zoom": 0.3}, {"shift": 0.2}])
def test_the_mask_goes_where_the_defect_goes(move, fill):
    pixels, mask = marked()
    moved_at_all = 0
    for seed in range(20):
        copy, moved = Augmentation(fill=fill, **move).apply(pixels, mask, rng(seed))
        bright = copy[:, :, 0] > 150
        assert moved.sum() >= 0.5 * mask.sum() * min(1.0, 1 / 1.3**2)
        assert np.count_nonzero(bright != (moved == 1)) <= 0.35 * moved.sum()  # half pixels at its edge
        moved_at_all += not np.array_equal(moved, mask)
    assert moved_at_all > 5  # never smaller than the frame with fill "zoom"


def test_a_shift_is_a_share_of_each_side():
    pixels, mask = marked(corner=(28, 28), extent=8)
    found = []
    for seed in range(200):
        _, moved = Augmentation(shift=0.25, fill="level").apply(pixels, mask, rng(seed))
        rows, columns = np.nonzero(moved)
        found.append((rows.mean() - 31.5, columns.mean() - 31.5))
    reach = np.abs(found).max(0)
    assert (reach > 14).all()
    assert (reach <= 16.5).all()


def test_a_defect_is_not_moved_out_of_the_picture():
    """It lies at the edge: half of all shifts would push it out."""
    pixels, mask = marked(corner=(0, 20))
    for seed in range(40):
        _, moved = Augmentation(shift=0.4, fill="level").apply(pixels, mask, rng(seed))
        assert moved.sum() >= 0.5 * mask.sum()


def test_an_image_whose_defect_nobody_drew_is_not_moved():
    pixels, _ = marked()
    copy, mask = Augmentation(rotation_deg=90.0, shift=0.4, zoom=0.5).apply(pixels, None, rng())
    assert mask is None
    np.testing.assert_array_equal(copy, pixels)


# ---- what a move reveals


def test_enlarging_reveals_nothing():
    """The image is 200 everywhere, and beyond it OpenCV would put the 0 of its own default."""
    pixels, mask = np.full((SIDE, SIDE, 3), 200, np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    for seed in range(20):
        copy, _ = Augmentation(rotation_deg=180.0, shift=0.1).apply(pixels, mask, rng(seed))
        assert copy.min() == 200


@pytest.mark.parametrize(
    ("angle_deg", "shift", "expected"),
    [
        (0.0, (0.0, 0.0), 1.0),
        (90.0, (0.0, 0.0), 1.0),
        (45.0, (0.0, 0.0), math.sqrt(2)),
        (0.0, (10.0, 0.0), 1.2),  # 101 px: the far edge must reach 60 from 50
        (0.0, (-5.0, 10.0), 1.2),
    ],
)
def test_how_much_a_moved_square_must_grow(angle_deg, shift, expected):
    assert covering_scale(Size(101, 101), math.radians(angle_deg), shift) == pytest.approx(expected)


def test_an_oblong_image_must_grow_more():
    """A frame of 200 x 100, turned by 90 degrees, is covered twice as large."""
    assert covering_scale(Size(201, 101), math.pi / 2, (0.0, 0.0)) == pytest.approx(2.0)


def test_a_plain_ground_is_continued_at_its_own_level():
    pixels = np.full((SIDE, SIDE, 3), (200, 120, 40), np.uint8)
    pixels[20:40, 20:40] = 0
    copy, _ = Augmentation(rotation_deg=180.0, fill="level").apply(
        pixels, np.zeros_like(pixels[:, :, 0]), rng(5)
    )
    assert (copy[0, 0], copy[-1, 0]) == (pytest.approx((200, 120, 40)), pytest.approx((200, 120, 40)))


def test_an_edge_is_never_mirrored_back_in():
    """One bright spot near the edge: after any move there is one still, not two."""
    pixels = np.full((SIDE, SIDE, 3), 50, np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    pixels[28:34, 3:7] = 250
    mask[28:34, 3:7] = 1
    for fill in ("zoom", "level", "edge"):
        for seed in range(20):
            copy, _ = Augmentation(shift=0.2, rotation_deg=30.0, fill=fill).apply(pixels, mask, rng(seed))
            assert cv2.connectedComponents((copy[:, :, 0] > 150).astype(np.uint8))[0] == 2  # with the ground


# ---- light


def test_light_is_a_straight_line_through_the_mean():
    pixels = np.array([[100, 140]], np.uint8).repeat(3).reshape(1, 2, 3)
    seen = []
    for seed in range(300):
        copy, _ = Augmentation(contrast=0.5).apply(pixels, None, rng(seed))
        low, high = int(copy[0, 0, 0]), int(copy[0, 1, 0])
        assert low + high == pytest.approx(240, abs=1)
        seen.append(high - low)
    assert (min(seen), max(seen)) == (pytest.approx(20, abs=2), pytest.approx(60, abs=2))


def test_brightness_is_a_share_of_all_levels():
    pixels = np.full((4, 4), 128, np.uint8)  # a gray image of one channel
    seen = [int(Augmentation(brightness=0.1).apply(pixels, None, rng(seed))[0][0, 0]) for seed in range(300)]
    assert (min(seen), max(seen)) == (pytest.approx(128 - 25, abs=2), pytest.approx(128 + 25, abs=2))


def test_levels_end_at_black_and_white():
    pixels = np.array([[0, 255]], np.uint8)
    for seed in range(50):
        copy, _ = Augmentation(brightness=0.5, contrast=0.9).apply(pixels, None, rng(seed))
        assert copy[0, 0] <= copy[0, 1]


def test_the_same_seed_makes_the_same_copy():
    pixels, mask = marked()
    every = Augmentation(True, True, True, 20.0, 0.1, 0.1, 0.1, 0.2)
    first, again, other = (every.apply(pixels, mask, rng(seed))[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


# ---- settings


@pytest.mark.parametrize(("mirrored", "turned"), [(False, False), (True, False), (True, True)])
def test_auto_is_what_the_probe_found(mirrored, turned):
    found = Augmentation.of(load_config(None).augment, mirrored=mirrored, turned=turned)
    assert (found.flip_horizontal, found.flip_vertical, found.quarter_turns) == (mirrored, mirrored, turned)
    assert not found.moves


def test_always_and_never_do_not_ask():
    config = replace(load_config(None).augment, flip_horizontal="always", flip_vertical="never")
    assert Augmentation.of(config, mirrored=False, turned=False).flip_horizontal
    assert not Augmentation.of(config, mirrored=True, turned=False).flip_vertical


# ---- the grain


def stripes(angle_deg: float) -> np.ndarray:
    """Lines that run at an angle from horizontal, with noise over them."""
    y, x = np.mgrid[0:256, 0:256]
    across = x * math.sin(math.radians(angle_deg)) + y * math.cos(math.radians(angle_deg))
    image = 128 + 40 * np.sin(across) + rng(2).normal(0, 10, x.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, 90.0, 135.0])
def test_the_direction_of_stripes(angle_deg):
    grain = Grain.of([stripes(angle_deg)])
    off = (grain.direction_deg + angle_deg) % 180.0  # y points down in an image
    assert min(off, 180.0 - off) < 3
    assert grain.coherence > 0.7


def test_noise_and_crossed_stripes_have_no_direction():
    for images in ([rng(3).integers(0, 255, (512, 512)).astype(np.uint8)], [stripes(0), stripes(90)]):
        assert Grain.of(images).coherence < GRAINED * 2 / 3


def test_turning_a_grain_is_objected_to():
    grain = Grain.of([stripes(90.0)])
    assert grain.objection(STILL) == ""
    assert grain.objection(Augmentation(rotation_deg=5.0, flip_vertical=True)) == ""
    assert "rotation_deg = 30: the images have a grain at 90 degrees" in grain.objection(
        Augmentation(rotation_deg=30.0)
    )
    assert "quarter_turns" in grain.objection(Augmentation(quarter_turns=True))
    assert Grain(0.0, GRAINED - 0.01).objection(Augmentation(quarter_turns=True)) == ""
