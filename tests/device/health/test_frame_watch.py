"""What frames say: sequences that must raise a reason, and such that must not."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import make_frame
from fixtures_daemon import REPOSITORY
from fixtures_health import PROVOKED, REFERENCE, Bench
from fixtures_scene import scene

from device.bundle.calibration import DriftReference, Reference

DATA = REPOSITORY / "tests" / "data"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_value_that_wavers_about_its_limit_does_not_flap(bench: Bench) -> None:
    bench.see(3)
    states = []
    random = np.random.default_rng(4)
    for _ in range(400):
        bench.see(brightness=random.normal(0.2, 0.01))  # the limit is 0.2
        states.append(bench.state("too_dark"))
    changes = sum(before != after for before, after in pairwise(states))
    assert changes <= 2


def test_single_bad_frames_raise_nothing(bench: Bench) -> None:
    for _ in range(60):
        bench.see(9)
        bench.see(brightness=0.0)
    assert "too_dark" not in bench.standing()


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("frozen_frames", "frozen"),
        ("focus_ratio", "out_of_focus"),
        ("bright_ratio", "too_bright"),
        ("moved_ratio", "moved"),
        ("drift_limit", "evidence_drift"),
        ("skipped_ratio", "frames_skipped"),
        ("resident_warn_mib", "memory_grown"),
    ],
)
def test_what_is_set_to_0_is_off(tmp_path: Path, limit: str, code: str) -> None:
    bench = Bench(tmp_path, {limit: 0})
    PROVOKED[code][0](bench)
    assert code not in bench.standing()


def test_another_model_begins_anew(bench: Bench) -> None:
    PROVOKED["evidence_drift"][0](bench)
    assert bench.standing() == {"evidence_drift"}
    bench.health.calibrate(replace(REFERENCE, evidence=Reference(-5.0, 0.5)))
    assert bench.standing() == set()
    PROVOKED["evidence_drift"][0](bench)
    assert bench.standing() == set()


def test_a_bundle_without_the_evidence_is_not_watched_for_it(bench: Bench) -> None:
    bench.health.calibrate(replace(REFERENCE, evidence=None))
    PROVOKED["evidence_drift"][0](bench)
    assert bench.standing() == set()


def test_a_spread_of_nothing_is_widened(bench: Bench) -> None:
    nothing = DriftReference(Reference(0.4, 0.0), Reference(300.0, 0.0), Reference(0.1, 0.0), None)
    bench.health.calibrate(nothing)
    for _ in range(200):
        bench.see(brightness=0.401, focus=301.0, score=0.1001)
    assert bench.standing() == set()


def test_a_view_that_was_lost_is_an_alert(bench: Bench) -> None:
    for seed in range(8):
        bench.see(image=scene(seed))
    for seed in range(6):
        bench.see(image=scene(seed + 20, turn=60))
    assert bench.state("moved") == "alert"


def test_a_frame_costs_little(bench: Bench) -> None:
    image = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    frame, verdict = make_frame(image), bench.verdict(np.random.default_rng(0))
    bench.health.observe(frame, verdict)
    fastest_ns = 10**9
    for _ in range(300):  # the clock stands: neither the view nor the drift is due
        begin = time.perf_counter_ns()
        bench.health.observe(frame, verdict)
        fastest_ns = min(fastest_ns, time.perf_counter_ns() - begin)
    assert fastest_ns < 200_000
