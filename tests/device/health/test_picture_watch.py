"""When many pictures cannot be judged: which cause is named, and that some are no reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures_health import FAMILIAR, REFERENCE, Bench

from device.health.picture_watch import LEAST, REASON_OF, WINDOW


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_some_strange_pictures_are_no_reason(bench: Bench) -> None:
    for _ in range(WINDOW // 10):
        bench.see(14)
        bench.see(1, sharpness=-1.5)
    assert bench.standing() == set()


def test_a_share_of_them_warns_and_half_of_them_alerts(bench: Bench) -> None:
    for _ in range(20):
        bench.see(3)
        bench.see(1, sharpness=-1.5)
    assert bench.health.roles()["image"].state == "warn"
    bench.see(WINDOW, sharpness=-1.5)
    role = bench.health.roles()["image"]
    assert (role.state, role.reason) == ("alert", "picture_blurred")
    assert "less sharp" in role.text
    assert "sharpness -1.5, known -1 to 1" in role.text


def test_the_light_is_told_in_percent(bench: Bench) -> None:
    bench.see(WINDOW, brightness=0.28)
    role = bench.health.roles()["image"]
    assert role.reason == "picture_darker"
    assert "(-30% of the usual 0.40)" in role.text


def test_few_pictures_say_nothing(bench: Bench) -> None:
    bench.see(LEAST - 1, sharpness=-1.5)
    assert bench.standing() == set()


def test_another_bundle_begins_anew(bench: Bench) -> None:
    bench.see(WINDOW, warmth=0.9)
    assert bench.standing() == {"picture_colour"}
    bench.health.calibrate(REFERENCE, FAMILIAR)
    assert bench.standing() == set()
    bench.health.calibrate(REFERENCE, None)
    bench.see(WINDOW, warmth=0.9)
    assert bench.standing() == set()


def test_every_cause_has_its_reason(bench: Bench) -> None:
    del bench
    assert len(set(REASON_OF.values())) == len(REASON_OF) == 7
