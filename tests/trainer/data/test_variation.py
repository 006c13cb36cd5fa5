"""Copies in other conditions: what changes, what stays, and that a seed decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.data.variation import Variation

ALL = Variation(share=1.0)
NONE = Variation(share=0.0)
STILL = Variation(gain=1.0, offset=0.0, slope=0.0, blur_px=0.3, noise=1.0)


def picture(*channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 180, (48, 64, *channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_copy_is_another_image_of_the_same_shape(channels: tuple[int, ...]):
    image = picture(*channels)
    before = image.copy()
    copy = ALL.apply(image, np.random.default_rng(1))
    assert (copy.shape, copy.dtype) == (image.shape, np.uint8)
    assert (image == before).all()
    assert np.abs(copy.astype(int) - image).mean() > 3


def test_the_seed_decides():
    image = picture()
    one, two, other = (ALL.apply(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_without_a_share_nothing_changes():
    image = picture(3)
    assert (NONE.apply(image, np.random.default_rng(1)) == image).all()


def test_light_goes_both_ways_within_its_range():
    flat = np.full((16, 16), 100, np.uint8)
    lit = replace(NONE, gain=1.35)
    means = [
        replace(lit, share=1.0, offset=0.0, slope=0.0, noise=1.0, blur_px=0.3)
        .apply(flat, np.random.default_rng(seed))
        .mean()
        for seed in range(60)
    ]
    assert 68 < min(means) < 85
    assert 118 < max(means) < 141


def test_a_blur_takes_the_finest_away():
    image = picture()
    soft = replace(STILL, blur_px=1.3, share=1.0)
    spreads = [soft.apply(image, np.random.default_rng(seed)).std() for seed in range(20)]
    assert min(spreads) < 0.6 * image.std()
