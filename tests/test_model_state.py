"""The payload of the topic `model`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_bundle import make_calibration

from device.model_state import ModelState, check_json
from device.verdict import Model

GOLDEN = Path(__file__).with_name("golden")
STATES = {
    "active": ModelState(
        "5e55",
        Model("tiny", "20260304T050607Z-00000000", "0" * 64),
        "tiny-20260304T050607Z-00000000",
        make_calibration().thresholds,
        "bundle",
    ),
}
STATES["rejected"] = replace(
    STATES["active"],
    source="command",
    previous="tiny-20260101T000000Z-11111111",
    state="rejected",
    reason="manifest.json: model.tflite: must have the SHA-256 of the manifest",
)


@pytest.mark.parametrize("name", STATES)
def test_the_golden_payloads_byte_for_byte(name: str) -> None:
    assert STATES[name].to_json() + "\n" == (GOLDEN / f"model-{name}.json").read_text()
    check_json(STATES[name].to_json())


def test_a_reason_and_a_rejection_go_together() -> None:
    with pytest.raises(ValueError, match="reason: must be given with rejected alone"):
        replace(STATES["active"], reason="why")
    with pytest.raises(ValueError, match="reason: must be given with rejected alone"):
        replace(STATES["active"], state="rejected")


def test_a_payload_of_another_schema_is_refused_by_name() -> None:
    text = STATES["active"].to_json().replace('"schema":1', '"schema":2')
    with pytest.raises(ValueError, match="schema: must be 1, got 2"):
        check_json(text)
