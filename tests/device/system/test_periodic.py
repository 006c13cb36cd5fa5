"""Turns, and the last one."""

from __future__ import annotations

import threading

from device.system.periodic import Periodic

DEADLINE_S = 30.0


def test_turns_until_it_is_stopped_and_one_more() -> None:
    turns: list[bool] = []
    several = threading.Event()

    def turn(last: bool) -> None:
        turns.append(last)
        if len(turns) == 3:
            several.set()

    periodic = Periodic("test", 0.001, turn)
    periodic.start()
    assert several.wait(DEADLINE_S)
    periodic.stop()
    assert turns[-1] is True
    assert turns.count(True) == 1
    known = len(turns)
    periodic.stop()
    assert len(turns) == known


def test_one_that_was_not_started_takes_no_turn() -> None:
    turns: list[bool] = []
    Periodic("test", 0.001, turns.append).stop()
    assert turns == []
