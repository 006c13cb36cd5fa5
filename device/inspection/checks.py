"""Whether the picture is fit to be judged: how bright and how sharp it is, and what the model sees in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from device.inspection.preprocess import ModelInput

BANDS = 4
BAND_ROWS = 16  # 64 rows say enough about light and focus, and cost an eighth of 512


@dataclass(frozen=True, slots=True)
class Checks:
    """`brightness_ratio`: mean luma, 0 black to 1 white. `focus`: variance of the Laplacian, gray levels².

    `evidence`: the mean of the evidence map where it lies on the image, a logit: one number for the model's
    features. None before the model has seen the picture.
    """

    brightness_ratio: float
    focus: float
    evidence: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.brightness_ratio <= 1:
            raise ValueError(f"brightness_ratio must be 0..1, got {self.brightness_ratio}")
        if not 0 <= self.focus < math.inf:
            raise ValueError(f"focus must be a finite number >= 0, got {self.focus}")
        if self.evidence is not None and not math.isfinite(self.evidence):
            raise ValueError(f"evidence must be a finite number, got {self.evidence}")


def measure(model_input: ModelInput) -> Checks:
    """Brightness and focus of the image in the model's input, its padding left out.

    Focus as by Pech-Pacheco et al. (ICPR 2000). Both are taken from BANDS bands of BAND_ROWS rows, spread
    evenly; from the whole where it has no more rows than that.
    """
    rows, inner = _sample(*model_input.content.shape[:2])
    luma = model_input.luma(rows)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S), mask=inner)
    return Checks(brightness_ratio=min(cv2.mean(luma)[0] / 255, 1.0), focus=float(deviation[0, 0]) ** 2)


@lru_cache(maxsize=8)
def _sample(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """(the rows to look at, one band after the other; which of their pixels have a Laplacian of their own).

    The first and last row of a band have a neighbour that is not theirs.
    """
    bands = [np.arange(height)]
    if height > BANDS * BAND_ROWS:
        tops = np.linspace(0, height - BAND_ROWS, BANDS).round().astype(np.intp)
        bands = [np.arange(top, top + BAND_ROWS) for top in tops]
    inner = [np.ones((len(band), width), np.uint8) for band in bands]
    if height > 2:
        for band in inner:
            band[[0, -1]] = 0
    return np.concatenate(bands), np.concatenate(inner)
