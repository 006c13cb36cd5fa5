"""What people say of a verdict: ok, ng, unsure. The last word on an event counts; its image is kept for good.

    reviews.jsonl in the state folder: a line of JSON for each word, appended and synced
    {"event_id": "...", "label": "ng", "by": "Ada", "note": "", "ts": "2026-11-24T06:30:00.123Z"}

Several processes may write and read at the same time, the running service among them.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from device.archive import image_store
from device.errors import ReviewError, StorageError
from device.system import clock

log = logging.getLogger(__name__)

FILE = "reviews.jsonl"
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
        if not all(isinstance(text, str) for text in texts):
            raise ReviewError(f"a review must be of texts, got {texts}")
        if not image_store.is_event_id(self.event_id):
            raise ReviewError(f"event id: must be as in a verdict, got {self.event_id!r}")
        if self.label not in get_args(Label):
            raise ReviewError(f"label: must be {', '.join(get_args(Label))}, got {self.label!r}")
        for name, text in (("by", self.by), ("note", self.note)):
            if len(text) > LIMIT:
                raise ReviewError(f"{name}: must have at most {LIMIT} characters, got {len(text)}")


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What was recorded, the word before it (None: it is the first), and the image that is now pinned."""

    review: Review
    previous: Review | None
    image: Path


def review(state: Path, event_id: str, label: str, by: str, note: str = "") -> Reviewed:
    """Record a word on an event whose image is in the archive of the `state` folder, and pin the image.

    Raises ReviewError: a label that is none, an event without an image. StorageError: the disk.
    """
    said = Review(event_id, label, by, note, clock.now())  # type: ignore[arg-type]  # it checks itself
    try:
        image = image_store.pin(state / image_store.FOLDER, event_id)
        if image is None:
            raise ReviewError(
                f"{event_id}: no image of this event in {state / image_store.FOLDER}: kept are NG, MARGINAL "
                "and a share of OK ([archive] in the configuration), until newer ones need the room"
            )
        previous = _append(state / FILE, said)
    except OSError as error:
        raise StorageError(f"{event_id}: the review cannot be recorded: {error}") from error
    log.info("%s: reviewed as %s by %s", event_id, label, by)
    return Reviewed(said, previous, image)


def reviews(state: Path) -> dict[str, Review]:
    """The last word on each event, in the order of the first words. Raises StorageError."""
    path = state / FILE
    try:
        return _last_words(path.read_bytes(), path) if path.exists() else {}
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def _append(path: Path, said: Review) -> Review | None:
    """Add a line, on the disk when this returns; the word before."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        before = file.read()
        line = json.dumps(asdict(said), separators=(",", ":")) + "\n"
        if before and not before.endswith(b"\n"):  # a power cut: what it left is a line of its own
            line = f"\n{line}"
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
    return _last_words(before, path).get(said.event_id)


def _last_words(content: bytes, path: Path) -> dict[str, Review]:
    """What cannot be read is left out, with a warning: a power cut may have ended a line early."""
    found: dict[str, Review] = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            said = Review(**json.loads(line))
        except (ValueError, TypeError, ReviewError) as error:
            log.warning("%s line %d: left out: %s", path, number, error)
        else:
            found[said.event_id] = said
    return found
