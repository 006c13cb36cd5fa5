"""Defects made from good images."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.data.made_defects import MAKERS, with_defect


def a_texture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(80, 140, (96, 128, 1), dtype=np.uint8).repeat(3, axis=2)


@pytest.mark.parametrize("seed", range(24))
def test_what_is_changed_lies_in_or_around_the_mask(seed: int) -> None:
    image = a_texture()
    changed, mask = with_defect(image, np.random.default_rng(seed))
    differs = (changed != image).any(2)
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert mask.any()
    assert mask.mean() < 0.25
    assert differs[mask].mean() > 0.5
    assert differs[~mask].mean() < 0.1


def test_every_maker_is_used() -> None:
    picked = {int(np.random.default_rng(seed).integers(len(MAKERS))) for seed in range(40)}
    assert picked == set(range(len(MAKERS)))


def test_the_same_generator_makes_the_same_defect() -> None:
    first, second = (with_defect(a_texture(), np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_defects_lie_where_there_is_structure() -> None:
    image = np.full((128, 128, 3), 90, np.uint8)
    image[:, :40] = a_texture()[:96].repeat(2, axis=0)[:128, :40]
    columns = [np.nonzero(with_defect(image, np.random.default_rng(seed))[1])[1].mean() for seed in range(30)]
    assert np.mean(np.array(columns) < 50) > 0.6


def test_on_a_part_a_defect_does_not_leave_it() -> None:
    image = np.full((80, 80, 3), 200, np.uint8)
    part = np.zeros((80, 80), np.bool_)
    part[30:40, 10:70] = True
    image[part] = np.random.default_rng(0).integers(40, 90, (int(part.sum()), 3))
    for seed in range(12):
        made, _ = with_defect(image, np.random.default_rng(seed), part)
        changed = (made != image).any(2)
        assert changed.any()
        assert not changed[:24].any()
        assert not changed[46:].any()
