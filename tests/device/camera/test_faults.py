"""The script of what goes wrong in a replay."""

from __future__ import annotations

import pytest

from device.camera.faults import Fault, FaultScript
from device.errors import ConfigError
from device.image.geometry import Size


def hit(script: FaultScript, frames: int) -> dict[int, str]:
    faults = {frame: script.at(frame) for frame in range(frames)}
    return {frame: fault.kind for frame, fault in faults.items() if fault is not None}


def test_each_line_says_when_and_what() -> None:
    script = FaultScript(["3:stall:2.5", "1:size:10x20", "0:black"])
    assert [script.at(frame) for frame in range(4)] == [
        Fault("black"),
        Fault("size", size=Size(10, 20)),
        None,
        Fault("stall", seconds=2.5),
    ]


def test_the_first_of_several_acts() -> None:
    assert hit(FaultScript(["1:drop", "100%:fail"]), 3) == {0: "fail", 1: "drop", 2: "fail"}


def test_a_share_is_kept_and_can_be_repeated() -> None:
    script = ["2.5%:drop", "0%:die"]
    found = hit(FaultScript(script, seed=7), 10_000)
    assert set(found.values()) == {"drop"}
    assert 200 <= len(found) <= 300  # 250, and three standard deviations are 47
    assert hit(FaultScript(script, seed=7), 10_000) == found
    assert hit(FaultScript(script, seed=8), 10_000) != found


def test_another_line_does_not_move_the_faults_that_were_there() -> None:
    alone = hit(FaultScript(["5%:drop"], seed=1), 500)
    both = hit(FaultScript(["5%:drop", "3:fail"], seed=1), 500)
    assert {**alone, 3: both[3]} == both


@pytest.mark.parametrize(
    "line",
    ["", "drop", "1:", "1:drop:2", "1:stall", "1:stall:x", "-1:drop", "1:size:0x5", "1:hang", "1.5:drop"],
)
def test_a_line_that_is_none(line: str) -> None:
    with pytest.raises(ConfigError, match=r"\[camera\] faults: every item must be"):
        FaultScript([line])
