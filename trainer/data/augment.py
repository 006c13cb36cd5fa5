"""Copies of an image as the line could have made them too: mirrored, turned, moved, in another light.

What is right for one part is wrong for another, so [augment] says what may be done, and nothing that moves an
image is done by default. Three rules hold whatever it says:

- a defect stays in the picture: a copy that would lose half of it is drawn anew, and an image whose defect is
  known to be there but not where is mirrored and lit only, never moved;
- an edge is never mirrored back in: what a move reveals is avoided by enlarging, or filled flat (see `fill`);
- the mask goes the way of its image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from device.image.geometry import Size
from trainer.config import AugmentConfig

Pixels = NDArray[np.uint8]  # (h, w, 3), or (h, w) of a gray image
Mask = NDArray[np.uint8]  # (h, w), 0 or 1
Matrix = NDArray[np.float64]  # (2, 3), from a place in the image to its place in the copy

KEPT_SHARE = 0.5  # of a defect's pixels: a copy that shows less of it is not made
ATTEMPTS = 4  # at such a copy; then the image stays where it is
GRAIN_SIGMAS_PX = (1.5, 8.0)  # of the smoothing before gradients are taken: fine lines, and broad bands
GRAINED = 0.3  # coherence from which a texture has a direction that a turn changes
SMALL_TURN_DEG = 10.0  # that a grain bears: parts do not lie straighter than this


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What may be done to an image, and how much of it; see [augment] in default.toml."""

    flip_horizontal: bool = False
    flip_vertical: bool = False
    quarter_turns: bool = False
    rotation_deg: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    fill: str = "zoom"

    @classmethod
    def of(cls, config: AugmentConfig, *, mirrored: bool, turned: bool) -> Augmentation:
        """`mirrored`, `turned`: what "auto" stands for, as the probe found it on the data itself."""
        auto = {"flip_horizontal": mirrored, "flip_vertical": mirrored, "quarter_turns": turned}
        values = {field.name: getattr(config, field.name) for field in fields(cls)}
        for name, found in auto.items():
            values[name] = values[name] == "always" or (values[name] == "auto" and found)
        return cls(**values)

    @property
    def still(self) -> Augmentation:
        """An augmentation without what moves the pixels, which smooths them a little."""
        return replace(self, rotation_deg=0.0, zoom=0.0, shift=0.0)

    @property
    def moves(self) -> bool:
        """Whether anything but mirroring and turning moves the pixels."""
        return bool(self.rotation_deg or self.zoom or self.shift)

    def apply(
        self, pixels: Pixels, mask: Mask | None, rng: np.random.Generator
    ) -> tuple[Pixels, Mask | None]:
        """A copy and its mask.

        `mask`: all 0 of a good image; None where the place of a defect is not known.
        """
        pixels, mask = self._mirrored(pixels, mask, rng)
        if mask is not None and self.moves:
            pixels, mask = self._moved(pixels, mask, rng)
        return self._lit(pixels, rng), mask

    def _mirrored(
        self, pixels: Pixels, mask: Mask | None, rng: np.random.Generator
    ) -> tuple[Pixels, Mask | None]:
        """Every pixel is one of the image's own. An oblong image turns by half or not at all."""
        across, down = rng.integers(2, size=2)
        turns = int(rng.integers(4)) if self.quarter_turns else 0
        if pixels.shape[0] != pixels.shape[1]:
            turns -= turns % 2
        steps = (-1 if down and self.flip_vertical else 1, -1 if across and self.flip_horizontal else 1)

        def turned(image: Pixels) -> Pixels:
            return np.ascontiguousarray(np.rot90(image[:: steps[0], :: steps[1]], turns))

        return turned(pixels), None if mask is None else turned(mask)

    def _moved(self, pixels: Pixels, mask: Mask, rng: np.random.Generator) -> tuple[Pixels, Mask]:
        size = Size(pixels.shape[1], pixels.shape[0])
        level = _border_level(pixels) if self.fill == "level" else (0.0, 0.0, 0.0)
        mode = cv2.BORDER_CONSTANT if self.fill == "level" else cv2.BORDER_REPLICATE
        marked = int(np.count_nonzero(mask))
        for _ in range(ATTEMPTS):
            matrix, scale = self._matrix(size, rng)
            moved = cv2.warpAffine(
                mask, matrix, (size.width, size.height), flags=cv2.INTER_NEAREST, borderMode=mode
            )
            if np.count_nonzero(moved) < KEPT_SHARE * marked * min(1.0, scale) ** 2:
                continue
            copy = cv2.warpAffine(
                pixels,
                matrix,
                (size.width, size.height),
                flags=cv2.INTER_LINEAR,
                borderMode=mode,
                borderValue=level,
            )
            return np.asarray(copy, np.uint8), np.asarray(moved, np.uint8)
        return pixels, mask

    def _matrix(self, size: Size, rng: np.random.Generator) -> tuple[Matrix, float]:
        """(one move within the ranges, its scale)."""
        turn_deg, grown, right, down = rng.uniform(-1.0, 1.0, 4)
        angle = math.radians(turn_deg * self.rotation_deg)
        scale = (1.0 + self.zoom) ** grown
        shift = (right * self.shift * size.width, down * self.shift * size.height)
        if self.fill == "zoom":
            scale = max(scale, covering_scale(size, angle, shift))
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        middle = ((size.width - 1) / 2, (size.height - 1) / 2)
        return np.array(
            [
                [cos, -sin, middle[0] + shift[0] - cos * middle[0] + sin * middle[1]],
                [sin, cos, middle[1] + shift[1] - sin * middle[0] - cos * middle[1]],
            ]
        ), scale

    def _lit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """`contrast` about the image's own mean, then `brightness`, by a table of the 256 levels."""
        stretched, raised = rng.uniform(-1.0, 1.0, 2)
        if not (self.brightness or self.contrast):
            return pixels
        gain, offset = 1.0 + stretched * self.contrast, 255.0 * raised * self.brightness
        mean = float(np.mean(cv2.mean(pixels)[: pixels.shape[2] if pixels.ndim == 3 else 1]))
        table = (np.arange(256) - mean) * gain + mean + offset
        return np.asarray(cv2.LUT(pixels, np.clip(np.rint(table), 0, 255).astype(np.uint8)), np.uint8)


