"""What a person has drawn over an image, whatever the tool: shapes, their kinds, and a word on the whole.

A shape becomes the pixels that it covers: a pixel belongs to it when its middle lies inside.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from device.errors import DataError
from device.image.decode import MOST_PIXELS
from device.image.geometry import Size

Mask = NDArray[np.bool_]
Points = Sequence[tuple[float, float]]
Word = Literal["good", "defective"]

GOOD_WORDS = ("good", "ok")
DEFECTIVE_WORDS = ("defective", "ng", "bad")
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_ELLIPSE_STEPS = 90


def image_size(width: str | float, height: str | float) -> Size:
    """What the tool says of an image. Raises one of MALFORMED: also where no image of that size is read."""
    found = Size(int(width), int(height))
    if not (found.width > 0 < found.height and found.width * found.height <= MOST_PIXELS):
        raise ValueError(f"an image must have at most {MOST_PIXELS} pixels, got {found}")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A defect. `kind`: what the person called it. `mask` (h, w)."""

    kind: str
    mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """All that was said of an image. `name`: its path in the data set. `word`: None where none was given.

    `size`: that of the image, as the tool saw it; None where nothing is drawn and the tool does not say.
    """

    name: str
    size: Size | None
    word: Word | None
    shapes: tuple[Shape, ...]

    def __post_init__(self) -> None:
        if self.shapes and self.size is None:
            raise DataError(f"{self.name}: has shapes, and its size is not said")
        if self.word == "good" and self.shapes:
            kinds = ", ".join(sorted({shape.kind for shape in self.shapes}))
            raise DataError(f"{self.name}: is called good, and has defects drawn into it: {kinds}")

    @property
    def label(self) -> Word | None:
        """Defective where anything is drawn."""
        return "defective" if self.shapes else self.word

    @property
    def kind(self) -> str:
        """That of the most pixels; empty where nothing is drawn."""
        counted: Counter[str] = Counter()
        for shape in self.shapes:
            counted[shape.kind] += int(shape.mask.sum())
        return counted.most_common(1)[0][0] if counted else ""

    @property
    def mask(self) -> Mask:
        """All shapes together (h, w); there must be one."""
        return np.asarray(np.logical_or.reduce([shape.mask for shape in self.shapes]), np.bool_)


def word(text: str) -> Word | None:
    """What a label says of a whole image; None: it is the kind of a defect."""
    lower = text.strip().lower()
    return "good" if lower in GOOD_WORDS else "defective" if lower in DEFECTIVE_WORDS else None


def polygon(points: Points, size: Size) -> Mask:
    """`points` in px of the image, from its upper left corner."""
    corners = np.array(points, np.float64)
    if corners.ndim != 2 or corners.shape[0] < 3 or corners.shape[1] != 2 or not np.isfinite(corners).all():
        raise DataError(f"a polygon must have 3 corners or more, got {points}")
    crossed = np.zeros((size.height, size.width + 1), np.int32)  # edges, at the first pixel right of them
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = (int(np.clip(np.ceil(y - 0.5), 0, size.height)) for y in sorted((y0, y1)))
        rows = np.arange(first, last)
        at = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0) if len(rows) else rows
        crossed[rows, np.ceil(at - 0.5).clip(0, size.width).astype(int)] += 1
    return np.asarray(crossed.cumsum(1)[:, : size.width] % 2 == 1, np.bool_)


def rectangle(x: float, y: float, width: float, height: float, turned_deg: float, size: Size) -> Mask:
    """A rectangle from its upper left corner, turned about that corner as Label Studio does it."""
    cos, sin = math.cos(math.radians(turned_deg)), math.sin(math.radians(turned_deg))
    corners = ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
    return polygon([(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in corners], size)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, turned_deg: float, size: Size) -> Mask:
    """An ellipse about its middle."""
    cos, sin = math.cos(math.radians(turned_deg)), math.sin(math.radians(turned_deg))
    around = [2 * math.pi * step / _ELLIPSE_STEPS for step in range(_ELLIPSE_STEPS)]
    rim = [(radius_x * math.cos(angle), radius_y * math.sin(angle)) for angle in around]
    return polygon([(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in rim], size)
