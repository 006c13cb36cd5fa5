"""What tomorrow may bring to a picture: other light, other focus, another sensor, a camera that was touched.

Each is a function of an RGB image and a seeded generator, so that the same tomorrow can be had again. Where
a defect lies moves with the picture, so a mask is moved by the same place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Pixels]
Cause = Literal["darker", "brighter", "blurred", "noisy", "colour", "moved", "uneven", "dirty", "strange"]


@dataclass(frozen=True, slots=True)
class Tomorrow:
    """`cause`: what a technician would have to mend. `strong`: a person sees it at once."""

    name: str
    change: Change
    cause: Cause | None
    strong: bool = False


def of_levels(change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Change:
    """Every level 0..255 as `change` has it."""
    levels = np.clip(np.round(change(np.arange(256, dtype=np.float32))), 0, 255).astype(np.uint8)
    return lambda image, _: np.asarray(levels[image], np.uint8)


def gained(gain: float) -> Change:
    """An exposure `gain` times as long."""
    return of_levels(lambda levels: levels * np.float32(gain))


def lifted(by: float) -> Change:
    """So many levels brighter."""
    return of_levels(lambda levels: levels + np.float32(by))


def curved(gamma: float) -> Change:
    """Another camera's gamma."""
    return of_levels(lambda levels: 255 * (levels / 255) ** np.float32(gamma))


def uneven(least: float, most: float, degrees: float | None = None) -> Change:
    """Light that falls off across the image: brighter to the right at 0 degrees; None: from a drawn side."""

    def change(image: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = image.shape[:2]
        angle = rng.uniform(0, 2 * np.pi) if degrees is None else np.radians(degrees)
        x = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(np.cos(angle))
        y = np.linspace(-1, 1, height, dtype=np.float32) * np.float32(np.sin(angle))
        slope = (x + y[:, np.newaxis]) / np.float32(abs(np.cos(angle)) + abs(np.sin(angle)))
        light = (least + most) / 2 + (most - least) / 2 * slope
        return _rounded(image * light[:, :, np.newaxis])

    return change


def blurred(sigma_px: float) -> Change:
    """Out of focus."""
    return lambda image, _: np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.uint8)


def smeared(length_px: int, *, down: bool = False) -> Change:
    """Moved while the shutter was open, along the rows or down the columns."""
    kernel = np.full((length_px, 1) if down else (1, length_px), 1 / length_px, np.float32)
    return lambda image, _: np.asarray(cv2.filter2D(image, -1, kernel), np.uint8)


def sharpened(amount: float) -> Change:
    """As another camera's own processing does."""

    def change(image: Pixels, _: np.random.Generator) -> Pixels:
        soft = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32)
        return _rounded(image + np.float32(amount) * (image - soft))

    return change


def noisy(sd: float) -> Change:
    """A sensor's noise, in gray levels, the same in all channels of a gray image."""

    def change(image: Pixels, rng: np.random.Generator) -> Pixels:
        gray = bool((image == image[:, :, :1]).all())
        noise = rng.normal(0, sd, (*image.shape[:2], 1 if gray else 3)).astype(np.float32)
        return _rounded(image + noise)

    return change


def compressed(quality: int) -> Change:
    """A JPEG of this quality."""

    def change(image: Pixels, _: np.random.Generator) -> Pixels:
        encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[:, :, ::-1])

    return change


def tinted(gains: tuple[float, float, float]) -> Change:
    """Another colour of the light: red, green and blue times these."""
    return lambda image, _: _rounded(image.astype(np.float32) * np.array(gains, np.float32))


def flickering(least: float, most: float) -> Change:
    """A lamp that gives each picture another gain."""
    return lambda image, rng: _rounded(image * np.float32(rng.uniform(least, most)))


def dirty(blots: int, radius_ratio: float, darkest: float = 0.6, seed: int = 0) -> Change:
    """Soft dark blots on the lens, in all pictures the same; the radius in shares of the lesser side."""

    def change(image: Pixels, _: np.random.Generator) -> Pixels:
        rng = np.random.default_rng(seed)
        height, width = image.shape[:2]
        light: Any = np.ones((height, width), np.float32)
        radius = max(1, round(radius_ratio * min(height, width)))
        for x, y in zip(rng.integers(0, width, blots), rng.integers(0, height, blots), strict=True):
            cv2.circle(light, (int(x), int(y)), radius, (darkest,), cv2.FILLED)
        light = cv2.GaussianBlur(light, (0, 0), radius / 2)
        return _rounded(image * light[:, :, np.newaxis])

    return change


