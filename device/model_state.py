"""What the topic `model` says: the model that decides, its thresholds, and how the last change went."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from device import strict_json
from device.calibration import Thresholds
from device.swap import SwapState
from device.threshold_override import RULE

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
        "since": _rfc3339(state.since_ns),
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def check_json(text: str | bytes) -> Any:
    """A payload's content. Raises ValueError naming the field that is wrong."""
    content = strict_json.parse(text)
    strict_json.check(content, _validate())
    return content


@cache
def _validate() -> strict_json.Validate:
    return strict_json.compile_schema(Path(__file__).with_name("model.schema.json"))


def _rfc3339(utc_ns: int) -> str:
    """RFC 3339 in UTC with whole milliseconds."""
    time = datetime.fromtimestamp(utc_ns // 1_000_000 / 1000, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
