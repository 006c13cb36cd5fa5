"""Counting verdicts, over restarts."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY

from device.telemetry import counters as module
from device.telemetry.counters import FILE, Counters, VerdictCounts

COUNTS = VerdictCounts(ok=7, ng=1, marginal=0, error=2, since="2026-01-31T06:00:00.000Z")


def test_counts_since_the_start_and_since_the_last_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now_s = 100.0
    monkeypatch.setattr("device.telemetry.counters.time.monotonic", lambda: now_s)
    counters = Counters(tmp_path)
    for verdict in ("OK", "OK", "NG", "ERROR"):
        counters.add(verdict)
    now_s = 699.9
    assert not counters.report_is_due()
    now_s = 701.0
    assert counters.report_is_due()
    assert counters.recent() == "601 s: 2 OK, 1 NG, 0 MARGINAL, 1 ERROR"
    assert not counters.report_is_due()
    counters.add("MARGINAL")
    assert counters.recent() == "0 s: 0 OK, 0 NG, 1 MARGINAL, 0 ERROR"
    assert counters.total() == "2 OK, 1 NG, 1 MARGINAL, 1 ERROR"
    assert counters.good == 4


def test_the_counts_survive_a_restart_and_the_session_begins_at_zero(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(COUNTS.to_json())
    counters = Counters(tmp_path)
    counters.start()
    counters.add("NG")
    counters.stop()
    again = Counters(tmp_path)
    assert again.counts == VerdictCounts(ok=7, ng=2, marginal=0, error=2, since=COUNTS.since)
    assert (again.good, again.total()) == (0, "0 OK, 0 NG, 0 MARGINAL, 0 ERROR")


def test_they_are_written_now_and_then_and_not_when_nothing_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITE_EVERY_S", 0.01)
    written = threading.Semaphore(0)
    real = module.durable.write

    def write(path: Path, content: bytes) -> None:
        real(path, content)
        written.release()

    monkeypatch.setattr(module.durable, "write", write)
    counters = Counters(tmp_path / "made")
    counters.start()
    counters.add("OK")
    assert written.acquire(timeout=30)
    assert json.loads((tmp_path / "made" / FILE).read_text())["ok"] == 1
    assert not written.acquire(timeout=0.2)
    counters.stop()
    assert not written.acquire(timeout=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema":1}',
        COUNTS.to_json().replace("1,", "2,", 1),
        COUNTS.to_json().replace('"ok":7', '"ok":-7'),
        COUNTS.to_json().replace('"ok":7', '"ok":true'),
        COUNTS.to_json().replace("2026-01-31T", "then"),
    ],
)
def test_a_damaged_file_is_put_aside_and_named(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_text(text)
    counters = Counters(tmp_path)
    assert (counters.counts.ok, counters.counts.ng) == (0, 0)
    assert "damaged, put aside as counters.damaged" in caplog.text
    assert (tmp_path / "counters.damaged").read_text() == text
    assert not (tmp_path / FILE).exists()


def test_a_disk_that_does_not_take_it_is_named_once_and_counting_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    counters = Counters(tmp_path / "file" / "state")
    counters.add("OK")
    with caplog.at_level(logging.WARNING):
        counters._write(counters.counts)
        counters._write(counters.counts)
    assert counters.counts.ok == 1
    [line] = [record.message for record in caplog.records if "cannot be written" in record.message]
    assert line.endswith("counting goes on")


def test_the_golden_payload_byte_for_byte_and_back() -> None:
    golden = (REPOSITORY / "tests" / "golden" / "counters.json").read_text()
    assert COUNTS.to_json() + "\n" == golden
    assert VerdictCounts.from_json(golden) == COUNTS
