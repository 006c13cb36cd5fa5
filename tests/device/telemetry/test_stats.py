"""The figures of the topic `stats`: quantiles, rates, and the board's readings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_board import FakeBoard
from fixtures_daemon import REPOSITORY
from fixtures_verdict import ERROR, OK

from device.health.board import Reading
from device.schemas.strict_json import parse_as
from device.telemetry.stats import Histogram, Queues, Stats

NOTHING = Reading(None, None, None, None)


@pytest.mark.parametrize("scale", [0.005, 0.9, 40.0, 3000.0])
def test_quantiles_are_right_within_3_percent(scale: float) -> None:
    values = np.random.default_rng(1).lognormal(np.log(scale), 0.8, 20_000)
    histogram = Histogram()
    for value in values:
        histogram.add(float(value))
    for share in (0.5, 0.95, 0.99):
        expected = np.quantile(values, share, method="inverted_cdf")
        assert histogram.quantile_ms(share) == pytest.approx(expected, rel=0.03)
    assert histogram.greatest_ms == values.max()


def test_an_empty_histogram_and_the_ends() -> None:
    histogram = Histogram()
    assert histogram.quantile_ms(0.5) == 0.0
    histogram.add(0.0)
    assert histogram.quantile_ms(0.99) == 0.0
    histogram.add(1e9)
    assert histogram.quantile_ms(1.0) > 250_000


def test_the_message_is_of_the_time_since_the_one_before(tmp_path: Path) -> None:
    now_s = 100.0
    stats = Stats(lambda: now_s)
    for _ in range(50):
        stats.add(OK)
    stats.add(ERROR)
    now_s = 110.0
    queues = Queues(frames_waiting=1, events_waiting=7, skipped=30, dropped_triggers=2, dropped_events=3)
    fake = FakeBoard(tmp_path)
    fake.set(temperature_c=61.5, throttled="50004")
    first = parse_as("stats", stats.to_json(fake.board().read(), queues))
    assert (first["verdicts"], first["rate_hz"], first["period_s"], first["skipped"]) == (51, 5.1, 10.0, 30)
    assert first["timing_ms"].keys() == OK.timing_ms.keys()
    assert first["timing_ms"]["inference"]["p99"] == pytest.approx(3.5, rel=0.03)
    assert first["timing_ms"]["inference"]["max"] == 3.5
    assert (first["frames_waiting"], first["events_waiting"]) == (1, 7)
    assert (first["dropped_triggers_total"], first["dropped_events_total"]) == (2, 3)
    assert (first["temperature_c"], first["throttled_bits"], first["slowed"]) == (61.5, 0x50004, True)
    assert (first["under_voltage"], first["under_voltage_since_boot"]) == (False, True)
    assert first["disk_free_ratio"] == 0.6
    now_s = 115.0
    second = parse_as("stats", stats.to_json(NOTHING, replace(queues, skipped=31)))
    assert (second["verdicts"], second["rate_hz"], second["skipped"], second["timing_ms"]) == (0, 0, 1, {})
    assert second["temperature_c"] is second["throttled_bits"] is second["resident_bytes"] is None


def test_the_golden_payload_byte_for_byte(tmp_path: Path) -> None:
    """A Pi at work: every field has a value."""
    now_s = 100.0
    stats = Stats(lambda: now_s)
    for number in range(900):
        stats.add(replace(OK, timing_ms={"inference": 20 + number % 10, "total": 24 + number % 10 + 0.5}))
    now_s = 130.0
    fake = FakeBoard(tmp_path)
    fake.set(temperature_c=61.5, throttled="50004")
    queues = Queues(frames_waiting=1, events_waiting=7, skipped=30, dropped_triggers=2, dropped_events=3)
    found = stats.to_json(fake.board().read(), queues)
    assert found + "\n" == (REPOSITORY / "tests" / "golden" / "stats.json").read_text()
    parse_as("stats", found)


def test_memory_does_not_grow_with_the_frames() -> None:
    stats = Stats()
    for _ in range(2000):
        stats.add(OK)
    assert sum(len(histogram._counts) for histogram in stats._stages.values()) == 5 * 401


@pytest.mark.parametrize(
    ("change", "told"),
    [({"verdicts": -1}, "verdicts: must be"), ({"fps": 3}, "fps: unknown field"), ({"schema": 2}, "schema")],
)
def test_the_schema_refuses_what_is_wrong(change: dict[str, object], told: str) -> None:
    content = {**json.loads(Stats().to_json(NOTHING, Queues())), **change}
    with pytest.raises(ValueError, match=told):
        parse_as("stats", json.dumps(content))
