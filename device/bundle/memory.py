"""The memory of good parts: how far a frame's features lie from all that good frames have shown.

In a bundle that has one, the model gives features instead of evidence, and memory.npz holds what good images
showed. Two distances are taken:

- of each cell to the nearest of int8 rows taken from good images (PatchCore, Roth et al., CVPR 2022). The
  features are whitened, so that every direction counts. Or, where parts lie still, of each cell to the mean
  of good images at its own place, Mahalanobis' (PaDiM, Defard et al., ICPR 2021; BLOCK x BLOCK neighbours
  share one covariance);
- of the whole image, from the means and standard deviations of its channels (Rippel et al., ICPR 2020).

The first are the map. They make the score as well, but in medians of their image, with the second added:
what belongs to an image as a whole says nothing of a place, and in the map of an image that is strange as a
whole it would lift every cell above the defects of the others.

Whole numbers below 2**24 are exact in float32: the distances to rows are the same on every machine, whatever
the order in which its BLAS adds them up.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import MemorySpec
from device.errors import BundleError
from device.image.upright import Turn, find
from device.schemas import strict_npz

FILE = "memory.npz"
DTYPES = {
    "items": "int8",
    "means": "float16",
    "factors": "float16",
    "image_mean": "float32",
    "image_whitening": "float32",
    "head": "float32",
}
MOST_BYTES = 64 * 2**20  # of all arrays
BLOCK = 2  # cells on a side that share a covariance
PRODUCTS_BYTES = 2**20  # of products at a time: they stay in a processor's cache until the least is found
LEAST_MEDIAN = 1.0  # steps of int8: a flat image must not divide by 0

Floats = NDArray[np.float32]
Run = Callable[[NDArray[np.uint8]], NDArray[np.int8]]  # the model: (1, h, w, 3) to (h, w, channels)


@dataclass(frozen=True, slots=True)
class Scale:
    """What the evidence of a map counts for in its image's score: gain * evidence + offset. `gain` is > 0."""

    gain: float = 1.0
    offset: float = 0.0

    def of(self, evidence: float) -> float:
        """A distance as a logit of the score."""
        return self.gain * evidence + self.offset


