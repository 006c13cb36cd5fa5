"""Ignored parts of an image, covered with other parts of the same image, so that the model does not see them.

A cell of the evidence map sees far more of the image than its own area: a defect under an ignore mask would
raise the cells around it, whatever is done with the cells of the mask itself. A level or a blur in its place
is a defect to a model that knows a texture. So each piece is replaced by that piece of the image, of the same
shape, whose surroundings resemble its own the most: by the mean absolute difference along the rim, as in the
quilting of textures (Efros and Freeman, SIGGRAPH 2001). What lies under the mask has no influence whatever.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Indices = NDArray[np.intp]

RIM_PX = 4  # how far around a piece its surroundings are compared
RIM_POINTS = 192
MOST_SOURCES = 256  # pieces to choose from
GRID = 48  # sources begin at up to so many places along a side


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A connected part that is covered. Indices are into the flat image."""

    inside: Indices  # (n,), its pixels
    rim: Indices  # (m,), a sample of the pixels around it
    offsets: Indices  # (k,), from it to the sources to choose from

    def source(self, levels: NDArray[np.uint8]) -> Indices:
        """The pixels of the best source, in the order of `inside`."""
        rim = levels[self.rim].astype(np.int16)
        there = levels[self.rim + self.offsets[:, np.newaxis]].astype(np.int16)
        best = np.abs(there - rim).sum(axis=1, dtype=np.int64).argmin()
        return np.asarray(self.inside + self.offsets[best], np.intp)


class Covering:
    """Covers what is ignored in images of one size."""

    def __init__(self, ignored: Mask) -> None:
        """`ignored`: (h, w), other than 0 where the image is covered."""
        self._pieces: list[_Piece] = []
        self._lone: list[tuple[Indices, Indices]] = []  # (pixels, their nearest neighbours that are seen)
        count, labels = cv2.connectedComponents((ignored > 0).astype(np.uint8))
        for label in range(1, count):
            piece = labels == label
            found = _piece(piece, ignored)
            if found is not None:
                self._pieces.append(found)
            else:
                self._lone.append(_nearest(piece, ignored))

    def cover(self, image: Pixels) -> None:
        """Cover them in place, (h, w, 3) or (h, w), C-contiguous."""
        height, width = image.shape[:2]
        flat = image.reshape(height * width, *image.shape[2:])
        levels = flat if image.ndim == 2 else flat[:, 1]  # green, nearest to luma
        for pixels, neighbours in self._lone:
            flat[pixels] = flat[neighbours]
        for piece in self._pieces:
            flat[piece.inside] = flat[piece.source(levels)]


def _piece(piece: NDArray[np.bool_], ignored: Mask) -> _Piece | None:
    """None where no place of the image could give a source, or nothing of it is seen around."""
    width = piece.shape[1]
    kernel = np.ones((2 * RIM_PX + 1, 2 * RIM_PX + 1), np.uint8)
    rim = (cv2.dilate(piece.astype(np.uint8), kernel) > 0) & (ignored == 0)
    offsets = _offsets(piece | rim, ignored)
    if not len(offsets):
        return None
    around = np.flatnonzero(rim)
    sample = around[:: max(1, len(around) // RIM_POINTS)]
    return _Piece(np.flatnonzero(piece), sample, offsets[:, 0] * width + offsets[:, 1])


def _offsets(shape: NDArray[np.bool_], ignored: Mask) -> Indices:
    """(k, 2), down and right: how to move the box around the shape to places where nothing is ignored."""
    rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    sums = cv2.integral((ignored > 0).astype(np.uint8))
    tops = _spread(ignored.shape[0] - height)[:, np.newaxis]
    lefts = _spread(ignored.shape[1] - width)
    hidden = sums[tops + height, lefts + width] - sums[tops, lefts + width]
    hidden = hidden - sums[tops + height, lefts] + sums[tops, lefts]
    places = np.argwhere(hidden == 0)
    places = places[:: -(-len(places) // MOST_SOURCES)] if len(places) else places
    return np.stack([tops[places[:, 0], 0] - top, lefts[places[:, 1]] - left], axis=1)


def _spread(last: int) -> Indices:
    """At most GRID whole numbers from 0 to `last`."""
    return np.unique(np.linspace(0, last, GRID).round().astype(np.intp))


def _nearest(piece: NDArray[np.bool_], ignored: Mask) -> tuple[Indices, Indices]:
    """(the pixels of a piece, and for each the nearest pixel of the image that is not ignored)."""
    _, labels = cv2.distanceTransformWithLabels(
        (ignored > 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    seen = np.flatnonzero(ignored == 0)
    owner = np.zeros(int(labels.max()) + 1, np.intp)
    owner[labels.ravel()[seen]] = seen
    inside = np.flatnonzero(piece)
    return inside, owner[labels.ravel()[inside]]
