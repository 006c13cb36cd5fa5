"""Sizes, boxes, polygons, and the way from a captured frame into the model's input and back. All in pixels.

A pixel (x, y) covers the square x..x+1, y..y+1; so a coordinate is a place, not a pixel's number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from numpy.typing import NDArray

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

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """This part of an image (h, w, ...), not copied."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]

    def clipped(self, size: Size) -> Box:
        """The part of the box inside an image of this size. Raises ValueError where there is none."""
        return _box_around(self.x, self.y, self.x + self.width, self.y + self.height, whole(size))


@dataclass(frozen=True, slots=True)
class Polygon:
    """An area of an image by its corners (x, y), in px. Even-odd: where it crosses itself, it has holes."""

    corners: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        for place in (place for corner in self.corners for place in corner):
            _require_whole("a polygon's corner", place, 0)
        distinct = len(set(self.corners))
        if distinct < 3:
            raise ValueError(f"a polygon must have 3 different corners or more, got {distinct}")


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How the `region` of an image of size `source` lies in one of size `target`.

    target = (source - region's corner) * scale + offset. The scales are those that resizing to whole pixels
    really gives, so mode "letterbox" has two that differ by less than a pixel over the image.
    """

    source: Size
    region: Box
    target: Size
    scale_x: float
    scale_y: float
    offset_x: int
    offset_y: int

    def __post_init__(self) -> None:
        for name, scale in (("scale_x", self.scale_x), ("scale_y", self.scale_y)):
            if not (math.isfinite(scale) and scale > 0):
                raise ValueError(f"Letterbox.{name} must be a finite number > 0, got {scale}")
        if self.region.clipped(self.source) != self.region:
            raise ValueError(f"Letterbox.region must lie inside the source {self.source}, got {self.region}")
        content = self.content
        if content.clipped(self.target) != content:
            raise ValueError(f"Letterbox: the image must lie inside the target {self.target}, got {content}")

    @classmethod
    def fit(cls, source: Size, target: Size, mode: ResizeMode, region: Box | None = None) -> Letterbox:
        """Fill the target: "letterbox" keeps the proportions and centres, "stretch" does not keep them.

        `region` None: the whole source.
        """
        if mode not in get_args(ResizeMode):
            raise ValueError(f"mode must be one of {', '.join(get_args(ResizeMode))}, got {mode!r}")
        shown = region or whole(source)
        width, height = target.width, target.height
        if mode == "letterbox":
            scale = min(target.width / shown.width, target.height / shown.height)
            width = max(1, round(shown.width * scale))
            height = max(1, round(shown.height * scale))
        offset = ((target.width - width) // 2, (target.height - height) // 2)
        return cls(source, shown, target, width / shown.width, height / shown.height, *offset)

    @property
    def content(self) -> Box:
        """Where in the target the region lies; around it is padding."""
        width = round(self.region.width * self.scale_x)
        height = round(self.region.height * self.scale_y)
        return Box(self.offset_x, self.offset_y, width, height)

    def forward(self, box: Box) -> Box:
        """The smallest box of the target that covers a box of the source."""
        x, y = box.x - self.region.x, box.y - self.region.y
        return _box_around(
            x * self.scale_x + self.offset_x,
            y * self.scale_y + self.offset_y,
            (x + box.width) * self.scale_x + self.offset_x,
            (y + box.height) * self.scale_y + self.offset_y,
            self.content,
        )

    def inverse(self, box: Box) -> Box:
        """The smallest box of the source that covers a box of the target, clipped to the region.

        Raises ValueError for a box that lies in the padding alone.
        """
        region = self.region
        return _box_around(
            (box.x - self.offset_x) / self.scale_x + region.x,
            (box.y - self.offset_y) / self.scale_y + region.y,
            (box.x + box.width - self.offset_x) / self.scale_x + region.x,
            (box.y + box.height - self.offset_y) / self.scale_y + region.y,
            region,
        )


def whole(size: Size) -> Box:
    """All of an image of this size."""
    return Box(0, 0, size.width, size.height)


def _box_around(left: float, top: float, right: float, bottom: float, limit: Box) -> Box:
    """The smallest box of whole pixels around the edges, inside the limit."""
    x, y = max(limit.x, math.floor(left + _GRAIN)), max(limit.y, math.floor(top + _GRAIN))
    end_x = min(limit.x + limit.width, math.ceil(right - _GRAIN))
    end_y = min(limit.y + limit.height, math.ceil(bottom - _GRAIN))
    if end_x <= x or end_y <= y:
        edges = f"{left:g}..{right:g}, {top:g}..{bottom:g}"
        at = f" at {limit.x}, {limit.y}" if limit.x or limit.y else ""
        raise ValueError(f"box must touch the image of {limit.width}x{limit.height} px{at}, got {edges}")
    return Box(x, y, end_x - x, end_y - y)


def _require_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of px >= {least}, got {value!r}")
