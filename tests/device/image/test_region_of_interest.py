"""What is looked at, pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.image.geometry import Box, Polygon, Size
from device.image.region_of_interest import EVERYTHING, RegionOfInterest, filled

SQUARE = Polygon(((2, 3), (7, 3), (7, 5), (2, 5)))
SIZE = Size(10, 8)

corners = st.tuples(st.integers(0, 40), st.integers(0, 30))
polygons = st.lists(corners, min_size=3, max_size=7).filter(lambda found: len(set(found)) >= 3)


def test_a_rectangle_is_exactly_its_pixels() -> None:
    expected = np.zeros((8, 10), np.uint8)
    expected[3:5, 2:7] = 1
    assert np.array_equal(filled([SQUARE], SIZE), expected)


def test_the_whole_frame() -> None:
    assert EVERYTHING.mask(SIZE).all()
    assert EVERYTHING.box(SIZE) == Box(0, 0, 10, 8)
    full = Polygon(((0, 0), (10, 0), (10, 8), (0, 8)))
    assert filled([full], SIZE).all()


def test_a_triangle_has_half_of_its_square() -> None:
    assert filled([Polygon(((0, 0), (100, 0), (0, 100)))], Size(100, 100)).sum() == pytest.approx(
        5000, abs=51
    )


def test_inside_the_region_and_outside_the_masks() -> None:
    region = RegionOfInterest(
        (SQUARE, Polygon(((0, 0), (1, 0), (1, 1), (0, 1)))), (Polygon(((6, 0), (9, 0), (9, 8), (6, 8))),)
    )
    expected = np.zeros((8, 10), np.uint8)
    expected[3:5, 2:6] = 1
    expected[0, 0] = 1
    assert np.array_equal(region.mask(SIZE), expected)
    assert region.box(SIZE) == Box(0, 0, 7, 5)


@pytest.mark.parametrize(("name", "corner"), [("roi", (11, 0)), ("ignore", (0, 9)), ("roi", (3, 9))])
def test_a_polygon_that_leaves_the_frame_was_drawn_for_another(name: str, corner: tuple[int, int]) -> None:
    region = RegionOfInterest(**{name: (Polygon((corner, (5, 5), (1, 2))),)})
    message = rf"{name}: every corner must lie in the frame of 10x8 px, got {corner[0]}, {corner[1]}"
    for ask in (region.mask, region.box):
        with pytest.raises(ValueError, match=message):
            ask(SIZE)


def test_a_region_without_area() -> None:
    flat = RegionOfInterest((Polygon(((0, 5), (4, 5), (9, 5))),))
    with pytest.raises(ValueError, match="roi: must have an area"):
        flat.box(SIZE)


@given(polygons)
def test_as_opencv_decides_at_the_middle_of_each_pixel(found: list[tuple[int, int]]) -> None:
    """Its own test of a point is even-odd as well; on the outline it may say either."""
    size = Size(40, 30)
    mask = filled([Polygon(tuple(found))], size)
    outline = np.array(found, np.float32).reshape(-1, 1, 2)
    for y in range(0, 30, 3):
        for x in range(0, 40, 3):
            side = cv2.pointPolygonTest(outline, (x + 0.5, y + 0.5), False)
            assert side == 0 or mask[y, x] == (side > 0)
