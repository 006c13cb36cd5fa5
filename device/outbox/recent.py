"""Committed rows that are kept in memory, so that live delivery reads nothing, and what is settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from device.outbox.database import OutboxRow

KEPT = 256  # rows


class RecentRows:
    """The newest rows. Its owner's lock is held at each call.

    `fetched_to`: up to which rows are under way to the broker.
    """

    def __init__(self) -> None:
        self._rows: deque[OutboxRow] = deque(maxlen=KEPT)
        self.settled: set[int] = set()  # acknowledged or refused, and that is not committed yet
        self.fetched_to = 0

    def after(self, row_id: int, most: int) -> list[OutboxRow] | None:
        """The next rows after an id; None where they must be read from the database."""
        rows = [row for row in self._rows if row.id > row_id]
        return rows[:most] if rows and rows[0].id == row_id + 1 else None

    def fetch(self, rows: Iterable[OutboxRow]) -> None:
        """They are under way now."""
        self.fetched_to = max([self.fetched_to, *(row.id for row in rows)])

    def commit(self, rows: Iterable[OutboxRow], settled: set[int]) -> None:
        """New rows are stored, and `settled` ones are gone."""
        self.settled -= settled
        if settled:
            self._rows = deque((row for row in self._rows if row.id not in settled), KEPT)
        self._rows.extend(rows)

    def clear(self) -> None:
        """None of them is to be delivered from here: some were dropped, or all lie elsewhere."""
        self._rows.clear()
