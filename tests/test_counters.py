"""Counting verdicts."""

from __future__ import annotations

import pytest

from device.counters import Counters


def test_counts_since_the_start_and_since_the_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("device.counters.time.monotonic", lambda: now_s)
    counters = Counters()
    for verdict in ("OK", "OK", "NG", "ERROR"):
        counters.add(verdict)
    now_s = 159.9
    assert not counters.report_is_due()
    now_s = 161.0
    assert counters.report_is_due()
    assert counters.recent() == "61 s: 2 OK, 1 NG, 0 MARGINAL, 1 ERROR"
    assert not counters.report_is_due()
    counters.add("MARGINAL")
    assert counters.recent() == "0 s: 0 OK, 0 NG, 1 MARGINAL, 0 ERROR"
    assert counters.total() == "2 OK, 1 NG, 1 MARGINAL, 1 ERROR"
    assert counters.good == 4
