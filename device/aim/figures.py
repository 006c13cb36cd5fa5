"""What helps somebody who turns a lens or a lamp: sharpness, light, and how the part lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.image.frame import Pixels

BINS = 64
BLACK, WHITE = 2, 253  # gray levels from which a channel is clipped
_GRID = 3
_LOOKED_AT_PX = 1600  # of the greater side: more does not tell a focus better, and takes time
_STRIDE = 4


@dataclass(frozen=True, slots=True)
class Light:
    """`histogram`: shares of BINS steps of luma. `black`, `white`: of pixels with a clipped channel."""

    histogram: tuple[float, ...]
    black: float
    white: float
    brightness: float


def sharpness(image: Pixels) -> tuple[float, tuple[float, ...]]:
    """(of the whole picture, of its nine fields row by row): the variance of the Laplacian, gray levels².

    As Checks.focus, but of the picture itself: it is what grows while the lens is turned to where it belongs.
    """
    gray = cv2.cvtColor(_reduced(image), cv2.COLOR_RGB2GRAY)
    edges = cv2.Laplacian(gray, cv2.CV_16S)
    fields = [field for row in np.array_split(edges, _GRID) for field in np.array_split(row, _GRID, axis=1)]
    return _variance(edges), tuple(_variance(field) for field in fields)


def light(image: Pixels) -> Light:
    """Of every fourth pixel of every fourth row."""
    few = image[::_STRIDE, ::_STRIDE]
    luma = cv2.cvtColor(np.ascontiguousarray(few), cv2.COLOR_RGB2GRAY)
    counts, _ = np.histogram(luma, bins=BINS, range=(0, 256))
    return Light(
        histogram=tuple((counts / luma.size).round(5).tolist()),
        black=float((few.min(axis=2) <= BLACK).mean()),
        white=float((few.max(axis=2) >= WHITE).mean()),
        brightness=float(luma.mean()) / 255,
    )


def _reduced(image: Pixels) -> Pixels:
    """The middle at full detail, where the picture is larger than what is looked at."""
    height, width = image.shape[:2]
    rows, columns = min(height, _LOOKED_AT_PX), min(width, _LOOKED_AT_PX)
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(image[top : top + rows, left : left + columns])


def _variance(edges: NDArray[Any]) -> float:
    return round(float(edges.var()), 3)
