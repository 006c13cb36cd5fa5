"""The log: to journald with fields where the service runs under systemd, to stderr else.

    journalctl -u edgevision VERDICT=NG          journalctl EVENT_ID=5e55-00000012 -o verbose

A line on a verdict carries EVENT_ID, VERDICT, MODEL, SCORE (empty for ERROR) and STATION. SD cards wear, so
only what is not OK has a line of its own above `debug`, of those PER_MINUTE in a minute and PER_HOUR in an
hour; how many were left out is said with the next one. The counts of all verdicts are in the log anyway.

systemd sets $JOURNAL_STREAM to the device and inode of the stream that it gave the service; if stderr is
that stream and systemd-python is there, its handler speaks to journald itself. Nothing else is a fault: the
plain lines reach the same journal, without the fields.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from device.inspection.verdict import Verdict
from device.system.printable import printable
from device.telemetry.log_budget import LogBudget

try:
    from systemd import journal
except ImportError:  # the project's own folder systemd/ is no package
    journal = None

log = logging.getLogger(__name__)

IDENTIFIER = "edgevision"
PER_MINUTE = 10
PER_HOUR = 30
_MINUTE_S, _HOUR_S = 60.0, 3600.0
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def start(level: str, runtime: Path) -> None:
    """From now on the log goes where it belongs, within its budget. `level` as in [log]: "debug" has none."""
    where = handler()
    if level != "debug":
        where.addFilter(LogBudget(runtime if is_used() else None))
    logging.basicConfig(level=level.upper(), handlers=[where])


def is_used() -> bool:
    """Whether stderr is the stream that systemd gave the service."""
    return _is_journal(sys.stderr.fileno())


def handler() -> logging.Handler:
    """The handler of journald where stderr is its stream and systemd-python is there; else one for stderr."""
    if journal is None or not is_used():
        plain = logging.StreamHandler(sys.stderr)
        plain.setFormatter(_OneLine(_FORMAT))
        return plain
    found: logging.Handler = journal.JournalHandler(SYSLOG_IDENTIFIER=IDENTIFIER)
    found.setFormatter(_OneLine("%(name)s: %(message)s"))  # journald has its own date and priority
    return found


class _OneLine(logging.Formatter):
    """A message is one line, whatever file name or library it quotes; a traceback still follows as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return printable(super().formatMessage(record))


def _is_journal(file: int) -> bool:
    """Whether a file is the stream of $JOURNAL_STREAM, as systemd.exec(5) says how to find out."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(file)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class VerdictLog:
    """A line for a verdict: what is not OK aloud and at a bounded rate, the rest at debug."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minute_s = self._hour_s = clock()
        self._lines = self._lines_of_hour = 0
        self._left_out = 0

    def add(self, verdict: Verdict) -> None:
        """Log it, with its fields."""
        if verdict.verdict == "OK":
            if log.isEnabledFor(logging.DEBUG):
                self._write(logging.DEBUG, verdict)
            return
        if self._may_speak():
            self._write(logging.WARNING if verdict.verdict == "ERROR" else logging.INFO, verdict)
        else:
            self._left_out += 1
            self._write(logging.DEBUG, verdict)

    def _may_speak(self) -> bool:
        now_s = self._clock()
        if now_s - self._hour_s >= _HOUR_S:
            self._hour_s, self._lines_of_hour = now_s, 0
        if now_s - self._minute_s >= _MINUTE_S and self._lines_of_hour < PER_HOUR:
            self._minute_s, self._lines = now_s, 0
            if self._left_out:
                log.info("%d lines on verdicts that were not OK were left out", self._left_out)
                self._left_out = 0
        self._lines += 1
        speaks = self._lines <= PER_MINUTE and self._lines_of_hour < PER_HOUR
        self._lines_of_hour += speaks
        return speaks

    def _write(self, level: int, verdict: Verdict) -> None:
        log.log(
            level,
            "%s %s, score %s, %s",
            verdict.event_id,
            verdict.verdict,
            "-" if verdict.score is None else f"{verdict.score:.4f}",
            verdict.reason or verdict.image_path,
            extra=fields(verdict),
        )


def fields(verdict: Verdict) -> dict[str, str]:
    """The journal's fields of a verdict."""
    return {
        "EVENT_ID": verdict.event_id,
        "VERDICT": verdict.verdict,
        "MODEL": f"{verdict.model.id} {verdict.model.version}",
        "SCORE": "" if verdict.score is None else f"{verdict.score:.6f}",
        "STATION": verdict.station,
    }
