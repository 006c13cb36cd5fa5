"""Images at another size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.image.geometry import Size
from device.image.resize import STRIPS, resized


def test_the_same_size_is_the_same_image() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert np.shares_memory(resized(image, Size(6, 4)), image)


@pytest.mark.parametrize("size", [Size(64, 64), Size(64, 8), Size(32, 64)])
def test_a_line_thinner_than_a_pixel_is_not_lost(size: Size) -> None:
    image = np.zeros((32, 512), np.uint8)
    image[:, 259] = 240
    found = resized(image, size)
    assert found.shape == (size.height, size.width)
    assert found.max() == 240 // (512 // size.width)


def test_shares_stay_shares() -> None:
    mask = np.zeros((30, 30), np.float32)
    mask[:15] = 1
    found = resized(mask, Size(7, 7))
    assert found.dtype == np.float32
    assert found[3] == pytest.approx(0.5)
    assert found[:3].min() == 1
    assert found[4:].max() == 0


@given(
    st.integers(1, 60),
    st.integers(1, 300),
    st.integers(1, 60),
    st.integers(1, 300),
    st.integers(0, 2**32 - 1),
)
def test_strips_give_what_the_whole_gives(
    rows: int, columns: int, small_rows: int, small_columns: int, seed: int
) -> None:
    """To the last level: scores must not depend on how it is done."""
    size = Size(min(columns, small_columns), STRIPS * min(rows, small_rows))
    image = np.random.default_rng(seed).integers(0, 256, (STRIPS * rows, columns), np.uint8)
    expected = cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_AREA)
    assert np.array_equal(resized(image, size), expected)
