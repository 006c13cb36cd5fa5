"""Whether the picture is fit to be judged: how bright and how sharp it is, and what the model sees in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.image.frame import Pixels
from device.inspection.preprocess import ModelInput, Rows

BANDS = 4
BAND_ROWS = 16  # 64 rows say enough about light and focus, and cost an eighth of 512


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture looks like, in figures that a gain leaves alone.

    `sharpness`: log2 of the focus by the variance of the luma; noise raises it, blur takes from it.
    `warmth`: log2 of red by blue, 0 where the model sees gray. `slope_x`, `slope_y`: how much brighter the
    right half is than the left, and the lower than the upper, in shares of both. `smear`: log2 of the detail
    along the rows by that along the columns; what moves before an open shutter takes from one of them.
    `fineness`: log2 of the focus by that of the picture at half its size; noise raises it, and parts with
    more of a grain do not.
    """

    sharpness: float
    warmth: float
    slope_x: float
    slope_y: float
    smear: float
    fineness: float


@dataclass(frozen=True, slots=True)
class Checks:
    """`brightness_ratio`: mean luma, 0 black to 1 white. `focus`: variance of the Laplacian, gray levels².

    `evidence`: the mean of the evidence map where it lies on the image, a logit: one number for the model's
    features. None before the model has seen the picture. `look`: what else is measured; a verdict that was
    sent somewhere does not carry it.
    """

    brightness_ratio: float
    focus: float
    evidence: float | None = None
    look: Look | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.brightness_ratio <= 1:
            raise ValueError(f"brightness_ratio must be 0..1, got {self.brightness_ratio}")
        if not 0 <= self.focus < math.inf:
            raise ValueError(f"focus must be a finite number >= 0, got {self.focus}")
        if self.evidence is not None and not math.isfinite(self.evidence):
            raise ValueError(f"evidence must be a finite number, got {self.evidence}")


def measure(model_input: ModelInput) -> Checks:
    """Brightness, focus and look of the image in the model's input, its padding left out.

    Focus as by Pech-Pacheco et al. (ICPR 2000). All are taken from BANDS bands of BAND_ROWS rows, spread
    evenly; from the whole where it has no more rows than that.
    """
    rows, inner, halves = _sample(model_input.content.shape[0])
    luma = model_input.luma(rows)
    along, down = (cv2.Sobel(luma, cv2.CV_16S, *orders, ksize=1)[inner] for orders in ((2, 0), (0, 2)))
    focus = _variance(cv2.add(along, down))
    height, width = luma.shape
    look = Look(
        sharpness=_log_ratio(focus, _variance(luma)),
        warmth=_warmth(model_input, rows),
        slope_x=_slope(luma[:, : width // 2], luma[:, -(width // 2) :]),
        slope_y=_slope(luma[: height // 2], luma[-(height // 2) :]),
        smear=_log_ratio(_variance(along), _variance(down)),
        fineness=_log_ratio(focus, _half_focus(luma, halves)),
    )
    return Checks(brightness_ratio=min(cv2.mean(luma)[0] / 255, 1.0), focus=focus, look=look)


def _variance(values: NDArray[Any]) -> float:
    """Of (h, w) whole numbers of 8 or 16 bits, whose sums are exact; a fifth of cv2.meanStdDev's time."""
    mean = cv2.mean(values)[0]
    return max(0.0, cv2.norm(values, cv2.NORM_L2SQR) / values.size - mean**2)


def _half_focus(luma: Pixels, inner: NDArray[np.intp]) -> float:
    """The focus of some rows of the picture at half its size; 0 where it has none."""
    height, width = luma.shape[0] // 2, luma.shape[1] // 2
    if not width or not inner.size:
        return 0.0
    half = cv2.resize(luma[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return _variance(cv2.Laplacian(half, cv2.CV_16S)[inner])


def _log_ratio(one: float, other: float) -> float:
    """Of two variances, in gray levels²; next to nothing of either counts as nothing."""
    return math.log2((one + 1) / (other + 1))


def _warmth(model_input: ModelInput, rows: Rows) -> float:
    if model_input.content.ndim == 2:
        return 0.0
    red, _, blue, _ = cv2.mean(model_input.content[rows])
    return math.log2((red + 1) / (blue + 1))


def _slope(first: Pixels, second: Pixels) -> float:
    """By what share of both the second half of a picture is brighter than the first, -1..1."""
    if not first.size:
        return 0.0
    before, after = cv2.mean(first)[0], cv2.mean(second)[0]
    return (after - before) / (before + after + 1)


@lru_cache(maxsize=8)
def _sample(height: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """(the rows to look at, band by band; which of those have a Laplacian of their own; which pairs of them).

    The first and last row of a band have a neighbour that is not theirs.
    """
    bands = [np.arange(height)]
    if height > BANDS * BAND_ROWS:
        tops = np.linspace(0, height - BAND_ROWS, BANDS).round().astype(np.intp)
        bands = [np.arange(top, top + BAND_ROWS) for top in tops]
    inner = [np.full(len(band), True) for band in bands]
    if height > 2:
        for band in inner:
            band[[0, -1]] = False
    own = np.concatenate(inner)
    pairs = own[: len(own) // 2 * 2].reshape(-1, 2).all(axis=1)
    return np.concatenate(bands), np.flatnonzero(own), np.flatnonzero(pairs)
