"""What people say of a verdict: ok, ng, unsure. The last word on an event counts; its image is kept for good.

    reviews.db in the state folder, SQLite: words(id, event_id, label, by, note, ts), a row for each, synced
    sqlite3 reviews.db "SELECT * FROM words WHERE event_id = '...'"

Several processes may write and read at the same time, the running service among them. Of MOST_WORDS, those go
first that another word on the same event has replaced, the oldest of them first. A reviews.jsonl of version
0.1.0 is read in once, and kept as reviews.jsonl.imported.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from device.archive import image_store
from device.errors import ReviewError, StorageError
from device.system import clock

log = logging.getLogger(__name__)

FILE = "reviews.db"
BEFORE = "reviews.jsonl"  # of version 0.1.0: a line of JSON for each word
MOST_WORDS = 100_000
WAIT_S = 30.0  # for another process that writes
LIMIT = 1000  # characters of `by` and of `note`
Label = Literal["ok", "ng", "unsure"]


@dataclass(frozen=True, slots=True)
class Review:
    """A person's word on an event. `ts`: RFC 3339 UTC, of a clock that may be wrong."""

    event_id: str
    label: Label
    by: str
    note: str
    ts: str

    def __post_init__(self) -> None:
        texts = [getattr(self, field.name) for field in fields(self)]
        if not all(isinstance(text, str) and _is_unicode(text) for text in texts):
            raise ReviewError(f"a review must be of texts, got {texts}")
        if not image_store.is_event_id(self.event_id):
            raise ReviewError(f"event id: must be as in a verdict, got {self.event_id!r}")
        if self.label not in get_args(Label):
            raise ReviewError(f"label: must be {', '.join(get_args(Label))}, got {self.label!r}")
        for name, text in (("by", self.by), ("note", self.note)):
            if len(text) > LIMIT:
                raise ReviewError(f"{name}: must have at most {LIMIT} characters, got {len(text)}")


@dataclass(frozen=True, slots=True)
class ReviewResult:
    """What was recorded, the word before it (None: it is the first), and the image that is now pinned."""

    review: Review
    previous: Review | None
    image: Path


def review(
    state: Path, event_id: str, label: str, by: str, note: str = "", *, most_pinned_bytes: int = sys.maxsize
) -> ReviewResult:
    """Record a word on an event whose image is in the archive of the `state` folder, and pin the image.

    `event_id`: or enough of it, see image_store.whole_id.
    `most_pinned_bytes`: see image_store.pin.
    Raises ReviewError: a label that is none, an event without an image, no room. StorageError: the disk.
    """
    said = Review(event_id, label, by, note, clock.now())  # type: ignore[arg-type]  # it checks itself
    folder = state / image_store.FOLDER
    try:
        event_id = image_store.whole_id(folder, event_id)
        said = replace(said, event_id=event_id)
        image = image_store.pin(folder, event_id, most_pinned_bytes)
        if image is None:
            raise ReviewError(f"{event_id}: is not in {folder} any more")
        with _opened(state) as database:
            previous = _last_words(database, event_id).get(event_id)
            _add(database, said)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{event_id}: the review cannot be recorded: {error}") from error
    log.info("%s: reviewed as %s by %s", event_id, label, by)
    return ReviewResult(said, previous, image)


def reviews(state: Path) -> dict[str, Review]:
    """The last word on each event, in the order of the first words. Raises StorageError."""
    try:
        if (state / BEFORE).exists():
            with _opened(state):
                pass
        if not (state / FILE).exists():
            return {}
        with closing(sqlite3.connect(f"{(state / FILE).absolute().as_uri()}?mode=rw", uri=True)) as database:
            begun = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone()
            return _last_words(database) if begun else {}
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{state / FILE}: cannot be read: {error}") from error


@contextmanager
def _opened(state: Path) -> Iterator[sqlite3.Connection]:
    """The database in one transaction, to write to; made, and filled, where it is new."""
    with closing(sqlite3.connect(state / FILE, timeout=WAIT_S, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = EXTRA")  # a word that was taken outlives a power cut
        database.execute("BEGIN IMMEDIATE")
        try:
            database.execute(
                "CREATE TABLE IF NOT EXISTS words (id INTEGER PRIMARY KEY, event_id TEXT NOT NULL, "
                "label TEXT NOT NULL, by TEXT NOT NULL, note TEXT NOT NULL, ts TEXT NOT NULL)"
            )
            database.execute("CREATE INDEX IF NOT EXISTS words_of_an_event ON words (event_id)")
            imported = _import(database, state / BEFORE)
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")
        if imported:  # not before: a power cut in between reads them in again, over themselves
            (state / BEFORE).replace(state / f"{BEFORE}.imported")


def _import(database: sqlite3.Connection, path: Path) -> bool:
    """The words of version 0.1.0, where there are any. What cannot be read is left out, with a warning."""
    if not path.exists():
        return False
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                said = Review(**json.loads(line))
            except (ValueError, TypeError, ReviewError) as error:
                log.warning("%s line %d: left out: %s", path, number, error)
                continue
            values = astuple(said)
            known = "SELECT 1 FROM words WHERE (event_id, label, by, note, ts) = (?, ?, ?, ?, ?)"
            if database.execute(known, values).fetchone() is None:
                _add(database, said)
    return True


def _add(database: sqlite3.Connection, said: Review) -> None:
    database.execute(
        "INSERT INTO words (event_id, label, by, note, ts) VALUES (?, ?, ?, ?, ?)", astuple(said)
    )
    (count,) = database.execute("SELECT count(*) FROM words").fetchone()
    if count > MOST_WORDS:
        database.execute(
            "DELETE FROM words WHERE id IN (SELECT id FROM words AS old WHERE EXISTS "
            "(SELECT 1 FROM words WHERE event_id = old.event_id AND id > old.id) ORDER BY id LIMIT ?)",
            (count - MOST_WORDS,),
        )


def _is_unicode(text: str) -> bool:
    """False of one with lone surrogates, as of a command line that is no UTF-8: no database takes it."""
    return text == text.encode(errors="replace").decode()


def _last_words(database: sqlite3.Connection, event_id: str | None = None) -> dict[str, Review]:
    """Of one event, or of all in the order of their first words."""
    where, values = ("", ()) if event_id is None else ("WHERE event_id = ?", (event_id,))
    rows = database.execute(
        "SELECT event_id, label, by, note, ts FROM words JOIN (SELECT max(id) AS last, min(id) AS first "  # noqa: S608 - constants
        f"FROM words {where} GROUP BY event_id) ON id = last ORDER BY first",
        values,
    )
    return {row[0]: Review(*row) for row in rows}
