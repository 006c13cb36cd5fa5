"""How sure a few images make us of a rate: bounds of a share that was counted, in plain arithmetic.

With `hits` of `of` counted, the true share lies below upper_bound with the confidence asked for (Clopper and
Pearson, Biometrika 26, 1934). Of a threshold that lies just above the (hits + 1)-th greatest of `of` scores
the same bound holds exactly, though the threshold was taken from these scores (Wilks, Annals of Mathematical
Statistics 12, 1941): so it may be chosen on the very images that vouch for it.
"""

from __future__ import annotations

import math

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
