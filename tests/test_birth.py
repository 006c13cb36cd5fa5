"""The birth message."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import device
from device.birth import birth
from device.bundle import Bundle
from device.pipeline import Pipeline


def test_what_a_station_says_of_itself(tiny_bundle: Bundle) -> None:
    pipeline = Pipeline(tiny_bundle, "press-4", "5e55104")
    started = datetime(2026, 1, 31, 8, 0, 0, 123456, timezone(timedelta(hours=2)))
    content = json.loads(birth(pipeline, started, "5"))
    versions = content.pop("versions")
    assert content == {
        "schema": 1,
        "session_id": "5e55104",
        "station": "press-4",
        "started": "2026-01-31T06:00:00.123Z",
        "model": {
            "id": "tiny",
            "version": tiny_bundle.calibration.version,
            "sha256": tiny_bundle.sha256,
        },
        "runtime": pipeline.runtime,
        "protocol": "5",
        "capabilities": ["inspection", "defect"],
    }
    assert list(versions) == ["edgevision", "python", "opencv", "numpy", "paho"]
    assert versions["edgevision"] == device.__version__
    assert all(versions.values())


def test_a_whole_second_has_its_milliseconds_too(tiny_bundle: Bundle) -> None:
    pipeline = Pipeline(tiny_bundle, "press-4", "5e55104")
    assert (
        json.loads(birth(pipeline, datetime(2026, 1, 31, tzinfo=UTC), "3.1.1"))["started"]
        == "2026-01-31T00:00:00.000Z"
    )
