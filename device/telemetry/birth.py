"""What a station says about itself when it comes on: the birth message."""

from __future__ import annotations

import json
import platform
from datetime import datetime
from importlib.metadata import version

import cv2
import numpy as np

from device import __version__
from device.health import health
from device.inspection import verdict
from device.inspection.pipeline import Pipeline
from device.mqtt import commands
from device.station import history
from device.system.clock import rfc3339
from device.telemetry import announcement, counters, stats

SCHEMA = 1
CAPABILITIES = ("inspection", "defect", "health", "stats", "model", "counters", "history")
SCHEMAS = {
    "answer": commands.SCHEMA,
    "birth": SCHEMA,
    "counters": counters.SCHEMA,
    "health": health.SCHEMA_VERSION,
    "history": history.SCHEMA,
    "inspection": verdict.SCHEMA_VERSION,
    "model": announcement.SCHEMA,
    "stats": stats.SCHEMA_VERSION,
}


def birth(
    pipeline: Pipeline, started: datetime, taken: tuple[str, ...], protocol: str, *, pictures: bool = False
) -> str:
    """The birth message as compact JSON.

    `started` is when this session began, UTC; `taken` the commands that the station takes; `protocol` the
    version of MQTT in which it is said; `pictures` whether it publishes those of defects.
    """
    model = pipeline.model
    content = {
        "schema": SCHEMA,
        "session_id": pipeline.session_id,
        "station": pipeline.station,
        "started": rfc3339(started),
        "versions": versions(),
        "model": {"id": model.id, "version": model.version, "sha256": model.sha256},
        "runtime": pipeline.runtime,
        "protocol": protocol,
        "capabilities": (*CAPABILITIES, *(("image",) if pictures else ())),
        "commands": taken,
        "schemas": SCHEMAS,
    }
    return json.dumps(content, separators=(",", ":"))


def versions() -> dict[str, str]:
    """The versions of this program and of what it stands on; the interpreter's is in `runtime`."""
    return {
        "edgevision": __version__,
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "paho": version("paho-mqtt"),
    }
