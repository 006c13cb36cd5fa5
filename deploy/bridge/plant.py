"""What the bridge knows of the stations, from what they say on MQTT.

A station is `fresh` while the broker is connected and the station's status is `online`. Nothing else is
believed to be so now: with the connection every status is forgotten until the broker tells it again.

A verdict is `live` when it is news: not retained, not delivered late (`historical`), and not a repetition
(QoS 1 may deliver twice).
"""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from deploy.bridge import payloads
from deploy.bridge.config import NAME
from deploy.bridge.payloads import VerdictPayload

log = logging.getLogger(__name__)

MOST_STATIONS = 1000  # a broker that anybody may write to must not fill the memory
_STATE = ("health", "model", "counters", "birth", "stats")
_REMEMBERED = 256  # event ids of a station, to know repetitions
_LOUD_EVERY_S = 60.0

Kind = Literal["status", "verdict", "state"]


@dataclass(slots=True)
class Station:
    """One station. `events`: its verdicts, the latest last; `heard_s`: when it said something, monotonic."""

    name: str
    events: deque[VerdictPayload]
    status: str | None = None
    health: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    counters: dict[str, Any] | None = None
    birth: dict[str, Any] | None = None
    stats: dict[str, Any] | None = None
    stats_s: float = 0.0
    seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @property
    def last(self) -> VerdictPayload | None:
        """The verdict of the latest part."""
        return self.events[-1] if self.events else None

    def find(self, event_id: str) -> VerdictPayload | None:
        """A verdict that is still kept."""
        return next((event for event in reversed(self.events) if event.event_id == event_id), None)

    def is_new(self, event_id: str) -> bool:
        """Whether this event is heard for the first time; it is remembered."""
        if event_id in self.seen:
            return False
        self.seen[event_id] = None
        if len(self.seen) > _REMEMBERED:
            self.seen.popitem(last=False)
        return True


@dataclass(frozen=True, slots=True)
class News:
    """What a station said just now. `verdict`: of kind "verdict"; `live`: see above."""

    station: Station
    kind: Kind
    verdict: VerdictPayload | None = None
    live: bool = True


class Pictures:
    """The latest pictures of defects, by event id, of all stations, within a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def keep(self, station: str, event_id: str, picture: bytes) -> None:
        self._bytes += len(picture) - len(self._kept.pop((station, event_id), b""))
        self._kept[station, event_id] = picture
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1])

    def find(self, station: str, event_id: str) -> bytes | None:
        return self._kept.get((station, event_id))


class Plant:
    """All stations below one prefix."""

    def __init__(self, prefix: str, *, recent_events: int, pictures_bytes: int) -> None:
        self.prefix = prefix
        self.connected = False
        self.pictures = Pictures(pictures_bytes)
        self.messages = 0
        self.refused = 0
        self.listeners: list[Callable[[News], None]] = []
        self._recent_events = recent_events
        self._stations: dict[str, Station] = {}
        self._topic = re.compile(rf"{re.escape(prefix)}/({NAME})/(.+)")
        self._warned_s = -_LOUD_EVERY_S

    @property
    def topics(self) -> tuple[str, ...]:
        """What to subscribe to."""
        below = ("status", "inspection", "inspection/last", *_STATE, "image/+")
        return tuple(f"{self.prefix}/+/{name}" for name in below)

    def __iter__(self) -> Iterator[Station]:
        return iter(sorted(self._stations.values(), key=lambda station: station.name))

    def __getitem__(self, name: str) -> Station:
        """Raises KeyError: nothing was heard of it."""
        return self._stations[name]

    def station(self, name: str) -> Station:
        """A station, also one that has not been heard of: it is known from now on."""
        return self._stations.setdefault(name, Station(name, deque(maxlen=self._recent_events)))

    def is_fresh(self, station: Station) -> bool:
        """Whether what the station said last is so now."""
        return self.connected and station.status == "online"

    def connection(self, *, connected: bool) -> None:
        """The broker is there, or not."""
        self.connected = connected
        for station in list(self._stations.values()):
            station.status = None
            self._tell(News(station, "status"))

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """A message from the broker. Never raises: what is not as it should be is counted."""
        self.messages += 1
        try:
            self._hear(topic, payload, retained=retained)
        except ValueError as problem:
            self.refused += 1
            now_s = time.monotonic()
            level = logging.DEBUG if now_s - self._warned_s < _LOUD_EVERY_S else logging.WARNING
            self._warned_s = now_s if level == logging.WARNING else self._warned_s
            log.log(level, "message on %r refused: %s", topic, problem)

    def _hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        found = self._topic.fullmatch(topic)
        if found is None:
            raise ValueError("the station must be called by 1..64 letters, digits, '.', '_' or '-'")
        name, below = found.groups()
        if below.startswith("image/"):
            if below != "image/last":
                self.pictures.keep(name, below.removeprefix("image/"), payload)
            return
        if below == "inspection/last" and not retained:
            return  # it came on `inspection`, too
        if name not in self._stations and len(self._stations) >= MOST_STATIONS:
            raise ValueError(f"there are {MOST_STATIONS} stations already")
        if not payload:
            self._forget(name, below)
        elif below == "status":
            self._status(name, payloads.status_of(payload))
        elif below in _STATE:
            self._state(name, below, payloads.state_of(below, payload))
        else:
            self._verdict(name, payloads.verdict_of(payload), retained=retained)

    def _status(self, name: str, status: str) -> None:
        station = self.station(name)
        if status != station.status:
            station.status = status
            self._tell(News(station, "status"))

    def _state(self, name: str, what: str, content: dict[str, Any]) -> None:
        station = self.station(name)
        setattr(station, what, content)
        if what == "stats":
            station.stats_s = time.monotonic()
        self._tell(News(station, "state"))

    def _verdict(self, name: str, verdict: VerdictPayload, *, retained: bool) -> None:
        if verdict.station != name:
            raise ValueError(f"station: must be {name}, as the topic says, got {verdict.station}")
        station = self.station(name)
        if not station.is_new(verdict.event_id):
            return
        station.events.append(verdict)
        live = not retained and not verdict.historical
        self._tell(News(station, "verdict", verdict, live=live))

    def _forget(self, name: str, below: str) -> None:
        """A retained message was taken away: of the status, the station was."""
        if below == "status" and (station := self._stations.pop(name, None)) is not None:
            station.status = None
            self._tell(News(station, "status"))

    def _tell(self, news: News) -> None:
        for listener in self.listeners:
            listener(news)
