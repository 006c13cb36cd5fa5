"""Verdicts without a camera, a model or a frame, and waiting for what has no event."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from fixtures_broker import DEADLINE_S

from device.geometry import Size
from device.verdict import Model, Verdict

SESSION = "5e55104"


def verdict(seq: int, name: str = "OK", **changes: Any) -> Verdict:
    """The verdict of that number in a session, with fields replaced."""
    session_id = changes.get("session_id", SESSION)
    values: dict[str, Any] = {
        "event_id": f"{session_id}-{seq:08d}",
        "session_id": session_id,
        "seq": seq,
        "historical": False,
        "captured_ns": 1_700_000_000_000_000_000 + seq,
        "clock_synced": True,
        "station": "press-4",
        "part_id": None,
        "trigger": "free-run",
        "verdict": name,
        "score": None if name == "ERROR" else 0.5,
        "threshold": 0.5,
        "model": Model("demo", "1", "0" * 64),
        "regions": (),
        "image_size": Size(32, 24),
        "image_sha256": None,
        "image_path": f"{seq}.png",
        "timing_ms": {"total": 1.0},
        "camera": "replay",
        "checks": None,
    }
    return Verdict(**{**values, **changes})


def wait_for(condition: Callable[[], object]) -> None:
    """Poll what has no event to wait for."""
    end = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        pause.wait(0.02)
