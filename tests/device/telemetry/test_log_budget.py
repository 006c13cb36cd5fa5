"""What is told, what is left out, and that it is said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from device.telemetry.log_budget import ALL, EACH, FILE, REPEATED, LogBudget


class Desk:
    """A log with a budget, and a clock that is set."""

    def __init__(self, folder: Path | None = None) -> None:
        self.now_s = 1000.0
        self.lines: list[str] = []
        self._budget = LogBudget(folder, lambda: self.now_s)

    def log(self, message: str, *values: object, level: int = logging.INFO, **extra: object) -> None:
        record = logging.LogRecord("device.x", level, "x.py", 1, message, values, None)
        record.__dict__.update(extra)
        if self._budget.filter(record):
            self.lines.append(record.getMessage())


def test_of_one_kind_some_are_told_and_the_rest_are_counted() -> None:
    desk = Desk()
    for number in range(100):
        desk.log("lost %d", number)
    desk.log("another")
    assert desk.lines == [f"lost {n}" for n in range(EACH)] + [f"another ({100 - EACH} lines were left out)"]
    desk.now_s += 3600
    desk.log("lost %d", 100)
    assert desk.lines[-1] == "lost 100"


def test_a_kind_may_be_said() -> None:
    desk = Desk()
    for _ in range(20):
        for role in ("camera", "broker"):
            desk.log("health: %s", role, kind=f"health {role}")
    assert len(desk.lines) == 2 * EACH


def test_no_hour_has_more_than_all_and_what_is_new_is_told() -> None:
    desk = Desk()
    for number in range(5000):
        desk.now_s += 1.7
        desk.log(f"kind {number % 40}")
    assert len(desk.lines) < 3 * ALL
    before = len(desk.lines)
    desk.log("a new one")
    assert len(desk.lines) == before + 1


def test_verdicts_have_a_limit_of_their_own() -> None:
    desk = Desk()
    for number in range(100):
        desk.log("%d NG", number, VERDICT="NG")
    assert len(desk.lines) == REPEATED


def test_debug_has_none() -> None:
    desk = Desk()
    for _ in range(100):
        desk.log("seen", level=logging.DEBUG)
    assert len(desk.lines) == 100


def test_it_is_remembered_over_restarts(tmp_path: Path) -> None:
    told = 0
    for _ in range(20):
        desk = Desk(tmp_path)
        for _ in range(3):
            desk.log("starting")
        told += len(desk.lines)
    assert told == EACH


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[["x", 1]]', b"\xff", b'[[9e9, "device.x: a"]]'])
def test_a_damaged_memory_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    desk = Desk(tmp_path)
    desk.log("a")
    assert desk.lines == ["a"]


def test_a_folder_that_does_not_take_it_is_no_fault(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "missing")
    desk.log("a")
    desk.log("b")
    assert desk.lines == ["a", "b"]
