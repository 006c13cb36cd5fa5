"""Verdicts on the disk until the broker has them: stored before they are told, deleted when acknowledged.

put() only hands a verdict to the storing thread, which commits all that came while it was busy with the
commit before (group commit). A commit with an NG, MARGINAL or ERROR in it is synchronous: on the disk before
anybody is told. One with OK alone follows within SYNC_S. So a power cut can cost about a second of OK
verdicts; kill -9 costs nothing that was stored.

Loss rule: over `max_bytes` of payload the oldest OK goes first, then MARGINAL, ERROR, and NG last. What is
older than `max_age_s` goes as well, where both its own time and the present one can be believed. The same
order holds for the hand-over queue, should the disk stand still for minutes. All of it is counted by word,
and the counts outlive the process.

Where the verdicts lie, and what happens when the disk fails: storage.py.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device.errors import StorageError
from device.inspection.verdict import Verdict
from device.outbox.database import (
    LOSS_ORDER,
    Changes,
    Content,
    OutboxEntry,
    OutboxRow,
    Refusal,
)
from device.outbox.recent import KEPT, RecentRows
from device.outbox.storage import FILE_NAME, Storage
from device.outbox.unstored import UnstoredQueue
from device.system import process
from device.system.clock import clock_synced

log = logging.getLogger(__name__)

STOP_S = 10.0  # how long stop() waits for a disk that stands still
SYNC_S = 1.0
DELETE_S = 0.2  # after a kill, what was acknowledged so short a time before is delivered once more

_BATCH = 512  # verdicts of one commit
_AGE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Stock:
    """What the outbox holds, and what it lost since it was begun.

    `waiting`, `waiting_bytes`: to be delivered. `refused`: kept aside. `dropped`: by the loss rule, by word.
    `lost`: stored once, and missing when the file was opened. `set_aside`: damaged files that are kept.
    `durable`: on the disk, not in memory.
    """

    waiting: int
    waiting_bytes: int
    refused: int
    dropped: dict[str, int]
    lost: int
    set_aside: int
    durable: bool


def _nobody(rows: list[OutboxRow]) -> None:
    """Nobody waits for what is stored."""


class Outbox:
    """start(), put() for every verdict, next() and done() for whoever delivers, stop().

    `folder` is made where it is missing. The storing thread calls `on_stored` with the new rows of each
    commit, and with none when what is stored can be read again.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        max_age_s: float,
        on_stored: Callable[[list[OutboxRow]], None] = _nobody,
    ) -> None:
        self._path = folder / FILE_NAME
        self._max_age_s = max_age_s
        self._on_stored = on_stored
        self._storage = Storage(folder, max_bytes)
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._is_dropping = False
        self._unsynced_since_s: float | None = None  # this and the next: the storing thread's own
        self._age_checked_s = time.monotonic()
        self._changed = threading.Condition()  # guards all that follows
        self._handed = UnstoredQueue(self._path)
        self._recent = RecentRows()
        self._before: Content | None = None  # what was stored when the storing thread took `_taken`
        self._taken: list[OutboxEntry] = []
        self._done: list[int] = []
        self._refusals: list[Refusal] = []
        self._offers_again = False
        self._offers = 0  # how often what was refused was due again
        self._closing = False

    # -- for whoever makes verdicts

    def start(self) -> None:
        """Open the database and begin to store. Raises StorageError: another process has it open."""
        self._storage.open()
        self._thread.start()

    def put(self, verdict: Verdict) -> None:
        """Hand a verdict over. Never waits for the disk."""
        captured_s = verdict.captured_ns / 1e9 if verdict.clock_synced else None
        entry = OutboxEntry(
            verdict.session_id, verdict.verdict, time.monotonic(), captured_s, verdict.to_json()
        )
        with self._changed:
            self._handed.add(entry)
            self._changed.notify()

    @property
    def unstored(self) -> int:
        """Verdicts that are on their way to the disk."""
        with self._changed:
            return len(self._handed) + len(self._committing(self._storage.content))

    def stop(self) -> None:
        """Store what was handed over, and close. A second call does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def stock(self) -> Stock:
        """What is here now, what is on its way to the disk included."""
        with self._changed:
            content = self._storage.content
            stored = content.rows.total() - content.refused - len(self._recent.settled)
            dropped = content.dropped + self._handed.dropped
            taken = self._committing(content)
            return Stock(
                waiting=max(0, stored) + len(self._handed) + len(taken),
                waiting_bytes=content.size_bytes + self._handed.size_bytes + sum(e.size_bytes for e in taken),
                refused=content.refused,
                dropped={word: dropped[word] for word in LOSS_ORDER},
                lost=content.lost,
                set_aside=self._storage.set_aside,
                durable=self._storage.durable,
            )

    def _committing(self, content: Content) -> list[OutboxEntry]:
        """What is being stored and is not in this content yet. The condition is held."""
        return self._taken if content is self._before else []

    # -- for whoever delivers

    @property
    def generation(self) -> int:
        """Changes when the rows lie in another database or are offered again: next() is to begin at 0."""
        return self._storage.generation + self._offers

    @property
    def last_id(self) -> int:
        """The id of the newest row that is stored, or ever was."""
        return self._storage.content.last_id

    def next(self, after_id: int, limit: int = KEPT) -> list[OutboxRow]:
        """The oldest rows after an id, in order, but for those that are acknowledged or refused.

        Empty when there are none, and when the database fails, which the storing thread then sees to.
        """
        with self._changed:
            settled = set(self._recent.settled)
            rows = self._recent.after(after_id, limit)
        if rows is None:
            rows = self._read(after_id, limit)
        with self._changed:
            self._recent.fetch(rows)
        return [row for row in rows if row.id not in settled]

    def rewind(self) -> None:
        """What was fetched is not under way any more, and may be dropped like all else."""
        with self._changed:
            self._recent.fetched_to = 0

    def done(self, row_id: int) -> None:
        """The broker has acknowledged all of a row: it goes with the next commit, or within DELETE_S."""
        with self._changed:
            self._recent.settled.add(row_id)
            self._done.append(row_id)

    def refuse(self, refusal: Refusal) -> None:
        """The broker will not have a row: it is kept aside until the next start, or offer_again()."""
        with self._changed:
            self._recent.settled.add(refusal.row_id)
            self._refusals.append(refusal)
            self._changed.notify()

    def offer_again(self) -> None:
        """What was kept aside is due again, before what is newer."""
        with self._changed:
            self._offers_again = True
            self._changed.notify()

    # -- the storing thread

    def _run(self) -> None:
        process.step_back()
        while (changes := self._take()) is not None:
            if changes:
                self._commit(changes)
            self._tend()
        self._storage.close()

    def _take(self) -> Changes | None:
        """Wait for something to write, or for the time to tend. None at the end, when all is written."""
        with self._changed:
            self._changed.wait_for(self._is_urged, DELETE_S)
            ends = self._closing and not self._has_work()
            changes = Changes(done=self._done, refusals=self._refusals, spared_up_to=self._recent.fetched_to)
            self._done, self._refusals = [], []
            changes.offers_again, self._offers_again = self._offers_again, False
            changes.dropped = self._handed.take_dropped()
            changes.entries = self._handed.take(_BATCH)
            self._before, self._taken = self._storage.content, changes.entries
        now_s = time.monotonic()
        if now_s - self._age_checked_s >= _AGE_EVERY_S and clock_synced():
            self._age_checked_s = now_s
            changes.older_than_s = time.time() - self._max_age_s
        return None if ends else changes

    def _has_work(self) -> bool:
        return bool(self._handed or self._done or self._refusals or self._offers_again)

    def _is_urged(self) -> bool:
        """What was acknowledged is not urgent: it is deleted along with the next that comes."""
        return self._closing or bool(self._handed or self._refusals or self._offers_again)

    def _commit(self, changes: Changes) -> None:
        """Write it to the disk, to a new file where the old one is damaged, or else to memory."""
        for _ in range(3):
            before = self._storage.content
            try:
                rows = self._storage.apply(changes)
            except sqlite3.Error as error:
                self._replace(error)
            else:
                self._committed(changes, rows, before.dropped)
                return
        raise StorageError(f"{self._path}: neither the disk nor the memory takes a verdict")

    def _committed(self, changes: Changes, rows: list[OutboxRow], dropped_before: Counter[str]) -> None:
        content = self._storage.content
        with self._changed:
            settled = {*changes.done, *(refusal.row_id for refusal in changes.refusals)}
            self._offers += changes.offers_again
            self._recent.commit(rows, settled)
            if content.dropped != dropped_before:
                self._recent.clear()  # a dropped row is not to be delivered from here
        if changes.must_last:
            self._unsynced_since_s = None
        elif self._unsynced_since_s is None:
            self._unsynced_since_s = time.monotonic()
        if content.dropped != dropped_before and not self._is_dropping:
            self._is_dropping = True
            counts = _listed(content.dropped)
            log.warning("%s: full: verdicts are dropped, the oldest OK first; so far %s", self._path, counts)
        if rows:
            self._on_stored(rows)

    def _tend(self) -> None:
        """What is done beside the commits: sync OK verdicts, shrink the file, look for the disk."""
        try:
            if self._storage.return_to_disk():
                self._on_stored([])
            if self._unsynced_since_s is not None and time.monotonic() - self._unsynced_since_s >= SYNC_S:
                self._unsynced_since_s = None
                self._storage.sync()
        except sqlite3.Error as error:
            self._replace(error)

    def _read(self, after_id: int, limit: int) -> list[OutboxRow]:
        if after_id >= self._storage.content.last_id:  # asked without waiting for a commit that is under way
            return []
        try:
            return self._storage.after(after_id, limit)
        except sqlite3.Error as error:
            log.debug("%s: cannot be read: %s", self._path, error)
            with self._changed:  # the next commit will meet the same fault, and act
                self._changed.notify()
            return []

    def _replace(self, error: sqlite3.Error) -> None:
        """The database failed: go on with another."""
        with self._changed:
            self._recent.clear()  # before the rows lie elsewhere: none of the old is delivered from here
        self._storage.replace(error)
        self._on_stored([])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[word]} {word}" for word in LOSS_ORDER)
