"""How many verdicts of each kind there were: since the start, since the last report, and over all restarts.

The counts over all restarts are kept in `counters.json` in the state folder:

    {"schema":1,"since":"2026-01-31T06:00:00.000Z","ok":7,"ng":1,"marginal":0,"error":0}

They are written by a thread of their own, so that a slow card does not hold up a verdict: at most once in
WRITE_EVERY_S, only when they have changed, and at the end. A process that is killed loses the counts of the
last WRITE_EVERY_S; the file is whole at any moment. A disk that does not take it is named in the log, and
counting goes on.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from device.inspection.verdict import Word
from device.schemas import strict_json
from device.system import clock, durable
from device.system.periodic import Periodic

log = logging.getLogger(__name__)

FILE = "counters.json"
SCHEMA = 1
REPORT_EVERY_S = 600.0
WRITE_EVERY_S = 10.0
_WORDS = ("ok", "ng", "marginal", "error")


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """Verdicts of each kind since a time (RFC 3339, UTC)."""

    ok: int
    ng: int
    marginal: int
    error: int
    since: str

    def to_json(self) -> str:
        """One line of compact JSON."""
        content = {"schema": SCHEMA, "since": self.since, **{word: getattr(self, word) for word in _WORDS}}
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> VerdictCounts:
        """The inverse of to_json. Raises ValueError."""
        content = strict_json.parse(text)
        if not isinstance(content, dict) or content.keys() != {"schema", "since", *_WORDS}:
            raise ValueError(f"must have the fields schema, since, {', '.join(_WORDS)}")
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema: must be {SCHEMA}, got {content['schema']!r}")
        for word in _WORDS:
            _require_count(word, content[word])
        datetime.fromisoformat(content["since"])
        return cls(**{name: content[name] for name in ("since", *_WORDS)})

    def plus(self, verdict: Word) -> VerdictCounts:
        """With one more."""
        return VerdictCounts(
            self.ok + (verdict == "OK"),
            self.ng + (verdict == "NG"),
            self.marginal + (verdict == "MARGINAL"),
            self.error + (verdict == "ERROR"),
            self.since,
        )


def _require_count(word: str, found: Any) -> None:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise ValueError(f"{word}: must be a count, got {found!r}")


class Counters:
    """add() every verdict; start() and stop() for what is kept on the disk."""

    def __init__(self, folder: Path) -> None:
        """Reads what was counted before. A file that is damaged is put aside, and counting begins anew."""
        self._path = folder / FILE
        self._session: Counter[str] = Counter()
        self._recent: Counter[str] = Counter()
        self._reported_s = time.monotonic()
        self._all = self._read()
        self._written = self._all
        self._file = durable.StateFile(self._path, "counting goes on")
        self._thread = Periodic("counters", WRITE_EVERY_S, self._write)

    def start(self) -> None:
        """Begin to keep the counts on the disk."""
        self._thread.start()

    def stop(self) -> None:
        """Write the last counts."""
        self._thread.stop()

    def add(self, verdict: Word) -> None:
        self._session[verdict] += 1
        self._recent[verdict] += 1
        self._all = self._all.plus(verdict)

    @property
    def counts(self) -> VerdictCounts:
        """Over all restarts."""
        return self._all

    @property
    def good(self) -> int:
        """Frames that were seen in this session: every verdict but ERROR."""
        return self._session.total() - self._session["ERROR"]

    def report_is_due(self) -> bool:
        """True once in REPORT_EVERY_S."""
        return time.monotonic() - self._reported_s >= REPORT_EVERY_S

    def recent(self) -> str:
        """The counts since the last call of this, and the seconds they took, for the log."""
        now_s = time.monotonic()
        text = f"{now_s - self._reported_s:.0f} s: {_listed(self._recent)}"
        self._recent.clear()
        self._reported_s = now_s
        return text

    def total(self) -> str:
        """The counts of this session, for the log."""
        return _listed(self._session)

    def _read(self) -> VerdictCounts:
        fresh = VerdictCounts(0, 0, 0, 0, clock.now())
        try:
            return VerdictCounts.from_json(self._path.read_bytes())
        except FileNotFoundError:
            return fresh
        except OSError as error:
            log.warning("%s: cannot be read, counting begins anew: %s", self._path, error.strerror)
        except (ValueError, TypeError) as error:
            aside = self._path.with_suffix(".damaged")
            log.warning(
                "%s: damaged, put aside as %s, counting begins anew: %s", self._path, aside.name, error
            )
            self._put_aside(aside)
        return fresh

    def _put_aside(self, aside: Path) -> None:
        try:
            self._path.replace(aside)
        except OSError as error:
            log.warning("%s: cannot be put aside: %s", self._path, error.strerror)

    # -- the thread `counters`

    def _write(self, _last: bool) -> None:
        counts = self._all
        if counts != self._written and self._file.write(counts.to_json().encode() + b"\n"):
            self._written = counts


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in ("OK", "NG", "MARGINAL", "ERROR"))
