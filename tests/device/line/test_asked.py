"""Who asked for a part is told once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from device.line.asked import VerdictRequests


@dataclass(frozen=True)
class Judged:
    seq: int

    def to_json(self) -> str:
        return f"verdict on {self.seq}"


@pytest.mark.parametrize("wait", [False, True])
def test_one_is_told_of_his_own_part_once(wait: bool) -> None:
    asked = VerdictRequests()
    told: list[tuple[int, str | None]] = []
    asker = asked.asker(lambda *what: told.append(what), wait=wait)
    asked.judged(Judged(6))
    asker.taken(7)
    assert told == ([] if wait else [(7, None)])
    for seq in (8, 7, 7):
        asked.judged(Judged(seq))
    assert told == [(7, "verdict on 7" if wait else None)]


def test_one_who_waits_for_a_part_that_is_dropped_is_told_so() -> None:
    asked = VerdictRequests()
    told: list[tuple[int, str | None]] = []
    asked.asker(lambda *what: told.append(what), wait=True).taken(7)
    for seq in (6, 7, 7):
        asked.dropped(seq)
    assert told == [(7, None)]
