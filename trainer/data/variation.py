"""Copies of an image as another day would have taken it: other light, focus, noise and compression.

A part looks a little different tomorrow, and what is learned from today's images alone takes that for a
defect, or for none. Copies teach a model what not to look at; how it ranks and what it says of copies that it
has not seen tells how much of today's threshold will hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (h, w, 3), or (h, w) of a gray image
Floats = NDArray[np.float32]

WHITE = 255.0
JPEG_QUALITY = (25, 90)


@dataclass(frozen=True, slots=True)
class Variation:
    """How far copies may go, and the share of them that a change is made to; changes come together.

    `gain`: of the light, a factor up or down. `offset`: gray levels. `slope`: by which the light falls off
    from the middle to the edge, a share. `blur_px`: sigma of a Gaussian. `noise`: gray levels, sigma.
    """

    gain: float = 1.35
    offset: float = 28.0
    slope: float = 0.28
    blur_px: float = 1.3
    noise: float = 10.0
    share: float = 0.35

    def apply(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """One copy, of the same shape."""
        light, raised, fallen, blurred, grained, packed = rng.random(6) < self.share
        values = pixels.astype(np.float32)
        if light:
            values *= np.float32(np.exp(rng.uniform(-1, 1) * np.log(self.gain)))
        if raised:
            values += np.float32(rng.uniform(-1, 1) * self.offset)
        if fallen:
            values *= _gradient(values.shape, rng.uniform(0, self.slope), rng.uniform(0, 2 * np.pi))
        if blurred:
            values = np.asarray(cv2.GaussianBlur(values, (0, 0), rng.uniform(0.3, self.blur_px)), np.float32)
        if grained:
            values += _noise(values.shape, rng.uniform(1, self.noise), rng)
        copy = np.clip(np.rint(values), 0, WHITE).astype(np.uint8)
        return _compressed(copy, int(rng.integers(*JPEG_QUALITY))) if packed else copy


def _gradient(shape: tuple[int, ...], slope: float, angle: float) -> Floats:
    """(h, w) or (h, w, 1): factors from 1 - slope at one edge to 1 + slope at the other."""
    down, across = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape[:2])
    factors = 1 + np.float32(slope) * (
        across[np.newaxis] * np.float32(np.cos(angle)) + down[:, np.newaxis] * np.float32(np.sin(angle))
    )
    return np.asarray(factors.reshape(*shape[:2], *(1 for _ in shape[2:])), np.float32)


def _noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Floats:
    """Gaussian noise of that deviation, equal in all channels."""
    values = rng.standard_normal(shape[:2], np.float32) * np.float32(sigma)
    return values.reshape(*shape[:2], *(1 for _ in shape[2:]))


def _compressed(pixels: Pixels, quality: int) -> Pixels:
    packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED), np.uint8)
