"""What the thresholds decide."""

from __future__ import annotations

import re

from fixtures_report import section


def test_the_bundles_own_threshold_is_marked(report_page):
    decisions = section(report_page, "Thresholds")
    assert decisions.count('<tr class="marked">') == 1  # NG is MARGINAL here
    assert "Chosen so: ng: greatest F1 on 14 judged images (7 defective)" in decisions


def test_every_image_is_counted_once(report_page):
    table = re.search(r"<caption>Verdicts</caption>(.*?)</table>", section(report_page, "Thresholds"))
    assert table
    assert sum(int(count) for count in re.findall(r"<td>(\d+)</td>", table[1])) == 14
