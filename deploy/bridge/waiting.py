"""Events that wait on the disk for their receivers: SQLite, one thread.

For each address the oldest `most` events are dropped first where there are more. An event that comes twice
while it waits (QoS 1) waits once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from device.errors import StorageError

FILE = "webhooks.sqlite"
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS event (
        number INTEGER PRIMARY KEY AUTOINCREMENT, url TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL,
        UNIQUE (url, id)
    );
"""


@dataclass(frozen=True, slots=True)
class Event:
    """Something to be told: its id, which tells repetitions, and the JSON."""

    id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """An event that waits, for remove()."""

    number: int
    event: Event


class EventQueue:
    """All from the thread that made it."""

    def __init__(self, folder: Path, most: int) -> None:
        """Raises StorageError: the folder cannot be made, or the file cannot be opened."""
        self._most = most
        path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" + _SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{path}: {error}") from None

    def add(self, urls: Sequence[str], events: Sequence[Event]) -> int:
        """Keep events for every address, on the disk when this returns. Returns how many had to give way."""
        dropped = 0
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            for url in urls:
                rows = [(url, event.id, event.body) for event in events]
                self._database.executemany(
                    "INSERT OR IGNORE INTO event (url, id, body) VALUES (?, ?, ?)", rows
                )
                dropped += self._make_room(url)
        return dropped

    def first(self, url: str) -> tuple[WaitingEvent | None, int]:
        """The oldest event for an address, and how many there are."""
        row = self._database.execute(
            "SELECT number, id, body FROM event WHERE url = ? ORDER BY number LIMIT 1", (url,)
        ).fetchone()
        return (None if row is None else WaitingEvent(row[0], Event(row[1], row[2]))), self._count(url)

    def remove(self, row: WaitingEvent) -> None:
        """It is with its receiver."""
        self._database.execute("DELETE FROM event WHERE number = ?", (row.number,))

    def close(self) -> None:
        self._database.close()

    def _count(self, url: str) -> int:
        found: int = self._database.execute("SELECT COUNT(*) FROM event WHERE url = ?", (url,)).fetchone()[0]
        return found

    def _make_room(self, url: str) -> int:
        too_many = self._count(url) - self._most
        if too_many <= 0:
            return 0
        self._database.execute(
            "DELETE FROM event WHERE number IN "
            "(SELECT number FROM event WHERE url = ? ORDER BY number LIMIT ?)",
            (url, too_many),
        )
        return too_many
