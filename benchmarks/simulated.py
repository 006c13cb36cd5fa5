"""Stations that exist only on MQTT: payloads of real shape and size, made from the golden ones of the tests.

Shared by the load test, the dashboard's benchmark and tests, and its screenshots.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
_TEMPLATES = {word: (GOLDEN / f"verdict-{word.lower()}.json").read_text() for word in ("OK", "NG", "ERROR")}
_MODEL = {"id": "parts", "version": "20261123T224313Z-cfcaac07", "sha256": "ab" * 32}
_THRESHOLDS = {"ng": 0.6, "marginal": 0.4, "rule": "largest F1 on the validation images", "source": "bundle"}
_TEMPLATES["MARGINAL"] = _TEMPLATES["NG"]


def utc_now() -> str:
    """As a verdict says it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def compact(content: dict[str, Any]) -> bytes:
    """As the station writes its JSON."""
    return json.dumps(content, separators=(",", ":")).encode()


@dataclass
class SimulatedStation:
    """A station's voice: what it retains, and one verdict after the other. Same seed, same verdicts."""

    name: str
    prefix: str = "edgevision"
    seed: int = 1
    session: str = "51ab0000000000000000000000000001"
    seq: int = -1
    counted: dict[str, int] = field(default_factory=lambda: {"ok": 0, "ng": 0, "marginal": 0, "error": 0})

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.name} {self.seed}")  # noqa: S311 (no secret)

    def topic(self, rest: str) -> str:
        return f"{self.prefix}/{self.name}/{rest}"

    def any_word(self) -> str:
        """Nearly always OK."""
        return self._random.choices(("OK", "NG", "MARGINAL", "ERROR"), (960, 25, 14, 1))[0]

    def verdict(self, word: str = "OK", **changes: Any) -> dict[str, Any]:
        """The next verdict, as the object that travels; `changes` replace fields of it."""
        self.seq += 1
        self.counted[word.lower()] += 1
        content: dict[str, Any] = json.loads(_TEMPLATES[word])
        content |= {
            "event_id": f"{self.session}-{self.seq:08d}",
            "session_id": self.session,
            "seq": self.seq,
            "ts": utc_now(),
            "station": self.name,
            "part_id": f"A-{self.seq:06d}",
            "verdict": word,
            "score": self._score(word),
            "threshold": 0.6,
            "historical": False,
        }
        if word != "ERROR":
            total_ms = 12 + 4 * abs(math.sin(self.seq / 40)) + self._random.expovariate(0.5)
            content["timing_ms"] = {"inference": round(total_ms - 2, 3), "total": round(total_ms, 3)}
        return content | changes

    def _score(self, word: str) -> float | None:
        low, high = {"OK": (0.01, 0.32), "MARGINAL": (0.45, 0.59), "NG": (0.65, 0.99)}.get(word, (0, 0))
        return None if word == "ERROR" else round(self._random.uniform(low, high), 4)

    def retained(self) -> dict[str, bytes]:
        """{topic: payload} of all that the broker keeps for this station."""
        session = {"schema": 1, "session_id": self.session}
        started = utc_now()
        return {
            self.topic("status"): b"online",
            self.topic("birth"): compact(
                {**session, "station": self.name, "started": started, "versions": {"edgevision": "simulated"}}
                | {"model": _MODEL, "runtime": "simulated", "protocol": "5", "commands": ["trigger"]}
                | {"capabilities": ["inspection", "defect", "health", "stats", "model", "counters"]}
                | {"schemas": {"inspection": 1}}
            ),
            self.topic("model"): compact(
                {**session, **_MODEL, "bundle": "parts", "thresholds": _THRESHOLDS, "previous": None}
                | {"state": "active", "reason": None, "latency_ms": None, "since": started}
            ),
            self.topic("counters"): compact({"schema": 1, **self.counted, "since": started}),
            self.topic("health"): compact({"schema": 1, "state": "ready", "roles": _roles()}),
            self.topic("stats"): compact(self.stats()),
        }

    def stats(self) -> dict[str, Any]:
        """The figures that a station publishes now and then."""
        total = {"p50": 12.5, "p95": 16.0, "p99": 19.5, "max": 31.0}
        return {
            "schema": 1,
            "period_s": 30.0,
            "verdicts": 900,
            "rate_hz": 30.0,
            "skipped": 0,
            "timing_ms": {"inference": total, "total": total},
            "frames_waiting": 0,
            "events_waiting": 0,
            "dropped_events_total": 0,
            "dropped_triggers_total": 0,
            "temperature_c": 54.2,
            "throttled_bits": 0,
            "slowed": False,
            "under_voltage": False,
            "slowed_since_boot": False,
            "under_voltage_since_boot": False,
            "disk_free_bytes": 21_500_000_000,
            "disk_free_ratio": 0.71,
            "resident_bytes": 142_000_000,
            "available_bytes": 3_100_000_000,
        }


def _roles() -> dict[str, dict[str, Any]]:
    """Every role of a station that is well."""
    names = ("camera", "image", "drift", "model", "broker", "disk", "board", "clock")
    well: dict[str, Any] = {"state": "ok", "reason": None, "text": "", "mend": "", "since": None}
    return {name: well | {"others": []} for name in names}
