"""Which part of a frame is looked at: inside the region of interest, outside the ignore masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device.image.geometry import Box, Polygon, Size, whole

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class RegionOfInterest:
    """`roi`: only what lies in one of these is looked at; empty: everything. `ignore`: never what lies here.

    Corners are in px of the captured frame. A pixel belongs to a polygon when its middle lies inside.
    """

    roi: tuple[Polygon, ...] = ()
    ignore: tuple[Polygon, ...] = ()

    def box(self, size: Size) -> Box:
        """The box around the region of interest in a frame of this size. Raises ValueError: see mask."""
        self._require_inside(size)
        if not self.roi:
            return whole(size)
        xs, ys = zip(*(corner for polygon in self.roi for corner in polygon.corners), strict=True)
        if min(xs) == max(xs) or min(ys) == max(ys):
            raise ValueError("roi: must have an area, all its corners lie on one line")
        return Box(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))

    def mask(self, size: Size) -> Mask:
        """(height, width) of a frame of this size: 1 where it is looked at, else 0.

        Raises ValueError for a corner outside the frame: it was drawn for another camera or another size.
        """
        self._require_inside(size)
        looked_at = filled(self.roi, size) if self.roi else np.ones((size.height, size.width), np.uint8)
        if self.ignore:
            looked_at[filled(self.ignore, size) > 0] = 0
        return looked_at

    def _require_inside(self, size: Size) -> None:
        for name, polygons in (("roi", self.roi), ("ignore", self.ignore)):
            for x, y in (corner for polygon in polygons for corner in polygon.corners):
                if not (0 <= x <= size.width and 0 <= y <= size.height):
                    raise ValueError(
                        f"{name}: every corner must lie in the frame of {size.width}x{size.height} px, "
                        f"got {x}, {y}"
                    )


EVERYTHING = RegionOfInterest()


def filled(polygons: Iterable[Polygon], size: Size) -> Mask:
    """(height, width): 1 for the pixels whose middle lies in one of the polygons, else 0."""
    mask = np.zeros((size.height, size.width), np.uint8)
    for polygon in polygons:
        mask |= _inside(polygon, size)
    return mask


def _inside(polygon: Polygon, size: Size) -> Mask:
    """By the even-odd rule along each row of pixels: cv2.fillPoly adds the pixels of the outline as well."""
    crossings = np.zeros((size.height, size.width + 1), np.uint8)
    corners = polygon.corners
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
        if y0 == y1:
            continue
        rows = np.arange(min(y0, y1), max(y0, y1))  # whose middles, at + 0.5, the edge passes
        at = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        first = np.ceil(at - 0.5).astype(np.intp)  # the first pixel whose middle lies right of the edge
        crossings[rows, first.clip(0, size.width)] ^= 1
    return np.bitwise_xor.accumulate(crossings, axis=1)[:, : size.width]
