"""Asking a station for a verdict: the command, and what becomes of it.

The station's answer names the event that it makes; its verdict comes on `inspection`, and is on the station's
disk before. The command carries a response topic of this run of the bridge alone and a number (correlation
data), so that no answer to somebody else, or to an earlier question, is taken for this one's. It is sent with
QoS 0 and expires after a second: a station that is away must not take a picture later, when another part is
in front of its camera.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from dataclasses import dataclass

from paho.mqtt.client import MQTTMessage

from deploy.bridge import payloads
from deploy.bridge.broker import Broker
from deploy.bridge.payloads import AnswerPayload, VerdictPayload
from deploy.bridge.plant import News, Plant
from device.errors import BrokerError

log = logging.getLogger(__name__)

EXPIRY_S = 1
MOST_WAITING = 1000


class NoVerdict(Exception):
    """There is none, for the reason in words. `event_id`: of the part, where the station had told it."""

    def __init__(self, reason: str, event_id: str | None = None) -> None:
        super().__init__(reason)
        self.event_id = event_id


class StationAway(NoVerdict):
    """The broker or the station is not there."""


class TriggerRefused(NoVerdict):
    """The station does not take the trigger."""


class TooLate(NoVerdict):
    """The station did not answer in time, or has no verdict in time."""


@dataclass(slots=True)
class _Question:
    station: str
    answered: asyncio.Future[VerdictPayload]
    event_id: str | None = None


class Triggers:
    """ask() for a verdict. The owner passes on what arrives: answers, news, and losses of the connection."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._broker: Broker | None = None
        self._me = f"bridge-{secrets.token_hex(8)}"
        self._number = 0
        self._questions: dict[bytes, _Question] = {}
        plant.listeners.append(self.hear)

    @property
    def topic(self) -> str:
        """What to subscribe to, for the answers."""
        return f"{self._plant.prefix}/+/response/{self._me}"

    def use(self, broker: Broker) -> None:
        """The connection that questions go to."""
        self._broker = broker

    async def ask(
        self, station: str, part_id: str | None, timeout_s: float, *, of_plc: bool = False
    ) -> VerdictPayload:
        """The verdict on the part that is in front of the station's camera now. Raises NoVerdict.

        `of_plc`: never refused because others wait; a PLC has one question at a time.
        """
        if not self._knows(station):
            raise StationAway(f"station {station} is away, or the broker is")
        if not of_plc and len(self._questions) >= MOST_WAITING:
            raise TriggerRefused(f"{MOST_WAITING} triggers wait already")
        self._number += 1
        number = self._number.to_bytes(8, "big")
        question = _Question(station, asyncio.get_running_loop().create_future())
        self._questions[number] = question
        try:
            self._send(station, part_id, number)
            async with asyncio.timeout(timeout_s):
                return await question.answered
        except TimeoutError:
            raise TooLate(f"no verdict within {timeout_s:g} s", question.event_id) from None
        except BrokerError as problem:
            raise StationAway(str(problem)) from None
        finally:
            del self._questions[number]

    def hear_answer(self, message: MQTTMessage) -> None:
        """A message on `topic`."""
        number = getattr(message.properties, "CorrelationData", None)
        question = None if number is None else self._questions.get(number)
        if question is None or question.answered.done():
            return  # of a question that was given up
        if message.topic.split("/")[-3] != question.station:
            return
        try:
            answer = payloads.answer_of(bytes(message.payload))
        except ValueError as problem:
            self._refuse(question, TriggerRefused(f"the station's answer cannot be read: {problem}"))
            return
        self._take(question, answer)

    def hear(self, news: News) -> None:
        """A verdict may be the one that is waited for; a station that is gone will not give any."""
        for question in [q for q in self._questions.values() if q.station == news.station.name]:
            if question.answered.done():
                continue
            if news.kind == "status" and not self._plant.is_fresh(news.station):
                self._refuse(question, StationAway("the station or the broker went away", question.event_id))
            elif news.verdict is not None and news.verdict.event_id == question.event_id:
                question.answered.set_result(news.verdict)

    def _knows(self, station: str) -> bool:
        try:
            return self._plant.is_fresh(self._plant[station])
        except KeyError:
            return False

    def _send(self, station: str, part_id: str | None, number: bytes) -> None:
        content = {"by": "bridge"} if part_id is None else {"by": "bridge", "part_id": part_id}
        if self._broker is None:
            raise BrokerError("the broker is away")
        root = f"{self._plant.prefix}/{station}"
        self._broker.publish(
            f"{root}/cmd/trigger",
            json.dumps(content).encode(),
            properties={
                "ResponseTopic": f"{root}/response/{self._me}",
                "CorrelationData": number,
                "MessageExpiryInterval": EXPIRY_S,
            },
        )

    def _take(self, question: _Question, answer: AnswerPayload) -> None:
        if not answer.ok:
            self._refuse(question, TriggerRefused(answer.reason or "refused"))
        elif answer.event_id is None:
            self._refuse(question, TriggerRefused("the station does not say which event it made"))
        else:
            question.event_id = answer.event_id
            verdict = answer.verdict or self._plant[question.station].find(answer.event_id)
            if verdict is not None:  # it may have come before the answer
                question.answered.set_result(verdict)

    @staticmethod
    def _refuse(question: _Question, reason: NoVerdict) -> None:
        question.answered.set_exception(reason)
