"""Verdicts without a camera, a model or a frame, and waiting for what has no event."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fixtures_broker import DEADLINE_S

from device.bundle.calibration import Thresholds
from device.image.geometry import Box, Size
from device.inspection.checks import Checks
from device.inspection.verdict import Model, Region, Tile, Verdict, Votes

SESSION = "5e55104"
THRESHOLDS = Thresholds(0.6, 0.3, "by hand", ())

NG = Verdict(
    event_id="5e55-00000012",
    session_id="5e55",
    seq=12,
    historical=False,
    captured_ns=1_790_000_000_123_999_999,
    clock_synced=True,
    station="press-4",
    part_id="A-0042",
    trigger="free-run",
    verdict="NG",
    score=0.9375,
    threshold=0.6,
    model=Model("tiny", "20260304T050607Z-abcdef01", "abcdef01" * 8),
    regions=(
        Region(Box(10, 20, 30, 40), 900, 0.96875, "evidence"),
        Region(Box(0, 0, 7, 5), 35, 0.5, "reference"),
    ),
    image_size=Size(640, 480),
    image_sha256="0123456789abcdef" * 4,
    image_path="part 12.png",
    timing_ms={"preprocess": 0.125, "checks": 0.0625, "inference": 3.5, "localization": 0.25, "total": 4.0},
    camera="replay",
    checks=Checks(0.5, 123.25, -4.25),
    votes=Votes(2, 3, 2),
    tiles=(Tile(Box(0, 0, 320, 480), 0.9375), Tile(Box(320, 0, 320, 480), 0.25)),
    camera_metadata={"exposure_us": 4000, "analogue_gain": 1.5, "sensor": "imx296"},
)
OK = replace(
    NG,
    verdict="OK",
    score=0.0625,
    regions=(),
    part_id=None,
    image_sha256=None,
    image_path=None,
    votes=None,
    tiles=(),
    camera_metadata={},
)
ERROR = replace(
    OK,
    image_path="part 12.png",
    verdict="ERROR",
    reason="part 12.png: truncated PNG",
    score=None,
    regions=(),
    part_id=None,
    image_size=None,
    image_sha256=None,
    timing_ms={},
    checks=None,
    clock_synced=False,
    historical=True,
)


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
