"""The pictures."""

from __future__ import annotations

import re

from fixtures_report import section, written


def test_the_mistakes_are_shown_with_their_maps(report_page):
    mistakes = section(report_page, "Mistakes, and what was nearest to one")
    assert "False rejects: 1" in mistakes
    assert "Misses: 1" in mistakes
    shown = re.findall(r"<figcaption>(.*?): \w+, score", mistakes)
    assert shown[:2] == ["06.png", "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;$title"]
    assert mistakes.count("data:image/jpeg;base64,") == len(shown) == 5


def test_the_three_maps_are_measured(report_page):
    places = section(report_page, "Where it looks")
    assert re.findall(r'<th scope="row">(\w+)</th>', places) == ["evidence", "gradient", "difference"]
    assert "Against the masks of 7 defective images, with 7 good ones" in places


def test_pictures_are_left_out_before_it_grows_too_large(reported, report_page):
    small = written(reported, max_bytes=4000, gradient=False)
    assert 0 < small.count("<img ") < report_page.count("<img ")
    assert "no picture: the report would be larger than max_bytes" in small
    assert "gradient</th>" not in small
