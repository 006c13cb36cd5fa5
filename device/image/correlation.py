"""By how much one picture lies beside another: phase correlation (Kuglin and Hines, 1975)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.float32]


def shift(first: Gray, second: Gray, window: NDArray[Any]) -> tuple[float, float, float]:
    """(right, down, response) of the second against the first: px, px, and the peak's height, 0..1.

    All (h, w) of one size. OpenCV writes the window into what it is given where the size suits its Fourier
    transform; so it is given copies, or a picture that is compared again and again would fade.
    """
    (right, down), response = cv2.phaseCorrelate(first.copy(), second.copy(), window)
    return right, down, response
