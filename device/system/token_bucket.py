"""So many a second in the long run, and a burst at once."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """take() for each; for one thread."""

    def __init__(self, rate_hz: float, burst: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate_hz = rate_hz
        self._burst = burst
        self._monotonic = monotonic
        self._tokens = float(burst)
        self._filled_s = monotonic()

    def take(self) -> bool:
        """Whether one more is within the rate."""
        within = self._fill() >= 1
        self._tokens -= within
        return within

    @property
    def is_calm(self) -> bool:
        """Whether half of a burst has been left: a flood has ended, and not only paused."""
        return self._fill() >= self._burst / 2

    def _fill(self) -> float:
        now_s = self._monotonic()
        self._tokens = min(self._burst, self._tokens + (now_s - self._filled_s) * self._rate_hz)
        self._filled_s = now_s
        return self._tokens
