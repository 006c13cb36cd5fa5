"""What the board and the service's parts say, poll by poll."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures_board import recorded
from fixtures_daemon import REPOSITORY
from fixtures_health import Bench

from device.health.reasons import REASONS

DATA = REPOSITORY / "tests" / "data"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def followed(bench: Bench, name: str, code: str) -> list[tuple[int, str]]:
    """(seconds, state) whenever the state of a reason's role changes, over a recorded sequence."""
    bench.see()
    changes = [(0, "ok")]
    for second, temperature_c, throttled in recorded(DATA / name):
        bench.fake.set(temperature_c=float(temperature_c), throttled=throttled)
        bench.poll()
        role = bench.health.roles()[REASONS[code].role]
        state = role.state if role.reason == code or code in role.others else "ok"
        if state != changes[-1][1]:
            changes.append((int(second), state))
    return changes


def test_a_board_that_heats_up_until_it_throttles_and_cools_down(bench: Bench) -> None:
    changes = followed(bench, "throttling.txt", "too_hot")
    assert [state for _, state in changes] == ["ok", "warn", "alert", "warn", "ok"]


def test_a_supply_that_dips_between_two_polls_is_noticed(bench: Bench) -> None:
    changes = followed(bench, "under_voltage.txt", "under_voltage")
    assert [state for _, state in changes] == ["ok", "warn", "alert", "warn", "ok"]


def test_what_the_firmware_remembers_from_before_is_no_reason(bench: Bench) -> None:
    bench.see()
    bench.fake.set(throttled="50000")
    bench.poll(10)
    assert bench.health.total == "ready"


def test_what_was_lost_in_an_earlier_session_is_no_news(bench: Bench) -> None:
    bench.see()
    bench.poll(4, dropped_events=12, dropped_triggers=3, skipped_frames=1000)
    assert bench.standing() == set()
