"""Asking a station, without a broker: whose answer counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.simulated import SimulatedStation, compact, utc_now
from deploy.bridge.payloads import VerdictPayload
from deploy.bridge.plant import Plant
from deploy.bridge.trigger import EXPIRY_S, NoVerdict, StationAway, TooLate, TriggerRefused, Triggers
from device.errors import BrokerError


@dataclass
class Line:
    """A plant with one station, and the questions that were sent to it."""

    plant: Plant
    triggers: Triggers
    station: SimulatedStation
    sent: list[tuple[str, dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    away: bool = False

    def publish(self, topic: str, payload: bytes, qos: int = 0, properties: Any = None) -> None:
        assert qos == 0, "a broker keeps what has a higher one for a station that is away"
        if self.away:
            raise BrokerError("the broker is away")
        self.sent.append((topic, json.loads(payload), properties))

    def answer(self, number: int, station: str = "press-4", **changes: Any) -> None:
        """The station's answer to a question, with fields replaced."""
        _, _, properties = self.sent[number]
        content = {"schema": 1, "ts": utc_now(), "session_id": "s", "command": "trigger", "request_id": None}
        content |= {"ok": True, "reason": None, "change": None, "repeated": False} | changes
        topic = properties["ResponseTopic"].replace("press-4", station)
        given = SimpleNamespace(CorrelationData=properties["CorrelationData"])
        self.triggers.hear_answer(SimpleNamespace(topic=topic, payload=compact(content), properties=given))  # type: ignore[arg-type]

    async def ask(self, wait_s: float = 5.0) -> VerdictPayload:
        return await self.triggers.ask("press-4", "A-7", wait_s)


def run(story: Callable[[Line], Awaitable[None]]) -> None:
    async def told() -> None:
        plant = Plant("edgevision", recent_events=10, pictures_bytes=0)
        line = Line(plant, Triggers(plant), SimulatedStation("press-4"))
        line.triggers.use(line)  # type: ignore[arg-type]
        plant.connection(connected=True)
        for topic, payload in line.station.retained().items():
            plant.hear(topic, payload, retained=True)
        await story(line)

    asyncio.run(told())


async def asking(line: Line, wait_s: float = 5.0) -> asyncio.Task[VerdictPayload]:
    """A question that has been sent."""
    task = asyncio.create_task(line.ask(wait_s))
    await asyncio.sleep(0)  # its turn
    return task


def test_what_is_sent() -> None:
    async def story(line: Line) -> None:
        task = await asking(line)
        topic, command, properties = line.sent[0]
        assert topic == "edgevision/press-4/cmd/trigger"
        assert command == {"by": "bridge", "part_id": "A-7"}
        assert properties["MessageExpiryInterval"] == EXPIRY_S
        assert line.triggers.topic == properties["ResponseTopic"].replace("press-4", "+")
        task.cancel()

    run(story)


def test_two_questions_get_their_own_answers() -> None:
    async def story(line: Line) -> None:
        first, second = await asking(line), await asking(line)
        verdicts = [line.station.verdict("OK"), line.station.verdict("NG")]
        line.answer(1, event_id=verdicts[1]["event_id"], verdict=verdicts[1])
        line.answer(0, event_id=verdicts[0]["event_id"], verdict=verdicts[0])
        assert ((await first).verdict, (await second).verdict) == ("OK", "NG")

    run(story)


def test_an_answer_from_another_station_or_to_an_old_question_counts_for_nothing() -> None:
    async def story(line: Line) -> None:
        given_up = await asking(line, 0.01)
        with pytest.raises(TooLate):
            await given_up
        task = await asking(line)
        verdict = line.station.verdict("OK")
        line.answer(0, event_id="e", verdict=verdict)
        line.answer(1, station="press-5", event_id="e", verdict=verdict)
        assert not task.done()
        line.answer(1, event_id=verdict["event_id"], verdict=verdict)
        assert (await task).event_id == verdict["event_id"]

    run(story)


def test_a_verdict_is_found_before_and_after_the_answer() -> None:
    async def story(line: Line) -> None:
        for before in (True, False):
            task = await asking(line)
            verdict = line.station.verdict("OK")
            if before:
                line.plant.hear(line.station.topic("inspection"), compact(verdict), retained=False)
            line.answer(-1, event_id=verdict["event_id"], verdict=None)
            if not before:
                line.plant.hear(line.station.topic("inspection"), compact(verdict), retained=False)
            assert (await task).event_id == verdict["event_id"]

    run(story)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"ok": False, "reason": "busy"}, TriggerRefused),
        ({}, TriggerRefused),
        ({"event_id": "e", "verdict": {"verdict": "OK"}}, TriggerRefused),
    ],
)
def test_an_answer_without_a_verdict(changes: dict[str, Any], error: type[NoVerdict]) -> None:
    async def story(line: Line) -> None:
        task = await asking(line)
        line.answer(0, **changes)
        with pytest.raises(error):
            await task

    run(story)


@pytest.mark.parametrize("loss", ["station", "broker"])
def test_a_station_that_goes_away_ends_the_waiting(loss: str) -> None:
    async def story(line: Line) -> None:
        task = await asking(line)
        if loss == "station":
            line.plant.hear("edgevision/press-4/status", b"offline", retained=False)
        else:
            line.plant.connection(connected=False)
        with pytest.raises(StationAway):
            await task
        with pytest.raises(StationAway):
            await line.ask()
        assert len(line.sent) == 1, "it is not even sent"

    run(story)


def test_a_broker_that_does_not_take_it() -> None:
    async def story(line: Line) -> None:
        line.away = True
        with pytest.raises(StationAway):
            await line.ask()

    run(story)


def test_the_event_is_named_when_the_verdict_is_too_late() -> None:
    async def story(line: Line) -> None:
        task = await asking(line, 0.2)
        line.answer(0, event_id="e7", verdict=None)
        with pytest.raises(TooLate) as raised:
            await task
        assert raised.value.event_id == "e7"

    run(story)


def test_questions_of_others_that_wait_do_not_bar_that_of_a_plc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.bridge.trigger.MOST_WAITING", 2)

    async def story(line: Line) -> None:
        tasks = [await asking(line), await asking(line)]
        with pytest.raises(TriggerRefused, match="2 triggers wait already"):
            await line.ask()
        plc = asyncio.create_task(line.triggers.ask("press-4", "A-8", 5.0, of_plc=True))
        await asyncio.sleep(0)
        assert len(line.sent) == 3
        for task in (*tasks, plc):
            task.cancel()

    run(story)
