"""The running service's own word in a file of [station] runtime, about once a second; read by `status`.

The file is replaced as a whole (a new one, renamed), so that a reader never sees half of it. It is not forced
to the disk: it belongs in memory (/run), and says nothing after a power cut.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from device.errors import StorageError
from device.schemas import strict_json

FILE = "status.json"
SCHEMA_VERSION = 1
STALE_S = 10.0  # it is written every second: a service that is silent so long hangs

Presence = Literal["running", "silent", "absent"]


class StatusFile:
    """The writing side."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._new = folder / f"{FILE}.new"

    @property
    def path(self) -> Path:
        return self._path

    def open(self) -> None:
        """Make the folder where it is missing. Raises StorageError."""
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{folder}: cannot be made: {error.strerror}; set [station] runtime to a folder that the "
                f"service may write to"
            ) from None

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the file. Raises StorageError."""
        stamped = {
            "schema": SCHEMA_VERSION,
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()),
            "written_monotonic_s": round(time.monotonic(), 3),
            **content,
        }
        try:
            self._new.write_text(json.dumps(stamped, separators=(",", ":")) + "\n", "utf-8")
            self._new.replace(self._path)
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Take the file away: nothing runs any more."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:  # what it says of its process is enough for a reader
            return


@dataclass(frozen=True, slots=True)
class Found:
    """What a reader found. `content` is None when absent; `age_s` since it was written."""

    presence: Presence
    content: Mapping[str, Any] | None
    age_s: float | None


def read(folder: Path) -> Found:
    """The word of the running service. Raises StorageError: the file may not be read or is damaged."""
    path = folder / FILE
    try:
        content = strict_json.parse(path.read_bytes())
    except FileNotFoundError:
        return Found("absent", None, None)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise StorageError(f"{path}: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA_VERSION:
        raise StorageError(f"{path}: must be a status of schema {SCHEMA_VERSION}")
    if process_start(content["pid"]) != content["process_start"]:
        return Found("absent", None, None)
    age_s = max(0.0, time.monotonic() - content["written_monotonic_s"])
    return Found("silent" if age_s > STALE_S else "running", content, age_s)


def process_start(pid: int) -> int | None:
    """When a process began, in ticks since the machine's start; None when there is none (proc(5), stat)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
