"""Figures of the running station, for the topic `stats`: rates, durations, queues, the board.

Durations are kept as counts in logarithmic bins of constant memory (as HdrHistogram and DDSketch do): a
quantile is right within 2.5 %, whatever the number of frames. All of a message but the totals is of the time
since the message before.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from device.health.board import Reading
from device.inspection.verdict import Verdict

SCHEMA_VERSION = 1
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

_GROWTH = 1.05
_LEAST_MS = 0.001  # what is shorter counts as this
_BINS = 400  # up to 0.001 ms * 1.05^400 = 5 minutes
_LOG_GROWTH = math.log(_GROWTH)


@dataclass(frozen=True, slots=True)
class Queues:
    """Totals of the session and lengths at this moment, from the service's parts."""

    frames_waiting: int = 0  # between camera and inspection
    events_waiting: int = 0  # for the broker
    skipped: int = 0
    dropped_triggers: int = 0
    dropped_events: int = 0


class Histogram:
    """Durations in bins that grow by 5 %."""

    def __init__(self) -> None:
        self._counts = [0] * (_BINS + 1)
        self.count = 0
        self.greatest_ms = 0.0

    def add(self, duration_ms: float) -> None:
        at = int(math.log(duration_ms / _LEAST_MS) / _LOG_GROWTH) if duration_ms > _LEAST_MS else 0
        self._counts[min(at, _BINS)] += 1
        self.count += 1
        self.greatest_ms = max(self.greatest_ms, duration_ms)

    def quantile_ms(self, share: float) -> float:
        """The smallest duration that so many did not exceed; the middle of its bin, at most the greatest."""
        rank, seen = max(1, math.ceil(share * self.count)), 0
        for at, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(_LEAST_MS * math.pow(_GROWTH, at + 0.5), self.greatest_ms)
        return 0.0


class Stats:
    """add() by the thread that inspects, to_json() by the reporter."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stages: dict[str, Histogram] = {}
        self._verdicts = 0
        self._skipped = 0
        self._since_s = clock()

    def add(self, verdict: Verdict) -> None:
        """Count a verdict and the durations of its stages: a few microseconds."""
        with self._lock:
            self._verdicts += 1
            for stage, duration_ms in verdict.timing_ms.items():
                if stage not in self._stages:
                    self._stages[stage] = Histogram()
                self._stages[stage].add(duration_ms)

    def to_json(self, reading: Reading, queues: Queues) -> str:
        """The message, as in stats.schema.json; the next one begins anew."""
        with self._lock:
            now_s = self._clock()
            stages, verdicts, since_s = self._stages, self._verdicts, self._since_s
            self._stages, self._verdicts, self._since_s = {}, 0, now_s
        skipped, self._skipped = queues.skipped - self._skipped, queues.skipped
        period_s = max(now_s - since_s, 0.001)
        content = {
            "schema": SCHEMA_VERSION,
            "period_s": round(period_s, 3),
            "verdicts": verdicts,
            "rate_hz": round(verdicts / period_s, 3),
            "skipped": skipped,
            "timing_ms": {name: _quantiles(histogram) for name, histogram in sorted(stages.items())},
            "frames_waiting": queues.frames_waiting,
            "events_waiting": queues.events_waiting,
            "dropped_events_total": queues.dropped_events,
            "dropped_triggers_total": queues.dropped_triggers,
            **board_content(reading),
        }
        return json.dumps(content, separators=(",", ":"), allow_nan=False)


def board_content(reading: Reading) -> dict[str, Any]:
    """A reading of the board as JSON has it; null is what this machine cannot tell."""
    throttled, disk, memory = reading.throttled, reading.disk, reading.memory
    return {
        "temperature_c": reading.temperature_c,
        "throttled_bits": throttled.bits if throttled else None,
        "slowed": throttled.slowed if throttled else None,
        "under_voltage": throttled.under_voltage if throttled else None,
        "slowed_since_boot": throttled.was_slowed if throttled else None,
        "under_voltage_since_boot": throttled.had_under_voltage if throttled else None,
        "disk_free_bytes": disk.free_bytes if disk else None,
        "disk_free_ratio": round(disk.free_ratio, 4) if disk else None,
        "resident_bytes": memory.resident_bytes if memory else None,
        "available_bytes": memory.available_bytes if memory else None,
    }


def _quantiles(histogram: Histogram) -> dict[str, float]:
    found = {name: round(histogram.quantile_ms(share), 3) for name, share in QUANTILES.items()}
    return {**found, "max": round(histogram.greatest_ms, 3)}
