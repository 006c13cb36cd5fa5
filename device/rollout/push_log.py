"""Who changed a station's model, and how it ended: <state>/push.log, JSON lines, two for each change.

    {"ts": "2026-04-01T00:02:00Z", "by": "anna", "action": "install", "bundle": "press-..", "result": "begun"}
    {"ts": "2026-04-01T00:02:09Z", "by": "anna", "action": "install", "bundle": "press-..", "result": "done"}

A line that a power cut left half written is closed by the next. At MOST_BYTES the file becomes push.log.1.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from device.bundle import store
from device.errors import BundleError, BusyError, StorageError
from device.system import clock, durable

log = logging.getLogger(__name__)

FILE = "push.log"
LOCK_FILE = ".lock"
MOST_BYTES = 1_000_000
BEGUN = "begun"
CUT_OFF = "cut off"
_TEXT_LIMIT = 2000  # characters of a result


@dataclass(frozen=True, slots=True)
class PushLog:
    """The log in a station's state folder. What cannot be written is told, and bars nothing."""

    state: Path

    def begin(self, by: str, action: str, bundle: str) -> None:
        """A change begins."""
        self._write(by, action, bundle, BEGUN)

    def end(self, by: str, action: str, bundle: str, result: str) -> None:
        """It has ended."""
        self._write(by, action, bundle, result)

    def close(self) -> None:
        """Give an end to a change that has none, once nobody is at it any more."""
        last = self._last()
        if last is not None and last.get("result") == BEGUN:
            by, action, bundle = (str(last.get(name)) for name in ("by", "action", "bundle"))
            self._write(by, action, bundle, CUT_OFF)

    def _last(self) -> dict[str, Any] | None:
        try:
            with (self.state / FILE).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - 4 * _TEXT_LIMIT))
                lines = file.read().splitlines()
        except OSError:
            return None
        for line in reversed(lines):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                return found
        return None

    def _write(self, by: str, action: str, bundle: str, result: str) -> None:
        now = clock.stamp()
        line = {"ts": now, "by": by, "action": action, "bundle": bundle, "result": result[:_TEXT_LIMIT]}
        path = self.state / FILE
        try:
            if path.exists() and path.stat().st_size > MOST_BYTES:
                path.replace(path.with_name(f"{FILE}.1"))
            durable.append(path, json.dumps(line).encode())
        except (OSError, StorageError) as error:  # the bundle is what it is; the record of it is missing
            log.warning("%s: cannot be written: %s", path, error)


def close_log(state: Path, models: Path) -> None:
    """Give what was cut off its end in the log, unless somebody is at it now."""
    with contextlib.suppress(BundleError, BusyError, StorageError), locked(models):
        PushLog(state).close()


@contextlib.contextmanager
def locked(models: Path) -> Iterator[TextIO]:
    """The lock of those who change the model, open for its holder's name.

    Raises BundleError, BusyError, StorageError.
    """
    store.require_models(models)
    path = models / LOCK_FILE
    try:
        lock = path.open("a+")
    except OSError as error:
        raise StorageError(f"{path}: cannot be opened: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(200).strip() or "somebody"
            raise BusyError(f"the model is being changed by {holder}") from None
        yield lock
