"""The outbox's database as it comes and goes: on the disk, in a new file, in memory, and on the disk again.

A damaged file is set aside (renamed, with the time) and a new one begun; what is missing is known by number
(mark.py). A disk that is full or broken does not stop the service: verdicts wait in memory, within
MEMORY_BYTES, and the disk is tried again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from device.errors import StorageError
from device.outbox.database import MEMORY, Changes, Content, Database, ForeignDatabase, OutboxRow
from device.outbox.mark import Count, Mark

log = logging.getLogger(__name__)

FILE_NAME = "outbox.sqlite"
RETRY_DISK_S = 30.0
MEMORY_BYTES = 16_000_000  # of payload, while the disk cannot be written
KEPT_DAMAGED = 2  # databases set aside; the oldest goes when there are more

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Storage:
    """The database that is in use. One thread writes; any may read.

    `generation` changes when the rows lie in another database; `durable`: on the disk, not in memory;
    `set_aside`: damaged files that are kept.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._path = folder / FILE_NAME
        self._max_bytes = max_bytes
        self._mark = Mark(folder / "outbox.mark")
        self._in_use = threading.Lock()  # guards _database
        self._database: Database
        self._retry_disk_at_s: float | None = None
        self.generation = 0
        self.durable = True
        self.set_aside = 0

    @property
    def content(self) -> Content:
        """What is stored."""
        return self._database.content

    def open(self) -> None:
        """On the disk, in a new file where the old one is damaged, or in memory.

        Raises StorageError: another process has it open.
        """
        count = self._mark.read()
        for _ in range(2):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._database = Database(self._path)
                self._count_missing(count)
            except (sqlite3.Error, OSError) as error:
                if _is_locked(error):
                    raise StorageError(f"{self._path}: another process has it open") from None
                if not _is_damaged(error) or not self._put_aside(error):
                    self._go_without_disk(error, count)
                    return
            else:
                self.set_aside = len(self._damaged_files())
                return
        self._go_without_disk(sqlite3.DatabaseError("a new file is damaged as well"), count)

    def close(self) -> None:
        """Close the database and the mark."""
        with self._in_use:
            self._database.close()
        self._mark.close()

    def apply(self, changes: Changes) -> list[OutboxRow]:
        """Write them; the new rows. Raises sqlite3.Error, and replace() is what to do then."""
        with self._in_use:
            rows = self._database.apply(changes, self._max_bytes if self.durable else MEMORY_BYTES)
        content = self._database.content
        self._mark.write(Count(content.last_id, content.last_id - content.rows.total()))
        return rows

    def sync(self) -> None:
        """What was written is on the disk, and free pages go back to it. Raises sqlite3.Error."""
        with self._in_use:
            self._database.give_back()
            self._database.sync()

    def after(self, row_id: int, limit: int) -> list[OutboxRow]:
        """The next rows. Raises sqlite3.Error."""
        with self._in_use:
            return self._database.after(row_id, limit)

    def replace(self, error: sqlite3.Error) -> None:
        """The database failed at work: another one in its place."""
        last = self._database.content
        with self._in_use:
            self._database.close()
            count = Count(last.last_id, last.last_id - last.rows.total())
            if _is_damaged(error) and self.durable and self._put_aside(error):
                self.open()
            else:
                self._go_without_disk(error, count)
            self.generation += 1

    def return_to_disk(self) -> bool:
        """Move what waits in memory to the disk, if it is time to try and there is one. True when it was."""
        if self._retry_disk_at_s is None or time.monotonic() < self._retry_disk_at_s:
            return False
        self._retry_disk_at_s = time.monotonic() + RETRY_DISK_S
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            disk = Database(self._path)
        except (sqlite3.Error, OSError) as error:
            log.debug("%s: still cannot be used: %s", self._path, error)
            return False
        with self._in_use:
            try:
                disk.adopt(self._database.everything(), self._database.content)
            except sqlite3.Error as error:
                log.debug("%s: still cannot be written: %s", self._path, error)
                disk.close()
                return False
            self._database.close()
            self._database = disk
            self.generation += 1
        self.durable = True
        self._retry_disk_at_s = None
        log.warning("%s: can be used again", self._path)
        return True

    def _count_missing(self, count: Count) -> None:
        """What the mark counts and the file lacks was stored once, and is lost."""
        content = self._database.content
        stored, waiting = content.last_id, content.rows.total()
        missing = count.stored - stored if stored else count.waiting
        if missing > 0:
            self._database.count_lost(missing, count.stored)
            log.error("%s: %d verdicts that were stored are missing from it", self._path, missing)
        if waiting:
            log.info("%s: %d verdicts wait from before", self._path, waiting)

    def _go_without_disk(self, error: Exception, count: Count) -> None:
        log.error(
            "%s: cannot be used: %s; verdicts wait in memory, and are lost with the process",
            self._path,
            error,
        )
        self._database = Database(MEMORY)
        self._database.count_lost(0, count.stored)
        self.durable = False
        self._retry_disk_at_s = time.monotonic() + RETRY_DISK_S

    def _put_aside(self, error: Exception) -> bool:
        """Rename the damaged file and what belongs to it. False when even that fails."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = self._path.with_name(f"{FILE_NAME}.damaged-{now}")
        try:
            self._path.rename(aside)
            for suffix in ("-wal", "-shm"):
                belonging = self._path.with_name(FILE_NAME + suffix)
                if belonging.exists():
                    belonging.rename(aside.with_name(aside.name + suffix))
            for old in self._damaged_files()[:-KEPT_DAMAGED]:
                for file in old.parent.glob(old.name + "*"):
                    file.unlink()
        except OSError as fault:
            log.error("%s: damaged (%s), not set aside: %s", self._path, error, fault.strerror)  # noqa: TRY400
            return False
        log.error("%s: damaged (%s): set aside as %s, and begun anew", self._path, error, aside.name)
        return True

    def _damaged_files(self) -> list[Path]:
        """Oldest first."""
        found = self._path.parent.glob(f"{FILE_NAME}.damaged-*Z")
        return sorted(found)


def _is_locked(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_damaged(error: Exception) -> bool:
    """Damaged, or not ours: in both cases a file that must not be written to."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    return code & 0xFF in _DAMAGED or isinstance(error, ForeignDatabase)
