"""How many verdicts of each kind there were, and when it is time to say so."""

from __future__ import annotations

import time
from collections import Counter

REPORT_EVERY_S = 60.0


class Counters:
    """Counts verdicts since the start, and since the last report."""

    def __init__(self) -> None:
        self._total: Counter[str] = Counter()
        self._recent: Counter[str] = Counter()
        self._reported_s = time.monotonic()

    def add(self, verdict: str) -> None:
        self._total[verdict] += 1
        self._recent[verdict] += 1

    @property
    def good(self) -> int:
        """Frames that were seen: every verdict but ERROR."""
        return self._total.total() - self._total["ERROR"]

    def report_is_due(self) -> bool:
        """True once a minute."""
        return time.monotonic() - self._reported_s >= REPORT_EVERY_S

    def recent(self) -> str:
        """The counts since the last call of this, and the seconds they took, for the log."""
        now_s = time.monotonic()
        text = f"{now_s - self._reported_s:.0f} s: {_listed(self._recent)}"
        self._recent.clear()
        self._reported_s = now_s
        return text

    def total(self) -> str:
        """The counts since the start, for the log."""
        return _listed(self._total)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in ("OK", "NG", "MARGINAL", "ERROR"))
