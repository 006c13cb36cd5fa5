"""The station's retained word on its model and its counters: told when it has changed, by the loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Protocol

from device.bundle.calibration import Thresholds
from device.station.swap import SwapState
from device.station.threshold_override import RULE
from device.system.clock import rfc3339
from device.telemetry.counters import VerdictCounts

COUNTERS_EVERY_S = 1.0  # they change with every verdict

MODEL_TOPIC = "model"
COUNTERS_TOPIC = "counters"


class ModelVoice(Protocol):
    """What this needs of the publisher."""

    def set_state(self, topic: str, payload: str) -> None:
        """Publish retained, and again on every connect."""


class Announcement:
    """tell() after every turn: it costs nothing when there is nothing new."""

    def __init__(
        self, voice: ModelVoice, session_id: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._voice = voice
        self._session_id = session_id
        self._monotonic = monotonic
        self._told: tuple[SwapState, Thresholds] | None = None
        self._counts: VerdictCounts | None = None
        self._due_s = 0.0

    def tell(
        self, state: SwapState, thresholds: Thresholds, counts: VerdictCounts, *, now: bool = False
    ) -> None:
        """The model at once, the counters when COUNTERS_EVERY_S have passed since the last time, or `now`."""
        if self._told is None or self._told[0] is not state or self._told[1] is not thresholds:
            self._told = state, thresholds
            self._voice.set_state(MODEL_TOPIC, model_json(self._session_id, state, thresholds))
        if counts is not self._counts and (now or self._monotonic() >= self._due_s):
            self._counts = counts
            self._due_s = self._monotonic() + COUNTERS_EVERY_S
            self._voice.set_state(COUNTERS_TOPIC, counts.to_json())


SCHEMA = 1


def model_json(session_id: str, state: SwapState, thresholds: Thresholds) -> str:
    """The payload, as in model.schema.json: one line of compact JSON.

    `thresholds`: those in force, which a command may have set.
    """
    content = {
        "schema": SCHEMA,
        "session_id": session_id,
        "id": state.model.id,
        "version": state.model.version,
        "sha256": state.model.sha256,
        "bundle": state.bundle,
        "thresholds": {
            "ng": thresholds.ng,
            "marginal": thresholds.marginal,
            "rule": thresholds.rule,
            "source": "command" if thresholds.rule == RULE else "bundle",
        },
        "previous": state.previous,
        "state": state.state,
        "reason": state.reason,
        "latency_ms": state.latency_ms,
        "since": rfc3339(state.since_ns),
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
