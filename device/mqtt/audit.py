"""What was changed, by whom and when: a file of JSON lines that is only ever appended to.

    <state>/audit.jsonl      one record a line, each on the disk before `write` returns
    <state>/audit.1.jsonl    the one before it

When the file has reached LIMIT_BYTES it takes the place of the one before it, and a new one begins: the two
together never need more than twice the limit, and always hold at least the last LIMIT_BYTES.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device.errors import StorageError
from device.schemas import strict_json
from device.system import durable

LIMIT_BYTES = 4 * 1024 * 1024
FILE = "audit.jsonl"
OLDER_FILE = "audit.1.jsonl"


class AuditLog:
    """The records of a station. One thread writes."""

    def __init__(self, state: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self._path = state / FILE
        self._older = state / OLDER_FILE
        self._limit_bytes = limit_bytes

    @property
    def path(self) -> Path:
        return self._path

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record; it is on the disk afterwards. Raises StorageError."""
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
        try:
            self._make_room(len(line) + 1)
            durable.append(self._path, line)
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written: {error.strerror or error}") from error

    def records(self) -> list[dict[str, Any]]:
        """What the two files hold, oldest first. A line that a power cut tore is left out.

        Raises StorageError.
        """
        found = []
        for path in (self._older, self._path):
            try:
                lines = path.read_bytes().splitlines()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
            found += [record for line in lines if (record := _record(line)) is not None]
        return found

    def _make_room(self, wanted_bytes: int) -> None:
        if not self._path.exists():
            return
        if self._path.stat().st_size + wanted_bytes > self._limit_bytes:
            self._path.replace(self._older)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        value = strict_json.parse(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
