"""Limits and intervals, against scipy's and against what really happens."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from device.learning.good_scores import LEAST, Rate, limit, student_quantile


@pytest.mark.parametrize(("count", "of"), [(0, 10), (1, 10), (3, 100), (10, 10), (7, 2000), (0, 5000)])
def test_intervals_are_those_of_clopper_and_pearson(count: int, of: int) -> None:
    rate = Rate.seen(count, of)
    exact = stats.binomtest(count, of).proportion_ci(0.95, "exact")
    assert (rate.low, rate.high) == pytest.approx((exact.low, exact.high), abs=1e-6)


def test_a_rate_in_words() -> None:
    assert str(Rate.seen(0, 10)) == "0 of 10 (95% sure: 0.0% to 30.8% of all)"


@pytest.mark.parametrize("freedom", [9, 19, 99, 1000])
@pytest.mark.parametrize("probability", [0.9, 0.99, 0.999])
def test_quantiles_of_student(freedom: int, probability: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(
        stats.t.ppf(probability, freedom), rel=0.01
    )


@pytest.mark.parametrize("known", [LEAST, 30, 200])
def test_about_the_wanted_share_of_further_parts_exceeds_the_limit(known: int) -> None:
    rng = np.random.default_rng(3)
    exceeded = [
        np.mean(rng.lognormal(1.0, 0.2, 500) > limit(list(rng.lognormal(1.0, 0.2, known)), 0.05))
        for _ in range(300)
    ]
    assert np.mean(exceeded) == pytest.approx(0.05, abs=0.015)


def test_a_heavy_tail_that_was_seen_counts() -> None:
    scores = [1.0 + 0.001 * index for index in range(97)] + [9.0, 9.1, 9.2]
    assert limit(scores, 0.02) >= 9.0


def test_too_few_say_nothing() -> None:
    with pytest.raises(ValueError, match="10 or more"):
        limit([1.0] * 9, 0.01)
