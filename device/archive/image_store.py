"""Images of events on the disk, each with its verdict beside it, under quotas, the oldest removed first.

    archive/2026-11-24/<event_id>.jpg      the image (or .png)
    archive/2026-11-24/<event_id>.heat     where the model saw something, of NG and MARGINAL: a PNG over it
    archive/2026-11-24/<event_id>.json     its verdict, as it went to MQTT; written last
    archive/2026-11-24/<event_id>.pinned   empty: this image is never removed

Files are written under a name with a leading dot, synced, and renamed. What a power cut leaves behind (such a
draft, an image without its verdict) is removed by the next open(). One process writes and removes; others may
find() and pin() at the same time: a lock on the archive's folder keeps a removal and a pin apart.

Which image is the oldest is told by the files' modification times, and these are not left to the clock: each
is later than that of the image before. So the order holds when the clock is set back, and after a restart.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from device.errors import ReviewError
from device.system import durable

FOLDER = "archive"  # in the station's state folder
SIDECAR = ".json"
PIN = ".pinned"
HEAT = ".heat"  # a PNG; by its name no image of a part
IMAGES = (".jpg", ".png")

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_EVENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_BATCH = 512  # of the oldest images whose names are held in memory while images are being removed
_FILES = 5  # that a picture may need: image, heat, verdict, and two folders


@dataclass(frozen=True, slots=True)
class Quotas:
    """What the images may take: in all, for how long, and what they must leave free on their file system."""

    max_bytes: int
    max_days: int
    min_free_bytes: int


@dataclass(frozen=True, slots=True)
class StoredImage:
    """What is kept of an event: the bytes of an image file, the text of its verdict, and its heat.

    `captured_ns` (UTC) chooses the day; where the clock is not `clock_synced`, never one before the latest.
    """

    event_id: str
    captured_ns: int
    clock_synced: bool
    image: bytes
    suffix: str
    sidecar: str
    heat: bytes | None = None

    def __post_init__(self) -> None:
        if not is_event_id(self.event_id):
            raise ValueError(f"event_id must be letters, digits, '_' or '-', got {self.event_id!r}")
        if self.suffix not in IMAGES:
            raise ValueError(f"suffix must be one of {', '.join(IMAGES)}, got {self.suffix!r}")

    @property
    def size_bytes(self) -> int:
        return len(self.image) + len(self.sidecar.encode()) + len(self.heat or b"")


@dataclass(slots=True)
class _Day:
    """What a day's folder holds. `order_ns`: of its oldest picture, or of one that was older."""

    order_ns: int
    images: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    """A picture on the disk."""

    order_ns: int
    event_id: str
    day: str
    size_bytes: int


# ---- for every process


def is_event_id(text: str) -> bool:
    """Whether a text can be an event's id, and so the name of a file. A path never is."""
    return _EVENT_ID.fullmatch(text) is not None


def find(folder: Path, event_id: str) -> Path | None:
    """The image of an event; None where there is none with a verdict beside it. Raises OSError."""
    if not is_event_id(event_id):
        return None
    for day in _days(folder):
        for suffix in IMAGES:
            image = folder / day / f"{event_id}{suffix}"
            if image.is_file() and image.with_suffix(SIDECAR).is_file():
                return image
    return None


