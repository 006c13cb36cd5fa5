"""What who has just come needs to know of the time before: the latest defects, and how the hours went.

Retained on `history` (history.schema.json): at most DEFECTS defects, the newest first, each with what a
verdict says that a person asks for; and of the last STEPS steps of STEP_S how many verdicts of each kind
there were, with the median score. Published when there is a new defect, at most every DEFECTS_EVERY_S, and
when a step begins.

Kept in `history.json` in the state folder, so that it outlives a restart: written by the thread that
publishes, at most every WRITE_EVERY_S and at the end. A process that is killed loses what came since; a file
that is damaged is not used, and the history begins anew. A disk that does not take it is named in the log.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from device.inspection.verdict import Verdict, Word
from device.schemas import strict_json
from device.system import durable
from device.system.clock import rfc3339
from device.system.periodic import Periodic

log = logging.getLogger(__name__)

FILE = "history.json"
TOPIC = "history"
SCHEMA = 1
DEFECTS = 200
STEP_S = 600
STEPS = 72  # twelve hours
MOST_REGIONS = 4  # of a defect: the strongest
DEFECTS_EVERY_S = 30.0
WRITE_EVERY_S = 60.0
_BINS = 200  # of the scores of a step: its median is known to half a hundredth
_TICK_S = 1.0
_NS = 1_000_000_000
_COUNTED: dict[Word, str] = {"OK": "ok", "NG": "ng", "MARGINAL": "marginal", "ERROR": "error"}


class StateVoice(Protocol):
    """What this needs of the publisher."""

    def set_state(self, topic: str, payload: str) -> None:
        """Publish retained, and again on every connect."""


@dataclass(slots=True)
class _Step:
    """What was said in STEP_S from `from_s` on (UTC)."""

    from_s: int
    counted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED.values(), 0))
    scores: list[int] = field(default_factory=lambda: [0] * _BINS)

    @classmethod
    def of(cls, from_s: int, content: dict[str, Any]) -> _Step:
        """One that a session before this has begun; of its scores the median is known."""
        step = cls(from_s, {name: content[name] for name in _COUNTED.values()})
        if content["score_median"] is not None:
            scored = sum(step.counted.values()) - step.counted["error"]
            step.scores[int(content["score_median"] * _BINS)] = scored
        return step

    def add(self, verdict: Verdict) -> None:
        self.counted[_COUNTED[verdict.verdict]] += 1
        if verdict.score is not None:
            self.scores[min(_BINS - 1, int(verdict.score * _BINS))] += 1

    def content(self) -> dict[str, Any]:
        return {"from": rfc3339(self.from_s * _NS), **self.counted, "score_median": self._median()}

    def _median(self) -> float | None:
        half, below = sum(self.scores) / 2, 0
        for at, count in enumerate(self.scores):
            below += count
            if count and below >= half:
                return (at + 0.5) / _BINS
        return None


class History:
    """start(), add() for every verdict, reviewed() for every word of a person, stop()."""

    def __init__(
        self, folder: Path, voice: StateVoice, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Reads what was kept before."""
        self._path = folder / FILE
        self._voice = voice
        self._monotonic = monotonic
        self._lock = threading.Lock()  # guards all that follows
        self._before: list[dict[str, Any]] = []  # steps of earlier sessions
        self._steps: list[_Step] = []
        self._defects: OrderedDict[str, dict[str, Any]] = OrderedDict()  # by event id, the newest last
        self._is_new = True  # there is a defect, a step or a review that was not published
        self._changes = self._written = 0
        self._recall()
        self._told_s = self._written_s = -DEFECTS_EVERY_S
        self._file = durable.StateFile(self._path, "it goes on in memory")
        self._thread = Periodic("history", _TICK_S, self._turn)

    def start(self) -> None:
        """Publish what is known, and from now on what is new."""
        self._thread.start()

    def stop(self) -> None:
        """Publish and write the last of it. A second call does nothing."""
        self._thread.stop()

    def add(self, verdict: Verdict) -> None:
        """Take a verdict: some microseconds."""
        from_s = verdict.captured_ns // _NS // STEP_S * STEP_S
        with self._lock:
            if not self._steps or self._steps[-1].from_s != from_s:
                self._begin(from_s)
            self._steps[-1].add(verdict)
            self._changes += 1
            if verdict.verdict in ("NG", "MARGINAL"):
                self._defects[verdict.event_id] = _defect(verdict)
                self._is_new = True
                if len(self._defects) > DEFECTS:
                    self._defects.popitem(last=False)

    def reviewed(self, event_id: str, label: str) -> None:
        """What a person says of an event; nothing where it is not among the latest."""
        with self._lock:
            if event_id in self._defects:
                self._defects[event_id]["review"] = label
                self._changes += 1
                self._is_new = True

    def content(self) -> dict[str, Any]:
        """What history.schema.json describes."""
        with self._lock:
            trend = [*self._before, *(step.content() for step in self._steps)]
            defects = [dict(defect) for defect in reversed(self._defects.values())]
        return {"schema": SCHEMA, "step_s": STEP_S, "trend": trend, "defects": defects}

    def _begin(self, from_s: int) -> None:
        """A new step; those that the clock has left behind, or was once ahead by, are forgotten."""
        first = from_s - (STEPS - 1) * STEP_S
        times = (rfc3339(first * _NS), rfc3339(from_s * _NS))
        begun = next((step for step in self._before if step["from"] == times[1]), None)
        fresh = _Step(from_s) if begun is None else _Step.of(from_s, begun)
        self._steps = [*(step for step in self._steps if first <= step.from_s < from_s), fresh]
        self._before = [step for step in self._before if times[0] <= step["from"] < times[1]]
        self._is_new = True

    # -- the thread `history`

    def _turn(self, now: bool) -> None:
        """Publish and write where that is due, or at once."""
        time_s = self._monotonic()
        with self._lock:
            is_due = self._is_new and (now or time_s >= self._told_s + DEFECTS_EVERY_S)
            self._is_new = self._is_new and not is_due
            changes = self._changes
        if is_due:
            self._told_s = time_s
            self._voice.set_state(TOPIC, _json(self.content()))
        if changes != self._written and (now or time_s >= self._written_s + WRITE_EVERY_S):
            self._written_s = time_s
            if self._file.write(_json(self.content()).encode() + b"\n"):
                self._written = changes

    def _recall(self) -> None:
        try:
            content = strict_json.parse(self._path.read_bytes())
            strict_json.check(content, strict_json.schema("history"))
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s: cannot be read, the history begins anew: %s", self._path, error.strerror)
        except ValueError as error:
            log.warning("%s: damaged, the history begins anew: %s", self._path, error)
        else:
            self._before = content["trend"]
            self._defects.update({one["event_id"]: one for one in reversed(content["defects"])})


def _defect(verdict: Verdict) -> dict[str, Any]:
    size, checks = verdict.image_size, verdict.checks
    strongest = sorted(verdict.regions, key=lambda region: -region.score)[:MOST_REGIONS]
    return {
        "event_id": verdict.event_id,
        "ts": rfc3339(verdict.captured_ns),
        "verdict": verdict.verdict,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "part_id": verdict.part_id,
        "reason": verdict.reason,
        "model": {"version": verdict.model.version},
        "image": {"w": size.width if size else None, "h": size.height if size else None},
        "regions": [
            {
                "bbox_norm": [round(share, 4) for share in region.box.normalized(size)],
                "score": round(region.score, 4),
            }
            for region in strongest
            if size is not None
        ],
        "checks": {
            "brightness_ratio": round(checks.brightness_ratio, 4) if checks else None,
            "focus": round(checks.focus, 2) if checks else None,
        },
        "review": None,
    }


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
