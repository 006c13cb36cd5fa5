"""The station's retained state: published when it changes, and all of it again on every connect.

Status and birth come first. State that the broker refused is not published again until it changes. What
somebody else has written in its place is published again, within REPAIR_S.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from device.mqtt.message import LARGE_BYTES, Message
from device.schemas import strict_json
from device.system.loudness import Loudness

log = logging.getLogger(__name__)

RIVAL_S = 600.0  # so long another station that bears our name is spoken of
REPAIR_S = 5.0  # so often at most, whoever overwrites it
WATCHED = ("status", "birth", "model", "health", "counters")
_LAST_EVERY_S = 0.25  # how often inspection/last is published while a backlog is sent
_LAST_LEAST_S = 0.05  # and else: nobody reads it more often


class Retained:
    """set() from any thread; the publisher's thread asks for what is due, message by message."""

    def __init__(self, root: str, session_id: str, birth: Callable[[str], str]) -> None:
        """`root` is <prefix>/<station>; `birth` gives the birth message, told the protocol that is spoken."""
        self._status = f"{root}/status"
        self._birth_topic = f"{root}/birth"
        self.last_topic = f"{root}/inspection/last"
        self._birth = birth
        self._mark = {"UserProperty": ("session_id", session_id)}
        self._last_sent_s = 0.0
        self._guard = threading.Lock()  # of all that follows
        self._states: dict[str, bytes] = {}
        self._refused: dict[str, bytes] = {}  # by their topic, what the broker did not take
        self._due: dict[str, None] = {}  # topics to be published, in order
        self._overwritten: set[str] = set()  # topics that hold what is not of us
        self._repaired_s: dict[str, float] = {}  # when, by their topic

    def set(self, topic: str, payload: bytes) -> None:
        """State of a whole topic. The same payload once more is not published."""
        with self._guard:
            if self._states.get(topic) != payload:
                self._states[topic] = payload
                self._due[topic] = None

    def repeat(self) -> None:
        """All of it is due, as on a connect."""
        with self._guard:
            self._due = dict.fromkeys((self._status, self._birth_topic, *self._states))

    def renew_birth(self) -> None:
        """What the birth message says has changed."""
        self.renew(self._birth_topic)

    def renew(self, topic: str) -> None:
        """One topic of ours is due, though it has not changed."""
        with self._guard:
            self._due[topic] = None

    def overwritten(self, topic: str, payload: bytes, protocol: str) -> bool:
        """What a topic of ours holds now, and whether that is not of us: then ours is due again."""
        with self._guard:
            known = topic in self._states or topic in (self._status, self._birth_topic)
            if not known or topic in self._due or payload == self._payload(topic, protocol):
                return False
            self._overwritten.add(topic)
            return True

    @property
    def is_due(self) -> bool:
        with self._guard:
            return bool(self._due)

    @property
    def large_is_due(self) -> bool:
        """Whether state that is large waits."""
        with self._guard:
            return any(len(self._states.get(topic, b"")) > LARGE_BYTES for topic in self._due)

    def next(self, protocol: str, *, backlog: bool, large: bool = False) -> Message | None:
        """The next message that is due and may go; with a `backlog` of events inspection/last is rare.

        `large`: of those beyond message.LARGE_BYTES, else of the others.
        """
        with self._guard:
            self._repair()
            held = self._held_s(backlog) > 0
            for topic in list(self._due):
                if held and topic == self.last_topic:
                    continue
                payload = self._payload(topic, protocol)
                if (topic in self._states and len(payload) > LARGE_BYTES) != large:
                    continue
                del self._due[topic]
                if self._refused.get(topic) == payload:
                    continue
                if topic == self.last_topic:
                    self._last_sent_s = time.monotonic()
                return Message(topic, payload, 1, True, self._mark)
            return None

    def again(self, message: Message) -> None:
        """It is due once more, before all else."""
        with self._guard:
            self._due = {message.topic: None, **self._due}

    def refuse(self, message: Message) -> None:
        """The broker did not take it."""
        with self._guard:
            self._refused[message.topic] = message.payload

    def held_s(self, *, backlog: bool) -> float:
        """How long what is due has to wait yet, at most 0 where nothing waits for its time."""
        with self._guard:
            return self._held_s(backlog) if self.last_topic in self._due else 0.0

    def last_word(self, word: str) -> Message:
        """The status with which the station parts."""
        return Message(self._status, word.encode(), 1, True, self._mark)

    def _repair(self) -> None:
        """What somebody has overwritten, and was not repaired within REPAIR_S, is due."""
        now_s = time.monotonic()
        for topic in list(self._overwritten):
            if now_s - self._repaired_s.get(topic, -REPAIR_S) >= REPAIR_S:
                self._overwritten.discard(topic)
                self._repaired_s[topic] = now_s
                self._due[topic] = None

    def _held_s(self, backlog: bool) -> float:
        return self._last_sent_s + (_LAST_EVERY_S if backlog else _LAST_LEAST_S) - time.monotonic()

    def _payload(self, topic: str, protocol: str) -> bytes:
        if topic == self._status:
            return b"online"
        if topic == self._birth_topic:
            return self._birth(protocol).encode()
        return self._states[topic]


class OwnTopics:
    """What our topics hold at the broker: where somebody else has written it, ours is due again."""

    def __init__(self, root: str, session_id: str, retained: Retained) -> None:
        self.filters = tuple(f"{root}/{name}" for name in WATCHED)
        self._root = root
        self._session_id = session_id
        self._retained = retained
        self._loudness = Loudness()
        self._rival_s = -RIVAL_S  # when another station last bore our name

    @property
    def rival(self) -> str | None:
        """Who else bears our name, in words; None where nobody does."""
        if time.monotonic() - self._rival_s >= RIVAL_S:
            return None
        return f"another station introduces itself as {self._root}: give one of the two another name"

    def look(self, topic: str, payload: bytes, protocol: str | None) -> bool:
        """Whether ours is due again. `protocol` None: the broker is away."""
        if self._is_of_another(topic, payload):
            self._rival_s = time.monotonic()
        if protocol is None or not self._retained.overwritten(topic, payload, protocol):
            return False
        if protocol == "5":  # in 3.1.1 it may be our own, from a moment ago
            log.log(self._loudness.level(topic), "%s: another client has written it", topic)
        return True

    def _is_of_another(self, topic: str, payload: bytes) -> bool:
        """Whether it is the birth of a session that is not ours."""
        if topic != f"{self._root}/birth":
            return False
        try:
            said = strict_json.parse(payload)
        except ValueError:
            return False
        session = said.get("session_id") if isinstance(said, dict) else None
        return session not in (None, self._session_id)
