"""How many lines of the log there may be: SD cards wear, and nobody reads the same line a hundred times.

Within any hour, of lines at INFO and above:

    of one kind         EACH lines; a kind is a logger and its text before the values, or what the line says
                        it is (`extra={"kind": ...}`). Verdicts have a limit of their own: see journal.py.
    of all              REPEATED lines; and up to ALL such as had none within the hour. So what is new is
                        told, whatever else goes on.

How many were left out is said with the next that is told. Under systemd what was told is remembered in the
runtime folder, in memory: a service that is started anew every few seconds has no more lines for that.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

FILE = "log_budget.json"
EACH, REPEATED, ALL = 6, 50, 59
HOUR_S = 3600.0


class LogBudget:
    """A filter of a logging handler. `folder`: where it remembers over restarts; None: nowhere."""

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / FILE if folder is not None else None
        self._clock = clock
        self._guard = threading.Lock()
        self._told: deque[tuple[float, str]] = deque(self._read())
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is told. Says in it how many were not."""
        if record.levelno < logging.INFO:
            return True
        with self._guard:
            if not self._admit(_kind_of(record), limited=not hasattr(record, "VERDICT")):
                self._left_out += 1
                return False
            left_out, self._left_out = self._left_out, 0
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} lines were left out)", ()
        return True

    def _admit(self, kind: str, *, limited: bool) -> bool:
        now_s = self._clock()
        while self._told and not 0 <= now_s - self._told[0][0] < HOUR_S:  # before 0: of another boot
            self._told.popleft()
        like_it = sum(told == kind for _, told in self._told)
        if len(self._told) >= (REPEATED if like_it else ALL) or (limited and like_it >= EACH):
            return False
        self._told.append((now_s, kind))
        self._write()
        return True

    def _read(self) -> list[tuple[float, str]]:
        """What is remembered; a file that says nothing is as good as none."""
        try:
            found = json.loads(self._path.read_bytes()) if self._path is not None else []
            return [(float(at_s), str(kind)) for at_s, kind in found]
        except (OSError, ValueError, TypeError):
            return []

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            self._path.write_text(json.dumps(list(self._told)))
        except OSError:  # it is not remembered, then; the log is no place to say so
            self._path = None


def _kind_of(record: logging.LogRecord) -> str:
    return str(getattr(record, "kind", f"{record.name}: {record.msg}"))
