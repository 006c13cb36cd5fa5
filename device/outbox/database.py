"""The outbox's SQLite file: its schema, and every statement that is made of it.

WAL mode, locked for this process alone. Each change is a transaction of one Changes, and every method raises
sqlite3.Error with nothing changed. No thread and no lock here: one caller at a time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

SCHEMA_VERSION = 1
MEMORY: Final = ":memory:"
LOSS_ORDER: Final = ("OK", "MARGINAL", "ERROR", "NG")  # the first is dropped first
INSPECTION, DEFECT = 1, 2  # the bits of OutboxRow.due: what the broker has yet to acknowledge

ROW_BYTES = 64  # what a row takes beside its payload, roughly
CHECKED_BYTES = 64_000_000  # a larger file is not read through when it is opened
_DROPPED_AT_ONCE = 64
_AGED_AT_ONCE = 512
_SPARE_PAGES = 1024
_APPLICATION_ID = 0x45564F58  # "EVOX"
_SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = {_APPLICATION_ID};
BEGIN;
CREATE TABLE verdict (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of delivery, over all sessions
    session_id TEXT NOT NULL,
    rank INTEGER NOT NULL,                 -- what is dropped first: 0 OK, 1 MARGINAL, 2 ERROR, 3 NG
    bytes INTEGER NOT NULL,
    due INTEGER NOT NULL,                  -- 1 inspection, 2 defect, 3 both
    stored_s REAL NOT NULL,                -- monotonic; comparable within a session only
    captured_s REAL,                       -- UTC; NULL while the clock was not to be believed
    refused TEXT,                          -- why the broker does not take it; NULL: to be delivered
    payload TEXT NOT NULL
);
CREATE INDEX by_rank ON verdict (rank, id, bytes);
CREATE INDEX by_refusal ON verdict (id) WHERE refused IS NOT NULL;
CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class ForeignDatabase(sqlite3.DatabaseError):
    """The file is a sound database and not this one: another program's, or a newer version's."""


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A verdict to be stored. `stored_s`: monotonic. `captured_s`: UTC, None where it cannot be believed."""

    session_id: str
    word: str
    stored_s: float
    captured_s: float | None
    payload: str

    @property
    def rank(self) -> int:
        return LOSS_ORDER.index(self.word)

    @property
    def due(self) -> int:
        return INSPECTION | DEFECT if self.word in ("NG", "MARGINAL") else INSPECTION

    @property
    def size_bytes(self) -> int:
        return len(self.payload) + ROW_BYTES


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A stored verdict that is due. `stored_s` is comparable with this process's clock in its own session."""

    id: int
    session_id: str
    due: int
    stored_s: float
    payload: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that the broker will not have; `due` is what it refused of it."""

    row_id: int
    due: int
    reason: str


@dataclass(slots=True)
class Changes:
    """What one transaction writes. `drop_to_bytes`: down to which the payload is dropped, oldest OK first."""

    entries: list[OutboxEntry] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    offers_again: bool = False  # what was refused until now is due again
    spared_up_to: int = 0  # rows under way, which are not dropped
    older_than_s: float | None = None  # UTC; rows captured before it are dropped
    dropped: Counter[str] = field(default_factory=Counter)  # before they could be stored

    def __bool__(self) -> bool:
        return bool(
            self.entries
            or self.done
            or self.refusals
            or self.offers_again
            or self.dropped
            or self.older_than_s is not None
        )

    @property
    def must_last(self) -> bool:
        """Whether the commit has to be on the disk before anybody is told of it."""
        return any(entry.word != "OK" for entry in self.entries)


@dataclass(slots=True)
class Content:
    """What the file holds; `rows` and `dropped` by word, `dropped` and `lost` since the file was begun."""

    rows: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0
    refused: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    last_id: int = 0

    def copy(self) -> Content:
        return Content(
            Counter(self.rows), self.size_bytes, self.refused, Counter(self.dropped), self.lost, self.last_id
        )


_OFFER_AGAIN = "UPDATE verdict SET refused = NULL WHERE refused IS NOT NULL"


class Database:
    """An open outbox file, or one in memory. `content` is what it holds after the last transaction."""

    def __init__(self, place: Path | Literal[":memory:"]) -> None:
        """Open, check, and make it where it is missing. Rows refused in the session before are due again.

        Raises sqlite3.Error: damaged, foreign, locked by another process, or not to be read or written.
        """
        self._db = sqlite3.connect(place, timeout=0, isolation_level=None, check_same_thread=False)
        self._full_sync: bool | None = None
        self.content = Content()
        try:
            self._open(place)
        except BaseException:
            self._db.close()
            raise

    def apply(self, changes: Changes, max_bytes: int) -> list[OutboxRow]:
        """One transaction. Returns the new rows. Synchronous where changes.must_last."""
        self._sync(full=changes.must_last)
        content = self.content.copy()
        with self._transaction():
            rows = [self._insert(entry, content) for entry in changes.entries]
            for row_id in changes.done:
                self._delete(row_id, content)
            for refusal in changes.refusals:
                self._refuse(refusal, content)
            if changes.offers_again:
                self._db.execute(_OFFER_AGAIN)
                content.refused = 0
            if changes.older_than_s is not None:
                self._drop_old(changes.older_than_s, changes.spared_up_to, content)
            self._drop_excess(max_bytes, changes.spared_up_to, content)
            content.dropped.update(changes.dropped)
            self._write_counts(content)
        self.content = content
        return rows

    def after(self, row_id: int, limit: int) -> list[OutboxRow]:
        """The oldest rows after an id that are due, in order."""
        found = self._db.execute(
            "SELECT id, session_id, due, stored_s, payload FROM verdict"
            " WHERE id > ? AND refused IS NULL ORDER BY id LIMIT ?",
            (row_id, limit),
        )
        return [OutboxRow(*values) for values in found]

    def everything(self) -> Iterator[tuple[int, OutboxEntry]]:
        """All rows with their ids, in order: to move them into another database."""
        rows = self._db.execute(
            "SELECT id, session_id, rank, stored_s, captured_s, payload FROM verdict ORDER BY id"
        )
        for row_id, session_id, rank, stored_s, captured_s, payload in rows:
            yield row_id, OutboxEntry(session_id, LOSS_ORDER[rank], stored_s, captured_s, payload)

    def adopt(self, rows: Iterator[tuple[int, OutboxEntry]], others: Content) -> None:
        """Take another database's rows under their own ids, and its counts, in one transaction."""
        self._sync(full=True)
        content = self.content.copy()
        with self._transaction():
            for row_id, entry in rows:
                self._insert(entry, content, row_id)
            content.dropped.update(others.dropped)
            content.lost += others.lost
            self._continue_after(others.last_id, content)
            self._write_counts(content)
        self.content = content

    def count_lost(self, number: int, last_id: int) -> None:
        """Write down that rows are missing that were stored, and let the ids go on after `last_id`."""
        self._sync(full=True)
        content = self.content.copy()
        content.lost += number
        with self._transaction():
            self._continue_after(last_id, content)
            self._write_counts(content)
        self.content = content

    def sync(self) -> None:
        """Bring to the disk what was committed without waiting for it."""
        self._sync(full=True)
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO counts VALUES ('synced', 1)")

    def give_back(self) -> None:
        """Give a little of the file's unused space back to the file system, where there is much of it."""
        if self._db.execute("PRAGMA freelist_count").fetchone()[0] > _SPARE_PAGES:
            self._db.executescript(f"PRAGMA incremental_vacuum({_SPARE_PAGES})")  # execute() does one page

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    # -- opening

    def _open(self, place: Path | str) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        is_new = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,)
        if is_new:
            self._db.executescript(_SCHEMA)
        self._check(place)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA journal_size_limit = 16000000")
        with self._transaction():  # takes the lock, and shows whether the file can be written at all
            self._db.execute(_OFFER_AGAIN)
        self.content = self._count()

    def _check(self, place: Path | str) -> None:
        """Raises Foreign, or sqlite3.DatabaseError when the file is damaged."""
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if (application, version) != (_APPLICATION_ID, SCHEMA_VERSION):
            raise ForeignDatabase(
                f"no outbox of version {SCHEMA_VERSION}: application {application:#x}, {version}"
            )
        if isinstance(place, Path) and place.stat().st_size <= CHECKED_BYTES:
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(f"damaged: {found}")

    def _count(self) -> Content:
        content = Content()
        for rank, number, size_bytes in self._db.execute(
            "SELECT rank, COUNT(*), SUM(bytes) FROM verdict GROUP BY rank"
        ):
            content.rows[LOSS_ORDER[rank]] = number
            content.size_bytes += size_bytes
        last = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'verdict'").fetchone()
        content.last_id = last[0] if last else 0
        counts = dict(self._db.execute("SELECT name, value FROM counts"))
        content.lost = counts.get("lost", 0)
        content.dropped = Counter({word: counts.get(f"dropped {word}", 0) for word in LOSS_ORDER})
        return content

    # -- within a transaction

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # some errors end it by themselves
                self._db.execute("ROLLBACK")
            raise

    def _sync(self, *, full: bool) -> None:
        if full != self._full_sync:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            self._full_sync = full

    def _insert(self, entry: OutboxEntry, content: Content, row_id: int | None = None) -> OutboxRow:
        values = (
            row_id,
            entry.session_id,
            entry.rank,
            entry.size_bytes,
            entry.due,
            entry.stored_s,
            entry.captured_s,
            None,
            entry.payload,
        )
        given = self._db.execute("INSERT INTO verdict VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid
        assert given is not None  # noqa: S101 an INSERT that did not raise has its id
        content.rows[entry.word] += 1
        content.size_bytes += entry.size_bytes
        content.last_id = max(content.last_id, given)
        return OutboxRow(given, entry.session_id, entry.due, entry.stored_s, entry.payload)

    def _continue_after(self, last_id: int, content: Content) -> None:
        content.last_id = max(content.last_id, last_id)
        self._db.execute("DELETE FROM sqlite_sequence WHERE name = 'verdict'")
        self._db.execute("INSERT INTO sqlite_sequence VALUES ('verdict', ?)", (content.last_id,))

    def _delete(self, row_id: int, content: Content) -> str | None:
        """The word of the row that was there."""
        found = self._db.execute(
            "DELETE FROM verdict WHERE id = ? RETURNING rank, bytes, refused IS NOT NULL", (row_id,)
        ).fetchone()
        if found is None:
            return None
        rank, size_bytes, was_refused = found
        content.rows[LOSS_ORDER[rank]] -= 1
        content.size_bytes -= size_bytes
        content.refused -= was_refused
        return LOSS_ORDER[rank]

    def _refuse(self, refusal: Refusal, content: Content) -> None:
        done = self._db.execute(
            "UPDATE verdict SET refused = ?, due = ? WHERE id = ? AND refused IS NULL",
            (refusal.reason, refusal.due, refusal.row_id),
        )
        content.refused += done.rowcount

    def _drop_excess(self, max_bytes: int, spared_up_to: int, content: Content) -> None:
        for rank, word in enumerate(LOSS_ORDER):
            while content.size_bytes > max_bytes and content.rows[word]:
                oldest = self._db.execute(
                    "SELECT id FROM verdict WHERE rank = ? AND id > ? ORDER BY id LIMIT ?",
                    (rank, spared_up_to, _DROPPED_AT_ONCE),
                ).fetchall()
                if not oldest:
                    break
                for (row_id,) in oldest:
                    if content.size_bytes <= max_bytes:
                        return
                    self._drop(row_id, content)

    def _drop_old(self, older_than_s: float, spared_up_to: int, content: Content) -> None:
        """From the oldest on, up to the first that is young enough. A row without a time is passed over."""
        rows = self._db.execute(
            "SELECT id, captured_s FROM verdict WHERE id > ? ORDER BY id LIMIT ?",
            (spared_up_to, _AGED_AT_ONCE),
        ).fetchall()
        for row_id, captured_s in rows:
            if captured_s is not None and captured_s >= older_than_s:
                return
            if captured_s is not None:
                self._drop(row_id, content)

    def _drop(self, row_id: int, content: Content) -> None:
        if (word := self._delete(row_id, content)) is not None:
            content.dropped[word] += 1

    def _write_counts(self, content: Content) -> None:
        if content.dropped != self.content.dropped or content.lost != self.content.lost:
            counts = {f"dropped {word}": number for word, number in content.dropped.items()}
            self._db.executemany(
                "INSERT OR REPLACE INTO counts VALUES (?, ?)", [*counts.items(), ("lost", content.lost)]
            )
