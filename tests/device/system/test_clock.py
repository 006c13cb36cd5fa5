"""Whether the wall clock can be believed."""

from __future__ import annotations

import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from device.system import clock


def test_the_answer_is_the_kernels() -> None:
    if shutil.which("timedatectl") is None:
        pytest.skip("timedatectl is not installed")
    shown = subprocess.run(
        ("timedatectl", "show", "-p", "NTPSynchronized", "--value"), capture_output=True, check=False
    )
    if shown.returncode != 0:
        pytest.skip("systemd does not run here, so timedatectl cannot answer")
    assert clock.clock_synced() is (shown.stdout.strip() == b"yes")


@pytest.mark.parametrize(("maxerror_us", "synced"), [(0, True), (15_999_999, True), (16_000_000, False)])
def test_the_rule_is_systemds(monkeypatch: pytest.MonkeyPatch, maxerror_us: int, synced: bool) -> None:
    def adjtimex(reference: object) -> int:
        reference._obj.maxerror = maxerror_us  # what ctypes.byref refers to
        return 0

    monkeypatch.setattr(clock, "_adjtimex", adjtimex)
    assert clock.clock_synced() is synced


def test_a_clock_that_cannot_be_asked_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_adjtimex", lambda reference: -1)
    assert clock.clock_synced() is False
    monkeypatch.setattr(clock, "_adjtimex", None)
    assert clock.clock_synced() is False


def test_times_are_cut_to_milliseconds_whatever_their_zone() -> None:
    eleven = datetime(2026, 1, 31, 11, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=5)))
    assert clock.rfc3339(eleven) == "2026-01-31T06:00:00.999Z"
    assert clock.rfc3339(1_769_839_200_999_999_999) == "2026-01-31T06:00:00.999Z"
    assert clock.rfc3339(0) == "1970-01-01T00:00:00.000Z"


def test_now_is_between_before_and_after() -> None:
    before = clock.rfc3339(time.time_ns())
    assert before <= clock.now() <= clock.rfc3339(time.time_ns())


def test_the_stamp_of_a_bundle_is_of_this_second() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    stamped = datetime.fromisoformat(clock.stamp())
    assert before <= stamped <= datetime.now(UTC)
    assert clock.stamp().endswith("Z")
