"""The payload of the topic `model`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_bundle import make_calibration
from fixtures_daemon import REPOSITORY

from device.inspection.verdict import Model
from device.schemas.strict_json import parse_as
from device.station.swap import SwapState
from device.station.threshold_override import RULE
from device.telemetry.model_state import model_json

GOLDEN = REPOSITORY / "tests" / "golden"
ACTIVE = SwapState(
    "active",
    "tiny-20260304T050607Z-00000000",
    Model("tiny", "20260304T050607Z-00000000", "0" * 64),
    previous=None,
    reason=None,
    latency_ms=None,
    since_ns=1_790_000_000_123_456_789,
)
REJECTED = replace(
    ACTIVE,
    state="rejected",
    previous="tiny-20260101T000000Z-11111111",
    reason="manifest.json: model.tflite: must have the SHA-256 of the manifest",
    latency_ms=4.25,
)
OWN = make_calibration().thresholds
PAYLOADS = {
    "model-active.json": model_json("5e55", ACTIVE, OWN),
    "model-rejected.json": model_json("5e55", REJECTED, replace(OWN, ng=0.75, marginal=0.5, rule=RULE)),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_golden_payloads_byte_for_byte(name: str) -> None:
    assert PAYLOADS[name] + "\n" == (GOLDEN / name).read_text()
    parse_as("model", PAYLOADS[name])


def test_a_payload_of_another_schema_is_refused_by_name() -> None:
    text = PAYLOADS["model-active.json"].replace('"schema":1', '"schema":2')
    with pytest.raises(ValueError, match="schema: must be 1, got 2"):
        parse_as("model", text)