def heat_beside(image: Path) -> bytes | None:
    """The heat that is kept with an image, or None. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        return image.with_suffix(HEAT).read_bytes()
    return None


def whole_id(folder: Path, text: str) -> str:
    """The id of the one kept event that a text means: its id, how it begins, or session and number.

    Of "5e551040...-00000012", "5e551040-12" is enough where no other session begins so. Raises ReviewError:
    none, or several. Raises OSError.
    """
    if find(folder, text) is not None:
        return text
    session, _, number = text.partition("-")
    pattern = re.compile(
        rf"{re.escape(text)}.*|{re.escape(session)}[^-]*-0*{re.escape(number)}"
        if number
        else rf"{re.escape(text)}.*"
    )
    found = sorted(
        path.stem
        for day in _days(folder)
        for path in (folder / day).glob(f"*{SIDECAR}")
        if text and pattern.fullmatch(path.stem)
    )
    if not found:
        raise ReviewError(
            f"{text}: no image of this event in {folder}: kept are NG, MARGINAL and a share of OK ([archive] "
            "in the configuration), until newer ones need the room"
        )
    if len(found) > 1:
        raise ReviewError(f"{text}: means {len(found)} events, the first of them {found[0]} and {found[1]}")
    return found[0]


def pin(folder: Path, event_id: str, most_bytes: int = sys.maxsize) -> Path | None:
    """Keep the image of an event for good; None where there is none. Raises OSError.

    `most_bytes`: of all pinned images with their verdicts; the rest is for what nobody has seen yet. Raises
    ReviewError where this one does not fit.
    """
    if not folder.is_dir():
        return None
    with _locked(folder):
        image = find(folder, event_id)
        if image is not None and not image.with_suffix(PIN).exists():
            if (pinned := _pinned_bytes(folder) + _picture_bytes(image)) > most_bytes:
                raise ReviewError(
                    f"{event_id}: reviewed images would take {pinned} bytes, and may take {most_bytes}, half "
                    f"of [archive] max_bytes: export them, then remove the {PIN} of those that need not stay"
                )
            image.with_suffix(PIN).touch()
            durable.sync_folder(image.parent)
    return image


def _pinned_bytes(folder: Path) -> int:
    pins = (path for day in _days(folder) for path in (folder / day).glob(f"*{PIN}"))
    images = (path.with_suffix(suffix) for path in pins for suffix in IMAGES)
    return sum(_picture_bytes(image) for image in images if image.exists())


def _picture_bytes(image: Path) -> int:
    return image.stat().st_size + _bytes_beside(image)


class ImageStore:
    """The process that writes. Not for several threads at once; every method may raise OSError."""

    def __init__(self, folder: Path, quotas: Quotas) -> None:
        self._folder = folder
        self._quotas = quotas
        self._index: dict[str, _Day] = {}
        self._last_ns = 0
        self._oldest: deque[_Kept] = deque()  # the next to be removed
        self._spent: set[str] = set()  # days in which nothing may be removed
        self._removed = 0

    @property
    def images(self) -> int:
        return sum(day.images for day in self._index.values())

    @property
    def size_bytes(self) -> int:
        return sum(day.size_bytes for day in self._index.values())

    @property
    def removed(self) -> int:
        """Pictures that had to make room, or had become too old."""
        return self._removed

    def open(self) -> None:
        """Make the folder, remove what a power cut left half done, count what is there.

        In memory is then a line a day, not a line an image.
        """
        durable.make_folder(self._folder)
        self._index.clear()
        self._oldest.clear()
        self._spent.clear()
        for day in _days(self._folder):
            self._recount(day)

    def put(self, picture: StoredImage) -> str | None:
        """Store a picture, removing older ones as far as needed; why there is no room for it, or None."""
        if reason := self._make_room(picture.size_bytes):
            return reason
        self._write(picture)
        return None

    def expire(self, today: date) -> None:
        """Remove what is older than max_days. Only for a date that can be believed."""
        first = str(today - timedelta(days=self._quotas.max_days))
        self._oldest.clear()
        for day in [day for day in self._index if day < first]:
            while day in self._index and day not in self._spent:
                for kept in self._oldest_of(day):
                    self._remove(kept)

    # ---- making room

    def _make_room(self, needed_bytes: int) -> str | None:
        while self._lack(needed_bytes):
            if not self._remove_oldest():
                return self._lack(needed_bytes)  # looked at anew: files that a person removed are known now
        return None

    def _lack(self, needed_bytes: int) -> str | None:
        """Why a picture of this size does not fit, or None."""
        quotas, disk = self._quotas, os.statvfs(self._folder)
        free_bytes = disk.f_bavail * disk.f_frsize
        if self.size_bytes + needed_bytes > quotas.max_bytes:
            lack = f"max_bytes = {quotas.max_bytes} is reached"
        elif free_bytes < quotas.min_free_bytes + needed_bytes + _FILES * disk.f_frsize:
            lack = f"the disk has {free_bytes} bytes left, min_free_bytes = {quotas.min_free_bytes}"
        elif disk.f_files and disk.f_favail < _FILES:
            lack = f"the disk has room for {disk.f_favail} files"
        else:
            return None
        return f"{lack}, and no image that is left may be removed"

    def _remove_oldest(self) -> bool:
        """Remove a picture, the oldest that is not pinned; False where there is none."""
        while not self._oldest:
            days = self._index.keys() - self._spent
            if not days:
                return False
            self._oldest.extend(self._oldest_of(min(days, key=lambda day: self._index[day].order_ns)))
        self._remove(self._oldest.popleft())
        return True

    def _oldest_of(self, day: str) -> list[_Kept]:
        """Some pictures of a day that are not pinned, the oldest first. A day without one is spent."""
        with os.scandir(self._folder / day) as scan:
            pinned = {stem for stem, suffix in (_split(item.name) for item in scan) if suffix == PIN}
        images = (
            (item.stat().st_mtime_ns, item.name, item.stat().st_size)
            for item in self._files(day)
            if not item.name.endswith(SIDECAR) and _split(item.name)[0] not in pinned
        )
        oldest = [
            _Kept(order_ns, _split(name)[0], day, size_bytes + _bytes_beside(self._folder / day / name))
            for order_ns, name, size_bytes in heapq.nsmallest(_BATCH, images)
        ]
        if not oldest:
            self._spent.add(day)
            self._recount(day)
        return oldest

    def _remove(self, kept: _Kept) -> None:
        """The verdict first: what a power cut leaves is an image without one."""
        stem = self._folder / kept.day / kept.event_id
        with _locked(self._folder):
            if stem.with_suffix(PIN).exists():
                return
            for suffix in (SIDECAR, HEAT, *IMAGES):
                stem.with_suffix(suffix).unlink(missing_ok=True)
        day = self._index[kept.day]
        day.images -= 1
        day.size_bytes -= kept.size_bytes
        day.order_ns = kept.order_ns
        self._removed += 1
        if day.images <= 0:
            self._recount(kept.day)

    # ---- counting

    def _recount(self, day: str) -> None:
        """Count a day's pictures, remove what is incomplete, and its folder when nothing is left in it."""
        counted = _Day(order_ns=sys.maxsize)
        halves: dict[str, tuple[Path, int]] = {}
        for item in self._files(day):
            stem, status = _split(item.name)[0], item.stat()
            if stem.startswith("."):
                Path(item.path).unlink()  # a draft
            elif (other := halves.pop(stem, None)) is None:
                halves[stem] = Path(item.path), status.st_size
            else:
                counted.images += 1
                counted.size_bytes += status.st_size + other[1]
                counted.order_ns = min(counted.order_ns, status.st_mtime_ns)
                self._last_ns = max(self._last_ns, status.st_mtime_ns)
        for path, _ in halves.values():
            path.unlink()
        counted.size_bytes += self._recount_heat(day)
        self._index[day] = counted
        if not counted.images:
            self._forget(day)

    def _recount_heat(self, day: str) -> int:
        """The bytes of a day's heat; what has no verdict beside it is removed."""
        size_bytes = 0
        for item in self._files(day, (HEAT,)):
            if Path(item.path).with_suffix(SIDECAR).exists():
                size_bytes += item.stat().st_size
            else:
                Path(item.path).unlink()
        return size_bytes

    def _files(self, day: str, suffixes: Sequence[str] = (SIDECAR, *IMAGES)) -> Iterator[os.DirEntry[str]]:
        """The images and verdicts of a day, or others, drafts among them, in any order."""
        with os.scandir(self._folder / day) as scan:
            yield from (item for item in scan if _split(item.name)[1] in suffixes)

    def _forget(self, day: str) -> None:
        with contextlib.suppress(OSError):  # a pin without its image is left, or what a person put there
            (self._folder / day).rmdir()
        del self._index[day]
        self._spent.discard(day)

    # ---- writing

    def _write(self, picture: StoredImage) -> None:
        day = self._day_of(picture)
        folder = self._folder / day
        durable.make_folder(folder)
        order_ns = max(time.time_ns(), self._last_ns + 1)
        heat = {} if picture.heat is None else {HEAT: picture.heat}
        contents = {picture.suffix: picture.image, **heat, SIDECAR: picture.sidecar.encode()}
        drafts = [folder / f".{picture.event_id}{suffix}" for suffix in contents]
        try:
            for draft, content in zip(drafts, contents.values(), strict=True):
                durable.create(draft, content, order_ns)
            for draft in drafts:
                draft.rename(folder / draft.name[1:])
        except OSError:
            for draft in drafts:
                with contextlib.suppress(OSError):
                    draft.unlink(missing_ok=True)
            raise
        durable.sync_folder(folder)
        self._last_ns = order_ns
        counted = self._index.setdefault(day, _Day(order_ns))
        counted.images += 1
        counted.size_bytes += picture.size_bytes
        self._spent.discard(day)

    def _day_of(self, picture: StoredImage) -> str:
        captured = datetime.fromtimestamp(picture.captured_ns // 1_000_000_000, UTC)
        day = str(captured.date())
        return day if picture.clock_synced else max((day, *self._index))


# ---- files


def _days(folder: Path) -> list[str]:
    """The names of the days' folders, the earliest first."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as scan:
        return sorted(item.name for item in scan if _DAY.fullmatch(item.name))


def _split(name: str) -> tuple[str, str]:
    """("abc", ".jpg") of "abc.jpg"."""
    stem, dot, end = name.rpartition(".")
    return stem, dot + end


def _bytes_beside(image: Path) -> int:
    """Of its verdict and its heat; 0 for what is not there, or was removed by a person."""
    size_bytes = 0
    for suffix in (SIDECAR, HEAT):
        with contextlib.suppress(FileNotFoundError):
            size_bytes += image.with_suffix(suffix).stat().st_size
    return size_bytes


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among the processes that hold this lock; a read-only disk is no hindrance."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
