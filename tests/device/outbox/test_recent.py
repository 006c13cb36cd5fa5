"""Rows that are delivered from memory."""

from __future__ import annotations

from device.outbox.database import OutboxRow
from device.outbox.recent import KEPT, RecentRows


def rows(first: int, last: int) -> list[OutboxRow]:
    return [OutboxRow(number, "5e55", 1, 0.0, "{}") for number in range(first, last + 1)]


def test_what_follows_without_a_gap_comes_from_memory() -> None:
    recent = RecentRows()
    recent.commit(rows(1, KEPT + 1), set())
    assert recent.after(1, 2) == rows(2, 3)
    assert recent.after(0, 2) is None, "the first has gone out of memory"
    assert recent.after(KEPT + 1, 2) is None
    recent.clear()
    assert recent.after(1, 2) is None


def test_what_is_settled_leaves_with_its_commit() -> None:
    recent = RecentRows()
    recent.commit(rows(1, 3), set())
    recent.settled |= {1, 2}
    recent.commit(rows(4, 4), {1})
    assert recent.settled == {2}
    assert recent.after(1, 9) == rows(2, 4)


def test_how_far_the_broker_was_given() -> None:
    recent = RecentRows()
    recent.fetch(rows(3, 5))
    recent.fetch([])
    recent.fetch(rows(2, 2))
    assert recent.fetched_to == 5
