"""How sure a few images make us of a rate: bounds of a share that was counted, in plain arithmetic.

With `hits` of `of` counted, the true share lies below upper_bound with the confidence asked for (Clopper and
Pearson, Biometrika 26, 1934). Of a threshold that lies just above the (hits + 1)-th greatest of `of` scores
the same bound holds exactly, though the threshold was taken from these scores (Wilks, Annals of Mathematical
Statistics 12, 1941): so it may be chosen on the very images that vouch for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

HALVINGS = 60  # of an interval of rates: to the last digit of a float
MOST_IMAGES = 10**9


def at_most(hits: int, of: int, rate: float) -> float:
    """The probability of `hits` or fewer of `of`, each with probability `rate`."""
    if rate <= 0.0 or hits >= of:
        return 1.0
    if rate >= 1.0:
        return 0.0
    yes, no = math.log(rate), math.log1p(-rate)
    ways = (math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) for k in range(hits + 1))
    return min(1.0, math.fsum(math.exp(way + k * yes + (of - k) * no) for k, way in enumerate(ways)))


def upper_bound(hits: int, of: int, confidence: float) -> float:
    """The rate that the true one does not exceed, one-sided. ValueError unless 0 <= hits <= of."""
    if not 0 <= hits <= of:
        raise ValueError(f"hits must be 0..{of}, got {hits}")
    if hits == of:
        return 1.0
    low, high = hits / of, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if at_most(hits, of, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def lower_bound(hits: int, of: int, confidence: float) -> float:
    """The rate that the true one does not fall below, one-sided."""
    return 1.0 - upper_bound(of - hits, of, confidence)


def allowed(of: int, rate: float, confidence: float) -> int | None:
    """How many of `of` good images may be rejected so that the rate is not above `rate`; None: not even 0."""
    if at_most(0, of, rate) > 1 - confidence:
        return None
    low, high = 0, of
    while high - low > 1:
        middle = (low + high) // 2
        if at_most(middle, of, rate) <= 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def images_needed(rate: float, confidence: float, seen: float = 0.0) -> int | None:
    """How many images would show that a rate is not above `rate`, if the share `seen` of them were hits.

    With none seen, ln(1 - confidence) / ln(1 - rate): at 95 %, 3 divided by the rate. None: no number would.
    """
    if seen >= rate or not 0.0 < rate < 1.0:
        return None
    low, high = 0, 1
    while at_most(_hits(high, seen), high, rate) > 1 - confidence:
        low, high = high, 2 * high
        if high > MOST_IMAGES or _hits(high, seen) > 10**5:  # sums of more terms take too long
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if at_most(_hits(middle, seen), middle, rate) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _hits(of: int, seen: float) -> int:
    return math.ceil(round(of * seen, 9))


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
