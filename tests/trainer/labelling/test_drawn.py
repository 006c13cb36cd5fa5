"""Shapes that people draw, as the pixels that they cover."""

from __future__ import annotations

import numpy as np
import pytest

from device.errors import DataError
from device.image.geometry import Size
from trainer.labelling.drawn import Drawing, Shape, ellipse, polygon, rectangle, word

SIZE = Size(40, 30)


def test_a_rectangle_covers_the_pixels_whose_middle_lies_inside() -> None:
    mask = rectangle(10, 5, 8, 4, 0, SIZE)
    expected = np.zeros((30, 40), bool)
    expected[5:9, 10:18] = True
    assert np.array_equal(mask, expected)
    assert np.array_equal(rectangle(9.6, 4.6, 8, 4, 0, SIZE), expected)


def test_a_quarter_turn_about_the_corner() -> None:
    mask = rectangle(20, 10, 8, 4, 90, SIZE)
    ys, xs = np.nonzero(mask)
    assert (xs.min(), xs.max()) == (pytest.approx(16, abs=1), pytest.approx(19, abs=1))
    assert (ys.min(), ys.max()) == (pytest.approx(10, abs=1), pytest.approx(17, abs=1))


def test_an_ellipse_has_its_area() -> None:
    assert ellipse(20, 15, 12, 6, 0, SIZE).sum() == pytest.approx(np.pi * 72, rel=0.05)
    assert ellipse(20, 15, 6, 12, 90, SIZE)[15, 9]


def test_what_goes_over_the_edge_is_cut_off_and_nonsense_refused() -> None:
    assert polygon([(-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9)], SIZE).all()
    for points in ([(0, 0), (1, 1)], [(0, 0), (1, 1), (float("nan"), 2)], []):
        with pytest.raises(DataError, match="3 corners or more"):
            polygon(points, SIZE)


def test_the_kind_is_that_of_the_most_pixels_and_a_good_image_has_none() -> None:
    small, large = rectangle(0, 0, 4, 4, 0, SIZE), rectangle(10, 10, 9, 9, 0, SIZE)
    drawing = Drawing("a.png", SIZE, None, (Shape("dent", small), Shape("scratch", large)))
    assert (drawing.label, drawing.kind) == ("defective", "scratch")
    assert drawing.mask.sum() == small.sum() + large.sum()
    assert Drawing("a.png", SIZE, "good", ()).kind == ""
    with pytest.raises(DataError, match=r"a\.png: is called good, and has defects drawn into it: dent"):
        Drawing("a.png", SIZE, "good", (Shape("dent", small),))


def test_words_on_the_whole_image() -> None:
    assert [word(text) for text in (" OK", "Good", "NG", "defective", "scratch")] == [
        "good", "good", "defective", "defective", None,
    ]  # fmt: skip
