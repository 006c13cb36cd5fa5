"""The memory of good parts: how far a frame's features lie from all that good frames have shown.

In a bundle that has one, the model gives features instead of evidence, and memory.npz holds int8 rows of
the same kind, taken from good images. A cell's distance to the nearest row is what is strange about it
(PatchCore, Roth et al., CVPR 2022). The features are whitened, so a memory of a single row, their mean, gives
the distance of Mahalanobis: a Gaussian that all cells share.

Where parts lie still, each cell is compared with a row of its own: the mean of good images at that place
(PaDiM, Defard et al., ICPR 2021, with one covariance for all places).

Whole numbers below 2**24 are exact in float32: the distances are the same on every machine, whatever the
order in which its BLAS adds them up.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from device.calibration import MemorySpec
from device.errors import BundleError

FILE = "memory.npz"
DTYPES = {"items": "int8"}
WITH_HEAD = {**DTYPES, "head": "float32"}
BLOCK_BYTES = 2**20  # of products at a time: they stay in a processor's cache until the least is found
LEAST_TYPICAL = 1.0  # steps of int8: a flat image must not divide by 0

Items = NDArray[np.int8]


class Memory:
    """`items`: int8 (n, channels), in the units of the model's int8 output. One frame at a time.

    `head`: where a few defects are known (trainer.sharpen), float32 (channels + 1,): weights of a cell's
    features and a constant, whose sum is added to its evidence.
    """

    def __init__(self, items: Items, spec: MemorySpec, head: NDArray[np.float32] | None = None) -> None:
        if items.ndim != 2 or items.dtype != np.int8 or items.shape != (spec.items, spec.channels):
            expected = f"int8 ({spec.items}, {spec.channels})"
            raise ValueError(f"items must be {expected}, got {items.dtype} {items.shape}")
        if head is not None and (head.shape != (spec.channels + 1,) or not np.isfinite(head).all()):
            raise ValueError(f"head must be ({spec.channels + 1},) finite numbers, got {head.shape}")
        self.items, self.spec, self.head = items, spec, head
        self._rows = rows = items.astype(np.float32)
        self._doubled = np.ascontiguousarray(2 * rows.T)
        self._squares = np.einsum("nc,nc->n", rows, rows)
        self._cells = max(1, min(1024, BLOCK_BYTES // (4 * len(rows))))
        self._products = np.empty((self._cells, len(rows)), np.float32)

    def evidence(self, stored: NDArray[np.int8]) -> NDArray[np.float32]:
        """The map (h, w) for features int8 (h, w, channels): 0 is MemorySpec.centre, its unit the spread."""
        spec = self.spec
        distances = self.distances(stored)
        if spec.sigma_cells:
            distances = np.asarray(cv2.GaussianBlur(distances, (0, 0), spec.sigma_cells), np.float32)
        if spec.relative:
            distances = distances / np.float32(max(float(np.median(distances)), LEAST_TYPICAL))
        found = np.asarray((distances - np.float32(spec.centre)) / np.float32(spec.spread), np.float32)
        if self.head is not None:
            found += stored.astype(np.float32) @ self.head[:-1] + self.head[-1]
        return found

    def distances(self, stored: NDArray[np.int8]) -> NDArray[np.float32]:
        """Of each cell (h, w) to its nearest row, or to its own, Euclidean, in steps of int8."""
        height, width, channels = stored.shape
        cells = stored.reshape(-1, channels).astype(np.float32)
        if self.spec.kind == "position":
            cells -= self._rows
            return np.asarray(np.sqrt(np.einsum("nc,nc->n", cells, cells)).reshape(height, width))
        found = np.einsum("nc,nc->n", cells, cells)
        for start in range(0, len(cells), self._cells):
            found[start : start + self._cells] += self._nearest(cells[start : start + self._cells])
        return np.asarray(np.sqrt(np.maximum(found, 0, out=found), out=found).reshape(height, width))

    def _nearest(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of each cell (n, channels) the least of |row|^2 - 2 cell row."""
        products = np.matmul(cells, self._doubled, out=self._products[: len(cells)])
        np.subtract(self._squares, products, out=products)
        return np.asarray(products.min(1), np.float32)

    def to_bytes(self) -> bytes:
        """The content of memory.npz."""
        file = io.BytesIO()
        arrays = {"items": self.items} if self.head is None else {"items": self.items, "head": self.head}
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    @classmethod
    def from_file(cls, path: Path, spec: MemorySpec) -> Memory:
        """Raises BundleError naming what is wrong with the file."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                content: dict[str, NDArray[Any]] = {name: arrays[name] for name in arrays.files}
        except (OSError, EOFError, ValueError, BadZipFile) as error:
            raise BundleError(f"{path}: {error}") from None
        found = {name: array.dtype.name for name, array in content.items()}
        if found not in (DTYPES, WITH_HEAD):
            raise BundleError(f"{path}: must hold {DTYPES} or {WITH_HEAD}, got {found}")
        try:
            return cls(content["items"], spec, content.get("head"))
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from None
