"""Pieces of a report's page: what is escaped, and how values are written."""

from __future__ import annotations

import pytest

from trainer.report import page
from trainer.report.page import Markup

NASTY = '<script>alert("1")</script>&.png'
ESCAPED = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;.png"


def test_everything_from_outside_is_escaped():
    made = page.page(
        NASTY,
        NASTY,
        [
            page.section(
                NASTY,
                page.heading(NASTY),
                page.paragraph(NASTY),
                page.figure(page.picture("AAAA", NASTY, 4, 4), NASTY),
                page.tiles({NASTY: (NASTY, NASTY)}),
                page.table([NASTY], [[NASTY]], NASTY),
                page.table(["a", "b"], [[{NASTY: NASTY}, [NASTY]]], "c"),
            )
        ],
    ).decode()
    assert "<script" not in made
    assert made.count(ESCAPED) == 18


def test_a_dollar_is_a_dollar():
    assert "<p>$title $content</p>" in page.page("t", "s", [page.paragraph("$title $content")]).decode()


def test_a_name_that_is_no_text_does_not_stop_the_report():
    assert b"part-?.png" in page.page("part-\udcff.png", "s", [])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (0.5, "0.5000"),
        (0.0, "0.0000"),
        (1e-6, "1e-06"),
        (7, "7"),
        ([128, 96], "128, 96"),
        ({"good": 3}, "good 3"),
        ("a<b", "a&lt;b"),
        (Markup("<b>x</b>"), "<b>x</b>"),
    ],
)
def test_how_a_value_is_written(value, text):
    assert page.shown(value) == text


def test_what_is_empty_leaves_nothing():
    assert page.table(["a"], [], "c") == ""
    assert page.section("title", page.table(["a"], [], "c")) == ""


def test_rows_that_stand_out():
    assert (
        page.table(["a"], [["x"], ["y"]], "c", marked=[1]).count('<tr class="marked"><th scope="row">y') == 1
    )


def test_a_folded_section_keeps_its_heading():
    assert page.section("Curves", page.paragraph("a"), folded=True) == (
        "<section><details><summary><h2>Curves</h2></summary>\n<p>a</p>\n</details></section>"
    )
    assert page.section("Curves", folded=True) == ""
