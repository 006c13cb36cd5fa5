"""Whether a quantity has left what it was on the calibration's good images: a two-sided CUSUM.

    z = (x - mean) / sd, cut to +-CUT
    up = max(0, up + z - SLACK), down = max(0, down - z - SLACK); drift when either exceeds `limit`

E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954), the tabular form of Montgomery,
"Introduction to Statistical Quality Control", ch. 9; the cut against single outliers (a defective part is
one) after Lucas and Crosier, "Robust CUSUM", Communications in Statistics 11 (1982).

SLACK is half of the shift that is found soonest for its false alarms, 1.5 sd. The customary 0.5 sd
would find smaller shifts sooner, and would take the error of a mean from 50 images for a drift.
`python benchmarks/drift.py` prints how often it speaks without a drift, and how soon with one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SLACK = 0.75  # sd
CUT = 3.0  # sd
_CAP = 2.0  # of the limit: so that the way back from a long drift is not long as well
_CALM = 0.5  # of the limit: below it the drift is over


@dataclass(frozen=True, slots=True)
class Target:
    """Where a quantity should be: its mean and standard deviation while all is well."""

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise ValueError(f"mean must be a finite number, got {self.mean}")
        if not 0 < self.sd < math.inf:
            raise ValueError(f"sd must be a finite number > 0, got {self.sd}")


class Cusum:
    """The sums of one quantity. `limit`: in sd, see benchmarks/drift.py."""

    def __init__(self, target: Target, limit: float) -> None:
        self._target = target
        self._limit = limit
        self._up = 0.0
        self._down = 0.0
        self._recent = 0.0
        self.drifting = False

    def add(self, value: float) -> bool:
        """Take one observation; True while there is a drift. It is over when both sums are below half."""
        z = (value - self._target.mean) / self._target.sd
        z = min(max(z, -CUT), CUT)
        cap = _CAP * self._limit
        self._up = min(max(0.0, self._up + z - SLACK), cap)
        self._down = min(max(0.0, self._down - z - SLACK), cap)
        self._recent += (z - self._recent) / 16
        greatest = max(self._up, self._down)
        self.drifting = greatest > (_CALM * self._limit if self.drifting else self._limit)
        return self.drifting

    @property
    def direction(self) -> str:
        """To which side: "above" or "below"."""
        return "above" if self._up >= self._down else "below"

    @property
    def recent_sd(self) -> float:
        """How far off the last observations were (an exponential mean over about 16 of them), in sd."""
        return self._recent
