"""Steps: what the log says, and what is kept."""

from __future__ import annotations

import logging

import pytest

from trainer.steps import Steps, bar


def test_each_step_is_named_with_its_number(caplog):
    caplog.set_level(logging.INFO)
    steps = Steps({"reading": 1, "learning": 100, "writing": 1})
    with steps.at("reading"):
        pass
    with steps.at("writing"):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "step 1 of 3: reading",
        "step 3 of 3: writing, less than a minute left",
    ]
    assert list(steps.took_s) == ["reading", "writing"]
    assert min(steps.took_s.values()) >= 0


def test_the_time_is_kept_when_a_step_fails():
    steps = Steps({"reading": 1})
    with pytest.raises(OSError, match="gone"), steps.at("reading"):
        raise OSError("gone")
    assert "reading" in steps.took_s


def test_items_pass_through_a_bar():
    assert list(bar(iter("abc"), "letters", 3)) == ["a", "b", "c"]


def test_a_bar_can_count_what_is_no_sequence():
    with bar(None, "epochs", 2, "epoch") as counted:
        counted.update()
    assert counted.disable  # this is no terminal


def test_a_step_that_was_not_announced():
    with pytest.raises(ValueError), Steps({"reading": 1}).at("dreaming"):
        pass


def test_what_is_left_is_told_by_what_is_done(caplog):
    """One hundredth took three seconds, so the rest takes five minutes; and the last step some seconds."""
    caplog.set_level(logging.INFO)
    steps = Steps({"reading": 1, "learning": 99, "writing": 1})
    steps.took_s["reading"] = 3.0
    with steps.at("learning"):
        pass
    steps.took_s["learning"] = 300.0
    with steps.at("writing"):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "step 2 of 3: learning, about 5 min left",
        "step 3 of 3: writing, less than a minute left",
    ]
