"""When to try the broker again, and in which version of MQTT."""

from __future__ import annotations

import random
from typing import Literal

Protocol = Literal["5", "3.1.1"]

MIN_S, MAX_S = 1.0, 30.0
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
