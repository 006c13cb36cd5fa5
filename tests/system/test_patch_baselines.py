"""benchmarks/patch_baselines.py: the published methods, against their formulas written out plainly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures_trainer import make_samples

from benchmarks import patch_baselines
from benchmarks.patch_baselines import Floats, Padim, PatchCore
from trainer.data.dataset import Sample


class Noise:
    """Maps of two cuts, one of many channels; a defective sample differs in one cell."""

    side = 32
    cuts = ("fine", "coarse")

    def maps(self, sample: Sample) -> list[Floats]:
        rng = np.random.default_rng(int(sample.sha256))
        fine, coarse = rng.normal(0, 1, (8, 8, 6)), rng.normal(0, 1, (4, 4, 600))
        if sample.label:
            fine[2, 5] += 8
            coarse[1, 2] += 8
        return [fine.astype(np.float32), coarse.astype(np.float32)]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Every other one defective."""
    return make_samples(tmp_path, [(32, 32)] * 24)


def plain_coreset(points: np.ndarray, count: int, first: int) -> list[int]:
    """The greedy k-centre, every distance computed."""
    chosen = [first]
    while len(chosen) < count:
        least = np.min([np.linalg.norm(points - points[one], axis=1) for one in chosen], axis=0)
        chosen.append(int(least.argmax()))
    return sorted(chosen)


def test_the_coreset_is_that_of_the_plain_algorithm() -> None:
    points = np.random.default_rng(1).normal(0, 1, (300, 12)).astype(np.float32)
    first = int(np.random.default_rng(0).integers(300))
    assert patch_baselines.coreset(points, 40, seed=0).tolist() == plain_coreset(points, 40, first)


def test_a_coreset_of_copies_holds_each_once() -> None:
    points = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    assert len(np.unique(points[patch_baselines.coreset(points, 10, seed=0)], axis=0)) == 3


def test_patchcore_finds_the_strange_cell_and_weighs_it_as_in_equation_7(samples: list[Sample]) -> None:
    network = Noise()
    good = [sample for sample in samples if not sample.label]
    method = PatchCore(network, good, seed=0, ratio=1.0, neighbours=3)
    maps = network.maps(samples[1])
    score, shown = method.judge(maps)

    memory = np.concatenate([patch_baselines._patches(network.maps(one)) for one in good])
    patches = patch_baselines._patches(maps)
    distances = np.linalg.norm(patches[:, np.newaxis] - memory, axis=2).astype(np.float64)
    patch = int(distances.min(1).argmax())
    nearest = int(distances[patch].argmin())
    beside = np.argsort(np.linalg.norm(memory - memory[nearest], axis=1))[:3]
    least = distances[patch].min()
    weight = 1 - np.exp(least) / np.exp(distances[patch, beside]).sum()
    assert score == pytest.approx(weight * least, rel=1e-4)
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert abs(row - 2.5 * 4) <= 4
    assert abs(column - 5.5 * 4) <= 4


def test_padim_is_mahalanobis_distance_from_each_place(samples: list[Sample]) -> None:
    network = Noise()
    good = [sample for sample in samples if not sample.label]
    method = Padim(network, good, seed=0, channels=7)
    cells = np.stack([method._cells(network.maps(one)) for one in good]).astype(np.float64)
    assert cells.shape == (12, 64, 7)
    place = 2 * 8 + 5
    covariance = np.cov(cells[:, place].T) + 0.01 * np.eye(7)
    np.testing.assert_allclose(method._inverse[place], np.linalg.inv(covariance), rtol=1e-2, atol=1e-3)
    assert method.megabytes == pytest.approx(64 * (7 + 49) * 4 / 2**20)
    score, shown = method.judge(network.maps(samples[1]))
    assert score == shown.max()
    assert score > max(method.judge(network.maps(one))[0] for one in good)


def test_figures_of_a_perfect_method_and_of_a_blind_one(samples: list[Sample]) -> None:
    labels = np.array([sample.label for sample in samples])
    perfect = patch_baselines.auroc_figure(labels, labels.astype(np.float64))
    assert (perfect.value, perfect.error) == (1.0, 0.0)
    rng = np.random.default_rng(2)
    drawn = [patch_baselines.auroc_figure(labels, rng.normal(0, 1, len(labels))) for _ in range(400)]
    spread = np.std([one.value for one in drawn])
    assert np.mean([one.error for one in drawn]) == pytest.approx(spread, rel=0.15)


def test_the_network_gives_the_cuts_and_a_row_names_every_figure(samples: list[Sample]) -> None:
    method = patch_baselines.padim(samples[0:8:2], 32, "none", seed=0)
    assert [one.shape for one in method.network.maps(samples[0])] == [(8, 8, 144), (4, 4, 192), (2, 2, 576)]
    printed = str(patch_baselines.row("PaDiM", method, samples[8:14]))
    assert printed.count("|") == patch_baselines.HEAD.splitlines()[0].count("|")
    assert printed.startswith("| PaDiM | ")
