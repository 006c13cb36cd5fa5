"""Charts as SVG: well-formed, and every point where it belongs."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from trainer.report import chart
from trainer.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Bars, LabelledPoint, Line


def parsed(svg):
    return ET.fromstring(svg)  # noqa: S314 - made here


def points(svg):
    [line] = [one for one in parsed(svg) if one.tag == "polyline"]
    return [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]


def test_the_corners_of_a_line():
    svg = chart.lines("ROC", Axis("x"), Axis("y"), [Line("int8", [0, 1], [0, 1])])
    assert points(svg) == [(LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, TOP)]
    assert parsed(svg).get("role") == "img"
    assert parsed(svg).get("aria-label") == "ROC"


def test_a_long_line_is_thinned_and_keeps_its_ends():
    values = np.linspace(0, 1, 10_000)
    found = points(chart.lines("t", Axis("x"), Axis("y"), [Line("a", values, values)]))
    assert len(found) == chart.MOST_POINTS
    assert (found[0][0], found[-1][0]) == (LEFT, WIDTH - RIGHT)


def test_what_is_not_finite_is_left_out():
    svg = chart.lines("t", Axis("x", 1, 3), Axis("y"), [Line("a", [1, 2, 3], [0.5, np.nan, 1.0])])
    assert len(points(svg)) == 2


def test_a_mark_has_its_intervals():
    mark = LabelledPoint("NG <1>", 0.5, 0.5, (0.4, 0.6), (0.3, 0.7))
    svg = parsed(chart.lines("t", Axis("x"), Axis("y"), [], [mark]))
    across, upright = (one for one in svg if one.get("class") == "interval")
    width = WIDTH - LEFT - RIGHT
    assert float(across.get("x2")) - float(across.get("x1")) == pytest.approx(0.2 * width, abs=0.2)
    assert across.get("y1") == across.get("y2")
    assert upright.get("x1") == upright.get("x2")
    assert "NG <1>" in [one.text for one in svg]


def test_bars_lie_above_and_below_the_axis():
    drawn = [Bars("defective", [0, 4], "b"), Bars("good", [3, 1], "a", up=False)]
    svg = parsed(chart.histogram("scores", Axis("score"), drawn, [("NG", 0.5)]))
    bars = [one for one in svg if one.tag == "rect"]
    axis = (TOP + HEIGHT - BOTTOM) / 2
    heights = [float(bar.get("height")) for bar in bars]
    assert [float(bar.get("y")) < axis - 1 for bar in bars] == [True, False, False]
    assert heights[0] == pytest.approx(axis - TOP, abs=0.1)  # all of its set
    assert heights[1] == pytest.approx(3 * heights[2], abs=0.3)
    assert [bar[0].text for bar in bars] == ["defective: 4", "good: 3", "good: 1"]


def test_a_histogram_of_nothing():
    parsed(chart.histogram("scores", Axis("score"), [Bars("good", [0, 0], "a")], []))


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis("x"), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Axis("x", 1, 20), [4, 8, 12, 16, 20]),
        (Axis("x", -0.1, 0.1), [-0.1, -0.05, 0, 0.05, 0.1]),
        (Axis("x", 2, 2), [2.0]),
    ],
)
def test_ticks_are_round(axis, expected):
    found = axis.ticks()
    if axis.low == axis.high:
        assert found[0] == 2.0
    elif axis.high == 20:
        assert all(value == round(value) for value in found)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-9)
