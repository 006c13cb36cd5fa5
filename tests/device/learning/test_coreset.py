"""Few rows that stand for many."""

from __future__ import annotations

import numpy as np
import pytest

from device.learning.coreset import POOL, coreset


def test_rare_rows_are_kept() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(0, 1, (500, 4))
    rows[123], rows[321] = 40.0, -40.0
    assert {123, 321} <= set(coreset(rows, 5, rng))


def test_it_covers_better_than_chance() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(0, 1, (2000, 100)) * np.where(np.arange(100) < 4, 3, 0.01)

    def furthest(chosen: np.ndarray) -> float:
        distances = np.linalg.norm(rows[:, np.newaxis] - rows[chosen], axis=2)
        return float(distances.min(1).max())

    chosen = coreset(rows, 50, rng)
    assert len(set(chosen)) == 50
    assert furthest(chosen) < 0.9 * furthest(rng.choice(2000, 50, replace=False))


def test_equal_rows_are_kept_once() -> None:
    rows = np.repeat([[1.0, 2.0], [3.0, 4.0], [250.0, 1.0]], 10, axis=0)
    chosen = coreset(rows, 8, np.random.default_rng(3))
    assert sorted(rows[chosen, 0]) == [1.0, 3.0, 250.0]


def test_of_very_many_rows_some_are_looked_at() -> None:
    rows = np.arange(POOL + 1000, dtype=np.float32)[:, np.newaxis]
    chosen = coreset(rows, 3, np.random.default_rng(4))
    assert len(chosen) == 3
    assert np.ptp(rows[chosen]) > POOL / 2


@pytest.mark.parametrize(("shape", "count"), [((0, 3), 1), ((3,), 1), ((3, 2), 0)])
def test_what_cannot_be_chosen_from(shape: tuple[int, ...], count: int) -> None:
    with pytest.raises(ValueError, match=r"rows must be \(n, d\)"):
        coreset(np.zeros(shape), count, np.random.default_rng(5))
