"""The retained word on model and counters: when it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fixtures_bundle import make_calibration
from fixtures_daemon import REPOSITORY

from device.inspection.verdict import Model
from device.schemas.strict_json import parse_as
from device.station.swap import SwapState
from device.station.threshold_override import RULE
from device.telemetry.announcement import Announcement, model_json
from device.telemetry.counters import VerdictCounts

STATE = SwapState(
    "active", "tiny-1", Model("tiny", "1", "0" * 64), None, None, None, 1_790_000_000_000_000_000
)
OWN = make_calibration().thresholds
NONE = VerdictCounts(0, 0, 0, 0, "2026-01-31T06:00:00.000Z")


class Listener:
    """What was told, by topic, in order."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.told: list[tuple[str, Any]] = []

    def set_state(self, topic: str, payload: str) -> None:
        self.told.append((topic, json.loads(payload)))

    def topics(self) -> list[str]:
        topics = [topic for topic, _ in self.told]
        self.told.clear()
        return topics


def test_the_model_is_told_when_it_or_its_thresholds_are_others() -> None:
    voice = Listener()
    announcement = Announcement(voice, "5e55", lambda: voice.now_s)
    announcement.tell(STATE, OWN, NONE)
    announcement.tell(STATE, OWN, NONE)
    assert voice.topics() == ["model", "counters"]
    announcement.tell(replace(STATE, state="loading"), OWN, NONE)
    announcement.tell(replace(STATE, state="loading"), replace(OWN, ng=0.7), NONE)
    assert [content["thresholds"]["ng"] for _, content in voice.told] == [0.6, 0.7]


def test_the_counters_are_told_once_a_second_and_at_the_end() -> None:
    voice = Listener()
    announcement = Announcement(voice, "5e55", lambda: voice.now_s)
    counts = NONE
    announcement.tell(STATE, OWN, counts)
    for _ in range(30):
        counts = counts.plus("OK")
        voice.now_s += 0.1
        announcement.tell(STATE, OWN, counts)
    assert voice.topics().count("counters") in (3, 4)
    counts = counts.plus("NG")
    announcement.tell(STATE, OWN, counts, now=True)
    announcement.tell(STATE, OWN, counts, now=True)
    assert [content["ng"] for _, content in voice.told] == [1]


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
