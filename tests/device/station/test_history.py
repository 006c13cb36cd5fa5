"""What a station tells of the time before somebody came."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fixtures_daemon import REPOSITORY

from device.inspection.verdict import Verdict
from device.schemas.strict_json import schema_file
from device.station import history as histories
from device.station.history import DEFECTS, DEFECTS_EVERY_S, FILE, STEP_S, STEPS, WRITE_EVERY_S, History

SCHEMA = jsonschema.Draft7Validator(json.loads(schema_file("history").read_text()))
GOLDEN = REPOSITORY / "tests" / "golden"
NG = Verdict.from_json((GOLDEN / "verdict-ng.json").read_bytes())
OK = Verdict.from_json((GOLDEN / "verdict-ok.json").read_bytes())
ERROR = Verdict.from_json((GOLDEN / "verdict-error.json").read_bytes())
STEP_NS = STEP_S * 1_000_000_000


class Desk:
    """A history whose clock and thread are the test's; what it tells is in `told`."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 0.0
        self.told: list[dict[str, Any]] = []
        self.history = History(folder, self, lambda: self.now_s)

    def set_state(self, topic: str, payload: str) -> None:
        assert topic == "history"
        content = json.loads(payload)
        SCHEMA.validate(content)
        self.told.append(content)

    def turn(self, after_s: float = 0.0, *, now: bool = False) -> None:
        self.now_s += after_s
        self.history._turn(now=now)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def event(number: int, verdict: Verdict = NG, step: int = 0) -> Verdict:
    return replace(
        verdict, event_id=f"e-{number:08d}", seq=number, captured_ns=verdict.captured_ns + step * STEP_NS
    )


def test_why_a_picture_cannot_be_judged_is_told(desk: Desk) -> None:
    desk.history.add(replace(event(1), verdict="MARGINAL", reason="darker than good images"))
    desk.turn()
    assert desk.told[-1]["defects"][0]["reason"] == "darker than good images"


def test_a_defect_is_told_at_once_and_the_next_ones_together(desk: Desk) -> None:
    desk.turn()
    assert desk.told[0]["defects"] == []
    desk.history.add(event(1))
    desk.turn(DEFECTS_EVERY_S)
    for number in (2, 3):
        desk.history.add(event(number))
        desk.turn(1)
    assert [len(said["defects"]) for said in desk.told] == [0, 1]
    desk.turn(DEFECTS_EVERY_S)
    assert [one["event_id"] for one in desk.told[-1]["defects"]] == ["e-00000003", "e-00000002", "e-00000001"]
    desk.history.add(event(4, OK))
    desk.turn(DEFECTS_EVERY_S)
    assert len(desk.told) == 3, "a good part in a step that is known is no news"


def test_a_defect_says_what_a_person_asks_for(desk: Desk) -> None:
    desk.history.add(NG)
    [said] = desk.history.content()["defects"]
    assert said["score"] == NG.score
    assert said["part_id"] == "A-0042"
    assert said["image"] == {"w": 640, "h": 480}
    assert [region["score"] for region in said["regions"]] == [0.9688, 0.5]
    assert said["checks"] == {"brightness_ratio": 0.5, "focus": 123.25}
    assert said["review"] is None


def test_the_hours_are_counted_in_steps_with_their_median(desk: Desk) -> None:
    for number, score in enumerate((0.011, 0.022, 0.4)):
        desk.history.add(replace(event(number, OK), score=score))
    desk.history.add(event(5, ERROR))
    desk.history.add(event(6, NG, step=2))
    first, last = desk.history.content()["trend"]
    assert (first["ok"], first["ng"], first["error"], first["score_median"]) == (3, 0, 1, 0.0225)
    assert (last["ok"], last["ng"], last["score_median"]) == (0, 1, 0.9375)
    assert last["from"] > first["from"]


def test_only_the_latest_are_kept(desk: Desk) -> None:
    for number in range(DEFECTS + 5):
        desk.history.add(event(number, step=number))
    content = desk.history.content()
    assert len(content["defects"]) == DEFECTS
    assert content["defects"][0]["event_id"] == f"e-{DEFECTS + 4:08d}"
    assert len(content["trend"]) == STEPS


def test_a_clock_that_is_set_leaves_no_step_in_the_future_or_the_far_past(desk: Desk) -> None:
    desk.history.add(event(1, step=-10_000))
    desk.history.add(event(2))
    assert len(desk.history.content()["trend"]) == 1
    desk.history.add(event(3, step=-3))
    [step] = desk.history.content()["trend"]
    assert step["ng"] == 1


def test_it_outlives_a_restart(desk: Desk, tmp_path: Path) -> None:
    desk.history.add(event(1))
    desk.history.reviewed("e-00000001", "ok")
    desk.history.reviewed("e-00000099", "ok")  # not among the latest
    desk.turn(WRITE_EVERY_S)
    before = desk.history.content()
    again = Desk(tmp_path)
    assert again.history.content() == before
    assert before["defects"][0]["review"] == "ok"
    again.history.add(event(2))
    again.history.add(event(3, step=1))
    content = again.history.content()
    assert [step["ng"] for step in content["trend"]] == [2, 1], "the step goes on where it was"
    assert len(content["defects"]) == 3


def test_the_last_of_it_is_told_and_written_at_the_end(desk: Desk, tmp_path: Path) -> None:
    desk.history.start()
    desk.history.add(event(1))
    desk.history.stop()
    desk.history.stop()
    assert len(desk.told[-1]["defects"]) == 1
    assert json.loads((tmp_path / FILE).read_text()) == desk.told[-1]


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema":2}', b"\xff"])
def test_a_damaged_file_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert Desk(tmp_path).history.content()["defects"] == []
    assert "damaged, the history begins anew" in caplog.text


def test_a_disk_that_does_not_take_it_is_named_once(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).mkdir()
    with caplog.at_level(logging.WARNING, histories.log.name):
        for number in range(2):
            desk.history.add(event(number))
            desk.turn(WRITE_EVERY_S)
    assert caplog.text.count("it goes on in memory") == 1
    assert len(desk.told[-1]["defects"]) == 2
