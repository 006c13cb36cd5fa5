"""Ranges that the pictures of good parts rarely leave."""

from __future__ import annotations

import numpy as np
import pytest

from device.inspection import familiar
from device.inspection.checks import Checks, Look
from device.learning.familiarity import LEAST_SD, natural


def pictures(count: int, seed: int) -> list[Checks]:
    rng = np.random.default_rng(seed)
    return [
        Checks(
            float(rng.normal(0.4, 0.03)),
            300.0,
            float(rng.normal(-6, 0.5)),
            Look(*(float(rng.normal(0, sd)) for sd in (0.3, 0.1, 0.05, 0.05, 0.2, 0.1))),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_about_as_many_good_pictures_are_outside_as_was_allowed(rate: float) -> None:
    outside = [
        familiar.doubt(natural(pictures(40, seed), rate), one) is not None
        for seed in range(20)
        for one in pictures(200, 1000 + seed)
    ]
    assert 0.3 * rate < np.mean(outside) < 2 * rate


def test_what_was_seen_is_inside_whatever_it_was() -> None:
    odd = [*pictures(30, 0), Checks(0.9, 300.0, -20.0, Look(5.0, 3.0, -1.0, 1.0, 4.0, -3.0))]
    known = natural(odd, 0.01)
    assert all(familiar.doubt(known, one) is None for one in odd)
    assert known.evidence.high is None


def test_no_lamp_is_steadier_than_that() -> None:
    still = [Checks(0.4, 300.0, -6.0, Look(*[0.0] * 6))] * 10
    known = natural(still, 0.01)
    assert known.brightness.sd == LEAST_SD["brightness"]
    assert known.brightness.low is not None
    assert known.brightness.low < 0.38


def test_too_few_or_half_known_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="5 or more"):
        natural(pictures(4, 0), 0.01)
    with pytest.raises(ValueError, match="look"):
        natural([*pictures(5, 0), Checks(0.4, 300.0)], 0.01)
