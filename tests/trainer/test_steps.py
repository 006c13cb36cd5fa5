"""Steps: what the log says, and what is kept."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from trainer.steps import Steps, bar


def test_each_step_is_named_with_its_number(caplog):
    caplog.set_level(logging.INFO)
    steps = Steps({"reading": 50, "learning": 100, "writing": 1})
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
    """A tenth took thirty seconds, so the rest takes five minutes; a hundredth tells nothing."""
    caplog.set_level(logging.INFO)
    steps = Steps({"opening": 1, "reading": 11, "learning": 98, "writing": 1})
    steps.took_s["opening"] = 3.0
    with steps.at("reading"):
        pass
    steps.took_s["reading"] = 33.0
    with steps.at("learning"):
        pass
    steps.took_s["learning"] = 300.0
    with steps.at("writing"):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "step 2 of 4: reading",
        "step 3 of 4: learning, about 5 min left",
        "step 4 of 4: writing, less than a minute left",
    ]


def test_what_takes_minutes_is_told_where_there_is_no_bar(caplog, monkeypatch):
    """A hundred items, one in three seconds; then as many that are done at once."""
    caplog.set_level(logging.INFO)
    clock = iter(range(0, 10000, 15))
    monkeypatch.setattr("trainer.steps.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    with Steps({"model": 1}).at("model"):
        assert list(bar(range(100), "decoder")) == list(range(100))
        assert list(bar(range(4), "folds")) == list(range(4))
    assert [record.getMessage() for record in caplog.records] == [
        "step 1 of 1: model",
        "step 1 of 1: model, decoder: about 5 min for this",
    ]
