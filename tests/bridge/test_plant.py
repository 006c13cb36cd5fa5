"""What the bridge knows of the stations, and for how long."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulated import SimulatedStation, compact
from deploy.bridge.plant import MOST_STATIONS, News, Pictures, Plant


class Ears:
    def __init__(self) -> None:
        self.news: list[News] = []

    def live(self) -> list[str]:
        return [news.verdict.event_id for news in self.news if news.verdict is not None and news.live]


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def plant(ears: Ears) -> Plant:
    """One that is connected, and whose one listener is `ears`."""
    made = Plant("edgevision", recent_events=3, pictures_bytes=1000)
    made.listeners.append(ears.news.append)
    made.connection(connected=True)
    return made


def say(plant: Plant, station: SimulatedStation, retained: bool = True) -> None:
    for topic, payload in station.retained().items():
        plant.hear(topic, payload, retained=retained)


def judge(plant: Plant, station: SimulatedStation, retained: bool = False, **changes: Any) -> dict[str, Any]:
    verdict = station.verdict("OK", **changes)
    plant.hear(station.topic("inspection"), compact(verdict), retained=retained)
    return verdict


def test_a_station_is_fresh_while_it_is_online_and_the_broker_is_there(plant: Plant) -> None:
    station = SimulatedStation("press-4")
    say(plant, station)
    known = plant["press-4"]
    assert plant.is_fresh(known)
    plant.hear(station.topic("status"), b"offline", retained=False)
    assert not plant.is_fresh(known)
    plant.hear(station.topic("status"), b"online", retained=False)
    plant.connection(connected=False)
    assert not plant.is_fresh(known)
    plant.connection(connected=True)
    assert not plant.is_fresh(known), "until the broker says so again"
    say(plant, station)
    assert plant.is_fresh(known)


def test_only_a_new_verdict_is_live(plant: Plant, ears: Ears) -> None:
    station = SimulatedStation("press-4")
    first = judge(plant, station)
    judge(plant, station, historical=True)
    judge(plant, station, retained=True)
    plant.hear(station.topic("inspection"), compact(first), retained=False)
    last = judge(plant, station)
    assert ears.live() == [first["event_id"], last["event_id"]]


def test_the_retained_last_verdict_is_known_and_no_news(plant: Plant, ears: Ears) -> None:
    station = SimulatedStation("press-4")
    verdict = station.verdict("NG")
    plant.hear(station.topic("inspection/last"), compact(verdict), retained=True)
    assert plant["press-4"].last is not None
    assert plant["press-4"].last.event_id == verdict["event_id"]
    assert ears.live() == []
    plant.hear(station.topic("inspection/last"), b"not even looked at", retained=False)
    assert plant.refused == 0


def test_so_many_events_are_kept(plant: Plant) -> None:
    station = SimulatedStation("press-4")
    told = [judge(plant, station)["event_id"] for _ in range(5)]
    assert [event.event_id for event in plant["press-4"].events] == told[2:]
    assert plant["press-4"].find(told[0]) is None
    assert plant["press-4"].find(told[3]) is not None


def test_a_verdict_of_another_station_on_this_ones_topic_is_refused(plant: Plant, ears: Ears) -> None:
    verdict = SimulatedStation("press-5").verdict("OK")
    plant.hear("edgevision/press-4/inspection", compact(verdict), retained=False)
    assert (plant.refused, ears.live()) == (1, [])


def test_a_station_that_was_taken_away_is_forgotten(plant: Plant, ears: Ears) -> None:
    station = SimulatedStation("press-4")
    say(plant, station)
    plant.hear(station.topic("status"), b"", retained=True)
    with pytest.raises(KeyError):
        plant["press-4"]
    assert ears.news[-1].station.status is None


def test_there_is_a_limit_to_the_stations(plant: Plant) -> None:
    for number in range(MOST_STATIONS + 5):
        plant.hear(f"edgevision/s{number}/status", b"online", retained=False)
    assert len(list(plant)) == MOST_STATIONS
    assert plant.refused == 5


@given(st.text(max_size=40), st.binary(max_size=100), st.booleans())
def test_nothing_that_arrives_raises(topic: str, payload: bytes, retained: bool) -> None:
    plant = Plant("edgevision", recent_events=3, pictures_bytes=1000)
    for below in (
        topic,
        f"edgevision/press-4/{topic}",
        "edgevision/press-4/inspection",
        "edgevision/a/health",
    ):
        plant.hear(below, payload, retained=retained)


def test_pictures_stay_within_their_bytes() -> None:
    pictures = Pictures(100)
    for number in range(10):
        pictures.keep("press-4", f"e{number}", b"x" * 30)
    assert pictures.find("press-4", "e6") is None
    assert pictures.find("press-4", "e9") == b"x" * 30
    assert pictures.find("press-5", "e9") is None
    pictures.keep("press-4", "e9", b"y" * 90)
    assert pictures.find("press-4", "e9") == b"y" * 90
    assert pictures.find("press-4", "e8") is None
    pictures.keep("press-4", "huge", b"x" * 101)
    assert pictures.find("press-4", "huge") is None


def test_a_broken_message_is_counted(plant: Plant) -> None:
    plant.hear("edgevision/press-4/health", json.dumps({"schema": 1}).encode(), retained=True)
    assert (plant.messages, plant.refused) == (1, 1)
