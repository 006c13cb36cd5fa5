"""What the scores of good parts alone say: the value that few of them reach, and how sure that is.

A score here is a distance from a memory, > 0: the greatest of many, so it has a long tail upwards. Its
logarithm is taken for normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from device.learning.confidence import lower_bound, upper_bound

LEAST = 10  # good parts; fewer say too little
SURE = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `of` parts, and the interval in which the true share lies with probability SURE."""

    count: int
    of: int
    low: float
    high: float

    @classmethod
    def seen(cls, count: int, of: int) -> Rate:
        """The exact interval of Clopper and Pearson (Biometrika 26, 1934)."""
        half = (1 - SURE) / 2
        low, high = (bound(count, of, 1 - half) for bound in (lower_bound, upper_bound))
        return cls(count, of, low, high)

    def __str__(self) -> str:
        return f"{self.count} of {self.of} ({SURE:.0%} sure: {self.low:.1%} to {self.high:.1%} of all)"


def limit(scores: Sequence[float], share: float) -> float:
    """The value that a further good part exceeds with the probability `share`, as far as these tell.

    The upper bound for one more draw from a normal distribution of which n are known, mean +
    t(n-1) sd sqrt(1 + 1/n) (Whitmore, The American Statistician 40, 1986), of logarithms; but not less than
    what that share of the scores themselves exceeds.
    """
    if len(scores) < LEAST or min(scores) <= 0:
        raise ValueError(f"scores must be {LEAST} or more, > 0, got {len(scores)} from {min(scores)}")
    logs = [math.log(score) for score in scores]
    n = len(logs)
    bound = fmean(logs) + student_quantile(1 - share, n - 1) * stdev(logs) * math.sqrt(1 + 1 / n)
    ordered = sorted(scores)
    return max(math.exp(bound), ordered[max(0, n - 1 - int(share * n))])


def student_quantile(probability: float, freedom: int) -> float:
    """Of Student's t, by its expansion (Abramowitz and Stegun, 26.7.5); within 1 % from 9 degrees on."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
