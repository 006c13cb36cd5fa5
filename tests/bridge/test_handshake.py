"""The handshake, step by step, and what goes wrong in it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulated import SimulatedStation
from deploy.bridge.handshake import Handshake, PlcTrigger
from deploy.bridge.payloads import VerdictPayload, verdict_of
from deploy.bridge.register_map import ERRORS

TRIGGER, RESULT_ACK = 1, 2
_STATION = SimulatedStation("press-4")


def make_verdict(word: str = "OK") -> VerdictPayload:
    return verdict_of(json.dumps(_STATION.verdict(word)).encode())


def ready() -> Handshake:
    """One whose PLC has written once, without a trigger."""
    handshake = Handshake()
    handshake.write(0, 0, "", fresh=True)
    return handshake


def test_a_part_from_trigger_to_acknowledge() -> None:
    handshake = ready()
    asked = handshake.write(TRIGGER, 7, "A-7", fresh=True)
    assert asked == PlcTrigger(7, "A-7")
    assert (handshake.trigger_ack, handshake.busy, handshake.result_valid) == (True, True, False)
    assert handshake.write(TRIGGER, 7, "A-7", fresh=True) is None, "a level is no edge"
    handshake.write(0, 7, "A-7", fresh=True)
    assert (handshake.trigger_ack, handshake.busy) == (False, True)
    verdict = make_verdict()
    handshake.show(verdict, 7)
    assert (handshake.result, handshake.result_trigger, handshake.result_valid) == (verdict, 7, True)
    assert not handshake.busy
    handshake.write(RESULT_ACK, 7, "A-7", fresh=True)
    assert not handshake.result_valid
    assert handshake.result == verdict


def test_a_trigger_that_stands_when_the_plc_writes_first_is_no_edge() -> None:
    handshake = Handshake()
    assert handshake.write(TRIGGER, 7, "", fresh=True) is None
    assert not handshake.trigger_ack
    handshake.write(0, 7, "", fresh=True)
    assert handshake.write(TRIGGER, 7, "", fresh=True) == PlcTrigger(7, "")


@pytest.mark.parametrize(
    ("number", "part_id", "fresh", "error"),
    [(0, "", True, "number_zero"), (1, "a\tb", True, "part_id"), (1, "", False, "station_away")],
)
def test_a_trigger_that_cannot_be_passed_on_is_refused_at_once(
    number: int, part_id: str, fresh: bool, error: str
) -> None:
    handshake = ready()
    assert handshake.write(TRIGGER, number, part_id, fresh=fresh) is None
    assert handshake.trigger_ack
    assert not handshake.busy
    assert (handshake.error_code, handshake.error_trigger) == (ERRORS[error], number)


def test_a_trigger_while_busy_is_refused_and_the_first_one_goes_on() -> None:
    handshake = ready()
    handshake.write(TRIGGER, 1, "", fresh=True)
    handshake.write(0, 1, "", fresh=True)
    assert handshake.write(TRIGGER, 2, "", fresh=True) is None
    assert (handshake.error_code, handshake.error_trigger) == (ERRORS["busy"], 2)
    handshake.show(make_verdict(), 2)
    assert handshake.result is None, "number 2 was never passed on"
    handshake.show(make_verdict(), 1)
    assert handshake.result_trigger == 1


def test_no_other_verdict_takes_the_place_of_the_one_that_was_asked_for() -> None:
    handshake = ready()
    handshake.write(TRIGGER, 1, "", fresh=True)
    handshake.show(make_verdict("NG"))
    assert handshake.result is None, "somebody else's, while ours is awaited"
    ours = make_verdict("OK")
    handshake.show(ours, 1)
    handshake.show(make_verdict("NG"))
    assert handshake.result == ours, "not acknowledged yet"
    handshake.write(RESULT_ACK, 1, "", fresh=True)
    theirs = make_verdict("NG")
    handshake.show(theirs)
    assert (handshake.result, handshake.result_trigger) == (theirs, 0)


def test_a_verdict_that_is_too_late_is_not_shown() -> None:
    handshake = ready()
    handshake.write(TRIGGER, 1, "", fresh=True)
    handshake.fail(1, "no_verdict_in_time")
    assert (handshake.error_code, handshake.error_trigger) == (ERRORS["no_verdict_in_time"], 1)
    handshake.write(0, 1, "", fresh=True)
    handshake.write(TRIGGER, 2, "", fresh=True)
    assert handshake.error_code == 0
    handshake.show(make_verdict(), 1)
    assert handshake.result is None
    assert handshake.busy


def test_what_was_shown_is_taken_back_when_the_station_goes_away() -> None:
    handshake = ready()
    handshake.show(make_verdict())
    sequence = handshake.sequence
    handshake.forget()
    assert handshake.result is None
    assert not handshake.result_valid
    assert handshake.sequence == sequence + 1


def test_a_part_that_is_waited_for_fails_when_the_station_goes_away() -> None:
    handshake = ready()
    handshake.write(TRIGGER, 9, "", fresh=True)
    handshake.forget()
    assert not handshake.busy
    assert (handshake.error_code, handshake.error_trigger) == (ERRORS["station_away"], 9)


@given(st.lists(st.sampled_from(["trigger", "rest", "ack", "ours", "theirs", "late", "away"]), max_size=40))
def test_a_result_with_a_number_is_always_the_answer_to_that_number(steps: list[str]) -> None:
    """Whatever happens in whatever order: what bears the current number was made for it."""
    handshake, number = ready(), 0
    made_for: dict[str, int] = {}
    for step in steps:
        verdict = make_verdict()
        if step == "trigger":
            number += 1
            handshake.write(0, number, "", fresh=True)
            handshake.write(TRIGGER, number, "", fresh=True)
        elif step == "rest":
            handshake.write(0, number, "", fresh=True)
        elif step == "ack":
            handshake.write(RESULT_ACK, number, "", fresh=True)
        elif step == "away":
            handshake.forget()
        else:
            asked_by = {"ours": number, "theirs": 0, "late": max(0, number - 1)}[step]
            made_for[verdict.event_id] = asked_by
            handshake.show(verdict, asked_by)
        if handshake.result is not None:
            assert made_for[handshake.result.event_id] == handshake.result_trigger
        assert not (handshake.busy and handshake.result_valid)
