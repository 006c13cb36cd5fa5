"""A golden reference from pictures of good parts: trainer and station make it by the same code."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures_part import shot, shots

from device.learning.golden_reference import LEAST_IMAGES, Unfit, from_images


def test_parts_that_lie_still_have_one_and_a_spot_is_beyond_it() -> None:
    reference, spec = from_images(shots(24), 16)
    for seed, spot in ((500, None), (501, (160, 140))):
        image = shot(1.5, -1.0, seed=seed, spot=spot)
        alignment = reference.align(image)
        assert alignment is not None
        beyond = int((reference.deviation(image, alignment) >= spec.cut).sum())
        assert (beyond >= 16) == (spot is not None)


def test_what_has_none_says_why() -> None:
    with pytest.raises(Unfit, match=f"{LEAST_IMAGES - 1} good images, {LEAST_IMAGES} or more are needed"):
        from_images(shots(LEAST_IMAGES - 1), 16)
    with pytest.raises(Unfit, match="differ in size"):
        from_images([*shots(8), shot(side=128)], 16)
    rng = np.random.default_rng(0)
    with pytest.raises(Unfit, match=r"do not lie still|too unlike|further from each other"):
        from_images([rng.integers(0, 256, (64, 64), dtype=np.uint8) for _ in range(12)], 16)
