"""The retained word on model and counters: when it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from fixtures_bundle import make_calibration

from device.inspection.verdict import Model
from device.station.swap import SwapState
from device.telemetry.announcement import Announcement
from device.telemetry.counters import Counts

STATE = SwapState(
    "active", "tiny-1", Model("tiny", "1", "0" * 64), None, None, None, 1_790_000_000_000_000_000
)
OWN = make_calibration().thresholds
NONE = Counts(0, 0, 0, 0, "2026-01-31T06:00:00.000Z")


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