def another_lot(detail: float, mottled: float) -> Change:
    """Parts with `detail` times the grain, and clouds of +- `mottled` of light, other ones each part."""

    def change(image: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = image.shape[:2]
        base = cv2.GaussianBlur(image, (0, 0), 6.0).astype(np.float32)
        clouds = rng.uniform(1 - mottled, 1 + mottled, (8, 8)).astype(np.float32)
        light = cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)
        return _rounded((base + np.float32(detail) * (image - base)) * light[:, :, np.newaxis])

    return change


def moved(degrees: float = 0.0, shift_ratio: float = 0.0) -> Change:
    """A camera that was turned, or pushed aside by a share of the width and the height; the edge goes on."""

    def change(image: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = image.shape[:2]
        sign_x, sign_y, sign = rng.choice((-1.0, 1.0), 3)
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), float(sign * degrees), 1.0)
        matrix[0, 2] += sign_x * shift_ratio * width
        matrix[1, 2] += sign_y * shift_ratio * height
        mode = cv2.BORDER_REFLECT_101
        turned: Pixels = np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=mode), np.uint8)
        return turned

    return change


def _rounded(image: NDArray[np.floating[Any]]) -> Pixels:
    return np.asarray(np.clip(np.round(image), 0, 255), np.uint8)


TOMORROWS: tuple[Tomorrow, ...] = (
    Tomorrow("gain 0.8", gained(0.8), "darker"),
    Tomorrow("gain 1.25", gained(1.25), "brighter"),
    Tomorrow("25 levels brighter", lifted(25), "brighter"),
    Tomorrow("light falls off, 0.75 to 1.25", uneven(0.75, 1.25), "uneven"),
    Tomorrow("blur, sigma 1 px", blurred(1.0), "blurred"),
    Tomorrow("noise, 8 levels", noisy(8.0), "noisy"),
    Tomorrow("JPEG, quality 30", compressed(30), "noisy"),
    Tomorrow("turned by 2 degrees", moved(degrees=2.0), "moved"),
    Tomorrow("moved by 3 %", moved(shift_ratio=0.03), "moved"),
    Tomorrow("warmer light", tinted((1.1, 1.0, 0.88)), "colour"),
    Tomorrow("gamma 1.2", curved(1.2), "darker"),
    Tomorrow("sharpened", sharpened(0.8), "noisy"),
    Tomorrow("flicker, 0.85 to 1.15", flickering(0.85, 1.15), None),
    Tomorrow("smeared over 3 px", smeared(3), "blurred"),
    Tomorrow("dust on the lens", dirty(2, 0.05, 0.85), "dirty"),
    Tomorrow("another lot", another_lot(1.25, 0.06), "strange"),
    Tomorrow("gain 0.5", gained(0.5), "darker", strong=True),
    Tomorrow("gain 1.7", gained(1.7), "brighter", strong=True),
    Tomorrow("light falls off, 0.4 to 1.4", uneven(0.4, 1.4), "uneven", strong=True),
    Tomorrow("blur, sigma 4 px", blurred(4.0), "blurred", strong=True),
    Tomorrow("smeared over 13 px", smeared(13), "blurred", strong=True),
    Tomorrow("noise, 25 levels", noisy(25.0), "noisy", strong=True),
    Tomorrow("much warmer light", tinted((1.35, 1.0, 0.6)), "colour", strong=True),
    Tomorrow("moved by 12 %", moved(shift_ratio=0.12), "moved", strong=True),
    Tomorrow("flicker, 0.5 to 1.5", flickering(0.5, 1.5), None, strong=True),
    Tomorrow("oil on the lens", dirty(4, 0.1, 0.5), "dirty", strong=True),
    Tomorrow("quite another lot", another_lot(1.8, 0.2), "strange", strong=True),
)
