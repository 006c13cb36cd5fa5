"""Bounds of counted shares, against published tables and SciPy's beta distribution."""

from __future__ import annotations

import pytest
from scipy.stats import beta, binom

from device.learning.confidence import allowed, at_most, images_needed, lower_bound, upper_bound


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
