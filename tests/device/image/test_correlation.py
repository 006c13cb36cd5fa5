"""Phase correlation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from fixtures_part import shot

from device.image.correlation import shift


@pytest.mark.parametrize("side", [128, 131])
def test_pictures_can_be_compared_again_and_again(side: int) -> None:
    first, second = (cv2.resize(shot(right, 2), (side, side)).astype(np.float32) for right in (0, 3))
    before = first.copy(), second.copy()
    window = cv2.createHanningWindow((side, side), cv2.CV_32F)
    once = shift(first, second, window)
    assert once[0] == pytest.approx(3 * side / 256, abs=0.6)
    assert all(shift(first, second, window) == once for _ in range(3))
    assert np.array_equal(first, before[0])
    assert np.array_equal(second, before[1])
