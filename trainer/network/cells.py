"""Cells whose truth masks tell: what a head learns from beside whole images.

A cell is a row of the channels of all cuts, on the grid of the finest. Coarser cuts are interpolated there,
as the maps of a head's cuts are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.network.network import CHANNELS, shift_px

DEFECTIVE, GOOD, UNCLEAR = 1, 0, -1
LEAST_SHARE = 0.5  # of a defective cell's area; where no cell has so much, the one with the most
APART_CELLS = 2  # that lie at least between a good cell and a defect: what a cell sees is wider than itself

Floats = NDArray[np.float32]
Truth = NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """`rows` (n, channels), `defective` (n,), `tile` (n,): the index of the tile that each is of."""

    rows: Floats
    defective: NDArray[np.bool_]
    tile: NDArray[np.intp]

    @classmethod
    def of(cls, parts: Sequence[Cells]) -> Cells:
        """All of some parts, which may be none."""
        if not parts:
            rows = np.zeros((0, sum(CHANNELS.values())), np.float32)
            return cls(rows, np.zeros(0, np.bool_), np.zeros(0, np.intp))
        return cls(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.defective for part in parts]),
            np.concatenate([part.tile for part in parts]),
        )

    @property
    def tell(self) -> bool:
        """Whether there is something to tell apart."""
        return bool(self.defective.any() and not self.defective.all())

    def part(self, tiles: NDArray[np.bool_]) -> Cells:
        """Those of the chosen tiles."""
        chosen = tiles[self.tile]
        return Cells(self.rows[chosen], self.defective[chosen], self.tile[chosen])


def truth(mask: NDArray[np.uint8], counted: NDArray[np.bool_]) -> Truth:
    """(h', w') of the cells that count, from a mask (h, w) of the model's input: what each cell looks at."""
    height, width = counted.shape
    shift = round(shift_px(mask.shape[1] // width))
    moved = np.pad(mask, ((0, shift), (0, shift)), mode="edge")[shift:, shift:]
    shares = cv2.resize(moved.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    near = cv2.dilate(shares, np.ones((2 * APART_CELLS + 1,) * 2))
    found = np.where(near > 0, UNCLEAR, GOOD).astype(np.int8)
    greatest = float(shares[counted].max(initial=0.0))
    if greatest > 0:
        found[shares >= min(LEAST_SHARE, greatest)] = DEFECTIVE
    found[~counted] = UNCLEAR
    return found


def sampled(cuts: Sequence[Floats], known: Truth, count: int, tile: int, rng: np.random.Generator) -> Cells:
    """At most `count` defective cells of one input and as many good ones; `cuts` (h, w, channels) each."""
    chosen = np.concatenate([_some(known == label, count, rng) for label in (DEFECTIVE, GOOD)])
    rows, columns = np.unravel_index(chosen, known.shape)
    seen = [_interpolated(cut, rows, columns, known.shape[0] // cut.shape[0]) for cut in cuts]
    return Cells(
        np.concatenate(seen, axis=1),
        known[rows, columns] == DEFECTIVE,
        np.full(len(chosen), tile, np.intp),
    )


def _some(cells: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    found = np.flatnonzero(cells)
    return rng.choice(found, min(count, len(found)), replace=False)


def _interpolated(cut: Floats, rows: NDArray[np.intp], columns: NDArray[np.intp], factor: int) -> Floats:
    """(n, channels) of a cut (h, w, channels) at cells of a grid `factor` times as fine, bilinear."""
    (top, bottom, down), (left, right, across) = (
        _between(cells, factor, length) for cells, length in zip((rows, columns), cut.shape[:2], strict=True)
    )
    upper = cut[top, left] * (1 - across) + cut[top, right] * across
    lower = cut[bottom, left] * (1 - across) + cut[bottom, right] * across
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def _between(
    cells: NDArray[np.intp], factor: int, length: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """(the cell of the coarse grid before each, the one after it, the share of the latter (n, 1))."""
    place = np.clip((cells + 0.5) / factor - 0.5, 0, length - 1)
    before = place.astype(np.intp)
    share = (place - before).astype(np.float32)
    return before, np.minimum(before + 1, length - 1), share[:, np.newaxis]
