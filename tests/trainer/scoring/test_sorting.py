"""Shares of parts that are sorted for good, at a price."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.scoring.sorting import shares


def test_all_are_sorted_out_where_none_is_ranked_wrongly() -> None:
    found = shares([0] * 18 + [1] * 6, [0.1] * 18 + [0.9] * 6)
    assert {name: (one.hits, one.of) for name, one in found.items()} == {
        "PB1": (6, 6),
        "PG1": (18, 18),
        "PB2": (6, 6),
        "PG2": (18, 18),
        "PB5": (6, 6),
        "PG5": (18, 18),
    }
    assert found["PB1"].high == found["PG1"].high == 1.0
    assert found["PB1"].low == pytest.approx(0.541, abs=0.001)  # six images are no certainty
    assert found["PG1"].low == pytest.approx(0.815, abs=0.001)


def test_at_most_so_many_per_cent_are_lost_with_them() -> None:
    good, bad = np.arange(100) / 100, np.array([0.945, 0.955, 0.985, 0.995, 2.0])
    found = shares(np.repeat([0, 1], [100, 5]), np.concatenate([good, bad]))
    assert [found[f"PB{price}"].hits for price in (1, 2, 5)] == [3, 3, 5]  # above all but 1, 2, 5 good ones
    assert [found[f"PG{price}"].hits for price in (1, 2, 5)] == [
        95,
        95,
        95,
    ]  # of 5 bad ones not one may be missed


def test_an_equal_score_is_not_told_apart() -> None:
    found = shares([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.7])
    assert (found["PB1"].hits, found["PG1"].hits) == (1, 1)


def test_the_interval_holds_what_other_images_would_give() -> None:
    """Nearly always: of good and bad parts two deviations apart, 63.9 % lie above 95 % of the good ones."""
    held = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = np.concatenate([rng.normal(0, 1, 150), rng.normal(2, 1, 50)])
        found = shares(np.repeat([0, 1], [150, 50]), scores)["PB5"]
        assert found.low < found.share < found.high
        held += found.low < 0.639 < found.high
    assert held >= 18


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_one_class_says_nothing(labels: list[int]) -> None:
    assert shares(labels, [0.5] * len(labels)) == {}
