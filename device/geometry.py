"""Sizes, boxes, and the way from a captured frame into the model's input and back. All in pixels.

A pixel (x, y) covers the square x..x+1, y..y+1; so a coordinate is a place, not a pixel's number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

ResizeMode = Literal["letterbox", "stretch"]

_GRAIN = 1e-6  # px: a coordinate this close to a whole number is that number, its distance is rounding


@dataclass(frozen=True, slots=True)
class Size:
    """The size of an image in px."""

    width: int
    height: int

    def __post_init__(self) -> None:
        _require_whole("Size.width", self.width, 1)
        _require_whole("Size.height", self.height, 1)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of whole pixels: x..x+width, y..y+height, the ends not included."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        _require_whole("Box.x", self.x, 0)
        _require_whole("Box.y", self.y, 0)
        _require_whole("Box.width", self.width, 1)
        _require_whole("Box.height", self.height, 1)

    @property
    def area_px(self) -> int:
        return self.width * self.height

    def normalized(self, size: Size) -> tuple[float, float, float, float]:
        """(x, y, width, height) as shares 0..1 of an image of this size."""
        return (
            self.x / size.width,
            self.y / size.height,
            self.width / size.width,
            self.height / size.height,
        )

    def clipped(self, size: Size) -> Box:
        """The part of the box inside an image of this size. Raises ValueError where there is none."""
        return _box_around(self.x, self.y, self.x + self.width, self.y + self.height, size)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How an image of size `source` lies in one of size `target`: target = source * scale + offset.

    The scales are those that resizing to whole pixels really gives, so mode "letterbox" has two that differ
    by less than a pixel over the image.
    """

    source: Size
    target: Size
    scale_x: float
    scale_y: float
    offset_x: int
    offset_y: int

    def __post_init__(self) -> None:
        for name, scale in (("scale_x", self.scale_x), ("scale_y", self.scale_y)):
            if not (math.isfinite(scale) and scale > 0):
                raise ValueError(f"Letterbox.{name} must be a finite number > 0, got {scale}")
        content = self.content
        if content.clipped(self.target) != content:
            raise ValueError(f"Letterbox: the image must lie inside the target {self.target}, got {content}")

    @classmethod
    def fit(cls, source: Size, target: Size, mode: ResizeMode) -> Letterbox:
        """Fill the target: "letterbox" keeps the proportions and centres, "stretch" does not keep them."""
        if mode not in get_args(ResizeMode):
            raise ValueError(f"mode must be one of {', '.join(get_args(ResizeMode))}, got {mode!r}")
        width, height = target.width, target.height
        if mode == "letterbox":
            scale = min(target.width / source.width, target.height / source.height)
            width = max(1, round(source.width * scale))
            height = max(1, round(source.height * scale))
        return cls(
            source=source,
            target=target,
            scale_x=width / source.width,
            scale_y=height / source.height,
            offset_x=(target.width - width) // 2,
            offset_y=(target.height - height) // 2,
        )

    @property
    def content(self) -> Box:
        """Where in the target the image lies; around it is padding."""
        width = round(self.source.width * self.scale_x)
        height = round(self.source.height * self.scale_y)
        return Box(self.offset_x, self.offset_y, width, height)

    def forward(self, box: Box) -> Box:
        """The smallest box of the target that covers a box of the source."""
        return _box_around(
            box.x * self.scale_x + self.offset_x,
            box.y * self.scale_y + self.offset_y,
            (box.x + box.width) * self.scale_x + self.offset_x,
            (box.y + box.height) * self.scale_y + self.offset_y,
            self.target,
        )

    def inverse(self, box: Box) -> Box:
        """The smallest box of the source that covers a box of the target, clipped to the source.

        Raises ValueError for a box that lies in the padding alone.
        """
        return _box_around(
            (box.x - self.offset_x) / self.scale_x,
            (box.y - self.offset_y) / self.scale_y,
            (box.x + box.width - self.offset_x) / self.scale_x,
            (box.y + box.height - self.offset_y) / self.scale_y,
            self.source,
        )


def _box_around(left: float, top: float, right: float, bottom: float, size: Size) -> Box:
    """The smallest box of whole pixels around the edges, inside an image of the size."""
    x, y = max(0, math.floor(left + _GRAIN)), max(0, math.floor(top + _GRAIN))
    end_x = min(size.width, math.ceil(right - _GRAIN))
    end_y = min(size.height, math.ceil(bottom - _GRAIN))
    if end_x <= x or end_y <= y:
        edges = f"{left:g}..{right:g}, {top:g}..{bottom:g}"
        raise ValueError(f"box must touch the image of {size.width}x{size.height} px, got {edges}")
    return Box(x, y, end_x - x, end_y - y)


def _require_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of px >= {least}, got {value!r}")
