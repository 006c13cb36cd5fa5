"""What the station says about itself, turn by turn, without waiting for the clock."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures_health import REFERENCE, Bench
from fixtures_verdict import OK

from device.health.station_watch import Links
from device.schemas.strict_json import parse_as
from device.telemetry import reporter, status
from device.telemetry.reporter import Reporter, ServiceFacts
from device.telemetry.stats import Queues, Stats
from device.telemetry.status import StatusFile


class Heard:
    """A voice that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.told = threading.Event()

    def set_state(self, topic: str, payload: str) -> None:
        self.said.append((topic, payload))
        self.told.set()

    def send(self, topic: str, payload: str) -> None:
        self.said.append((topic, payload))

    def states(self) -> list[str]:
        return [json.loads(payload)["state"] for topic, payload in self.said if topic == "health"]


class Told:
    """A reporter with a real health, board and file, and facts that the test changes."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder)
        self.voice = Heard()
        self.stats = Stats()
        self.facts = ServiceFacts(Links(), Queues(), {"station": "press-4"})
        self.runtime = folder / "run"
        self.reporter = Reporter(
            self.bench.health,
            self.stats,
            self.bench.fake.board(),
            StatusFile(self.runtime),
            self.voice,
            lambda: self.facts,
        )

    def turn(self, seconds: float = 0.0) -> None:
        """One turn, `seconds` after the last: the reporter's own dates come earlier by so much."""
        self.bench.now_s += seconds
        for name in ("_poll_due_s", "_stats_due_s", "_retell_due_s"):
            setattr(self.reporter, name, getattr(self.reporter, name) - seconds)
        self.reporter.turn()

    def written(self) -> dict[str, Any]:
        return json.loads((self.runtime / status.FILE).read_text())


@pytest.fixture
def told(tmp_path: Path) -> Told:
    made = Told(tmp_path)
    (tmp_path / "run").mkdir()
    return made


def test_health_is_told_when_it_changes_and_not_else(told: Told) -> None:
    told.turn()
    told.turn()
    assert told.voice.states() == ["init"]
    told.bench.see()
    told.turn()
    told.turn()
    assert told.voice.states() == ["init", "ready"]
    told.facts = replace(told.facts, links=Links(rejected_model="why"))
    told.turn(reporter.POLL_S)
    told.turn()
    assert told.voice.states() == ["init", "ready", "degraded"]
    parse_as("health", told.voice.said[-1][1])


def test_numbers_alone_are_told_once_a_minute(told: Told) -> None:
    told.facts = replace(told.facts, links=Links(connected=False))
    for _ in range(20):
        told.turn(10)
    messages = [json.loads(payload) for topic, payload in told.voice.said if topic == "health"]
    said = [one["roles"]["broker"]["text"] for one in messages if one["roles"]["broker"]["text"]]
    assert len(said) == 3  # at 40, 100 and 160 s
    assert said == sorted(set(said), key=said.index)


def test_a_change_is_logged_once_and_its_end_too(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    told.bench.see()
    with caplog.at_level(logging.INFO):
        told.turn()
        told.facts = replace(told.facts, links=Links(rejected_model="golden images differ"))
        for _ in range(3):
            told.turn(reporter.POLL_S)
        told.facts = replace(told.facts, links=Links())
        for _ in range(5):
            told.turn(reporter.POLL_S)
    assert [record.message for record in caplog.records if record.name == "device.telemetry.reporter"] == [
        "health: model warn, model_rejected: golden images differ",
        "health: model ok",
    ]


def test_stats_come_every_half_minute(told: Told) -> None:
    told.stats.add(OK)
    for _ in range(7):
        told.turn(10)
    found = [parse_as("stats", payload) for topic, payload in told.voice.said if topic == "stats"]
    assert [one["verdicts"] for one in found] == [1, 0]


def test_the_end_tells_the_last_figures(told: Told) -> None:
    told.turn()
    told.stats.add(OK)
    told.reporter.stop()
    [found] = [parse_as("stats", payload) for topic, payload in told.voice.said if topic == "stats"]
    assert found["verdicts"] == 1


def test_the_file_says_what_runs(told: Told) -> None:
    told.turn()
    found = told.written()
    assert found["station"] == "press-4"
    assert found["health"]["state"] == "init"
    assert found["board"]["temperature_c"] == 48.3


def test_a_file_that_cannot_be_written_is_told_once_and_tried_again(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.runtime.rmdir()
    told.turn()
    told.turn()
    assert caplog.text.count("cannot be written") == 1
    told.runtime.mkdir()
    told.turn()
    assert told.written()["station"] == "press-4"


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Told(tmp_path)
    (tmp_path / "run").write_text("")
    made.reporter.start()
    assert "cannot be made" in caplog.text
    assert made.voice.told.wait(30)
    made.reporter.stop()


def test_it_runs_by_itself_until_it_is_stopped(told: Told) -> None:
    told.reporter.start()
    assert told.voice.told.wait(30)
    told.reporter.stop()
    assert status.read(told.runtime).presence == "absent"
    told.reporter.stop()


def test_the_calibration_is_another_after_a_model_change(told: Told) -> None:
    told.bench.health.calibrate(REFERENCE)
    told.turn()
    assert told.voice.states() == ["init"]
