"""Sizes, boxes and the letterbox."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.image.geometry import Box, Letterbox, Polygon, Size

sides = st.integers(1, 5000)
sizes = st.builds(Size, sides, sides)
modes = st.sampled_from(["letterbox", "stretch"])


@st.composite
def boxes_in(draw: st.DrawFn, size: Size) -> Box:
    x, y = draw(st.integers(0, size.width - 1)), draw(st.integers(0, size.height - 1))
    return Box(x, y, draw(st.integers(1, size.width - x)), draw(st.integers(1, size.height - y)))


def contains(outer: Box, inner: Box) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and outer.x + outer.width >= inner.x + inner.width
        and outer.y + outer.height >= inner.y + inner.height
    )


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0), (-3, 1), (1.0, 1)])
def test_a_size_has_whole_positive_sides(width: int, height: int) -> None:
    with pytest.raises(ValueError, match=r"Size\.(width|height) must be a whole number of px >= 1, got"):
        Size(width, height)


def test_a_box_checks_itself() -> None:
    with pytest.raises(ValueError, match=r"Box\.x must be a whole number of px >= 0, got -1"):
        Box(-1, 0, 1, 1)
    with pytest.raises(ValueError, match=r"Box\.height must be a whole number of px >= 1, got 0"):
        Box(0, 0, 1, 0)


def test_a_box_measures() -> None:
    box = Box(10, 20, 30, 40)
    assert box.area_px == 1200
    assert box.normalized(Size(100, 200)) == (0.1, 0.1, 0.3, 0.2)
    assert box.clipped(Size(25, 1000)) == Box(10, 20, 15, 40)
    with pytest.raises(ValueError, match=r"must touch the image of 10x1000 px, got 10\.\.40, 20\.\.60"):
        box.clipped(Size(10, 1000))


def test_a_polygon_has_three_different_corners() -> None:
    assert Polygon(((0, 0), (1, 0), (0, 1))).corners[2] == (0, 1)
    with pytest.raises(ValueError, match="a polygon must have 3 different corners or more, got 2"):
        Polygon(((0, 0), (1, 1), (0, 0)))


def test_a_box_cuts_its_part_out_of_an_image() -> None:
    image = np.arange(24).reshape(4, 6)
    assert Box(1, 2, 3, 1).of(image).tolist() == [[13, 14, 15]]
    assert np.shares_memory(Box(1, 2, 3, 1).of(image), image)


def test_letterbox_keeps_proportions_and_centres() -> None:
    placement = Letterbox.fit(Size(1000, 500), Size(64, 64), "letterbox")
    assert placement.content == Box(0, 16, 64, 32)
    assert (placement.scale_x, placement.scale_y) == (0.064, 0.064)
    assert placement.forward(Box(0, 0, 1000, 500)) == placement.content
    assert placement.inverse(Box(0, 0, 64, 64)) == Box(0, 0, 1000, 500)
    assert placement.inverse(Box(16, 24, 32, 8)) == Box(250, 125, 500, 125)


def test_stretch_fills_the_target() -> None:
    placement = Letterbox.fit(Size(1000, 500), Size(64, 64), "stretch")
    assert placement.content == Box(0, 0, 64, 64)
    assert placement.inverse(Box(32, 32, 16, 16)) == Box(500, 250, 250, 125)


def test_rounding_does_not_widen_a_box() -> None:
    """49 * (1 / 49) is 0.9999999999999999: the box begins at pixel 1 all the same."""
    placement = Letterbox.fit(Size(490, 490), Size(10, 10), "stretch")
    assert placement.forward(Box(49, 98, 49, 49)) == Box(1, 2, 1, 1)
    assert placement.inverse(Box(1, 2, 1, 1)) == Box(49, 98, 49, 49)


def test_a_box_in_the_padding_alone_lies_nowhere() -> None:
    placement = Letterbox.fit(Size(1000, 500), Size(64, 64), "letterbox")
    with pytest.raises(ValueError, match="must touch the image of 1000x500 px"):
        placement.inverse(Box(0, 0, 64, 16))


def test_an_unknown_mode_and_an_image_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="mode must be one of letterbox, stretch, got 'crop'"):
        Letterbox.fit(Size(1, 1), Size(1, 1), "crop")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must lie inside the target"):
        Letterbox(Size(10, 10), Box(0, 0, 10, 10), Size(10, 10), 1.0, 1.0, 1, 0)
    with pytest.raises(ValueError, match=r"scale_y must be a finite number > 0, got nan"):
        Letterbox(Size(10, 10), Box(0, 0, 10, 10), Size(10, 10), 1.0, float("nan"), 0, 0)


@given(st.data(), sizes, sizes, modes)
def test_there_and_back_covers_the_box(data: st.DataObject, source: Size, target: Size, mode: str) -> None:
    placement = Letterbox.fit(source, target, mode)
    box = data.draw(boxes_in(source))
    there = placement.forward(box)
    assert contains(placement.content, there)
    back = placement.inverse(there)
    assert contains(back, box)
    assert back.x >= box.x - 1 / placement.scale_x - 1
    assert back.x + back.width <= box.x + box.width + 1 / placement.scale_x + 1


@given(st.data(), sizes, sizes, modes)
def test_there_and_back_from_a_region(data: st.DataObject, source: Size, target: Size, mode: str) -> None:
    region = data.draw(boxes_in(source))
    placement = Letterbox.fit(source, target, mode, region)
    inner = data.draw(boxes_in(Size(region.width, region.height)))
    box = Box(region.x + inner.x, region.y + inner.y, inner.width, inner.height)
    assert contains(placement.content, placement.forward(box))
    back = placement.inverse(placement.forward(box))
    assert contains(back, box)
    assert contains(region, back)
    assert placement.inverse(placement.content) == region


@given(sizes, sizes)
def test_letterbox_touches_two_sides_and_is_centred(source: Size, target: Size) -> None:
    content = Letterbox.fit(source, target, "letterbox").content
    assert content.width == target.width or content.height == target.height
    assert abs(target.width - content.width - 2 * content.x) <= 1
    assert abs(target.height - content.height - 2 * content.y) <= 1


@given(st.data(), sizes, modes)
def test_the_same_size_changes_nothing(data: st.DataObject, size: Size, mode: str) -> None:
    placement = Letterbox.fit(size, size, mode)
    box = data.draw(boxes_in(size))
    assert placement.forward(box) == box == placement.inverse(box)
