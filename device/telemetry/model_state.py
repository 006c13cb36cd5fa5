"""What the topic `model` says: the model that decides, its thresholds, and how the last change went."""

from __future__ import annotations

import json

from device.bundle.calibration import Thresholds
from device.station.swap import SwapState
from device.station.threshold_override import RULE
from device.system.clock import rfc3339

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
