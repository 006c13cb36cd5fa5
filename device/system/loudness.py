"""How loudly a fault is told that may come again and again: the first time aloud, then quietly for a while.

It goes by frequency, and not by whether all was well in between: what comes and goes all day would else be a
line each time, for years, on a card that wears.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LOUD_EVERY_S = 600.0


class Loudness:
    """One for each kind of fault, or one for several with names."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loud_s: dict[str, float] = {}

    def level(self, kind: str = "") -> int:
        """For logging: WARNING where this kind was not told aloud within LOUD_EVERY_S, else DEBUG."""
        now_s = self._clock()
        if now_s - self._loud_s.get(kind, -LOUD_EVERY_S) < LOUD_EVERY_S:
            return logging.DEBUG
        self._loud_s[kind] = now_s
        return logging.WARNING
