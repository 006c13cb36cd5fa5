"""Steps: what the log says, and what is kept."""

from __future__ import annotations

import logging

import pytest

from trainer.steps import Steps, bar


def test_each_step_is_named_with_its_number(caplog):
    caplog.set_level(logging.INFO)
    steps = Steps(("reading", "learning", "writing"))
    with steps.at("reading"):
        pass
    with steps.at("writing"):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "step 1 of 3: reading",
        "step 3 of 3: writing",
    ]
    assert list(steps.took_s) == ["reading", "writing"]
    assert min(steps.took_s.values()) >= 0


def test_the_time_is_kept_when_a_step_fails():
    steps = Steps(("reading",))
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
    with pytest.raises(ValueError), Steps(("reading",)).at("dreaming"):
        pass
