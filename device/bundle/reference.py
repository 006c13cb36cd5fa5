"""The golden reference: what good parts that sit still look like, pixel by pixel, and what differs from it.

reference.npz of a bundle holds the mean and the standard deviation of aligned good images. An image is
aligned by phase correlation (Kuglin and Hines, 1975), brought to the mean's light and contrast, and compared:
a difference counts by how many standard deviations it is.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.errors import BundleError
from device.image import correlation
from device.image.geometry import Size
from device.schemas import strict_npz

FILE = "reference.npz"
DTYPES = {"mean": "uint8", "sd": "float16"}
MOST_BYTES = 96 * 2**20  # of both arrays: 32 megapixels
MOST_SHIFT = 0.1  # of the image's lesser side; a part that lies further off is in another place
LEAST_SD = 3.0  # gray levels: noise that a few good images may have missed by chance
ALIGN_SIDE = 512  # px: images are correlated at this greater side, which finds tenths of a pixel
SMOOTH_PX = 3  # single pixels differ by noise; what is looked for covers several

Gray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Alignment:
    """By how much an image lies right of and below the reference, px; `response`: the peak's height, 0..1."""

    right: float
    down: float
    response: float


class GoldenReference:
    """`mean` and `sd`, gray levels (h, w), float32."""

    def __init__(self, mean: Gray, sd: Gray) -> None:
        if mean.ndim != 2 or mean.shape != sd.shape:
            raise ValueError(f"mean and sd must be (h, w) of one size, got {mean.shape} and {sd.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(sd).all() and sd.min() >= 0):
            raise ValueError("mean and sd must be finite, and sd >= 0")
        self.mean, self.sd = mean, sd
        self._light = _light(mean)
        self._small = _small(mean)
        self._window = cv2.createHanningWindow(self._small.shape[::-1], cv2.CV_32F)

    @property
    def size(self) -> Size:
        return Size(self.mean.shape[1], self.mean.shape[0])

    def align(self, gray: NDArray[Any]) -> Alignment | None:
        """Of a gray image (h, w) of this size; None where it lies further off than MOST_SHIFT."""
        small = _small(gray.astype(np.float32))
        right, down, response = correlation.shift(self._small, small, self._window)
        right *= self.mean.shape[1] / small.shape[1]
        down *= self.mean.shape[0] / small.shape[0]
        if max(abs(right), abs(down)) > MOST_SHIFT * min(self.mean.shape):
            return None
        return Alignment(right, down, float(response))

    def moved(self, gray: NDArray[Any], alignment: Alignment) -> tuple[Gray, NDArray[np.bool_]]:
        """(the image where the reference has it, in the reference's light; which of its pixels it has)."""
        image = gray.astype(np.float32)
        level, contrast = _light(image)
        own_level, own_contrast = self._light
        image = (image - level) * np.float32(own_contrast / max(contrast, 1e-3)) + np.float32(own_level)
        moved = _moved(image, -alignment.right, -alignment.down)
        known = np.zeros(moved.shape, np.bool_)
        known[_known(alignment.down, known.shape[0]), _known(alignment.right, known.shape[1])] = True
        return moved, known

    def deviation(self, gray: NDArray[Any], alignment: Alignment) -> Gray:
        """By how many standard deviations each pixel of the image (h, w) differs, smoothed, >= 0."""
        moved, known = self.moved(gray, alignment)
        ratio = np.abs(moved - self.mean) / np.maximum(self.sd, np.float32(LEAST_SD))
        ratio[~known] = 0
        smooth = np.asarray(cv2.blur(ratio, (SMOOTH_PX, SMOOTH_PX)), np.float32)
        return _moved(smooth, alignment.right, alignment.down, cv2.BORDER_CONSTANT)

    def to_bytes(self) -> bytes:
        """The content of reference.npz."""
        file = io.BytesIO()
        np.savez_compressed(
            file, mean=np.round(self.mean.clip(0, 255)).astype(np.uint8), sd=self.sd.astype(np.float16)
        )
        return file.getvalue()

    @classmethod
    def from_file(cls, path: Path) -> GoldenReference:
        """Raises BundleError naming what is wrong with the file."""
        try:
            content = strict_npz.read(path, DTYPES, MOST_BYTES)
            return cls(content["mean"].astype(np.float32), content["sd"].astype(np.float32))
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: {error}") from None


def _moved(image: Gray, right: float, down: float, border: int = cv2.BORDER_REPLICATE) -> Gray:
    """Bilinear; beyond the edge its values go on, or with cv2.BORDER_CONSTANT 0."""
    shift = np.array([[1, 0, right], [0, 1, down]], np.float32)
    size = (image.shape[1], image.shape[0])
    moved = cv2.warpAffine(image, shift, size, borderMode=border)
    return np.asarray(moved, np.float32)


def _light(image: Gray) -> tuple[float, float]:
    """(mean, standard deviation) of the levels."""
    mean, deviation = cv2.meanStdDev(image)
    return float(mean[0, 0]), float(deviation[0, 0])


def _small(image: Gray) -> Gray:
    scale = min(1.0, ALIGN_SIDE / max(image.shape))
    size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def _known(shift: float, length: int) -> slice:
    """The pixels of the reference that an image which lies `shift` further on still shows."""
    margin = int(np.ceil(abs(shift)))
    return slice(margin if shift < 0 else 0, length - margin if shift > 0 else length)
