"""The picture with the regions drawn in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_verdict import ERROR, NG, OK

from device.annotate import COLOURS, annotate, headline
from device.geometry import Box, Size
from device.verdict import Region, Verdict


def verdict_of(size: Size, *boxes: Box) -> Verdict:
    regions = tuple(Region(box, 1, 0.9, "evidence") for box in boxes)
    return replace(NG, regions=regions, image_size=size)


def blank(size: Size) -> np.ndarray:
    return np.full((size.height, size.width, 3), 128, np.uint8)


def changed(image: np.ndarray) -> np.ndarray:
    found: np.ndarray = (image != 128).any(axis=2)
    return found


def test_the_image_itself_is_left_alone() -> None:
    size = Size(512, 512)
    image = blank(size)
    drawn = annotate(image, verdict_of(size, Box(100, 200, 60, 40)))
    assert (image == 128).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8


def test_the_box_goes_around_the_region_and_hides_nothing_of_it() -> None:
    size, box = Size(512, 512), Box(100, 200, 60, 40)
    drawn = changed(annotate(blank(size), verdict_of(size, box)))
    assert not drawn[200:240, 100:160].any()
    for y, x in ((199, 130), (240, 130), (220, 99), (220, 160)):
        assert drawn[y, x], (y, x)


def test_the_outline_has_the_colour_of_the_verdict() -> None:
    size, box = Size(512, 512), Box(100, 200, 60, 40)
    for word in ("NG", "MARGINAL"):
        drawn = annotate(blank(size), replace(verdict_of(size, box), verdict=word))
        assert tuple(drawn[220, 99]) == COLOURS[word]


def test_the_headline_says_verdict_score_threshold_and_regions() -> None:
    assert headline(NG) == "NG 0.938 >= 0.600, 2 regions"
    assert headline(replace(NG, regions=NG.regions[:1])) == "NG 0.938 >= 0.600, 1 region"
    assert headline(OK) == "OK 0.062 < 0.600"
    assert headline(replace(NG, verdict="MARGINAL", score=0.4)) == "MARGINAL 0.400 < 0.600, 2 regions"
    assert headline(ERROR) == "ERROR"


@pytest.mark.parametrize("verdict", [OK, ERROR, NG])
def test_the_headline_is_legible(verdict: Verdict) -> None:
    """Letters on a full line of the verdict's colour, at least 20 px high on an image of 512 px."""
    size = Size(512, 512)
    line = annotate(blank(size), replace(verdict, regions=(), image_size=size))[:19]
    colour = np.array(COLOURS[verdict.verdict])
    assert (line[:, -1] == colour).all()
    letters = (np.abs(line.astype(int) - colour).sum(axis=2) > 200).sum()
    assert letters > 15 * len(headline(replace(verdict, regions=())))


def test_the_headline_makes_room_for_a_region_at_the_top() -> None:
    size = Size(512, 512)
    drawn = changed(annotate(blank(size), verdict_of(size, Box(200, 2, 60, 10))))
    assert not drawn[2:12, 200:260].any()
    assert drawn[-10:, :].all()
    both = changed(annotate(blank(size), verdict_of(size, Box(200, 2, 60, 10), Box(0, 490, 20, 20))))
    assert both[:10].all()


@pytest.mark.parametrize("size", [Size(64, 64), Size(40, 300), Size(2000, 30), Size(1, 1), Size(4000, 3000)])
def test_any_size_and_boxes_at_the_edges(size: Size) -> None:
    whole = Box(0, 0, size.width, size.height)
    corner = Box(size.width - 1, size.height - 1, 1, 1)
    drawn = annotate(blank(size), verdict_of(size, whole, corner))
    assert drawn.shape == (size.height, size.width, 3)
    assert changed(drawn).any()


def test_lines_grow_with_the_image() -> None:
    def outline(side: int) -> int:
        size, box = Size(side, side), Box(side // 4, side // 2, side // 4, side // 4)
        row = changed(annotate(blank(size), verdict_of(size, box)))[box.y + box.height // 2]
        return int(row[: box.x].sum())

    assert outline(2048) >= 3 * outline(512)


def test_a_label_does_not_lie_on_the_headline() -> None:
    """The box is so near to the headline that its score must go under it."""
    size, box = Size(512, 512), Box(200, 30, 60, 40)
    drawn = changed(annotate(blank(size), verdict_of(size, box)))
    assert drawn[78:88, 200:220].all()
    assert not drawn[23:26].any()


def test_an_image_that_is_a_view() -> None:
    size = Size(64, 48)
    assert annotate(blank(Size(128, 48))[:, ::2], verdict_of(size, Box(5, 25, 9, 9))).shape == (48, 64, 3)
