"""When to try the broker again, in which version of MQTT, and how loudly a loss of it is told."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from typing import Literal

from device.system.loudness import Loudness

log = logging.getLogger(__name__)

Protocol = Literal["5", "3.1.1"]

MIN_S, MAX_S = 1.0, 30.0
FLAPS, FLAPPED_S = 6, 600.0  # so many connections lost within this time are no accident
QUIET_AFTER = 3  # of them, each is not worth a line
FLAP_PAUSE_S = 30.0
_TAKEN_OVER = "taken over"  # in MQTT 5's reason for a disconnection
_LOUD_EVERY_S = 10.0  # connections that come and go are not worth more than a warning in this time
UNANSWERED_LIMIT = 2  # connections closed instead of answered, after which MQTT 3.1.1 is tried


class Pauses:
    """Seconds between attempts: doubled from MIN_S to MAX_S, and each of them between its half and its whole.

    The jitter is for the broker: a hundred stations that lost it together do not come back together.
    """

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 not for secrets
        self._attempts = 0

    def next_s(self) -> float:
        whole_s = min(MAX_S, MIN_S * float(2 ** min(self._attempts, 10)))
        self._attempts += 1
        return whole_s * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._attempts = 0


class Versions:
    """Which version of MQTT to try next; `setting` is [mqtt] protocol.

    With "auto" 5 comes first. A broker that says it does not know it is spoken to in 3.1.1 from then on. One
    that closes the connection instead of answering, UNANSWERED_LIMIT times, is tried in 3.1.1, and on the
    next connection in 5 again: it may have been a broker that was just ending.
    """

    def __init__(self, setting: str) -> None:
        self._auto = setting == "auto"
        self._refused = setting == "3.1.1"
        self._unanswered = 0

    @property
    def wanted(self) -> Protocol:
        return "3.1.1" if self._refused or self._unanswered >= UNANSWERED_LIMIT else "5"

    @property
    def may_fall_back(self) -> bool:
        """Whether 3.1.1 is still to be tried."""
        return self._auto and self.wanted == "5"

    @property
    def fell_back(self) -> bool:
        """Whether 3.1.1 is what the broker made of "auto"."""
        return self._auto and self.wanted == "3.1.1"

    def refused(self) -> None:
        """The broker says that it does not know the version."""
        self._refused = self._refused or self._auto
        self._unanswered = 0

    def unanswered(self) -> None:
        """The broker closed the connection instead of answering."""
        if self._auto and not self._refused:
            self._unanswered = 0 if self.wanted == "3.1.1" else self._unanswered + 1

    def lost(self) -> None:
        """A connection has ended: a fall-back that the broker did not ask for ends with it."""
        self._unanswered = 0


class Outages:
    """Connections that are lost: how loudly it is told, and whether it is too often to be an accident.

    Of the publisher's thread; `flapping` from any.
    """

    def __init__(self, address: str, client_id: str) -> None:
        """For the words: `address` of the broker, `client_id` of this client."""
        self._address = address
        self._client_id = client_id
        self._losses: deque[tuple[float, str]] = deque(maxlen=FLAPS)  # when, why
        self._away_since_s = time.monotonic()
        self._told = False
        self._loud_s = -_LOUD_EVERY_S
        self._loudness = Loudness()

    @property
    def flapping(self) -> str | None:
        """Why connections are lost again and again; None where they are not."""
        lost = self._lately()
        if lost < FLAPS:
            return None
        return (
            f"{lost} connections or more were lost within {FLAPPED_S / 60:.0f} minutes, the last: "
            f"{self._losses[-1][1]}; is there another client {self._client_id}?"
        )

    def lost(self, why: str) -> None:
        """A connection that worked was lost."""
        self._losses.append((time.monotonic(), why))
        self.tell(why)

    def tell(self, what: str) -> None:
        """What keeps us from the broker: the first of an outage aloud, the rest quietly."""
        now_s = time.monotonic()
        often = self._is_often("lost")
        loud = not self._told and not often and now_s - self._loud_s >= _LOUD_EVERY_S
        if loud:
            self._loud_s = now_s
        log.log(logging.WARNING if loud else logging.DEBUG, "broker %s: %s; trying on", self._address, what)
        self._told = True

    def over(self, waiting: int, protocol: str) -> None:
        """There is a connection; `waiting` verdicts are to be sent."""
        log.log(
            logging.DEBUG if self._is_often("connected") else logging.INFO,
            "broker %s: connected after %.1f s, %d verdicts waiting; MQTT %s",
            self._address,
            time.monotonic() - self._away_since_s,
            waiting,
            protocol,
        )
        self._told = False

    def begins(self) -> None:
        """A connection has ended, whatever the reason."""
        self._away_since_s = time.monotonic()

    def pause_s(self, pause_s: float) -> float:
        """Before the next attempt: longer where each throws another client out, and that one us."""
        if self._lately() >= FLAPS and _TAKEN_OVER in self._losses[-1][1]:
            return max(pause_s, FLAP_PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        return pause_s

    def _is_often(self, what: str) -> bool:
        """Whether this is not worth a line any more."""
        return self._lately() >= QUIET_AFTER and self._loudness.level(what) == logging.DEBUG

    def _lately(self) -> int:
        """Connections lost within FLAPPED_S; FLAPS at most are remembered."""
        now_s = time.monotonic()
        return sum(now_s - lost_s < FLAPPED_S for lost_s, _ in tuple(self._losses))
