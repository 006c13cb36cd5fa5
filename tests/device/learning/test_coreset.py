"""Few rows that stand for many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from device.bundle.calibration import MemorySpec
from device.bundle.memory import Memory, described
from device.learning.coreset import POOL, coreset, remember, shrunk_covariance, whole_images


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


SPEC = MemorySpec("nearest", 8, 8, 20, False, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0)


def seen(count: int, *, level: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = rng.normal(0, 1, (8, 8))
    return np.clip(rng.normal(0, 6, (count, 8, 8, 8)) @ mix + level, -128, 127).astype(np.int8)


def test_rows_are_some_that_were_seen() -> None:
    features = seen(5)
    kept = remember(features, "nearest", 8, 20, np.random.default_rng(1))
    rows = {tuple(row) for row in features.reshape(-1, 8)}
    assert kept.items.shape == (20, 8)
    assert {tuple(row) for row in kept.items} <= rows


def test_the_same_again() -> None:
    first, second = (remember(seen(5), "nearest", 8, 20, np.random.default_rng(1)) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()


@pytest.mark.parametrize("kind", ["nearest", "position"])
def test_a_memory_knows_good_from_strange(kind: str) -> None:
    kept = remember(seen(40), kind, 8, 20, np.random.default_rng(1))
    memory = Memory(kept, replace(SPEC, kind=kind, items=20 if kind == "nearest" else 64))
    usual, strange = seen(1)[0], seen(1)[0].copy()
    strange[3, 4] += 60
    assert memory.distances(strange)[3, 4] > 1.5 * memory.distances(usual)[3, 4]


def test_an_image_that_differs_as_a_whole_lies_far_off() -> None:
    described_images = np.stack([described(image) for image in seen(40)])
    mean, whitening = whole_images(described_images)
    own = np.linalg.norm((described_images - mean) @ whitening, axis=1)
    other = np.linalg.norm((described(seen(1, level=40.0)[0]) - mean) @ whitening)
    assert np.median(own) == pytest.approx(1, abs=0.4)
    assert other > 1.5 * own.max()


@pytest.mark.parametrize("count", [6, 40, 2000])
def test_the_covariance_is_that_of_ledoit_and_wolf(count: int) -> None:
    rows = np.random.default_rng(2).normal(0, 1, (count, 6)) * (3, 1, 1, 1, 1, 2)
    rows -= rows.mean(0)
    expected = ledoit_wolf(rows, assume_centered=True)[0]
    assert shrunk_covariance(rows) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_from_ten_images_a_memory_by_position() -> None:
    kept = remember(seen(10), "position", 8, 1, np.random.default_rng(1))
    assert np.isfinite(kept.factors).all()
    assert np.isfinite(kept.image_whitening).all()