@dataclass(frozen=True, slots=True, eq=False)
class GoodFeatures:
    """What good images showed, as it stands in the file, in the units of the model's int8 output.

    `items`: (n, c) rows of the first c channels; none of kind "position". `means`: (cells, c), and `factors`:
    (blocks, c, c), whitening a difference from them, of that kind alone. `image_mean`: (2 channels,), of the
    channels' means and standard deviations. `image_whitening`: (2 channels, 2 channels), of what varies.
    `head`: (channels + 1,), weights of a cell's features and a constant, whose sum is added to its evidence
    where a few defects are known (trainer.sharpen); else empty.
    """

    items: NDArray[np.int8]
    means: NDArray[np.float16]
    factors: NDArray[np.float16]
    image_mean: Floats
    image_whitening: Floats
    head: Floats

    def check(self, spec: MemorySpec) -> None:
        """Raise ValueError where it is not what the calibration says."""
        both, own = 2 * spec.channels, spec.row_channels
        rows, places = (spec.items, 0) if spec.kind == "nearest" else (0, spec.items)
        shapes = {
            "items": (rows, own),
            "means": (places, own),
            "factors": (places // BLOCK**2, own, own),
            "image_mean": (both,),
            "image_whitening": (both, both),
            "head": (spec.channels + 1,) if len(self.head) else (0,),
        }
        for name, shape in shapes.items():
            found: NDArray[Any] = getattr(self, name)
            if found.shape != shape or found.dtype.name != DTYPES[name]:
                expected = f"{DTYPES[name]} {shape}"
                raise ValueError(f"{name} must be {expected}, got {found.dtype.name} {found.shape}")
            if not np.isfinite(found).all():
                raise ValueError(f"{name} must be finite")

    def to_bytes(self) -> bytes:
        """The content of memory.npz."""
        file = io.BytesIO()
        np.savez_compressed(file, **{name: getattr(self, name) for name in DTYPES})
        return file.getvalue()

    @classmethod
    def from_file(cls, path: Path) -> GoodFeatures:
        """Raises BundleError naming what is wrong with the file."""
        try:
            return cls(**strict_npz.read(path, DTYPES, MOST_BYTES))
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: {error}") from None


@dataclass(frozen=True, slots=True, eq=False)
class TurnedFeatures:
    """`stored`: features int8 (h, w, channels) of an image. `turn`: how it was turned before; None if not."""

    stored: NDArray[np.int8]
    turn: Turn | None = None

    @classmethod
    def of(cls, image: NDArray[np.uint8], run: Run, *, upright: bool) -> TurnedFeatures:
        """What the model `run` gives for an image (1, h, w, 3), turned first where that is asked for."""
        turn = find(image[0]) if upright else None
        return cls(run(image if turn is None else turn.turned(image[0])[np.newaxis]), turn)

    def back(self, values: Floats) -> Floats:
        """A map (h, w) of what the model saw as one of the image."""
        return values if self.turn is None else self.turn.back(values)

    def linear(self, head: Floats) -> Floats:
        """(h, w): the features times `head` (channels + 1,), with its constant."""
        return self.back(np.asarray(self.stored.astype(np.float32) @ head[:-1] + head[-1], np.float32))


class Memory:
    """What good images showed, ready to compare a frame with. One frame at a time."""

    def __init__(self, good: GoodFeatures, spec: MemorySpec) -> None:
        """Raises ValueError where the two do not fit each other."""
        good.check(spec)
        self.good, self.spec = good, spec
        self._means = good.means.astype(np.float32)
        self._factors = good.factors.astype(np.float32)
        rows = good.items.astype(np.float32)
        self._doubled = np.ascontiguousarray(2 * rows.T)
        self._squares = np.einsum("nc,nc->n", rows, rows)
        self._cells = max(1, min(1024, PRODUCTS_BYTES // (4 * max(1, len(rows)))))
        self._products = np.empty((self._cells, len(rows)), np.float32)

    @classmethod
    def from_file(cls, path: Path, spec: MemorySpec) -> Memory:
        """Raises BundleError naming what is wrong with the file."""
        good = GoodFeatures.from_file(path)
        try:
            return cls(good, spec)
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from None

    @property
    def nbytes(self) -> int:
        """What it takes while it works."""
        own = (self._doubled, self._squares, self._products, self._means, self._factors)
        kept = [getattr(self.good, name) for name in DTYPES]
        return sum(array.nbytes for array in (*own, *kept))

    def evidence(self, seen: TurnedFeatures) -> Floats:
        """The map (h, w) for the features of an image."""
        return self._map(seen, self.smoothed(seen))

    def judge(self, seen: TurnedFeatures) -> tuple[Floats, Scale]:
        """The map, and what it counts for in the image's score."""
        distances = self.smoothed(seen)
        return self._map(seen, distances), self._scale(seen.stored, distances)

    def _map(self, seen: TurnedFeatures, distances: Floats) -> Floats:
        cells = (distances - np.float32(self.spec.centre)) / np.float32(self.spec.spread)
        if len(self.good.head):
            cells += seen.linear(self.good.head)
        return np.asarray(cells, np.float32)

    def _scale(self, stored: NDArray[np.int8], distances: Floats) -> Scale:
        spec = self.spec
        gain = spec.usual / median(distances)
        offset = (gain - 1) * spec.centre / spec.spread
        if spec.image_weight:
            image = (self.image_distance(stored) - spec.image_centre) / spec.image_spread
            offset += spec.image_weight * image
        return Scale(gain, offset)

    def smoothed(self, seen: TurnedFeatures) -> Floats:
        """The distances of the cells (h, w)."""
        distances = seen.back(self.distances(seen.stored[:, :, : self.spec.row_channels]))
        if self.spec.sigma_cells:
            distances = np.asarray(cv2.GaussianBlur(distances, (0, 0), self.spec.sigma_cells), np.float32)
        return distances

    def image_distance(self, stored: NDArray[np.int8]) -> float:
        """Of the whole image from good ones, Mahalanobis', in standard deviations of one direction."""
        return float(np.linalg.norm((described(stored) - self.good.image_mean) @ self.good.image_whitening))

    def distances(self, stored: NDArray[np.int8]) -> Floats:
        """Of each cell (h, w) to its nearest row, in steps of int8; or to its own mean, whitened."""
        height, width, channels = stored.shape
        cells = stored.reshape(-1, channels).astype(np.float32)
        if self.spec.kind == "position":
            cells -= self._means
            return from_blocks(whitened(in_blocks(cells, height, width), self._factors), height, width)
        found = np.einsum("nc,nc->n", cells, cells)
        for start in range(0, len(cells), self._cells):
            found[start : start + self._cells] += self._nearest(cells[start : start + self._cells])
        return np.asarray(np.sqrt(np.maximum(found, 0, out=found), out=found).reshape(height, width))

    def _nearest(self, cells: Floats) -> Floats:
        """Of each cell (n, channels) the least of |row|^2 - 2 cell row."""
        products = np.matmul(cells, self._doubled, out=self._products[: len(cells)])
        np.subtract(self._squares, products, out=products)
        return np.asarray(products.min(1), np.float32)


def median(distances: Floats) -> float:
    """Of an image's distances (h, w), which they count in; never 0."""
    return max(float(np.median(distances)), LEAST_MEDIAN)


def described(stored: NDArray[np.int8]) -> Floats:
    """(2 channels,): the mean and the standard deviation of each channel of features (h, w, channels).

    Of every other cell in both directions: neighbours are averages of much the same.
    """
    cells = stored[::2, ::2].reshape(-1, stored.shape[2]).astype(np.float32)
    mean = cells.mean(0)
    cells -= mean
    return np.concatenate([mean, np.sqrt(np.einsum("nc,nc->c", cells, cells) / np.float32(len(cells)))])


def in_blocks(cells: Floats, height: int, width: int) -> Floats:
    """(blocks, BLOCK * BLOCK, c) of the cells (height * width, c) of a map."""
    channels = cells.shape[1]
    parts = cells.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels).swapaxes(1, 2)
    return np.ascontiguousarray(parts).reshape(-1, BLOCK * BLOCK, channels)


def from_blocks(values: Floats, height: int, width: int) -> Floats:
    """The map (height, width) of (blocks, BLOCK * BLOCK)."""
    parts = values.reshape(height // BLOCK, width // BLOCK, BLOCK, BLOCK).swapaxes(1, 2)
    return np.ascontiguousarray(parts).reshape(height, width)


def whitened(differences: Floats, factors: Floats) -> Floats:
    """The lengths (blocks, n) of differences (blocks, n, c) in each block's own factors (blocks, c, c)."""
    scaled = np.matmul(differences, factors)
    return np.asarray(np.sqrt(np.einsum("bnc,bnc->bn", scaled, scaled)), np.float32)
