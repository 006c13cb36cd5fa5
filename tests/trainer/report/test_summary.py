"""The first figures."""

from __future__ import annotations

from fixtures_report import section


def test_a_warning_of_the_training_stands_first(report_page):
    assert (
        section(report_page, "How good")
        .strip()
        .startswith("<p>Warning: no epoch was better than &lt;guessing&gt;.</p>")
    )
