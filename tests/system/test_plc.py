"""A short form of benchmarks/plc.py, which does it with a hundred thousand parts, and its judge."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.plc import Hall, Part


def hall(folder: Path, *, lines: int = 1, parts: int = 40) -> Hall:
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None:
        pytest.skip("mosquitto is not installed")
    return Hall(folder, lines, parts, seed=4)


def test_no_part_gets_the_verdict_of_another_whatever_is_killed(tmp_path: Path) -> None:
    figures = hall(tmp_path, parts=40).run(kills=3)
    assert figures["parts"] == figures["judged"] + figures["not_judged"] == 40
    assert sum(figures["kills"].values()) == 3
    assert (figures["wrong"], figures["taken_twice"]) == ([], 0)
    assert figures["judged"] >= 10
    assert figures["heard_on_mqtt_as_well"] > 0


OWN = Part("line-1-000007", 100.0, 101.0, "OK", "line-1-000007", "5e55-00000007", 100.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"part_id": "line-1-000006"},  # the part before
        {"captured_s": 99.5},  # a frame from before the part came
        {"captured_s": 101.5},
        {"verdict": "NG"},  # not what the station said
        {"event_id": "5e55-00000008"},  # the verdict on another part
    ],
)
def test_a_verdict_that_is_not_the_parts_own_would_be_found(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    made = hall(tmp_path)
    made.broker.kill()
    made.ear.heard = {"5e55-00000007": ("line-1-000007", "OK"), "5e55-00000008": ("line-1-000008", "OK")}
    assert not made.is_wrong(OWN)
    assert made.is_wrong(replace(OWN, **changes))