def covering_scale(size: Size, angle: float, shift: tuple[float, float]) -> float:
    """By how much a turned (radians) and shifted (px) image must grow to cover its own frame, at least 1.

    Each corner of the frame, brought back into the image, must lie inside it.
    """
    half = ((size.width - 1) / 2, (size.height - 1) / 2)
    cos, sin = math.cos(angle), math.sin(angle)
    needed = [1.0]
    for x, y in ((-half[0], -half[1]), (half[0], -half[1]), (-half[0], half[1]), half):
        across, down = x - shift[0], y - shift[1]
        back = (cos * across + sin * down, -sin * across + cos * down)
        needed += [abs(place) / side for place, side in zip(back, half, strict=True) if side]
    return max(needed)


def _border_level(pixels: Pixels) -> tuple[float, ...]:
    """The median level of the pixels at the image's edge, of each channel."""
    planes = pixels.reshape(*pixels.shape[:2], -1)
    border = np.concatenate([planes[0], planes[-1], planes[:, 0], planes[:, -1]])
    return tuple(float(level) for level in np.median(border, axis=0))


@dataclass(frozen=True, slots=True)
class Grain:
    """In which direction a texture runs, degrees from horizontal in 0..180, and how much: coherence 0..1.

    From the mean structure tensor of some images (Bigun and Granlund, ICCV 1987).
    """

    direction_deg: float
    coherence: float

    @classmethod
    def of(cls, images: Sequence[Pixels]) -> Grain:
        """The strongest of those at GRAIN_SIGMAS_PX."""
        found = []
        for sigma_px in GRAIN_SIGMAS_PX:
            xx, yy, xy = np.mean([_structure(image, sigma_px) for image in images], axis=0)
            across = 0.5 * math.degrees(math.atan2(2 * xy, xx - yy))  # where gradients point
            found.append(cls((across + 90.0) % 180.0, float(np.hypot(xx - yy, 2 * xy))))
        return max(found, key=lambda grain: grain.coherence)

    def objection(self, augmentation: Augmentation) -> str:
        """What is wrong with turning images of this grain so, or ""."""
        if self.coherence < GRAINED:
            return ""
        too_far = []
        if augmentation.rotation_deg > SMALL_TURN_DEG:
            too_far.append(f"rotation_deg = {augmentation.rotation_deg:g}")
        if augmentation.quarter_turns:
            too_far.append("quarter_turns")
        if not too_far:
            return ""
        return (
            f"[augment] {', '.join(too_far)}: the images have a grain at {self.direction_deg:.0f} degrees "
            f"(coherence {self.coherence:.2f}, from {GRAINED:g} on a direction), and parts do not lie so"
        )


def _structure(image: Pixels, sigma_px: float) -> NDArray[np.float64]:
    """(xx, yy, xy) of the gradients' products, the first two of which sum to 1."""
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), sigma_px)
    x, y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    found = np.array([(x * x).mean(), (y * y).mean(), (x * y).mean()], np.float64)
    return np.asarray(found / max(float(found[0] + found[1]), 1e-9), np.float64)
