"""When the broker is tried again, and in which version of MQTT."""

from __future__ import annotations

import logging
import time

import pytest

from device.mqtt.reconnect import (
    FLAP_PAUSE_S,
    FLAPPED_S,
    FLAPS,
    MAX_S,
    MIN_S,
    UNANSWERED_LIMIT,
    Outages,
    Pauses,
    Versions,
)


def test_pauses_double_up_to_a_limit_and_are_jittered() -> None:
    several = [Pauses() for _ in range(200)]
    for attempt in range(12):
        whole_s = min(MAX_S, MIN_S * 2**attempt)
        found = [pauses.next_s() for pauses in several]
        assert all(whole_s / 2 <= pause_s <= whole_s for pause_s in found)
        assert max(found) - min(found) > whole_s / 4  # two hundred stations do not come back together


def test_a_success_begins_the_pauses_anew() -> None:
    pauses = Pauses()
    for _ in range(8):
        pauses.next_s()
    pauses.reset()
    assert pauses.next_s() <= MIN_S


def test_a_broker_that_refuses_5_is_spoken_to_in_3_1_1_from_then_on() -> None:
    versions = Versions("auto")
    assert (versions.wanted, versions.fell_back) == ("5", False)
    versions.refused()
    versions.lost()
    assert (versions.wanted, versions.fell_back) == ("3.1.1", True)


def test_a_broker_that_only_hangs_up_is_tried_in_both() -> None:
    versions = Versions("auto")
    for _ in range(UNANSWERED_LIMIT):
        assert versions.wanted == "5"
        versions.unanswered()
    assert versions.wanted == "3.1.1"
    versions.unanswered()
    assert versions.wanted == "5"


def test_a_fall_back_that_the_broker_did_not_ask_for_ends_with_its_connection() -> None:
    versions = Versions("auto")
    for _ in range(UNANSWERED_LIMIT):
        versions.unanswered()
    assert versions.fell_back
    versions.lost()
    assert versions.wanted == "5"


def test_what_a_person_has_set_is_not_changed() -> None:
    for setting in ("5", "3.1.1"):
        versions = Versions(setting)
        versions.refused()
        for _ in range(5):
            versions.unanswered()
        assert (versions.wanted, versions.fell_back, versions.may_fall_back) == (setting, False, False)


def test_the_first_loss_of_an_outage_is_told_aloud(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    outages = Outages("broker:1883", "edgevision-press-4")
    outages.lost("connection lost")
    outages.tell("cannot be reached")
    outages.over(waiting=3, protocol="5")
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG", "INFO"]
    assert "broker broker:1883: connected after 0.0 s, 3 verdicts waiting; MQTT 5" in caplog.text


def test_losses_again_and_again_are_no_accident_until_they_are_long_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outages = Outages("broker:1883", "edgevision-press-4")
    for _ in range(FLAPS):
        assert outages.flapping is None
        assert outages.pause_s(1.0) == 1.0
        outages.lost("session taken over")
    assert "is there another client edgevision-press-4?" in str(outages.flapping)
    assert FLAP_PAUSE_S / 2 <= outages.pause_s(1.0) <= FLAP_PAUSE_S
    later_s = time.monotonic() + FLAPPED_S
    monkeypatch.setattr("device.mqtt.reconnect.time.monotonic", lambda: later_s)
    assert outages.flapping is None
