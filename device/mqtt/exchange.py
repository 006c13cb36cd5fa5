"""Messages out and answers in, on one connection after the other; of the publisher's thread.

What the broker answers: accepted, done. Quota exceeded: the same again after a pause. Anything else (not
authorized, too large...): that message is refused, and counted. So is a message at which the connection ends
every time (some brokers answer so to what is too large): SUSPECT_AFTER times among others, and then
CONVICTED_AFTER times alone, on connections that worked until then.

What is optional and large (pictures, the history) stands in nobody's way: it goes when nothing else is under
way, by itself, and nothing else goes until it is answered. If the connection ends at it TWICE, or the broker
says that it is too large, messages of that size are left out for FORGIVE_S.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from device.errors import BrokerError
from device.mqtt.connection import BrokerReply, Connection
from device.mqtt.delivery import Delivery
from device.mqtt.message import Message, is_large
from device.mqtt.reconnect import Pauses, Protocol
from device.mqtt.retained import Retained
from device.system.loudness import Loudness

log = logging.getLogger(__name__)

SUSPECT_AFTER, CONVICTED_AFTER = 2, 3
TWICE = 2
FORGIVE_S = 3600.0
LARGE_EVERY_S = 0.02  # so often the others make way for one that is large
_SMALLER = 0.75  # of one that was too large
_TOO_LARGE = 0x95
ANSWER_S = 20.0  # a broker that has not acknowledged a message for so long is given up
TICK_S = 0.5
_SEND_LIMIT = 256  # best-effort messages that wait for their turn
_LARGE_LIMIT = 8  # and large ones
_ACCEPTED_BELOW = 0x80
_QUOTA_EXCEEDED = 0x97


class Exchange:
    """hand_over() and settle() in turn while a connection lasts; lost() and forget() when it is gone."""

    def __init__(
        self,
        broker: str,
        delivery: Delivery,
        retained: Retained,
        pauses: Pauses,
        complain: Callable[[str], None],
    ) -> None:
        """`broker`: its address, for the log. `complain` is told of what makes the delivery wait."""
        self._broker = broker
        self._delivery = delivery
        self._retained = retained
        self._pauses = pauses
        self._complain = complain
        self._under_way: dict[int, Message] = {}  # by the numbers that the connection gave
        self._not_before_s = 0.0  # a pause that the broker's quota asks for
        self._suspect = _Suspect()
        self._has_answered = False  # the broker, on this connection
        self.refused_messages = 0
        self._guard = threading.Lock()  # of what any thread may add
        self._sends: deque[Message] = deque()
        self._large: deque[Message] = deque(maxlen=_LARGE_LIMIT)
        self._alone: Message | None = None  # the large one that is under way
        self._state_next = False
        self._ended_at_it = 0  # connections, one after the other
        self._limit_bytes = sys.maxsize
        self._forgiven_s = 0.0
        self._large_sent_s = -LARGE_EVERY_S
        self._loudness = Loudness()
        self.refused_large = 0

    def send(self, message: Message) -> None:
        """Best effort: it goes next, and is dropped where too many wait; of large ones the oldest."""
        with self._guard:
            if is_large(message):
                self._large.append(message)
            elif len(self._sends) < _SEND_LIMIT:
                self._sends.append(message)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way, but for what is not read from the outbox yet."""
        waits = self._sends or self._large or self._retained.is_due or self._delivery.has_backlog
        return not waits and not self._under_way

    @property
    def patience_s(self) -> float:
        """How long to wait for something to happen."""
        held_s = self._retained.held_s(backlog=self._delivery.has_backlog)
        now_s = time.monotonic()
        large_s = self._large_sent_s + LARGE_EVERY_S - now_s if self._large_waits else 0.0
        waits_s = (self._not_before_s - now_s, held_s, large_s)
        return min([TICK_S, *(left_s for left_s in waits_s if left_s > 0)])

    def hand_over(self, connection: Connection) -> None:
        """As much as the broker has room for: best effort, state, then verdicts."""
        while self._has_room(connection):
            message = self._next(connection)
            if message is None:
                return
            if not connection.fits(message.topic, message.payload):
                self._refused(message, "Packet too large", _TOO_LARGE)
            else:
                self.publish(connection, message)

    def settle(self, connection: Connection) -> None:
        """Act on what the broker has answered. Raises BrokerError: it is silent."""
        answers, connection.answers = connection.answers, []
        for answer in answers:
            self._settle_one(answer)
        if answers:
            self._has_answered = True
            self._pauses.reset()
        if connection.waited_s > ANSWER_S:
            raise BrokerError(f"has acknowledged nothing for {ANSWER_S:g} s")

    def publish(self, connection: Connection, message: Message) -> int:
        """Its number on the connection, by which is_under_way() knows it."""
        properties = message.properties or {}
        qos = message.qos
        if is_large(message):
            self._alone, self._large_sent_s, qos = message, time.monotonic(), 1  # so that it is answered
        mid = connection.publish(
            message.topic, message.payload, qos, retain=message.retain, properties=properties
        )
        if qos:
            self._under_way[mid] = message
        return mid

    def is_under_way(self, number: int) -> bool:
        """Whether the broker has not answered to it."""
        return number in self._under_way

    def lost(self) -> None:
        """The connection was lost, though the broker had answered on it: for the message that was next?"""
        if self._alone is not None:
            self._ended_at_it += 1
            if self._ended_at_it >= TWICE:
                self._leave_out(self._alone)
            return
        oldest = next(iter(self._under_way.values()), None)
        if oldest is None or not self._has_answered or not self._suspect.lost_with(oldest.key):
            return
        log.warning("broker %s: ends the connection whenever it is sent a %s", self._broker, oldest.key)
        self._refuse(oldest, "the connection ends at it")

    def forget(self) -> None:
        """What was under way on a connection that is gone."""
        with self._guard:
            self._sends.clear()
        self._alone = None
        self._has_answered = False
        self._delivery.forget(self._under_way.values())
        self._under_way.clear()
        self._not_before_s = 0.0

    def _has_room(self, connection: Connection) -> bool:
        """While a message is suspect, one goes at a time; beside a large one, none."""
        is_alone = self._alone is not None or (self._suspect.exists and self._under_way)
        return connection.room > 0 and not is_alone

    def _next(self, connection: Connection) -> Message | None:
        paused = time.monotonic() < self._not_before_s
        self._delivery.read_ahead(paused=paused)  # first: a backlog holds inspection/last back
        with self._guard:
            if self._sends:
                return self._sends.popleft()
        if paused:
            return None
        rested = self._has_answered and time.monotonic() - self._large_sent_s >= LARGE_EVERY_S
        if rested and self._large_waits:
            return None if self._under_way else self._next_large(connection.protocol)
        backlog = self._delivery.has_backlog
        return self._retained.next(connection.protocol, backlog=backlog) or self._delivery.next()

    @property
    def _large_waits(self) -> bool:
        return bool(self._large) or self._retained.large_is_due

    def _next_large(self, protocol: Protocol) -> Message | None:
        """What is not too large for this broker, as far as is known."""
        if time.monotonic() >= self._forgiven_s:
            self._limit_bytes = sys.maxsize
        while True:
            self._state_next = not self._state_next  # in turn: neither keeps the other waiting
            with self._guard:
                message = self._large.popleft() if self._large and not self._state_next else None
            message = message or self._retained.next(protocol, backlog=False, large=True)
            with self._guard:
                if message is None and self._large:
                    message = self._large.popleft()
            if message is None or len(message.payload) < self._limit_bytes:
                return message or self._delivery.next()
            self._refuse(message, "too large")
            self.refused_large += 1

    def _settle_one(self, answer: BrokerReply) -> None:
        message = self._under_way.pop(answer.mid, None)
        if message is None:
            return
        self._suspect.acquit(message.key)
        if message is self._alone:
            self._alone, self._ended_at_it = None, 0
        if answer.code < _ACCEPTED_BELOW:
            if message.row is not None:
                self._delivery.accepted(message.row, message.bit)
        elif answer.code == _QUOTA_EXCEEDED:
            self._again(message)
        else:
            self._refused(message, answer.reason, answer.code)

    def _again(self, message: Message) -> None:
        """The broker's quota is used up: pause, and send the same before all else."""
        pause_s = self._pauses.next_s()
        self._not_before_s = time.monotonic() + pause_s
        self._complain(f"quota exceeded; next attempt in {pause_s:.1f} s")
        if message.row is not None:
            self._delivery.again(message, message.row)
        elif message.retain:
            self._retained.again(message)

    def _refused(self, message: Message, reason: str, code: int) -> None:
        if is_large(message) and code == _TOO_LARGE:
            self._leave_out(message)
            return
        level = self._loudness.level("refused")
        log.log(level, "broker %s: refuses a message on %s: %s", self._broker, message.topic, reason)
        self._refuse(message, reason)

    def _leave_out(self, message: Message) -> None:
        """Nothing large of this size any more, for a while."""
        self._limit_bytes = round(_SMALLER * len(message.payload))
        self._forgiven_s = time.monotonic() + FORGIVE_S
        self._ended_at_it = 0
        self.refused_large += 1
        log.log(
            self._loudness.level("large"),
            "broker %s: %d bytes on %s are too large for it; the like is left out for %g min",
            self._broker,
            len(message.payload),
            message.topic,
            FORGIVE_S / 60,
        )
        self._refuse(message, "too large")

    def _refuse(self, message: Message, reason: str) -> None:
        """Keep a row aside; leave state unpublished until it changes."""
        self.refused_messages += 1
        if message.retain:
            self._retained.refuse(message)
        if message.row is not None:
            self._delivery.refused(message.row, message.bit, reason)


class _Suspect:
    """The message that was the next to be answered each time that a connection was lost."""

    def __init__(self) -> None:
        self._key = ""
        self._losses = 0

    @property
    def exists(self) -> bool:
        return self._losses >= SUSPECT_AFTER

    def lost_with(self, key: str) -> bool:
        """Note a loss. True when it was one too many for this message."""
        self._losses = self._losses + 1 if key == self._key else 1
        self._key = key
        if self._losses < SUSPECT_AFTER + CONVICTED_AFTER:
            return False
        self._losses = 0
        return True

    def acquit(self, key: str) -> None:
        """It has been answered."""
        if key == self._key:
            self._losses = 0
