"""What is ignored, covered with other parts of the image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.image.masking import Covering


def stripes(height: int = 96, width: int = 96, period: int = 12) -> np.ndarray:
    """Vertical bars: the right source is a whole number of periods away, or straight above or below."""
    row = np.where(np.arange(width) % period < period // 2, 60, 180).astype(np.uint8)
    return np.repeat(np.tile(row, (height, 1))[:, :, np.newaxis], 3, axis=2)


def box_mask(x: int, y: int, width: int, height: int, shape: tuple[int, int] = (96, 96)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[y : y + height, x : x + width] = 1
    return mask


def test_a_texture_goes_on_under_its_cover() -> None:
    expected = stripes()
    image = stripes()
    mask = box_mask(40, 40, 20, 16)
    image[mask > 0] = 255
    Covering(mask).cover(image)
    assert np.array_equal(image, expected)


def test_each_piece_has_its_own_source() -> None:
    image = np.concatenate([stripes(), stripes().transpose(1, 0, 2)], axis=1)
    expected = image.copy()
    mask = box_mask(30, 30, 10, 10, (96, 192)) | box_mask(130, 50, 10, 10, (96, 192))
    image[mask > 0] = 0
    Covering(mask).cover(image)
    assert np.array_equal(image, expected)


def test_what_nothing_else_is_large_enough_for_takes_its_nearest_neighbours() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[0], image[-1] = 10, 90
    mask = box_mask(0, 1, 20, 18, (20, 20))
    image[mask > 0] = 255
    Covering(mask).cover(image)
    assert (image[:9] == 10).all()
    assert (image[11:] == 90).all()


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(*(st.integers(0, 60),) * 2, *(st.integers(1, 35),) * 2), min_size=1, max_size=3),
)
def test_what_lies_under_it_has_no_influence_and_what_is_seen_stays(
    seed: int, boxes: list[tuple[int, int, int, int]]
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((96, 96), np.uint8)
    for box in boxes:
        mask |= box_mask(*box)
    one = cv2.GaussianBlur(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8), (0, 0), 2)
    other = one.copy()
    other[mask > 0] = rng.integers(0, 256, (int(mask.sum()), 3))
    before = one.copy()
    covering = Covering(mask)
    covering.cover(one)
    covering.cover(other)
    assert np.array_equal(one, other)
    assert np.array_equal(one[mask == 0], before[mask == 0])


def test_the_image_is_covered_in_place_even_to_its_edge() -> None:
    image = np.full((40, 40, 3), 77, np.uint8)
    mask = box_mask(0, 0, 10, 40, (40, 40))
    image[mask > 0] = 1
    Covering(mask).cover(image)
    assert (image == 77).all()


@pytest.mark.parametrize("level", [1, 255])
def test_any_level_but_0_is_ignored(level: int) -> None:
    image = stripes()
    mask = box_mask(40, 40, 6, 6)
    image[mask > 0] = 0
    Covering(mask * level).cover(image)
    assert np.array_equal(image, stripes())
