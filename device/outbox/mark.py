"""The outbox's mark: how many verdicts were ever stored, and how many of them are gone, beside the database.

SQLite finds a torn end of its log and takes it back, silently. With the mark, what went with it is known by
number. Written after every commit and never synced: kill -9 leaves it exact; a power cut leaves it older than
the database at worst, which then counts nothing.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FORMAT: Final = struct.Struct("<4sqqI")  # magic, stored, gone, CRC-32 of what precedes
_MAGIC: Final = b"EVM1"


@dataclass(frozen=True, slots=True)
class Count:
    """`stored`: verdicts ever, which is the last row's id. `gone`: delivered, dropped or lost since."""

    stored: int = 0
    gone: int = 0

    @property
    def waiting(self) -> int:
        return max(0, self.stored - self.gone)


class Mark:
    """read() once, write() after each commit. A mark that cannot be read or written counts nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def read(self) -> Count:
        """The count of the last write; zeros without one, or when it was torn."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return Count()
        if len(content) != _FORMAT.size or zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
            return Count()
        magic, stored, gone, _ = _FORMAT.unpack(content)
        return Count(stored, gone) if magic == _MAGIC else Count()

    def write(self, count: Count) -> None:
        content = struct.pack("<4sqq", _MAGIC, count.stored, count.gone)
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            os.pwrite(self._file, content + zlib.crc32(content).to_bytes(4, "little"), 0)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
