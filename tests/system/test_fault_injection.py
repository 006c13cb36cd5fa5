"""benchmarks/faults.py: every frame and every trigger is accounted for, and a loss would be found."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from fixtures_daemon import REPOSITORY
from fixtures_verdict import ERROR, NG, OK

from device.line.trigger import CommandTrigger, FreeRun
from device.station.capture import Losses

SCRIPT = REPOSITORY / "benchmarks" / "faults.py"


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    spec = importlib.util.spec_from_file_location("faults_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_nothing_is_unaccounted_for_among_hundreds_of_frames(bundles_folder: Path) -> None:
    """One session of each kind: a recording, a camera, triggers, and both on a real stream with a broker."""
    done = subprocess.run(
        (sys.executable, SCRIPT, "--bundle", bundles_folder, "--frames", "2000", "--seed", "1"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "each frame and trigger has one verdict or one counted drop" in done.stdout
    for kind in ("torn", "late", "black", "cut", "hold", "broker"):
        assert kind in done.stdout


def numbered(*verdicts: object) -> list[object]:
    return [replace(verdict, seq=seq) for seq, verdict in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("given", "verdicts", "losses", "problem"),
    [
        ({"a"}, [], Losses(0, 0), "1 frames have no verdict, 0 are counted"),
        (set(), [("OK", "a")], Losses(0, 0), "OK on a, which was not given"),
        (set(), [("OK", None)], Losses(0, 0), "OK on None, which was not given"),
        ({"a"}, [("OK", "a"), ("NG", "a")], Losses(0, 0), "a has 2 verdicts"),
        ({"a", "b"}, [("OK", "a")], Losses(1, 0), "of a recording 1 were skipped"),
    ],
)
def test_a_loss_of_a_recording_would_be_found(
    faults: ModuleType, given: set[str], verdicts: list[tuple[str, str]], losses: Losses, problem: str
) -> None:
    kinds = {"OK": OK, "NG": NG, "ERROR": ERROR}
    ledger = faults.Ledger(
        given=given, verdicts=numbered(*(replace(kinds[word], image_path=path) for word, path in verdicts))
    )
    assert problem in "\n".join(faults.problems("recorded", ledger, losses, FreeRun()))


def test_a_part_without_a_word_would_be_found(faults: ModuleType) -> None:
    ledger = faults.Ledger(accepted=["A", "B"], refused=["C"])
    found = "\n".join(faults.problems("triggered", ledger, Losses(0, 1), CommandTrigger(1)))
    assert "2 parts and 0 that found the queue full have no verdict, 1 are counted" in found


def test_a_part_that_found_the_queue_full_and_was_let_go_is_counted(faults: ModuleType) -> None:
    trigger = CommandTrigger(1)
    trigger.open()
    assert [trigger.fire(part) for part in "AB"] == [True, False]
    ledger = faults.Ledger(accepted=["A"], refused=["B"])
    assert faults.problems("triggered", ledger, Losses(0, 2), trigger) == []
    [problem] = faults.problems("triggered", ledger, Losses(0, 1), trigger)
    assert "1 parts and 1 that found the queue full have no verdict, 1 are counted" in problem


def test_two_verdicts_of_one_number_would_be_found(faults: ModuleType) -> None:
    ledger = faults.Ledger(verdicts=[ERROR, ERROR])
    assert "a sequence number was said twice" in faults.problems("live", ledger, Losses(0, 0), FreeRun())


@pytest.mark.parametrize(
    ("mode", "strange", "fired_ns", "problem"),
    [
        ("usual", {}, 0, ""),
        ("usual", {}, 20_000_000, "OK of 0: picture 7 was made 10.0 ms before the trigger"),
        ("gray", {}, 0, "OK of 0: picture 7 is gray"),
        ("usual", {0: "picture 7, but not as it was sent"}, 0, "OK of 0: picture 7, but not as it was sent"),
    ],
)
def test_a_picture_that_was_not_given_for_the_part_would_be_found(
    faults: ModuleType, mode: str, strange: dict[int, str], fired_ns: int, problem: str
) -> None:
    with faults.network_camera(1.0) as stream:
        stream.sent[7] = faults.Sent(10_000_000, mode, b"")
        ledger = faults.Ledger(
            stream=stream, shown={0: 7}, strange=strange, fired_ns={"A": fired_ns}, numbers=1
        )
        found = faults._not_given(ledger, stream, [replace(OK, seq=0, part_id="A")])
    assert found == ([problem] if problem else [])


def test_a_picture_that_is_judged_twice_would_be_found(faults: ModuleType) -> None:
    with faults.network_camera(1.0) as stream:
        stream.sent[7] = faults.Sent(0, "usual", b"")
        ledger = faults.Ledger(stream=stream, shown={0: 7, 1: 7}, numbers=2)
        found = faults._not_given(ledger, stream, [replace(OK, seq=0), replace(OK, seq=1)])
    assert found == ["OK of 1: picture 7 for the second time"]
