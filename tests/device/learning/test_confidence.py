"""Bounds of counted shares, against published tables and SciPy's beta distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import beta, binom

from device.learning.confidence import (
    LEAST,
    Rate,
    allowed,
    at_most,
    images_needed,
    limit,
    lower_bound,
    student_quantile,
    upper_bound,
)


@pytest.mark.parametrize(
    ("hits", "of", "confidence", "expected"),
    [  # Clopper and Pearson's two-sided 95 % limits are these at 97.5 %
        (0, 10, 0.975, 0.3085),
        (1, 10, 0.975, 0.4450),
        (5, 10, 0.975, 0.8129),
        (9, 10, 0.975, 0.9975),
        (10, 10, 0.975, 1.0),
        (0, 250, 0.95, 0.01191),
        (2, 100, 0.975, 0.0704),
    ],
)
def test_the_limits_of_published_tables(hits, of, confidence, expected):
    assert upper_bound(hits, of, confidence) == pytest.approx(expected, abs=6e-5)
    assert lower_bound(of - hits, of, confidence) == pytest.approx(1 - expected, abs=6e-5)


@pytest.mark.parametrize(("rejected", "images"), [(0, 59), (1, 93), (2, 124), (3, 153), (4, 181), (5, 208)])
def test_wilks_numbers(rejected, images):
    """So many images for 95 % content at 95 % confidence, as every table of tolerance limits has them."""
    assert allowed(images, 0.05, 0.95) == rejected
    assert allowed(images - 1, 0.05, 0.95) == (rejected - 1 if rejected else None)


@pytest.mark.parametrize(
    ("rate", "images"), [(0.05, 59), (0.01, 299), (0.001, 2995), (0.0001, 29956), (0.5, 5)]
)
def test_the_rule_of_three(rate, images):
    assert images_needed(rate, 0.95) == images


def test_more_images_are_needed_where_some_were_rejected():
    """Half a percent seen, one percent wanted: the least n by trying them all."""
    [least, *_] = (n for n in range(1, 5000) if binom.cdf(-(-n // 200), n, 0.01) <= 0.05)
    found = images_needed(0.01, 0.95, 0.005)
    assert found is not None
    assert least <= found <= 1.25 * least  # a hit more, and the next 200 images bring none
    assert upper_bound(-(-found // 200), found, 0.95) <= 0.01
    assert images_needed(0.01, 0.95, 0.01) is None
    assert images_needed(0.01, 0.95, 0.00999) is None


@pytest.mark.parametrize(("hits", "of"), [(0, 1), (3, 17), (40, 41), (7, 1000), (500, 100_000)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_bounds_are_quantiles_of_the_beta_distribution(hits, of, confidence):
    expected = beta.ppf(confidence, hits + 1, of - hits)
    assert upper_bound(hits, of, confidence) == pytest.approx(expected, rel=1e-9)


def test_the_ends():
    assert at_most(3, 3, 0.2) == at_most(0, 5, 0.0) == 1.0
    assert at_most(2, 5, 1.0) == 0.0
    assert lower_bound(0, 7, 0.95) == 0.0
    with pytest.raises(ValueError, match=r"hits must be 0\.\.3, got 4"):
        upper_bound(4, 3, 0.95)


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
