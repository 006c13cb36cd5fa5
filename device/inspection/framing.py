"""How frames of one size are looked at: what is cut out, at which scale, in which tiles, and what counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import PreprocessSpec
from device.errors import BundleError, ConfigError
from device.image.geometry import Box, Letterbox, Size
from device.image.masking import Covering
from device.image.region_of_interest import EVERYTHING, RegionOfInterest, filled
from device.image.resize import resized
from device.image.tiles import canvas_size, cover

Mask = NDArray[np.uint8]
Cells = tuple[slice, slice] | NDArray[np.bool_]  # an index of an (h, w) map


@dataclass(frozen=True, slots=True, eq=False)
class Framing:
    """`placement`: from the frame to the canvas. `tiles`: on the canvas, each of the model's input's size.

    Untiled, the canvas is the model's input and the only tile. `seen`: uint8 (h, w) of the canvas, 1 where it
    is looked at; None: wherever the frame is. `covering`: of what is ignored, on the content of the canvas.
    """

    placement: Letterbox
    tiles: tuple[Box, ...]
    seen: Mask | None
    covering: Covering | None

    @classmethod
    def of(cls, size: Size, spec: PreprocessSpec, station: RegionOfInterest = EVERYTHING) -> Framing:
        """For frames of a size. `station`: what the station is told to look at, beside the bundle's own.

        What is cut out is the box around the bundle's region of interest, or around the station's where the
        bundle has none. A pixel counts where the bundle and the station both look.
        Raises BundleError or ConfigError where one of them is not for frames of this size, or sees nothing.
        """
        region = _cut_out(size, spec.region, station)
        placement = _placement(size, spec, region)
        tiles = cover(placement.target, spec.size, spec.overlap)
        if spec.region == station == EVERYTHING:
            return cls(placement, tiles, None, None)
        shares = _on_canvas(spec.region.mask(size) & station.mask(size), placement)
        seen = (shares >= 0.5).astype(np.uint8)
        if not seen.any():
            raise ConfigError(
                f"[inspection] roi, ignore: nothing of a frame of {_shown(size)} is left to see"
            )
        ignored = filled(spec.ignore + station.ignore, size)
        hidden = placement.content.of(_on_canvas(ignored, placement)) > 0
        return cls(placement, tiles, seen, Covering(hidden.astype(np.uint8)) if hidden.any() else None)

    @property
    def tiled(self) -> bool:
        return len(self.tiles) > 1


def _cut_out(size: Size, own: RegionOfInterest, station: RegionOfInterest) -> Box:
    try:
        box = own.box(size)
    except ValueError as error:
        raise BundleError(f"calibration.json: preprocess.{error}") from None
    try:
        told = station.box(size)
    except ValueError as error:
        raise ConfigError(f"[inspection] {error}") from None
    return box if own.roi else told


def _placement(size: Size, spec: PreprocessSpec, region: Box) -> Letterbox:
    """On one input of the model; or, with tiles, on as large a canvas as their scale asks for."""
    if spec.tiles is None:
        return Letterbox.fit(size, spec.size, spec.resize, region)
    content = Size(
        max(1, round(region.width * spec.size.width / spec.tiles.width)),
        max(1, round(region.height * spec.size.height / spec.tiles.height)),
    )
    scales = (content.width / region.width, content.height / region.height)
    return Letterbox(size, region, canvas_size(content, spec.size), *scales, 0, 0)


def _on_canvas(mask: Mask, placement: Letterbox) -> NDArray[np.float32]:
    """A mask of the frame on the canvas, (h, w): the share 0..1 of each pixel's area that it covers."""
    target, content = placement.target, placement.content
    shares = np.zeros((target.height, target.width), np.float32)
    part = placement.region.of(mask).astype(np.float32)
    size = Size(content.width, content.height)
    content.of(shares)[:] = resized(part, size)
    return shares


@lru_cache(maxsize=16)
def counted_cells(framing: Framing, shape: tuple[int, int]) -> Cells:
    """Which cells of a map (h, w) over the canvas count.

    Those whose middles lie on the image, not on padding, and of whose area half or more is looked at. Where
    there is no such cell, the one that is looked at the most.
    """
    rows, columns = content_cells(framing.placement, shape)
    if framing.seen is None:
        return rows, columns
    shares = np.zeros(shape, np.float32)
    area = cv2.resize(framing.seen.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    shares[rows, columns] = area[rows, columns]
    return np.asarray(shares >= min(0.5, float(shares.max())), np.bool_)


@lru_cache(maxsize=16)
def counted_in_tiles(
    framing: Framing, shape: tuple[int, int]
) -> tuple[tuple[Box, tuple[slice, slice], Cells], ...]:
    """(the tile, where its map (h, w) lies on that of the canvas, which of its own cells count), one a tile.

    Without the tiles in which no cell counts.
    """
    counted = np.zeros(canvas_shape(framing, shape), np.bool_)
    counted[counted_cells(framing, counted.shape)] = True
    found = []
    for tile in framing.tiles:
        top, left = tile.y * shape[0] // tile.height, tile.x * shape[1] // tile.width
        place = (slice(top, top + shape[0]), slice(left, left + shape[1]))
        if counted[place].any():
            found.append((tile, place, index_of(counted[place])))
    return tuple(found)


def canvas_shape(framing: Framing, shape: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the map of the whole canvas, whose tiles have maps of `shape`."""
    target, tile = framing.placement.target, framing.tiles[0]
    return target.height * shape[0] // tile.height, target.width * shape[1] // tile.width


def index_of(counted: NDArray[np.bool_]) -> Cells:
    """Of the cells of an (h, w) map that count; slices where they are a rectangle, which are faster."""
    rows, columns = (np.flatnonzero(counted.any(axis)) for axis in (1, 0))
    box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    return box if counted[box].all() else counted


@lru_cache(maxsize=8)
def content_cells(placement: Letterbox, shape: tuple[int, int]) -> tuple[slice, slice]:
    """(rows, columns) of the cells of an (h, w) map whose centres lie on the image, not on padding.

    An image thinner than a cell may hold no centre; then the cell at its own middle is meant.
    """
    box, target = placement.content, placement.target
    return (
        _centres_within(box.y, box.height, target.height, shape[0]),
        _centres_within(box.x, box.width, target.width, shape[1]),
    )


def _centres_within(start: int, length: int, whole_px: int, cells: int) -> slice:
    """The cells of `cells` over `whole_px` with start <= (cell + 0.5) * whole_px / cells < start + length."""
    first = math.ceil(start * cells / whole_px - 0.5)
    end = math.ceil((start + length) * cells / whole_px - 0.5)
    if end <= first:
        first = min(int((start + length / 2) * cells / whole_px), cells - 1)
        end = first + 1
    return slice(first, end)


def _shown(size: Size) -> str:
    return f"{size.width}x{size.height} px"
