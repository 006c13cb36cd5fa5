"""Whether a stream's pictures come at its camera's pace, or lay somewhere on the way.

A network that stalls gives its pictures late: the first after a long silence and, at once, those that wait
behind it. All of them may be older than the trigger that asks for one, and nothing in a stream says so. What
came at its usual time after the one before, and had to be waited for, lay nowhere.
"""

from __future__ import annotations

from collections import deque

import numpy as np

MEMORY = 15  # pictures
LEAST = 4  # of them, to know what is usual
LEAST_S = 0.002  # what was there sooner lay somewhere already
EARLIEST, EVEN, LATEST = 0.25, 1.25, 2.0  # of the usual interval
SLACK_S = 0.02  # of a scheduler


class Pace:
    """arrived(), picture by picture."""

    def __init__(self, latency_s: float) -> None:
        """`latency_s`: so late may a picture be; a longer silence is one, however uneven the stream is."""
        self._latency_s = latency_s
        self._intervals_s: deque[float] = deque(maxlen=MEMORY)
        self._last_s: float | None = None

    def arrived(self, now_s: float, waited_s: float) -> bool:
        """Whether the picture that arrives now came at the camera's pace. `waited_s`: for this one alone."""
        last_s, self._last_s = self._last_s, now_s
        if last_s is None:
            return False
        interval_s = now_s - last_s
        usual_s = float(np.median(self._intervals_s)) if len(self._intervals_s) >= LEAST else 0.0
        self._intervals_s.append(interval_s)
        if not usual_s:
            return False
        most_s = min(LATEST * usual_s + SLACK_S, max(EVEN * usual_s, self._latency_s))
        return max(LEAST_S, EARLIEST * usual_s) < waited_s and interval_s <= most_s
