"""The picture with the regions drawn in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fixtures_verdict import ERROR, NG, OK

from device.image.geometry import Box, Size
from device.inspection.annotate import COLOURS, annotate, headline, heat_map
from device.inspection.verdict import Region, Verdict


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


# ---- the heat map


def test_without_evidence_the_image_is_left_as_it_is() -> None:
    image = blank(Size(40, 30))
    cold = heat_map(image, np.full((30, 40), -20, np.float32))
    assert np.array_equal(cold, image)
    assert cold is not image


def test_more_evidence_is_brighter_and_warmer_on_a_dark_image() -> None:
    """From a sigmoid of 0 to 1, level by level."""
    logits = np.linspace(-6, 6, 256, dtype=np.float32)[np.newaxis].repeat(3, 0)
    shown = heat_map(np.zeros((3, 256, 3), np.uint8), logits)[1].astype(float)
    luma = shown @ (0.299, 0.587, 0.114)
    assert (np.diff(luma) >= -1).all()
    assert luma[-1] > 150
    assert (shown[128:, 0] > shown[128:, 2] + 20).all()  # red before blue


def test_heat_lies_where_the_evidence_is_and_the_image_is_seen_through_it() -> None:
    image = blank(Size(40, 30))
    image[:, ::2] = 60
    evidence = np.full((30, 40), -20, np.float32)
    evidence[10:20, 5:15] = 20
    shown = heat_map(image, evidence)
    hot = (shown != image).any(axis=2)
    assert hot[10:20, 5:15].all()
    assert hot.sum() == 100
    assert (shown[10:20, 6:15:2] < shown[10:20, 5:15:2][:, :5]).all()


def test_where_it_is_not_looked_at_there_is_no_heat_and_less_light() -> None:
    image = blank(Size(40, 30))
    looked_at = np.zeros((30, 40), np.uint8)
    looked_at[:, 20:] = 1
    shown = heat_map(image, np.full((30, 40), 20, np.float32), looked_at)
    assert (shown[:, :20] == int(128 * 0.4)).all()
    assert (shown[:, 20:] == heat_map(image, np.full((30, 40), 20, np.float32))[:, 20:]).all()


def test_any_finite_logit_and_a_view() -> None:
    evidence = np.full((48, 64), -3e38, np.float32)
    evidence[0] = 3e38
    shown = heat_map(blank(Size(128, 48))[:, ::2], evidence)
    assert np.isfinite(shown).all()
    assert (shown[1:] == 128).all()


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"evidence must be \(30, 40\), as the image, got \(15, 20\)"):
        heat_map(blank(Size(40, 30)), np.zeros((15, 20), np.float32))


@pytest.mark.parametrize("size", [Size(512, 512), Size(900, 400), Size(300, 60)])
def test_nothing_lies_on_the_headline(size: Size) -> None:
    """Whatever boxes there are: the line reads the same as with none near it."""
    whole = Box(0, 0, size.width, size.height)
    tall = Box(size.width // 2, 0, 20, size.height)
    corners = [Box(x, y, 9, 9) for x in (0, size.width - 9) for y in (0, size.height - 9)]
    far = Box(size.width // 2, size.height - 2, 1, 1)
    for boxes in ([whole], [tall], corners, [whole, tall, *corners]):
        alike = [far] * len(boxes)
        drawn = annotate(blank(size), verdict_of(size, *boxes))
        plain = annotate(blank(size), verdict_of(size, *alike))
        rows = changed(plain).all(axis=1)
        assert rows.any()
        assert np.array_equal(drawn[rows], plain[rows])
