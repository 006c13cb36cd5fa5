"""The record of who changed a station's model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device.rollout import push_log
from device.rollout.push_log import PushLog


def results(state: Path) -> list[str]:
    return [json.loads(line)["result"] for line in (state / push_log.FILE).read_text().splitlines()]


def test_a_beginning_and_an_end(tmp_path: Path) -> None:
    log = PushLog(tmp_path)
    log.close()
    assert not (tmp_path / push_log.FILE).exists()
    log.begin("anna", "install", "x")
    log.end("anna", "install", "x", "done")
    log.close()
    assert results(tmp_path) == ["begun", "done"]


def test_what_was_cut_off_gets_its_end(tmp_path: Path) -> None:
    log = PushLog(tmp_path)
    log.begin("anna", "install", "x")
    log.close()
    log.close()
    assert results(tmp_path) == ["begun", "cut off"]


def test_a_torn_line_is_a_line_of_its_own(tmp_path: Path) -> None:
    log = PushLog(tmp_path)
    log.begin("anna", "install", "x")
    with (tmp_path / push_log.FILE).open("a") as file:
        file.write('{"ts": "2026')
    log.close()
    lines = (tmp_path / push_log.FILE).read_text().splitlines()
    assert lines[1] == '{"ts": "2026'
    assert json.loads(lines[2])["result"] == "cut off"


def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_log, "MOST_BYTES", 5000)
    log = PushLog(tmp_path)
    for _ in range(30):
        log.end("anna", "install", "x", "y" * 10_000)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["push.log", "push.log.1"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 20_000


def test_a_log_that_cannot_be_written_bars_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / push_log.FILE).mkdir()
    PushLog(tmp_path).begin("anna", "install", "x")
    assert "cannot be written" in caplog.text
