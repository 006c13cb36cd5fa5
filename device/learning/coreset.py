"""What is remembered of good images: few rows that stand for many, and what is usual at each place.

numpy alone, so that a device can do it. The rows are chosen by greedy k-centre (Gonzalez, 1985; PatchCore,
Roth et al., CVPR 2022).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import MemoryKind
from device.bundle.memory import BLOCK, GoodFeatures, described, in_blocks

CENTRE_QUANTILE = 0.999  # of good cells: evidence of 0 is rare in good images
POOL = 20_000  # rows that are looked at: more are sampled down at random first
PROJECTED = 64  # dimensions in which distances are compared where rows have more (Johnson, Lindenstrauss)


def coreset(rows: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """The indices of at most `count` of the rows (n, d), in the order in which they were chosen.

    Each is the one furthest from those before it, so that rare rows are kept. A row equal to one that is
    kept is never chosen: of fewer distinct rows than `count`, fewer come back.
    """
    if rows.ndim != 2 or not len(rows) or count < 1:
        raise ValueError(f"rows must be (n, d) with n >= 1 and count >= 1, got {rows.shape} and {count}")
    pool = np.arange(len(rows))
    if len(rows) > max(POOL, count):
        pool = np.sort(rng.choice(pool, max(POOL, count), replace=False))
    points = _projected(rows[pool].astype(np.float32), rng)
    squares = np.einsum("nd,nd->n", points, points)
    centre = points.mean(0)
    chosen = [int((squares - 2 * points @ centre).argmin())]  # the most typical one
    least = np.full(len(points), np.inf, np.float32)
    while len(chosen) < min(count, len(points)):
        last = chosen[-1]
        np.minimum(least, squares + squares[last] - 2 * points @ points[last], out=least)
        least[last] = 0
        furthest = int(least.argmax())
        if least[furthest] <= 1e-6 * squares.max():
            break
        chosen.append(furthest)
    return np.asarray(pool[chosen], np.intp)


def _projected(points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    dimensions = points.shape[1]
    if dimensions <= PROJECTED:
        return points
    directions = rng.standard_normal((dimensions, PROJECTED)).astype(np.float32)
    return np.asarray(points @ directions / np.float32(np.sqrt(PROJECTED)), np.float32)


SHRUNK = 0.1  # of a place's covariance: so much of its mean variance is added to every direction
LEAST_VARIANCE = 1.0  # steps of int8, squared: what rounding hides is never certain
MOST_ROWS = 200_000  # that a coreset is taken from

Features = NDArray[np.int8]  # (images, h, w, channels)
Floats = NDArray[np.float32]


def remember(
    features: Features,
    kind: MemoryKind,
    row_channels: int,
    items: int,
    rng: np.random.Generator,
    rows: NDArray[np.int8] | None = None,
) -> GoodFeatures:
    """What good images showed, of `kind`; at most `items` rows where it is "nearest".

    `rows`: (n, channels) of the cells that count, to take them from; None: all of `features`.
    """
    own = features[:, :, :, :row_channels]
    kept = np.zeros((0, row_channels), np.int8)
    means, factors = np.zeros((0, row_channels), np.float16), np.zeros((0,) + (row_channels,) * 2, np.float16)
    if kind == "nearest":
        kept = _rows(own.reshape(-1, row_channels) if rows is None else rows[:, :row_channels], items, rng)
    else:
        means, factors = _places(own)
    image_mean, image_whitening = whole_images(np.stack([described(image) for image in features]))
    return GoodFeatures(kept, means, factors, image_mean, image_whitening, np.zeros(0, np.float32))


def _rows(cells: NDArray[np.int8], items: int, rng: np.random.Generator) -> NDArray[np.int8]:
    if len(cells) > MOST_ROWS:
        cells = cells[rng.choice(len(cells), MOST_ROWS, replace=False)]
    return np.ascontiguousarray(cells[coreset(cells, items, rng)])


def _places(features: Features) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """(means (cells, c), factors (blocks, c, c)): see Good."""
    _, height, width, channels = features.shape
    means = features.mean(0, dtype=np.float32).reshape(-1, channels).astype(np.float16)
    total = np.zeros((height * width // BLOCK**2, channels, channels), np.float32)
    for image in features:
        blocks = in_blocks(image.reshape(-1, channels) - means.astype(np.float32), height, width)
        total += np.matmul(blocks.swapaxes(1, 2), blocks)
    covariance = total / np.float32(BLOCK**2 * len(features))
    variance = np.trace(covariance, axis1=1, axis2=2) / channels
    ridge = (SHRUNK * variance + LEAST_VARIANCE)[:, np.newaxis, np.newaxis] * np.eye(channels)
    lower = np.linalg.cholesky((covariance + ridge).astype(np.float64))
    return means, np.linalg.inv(lower).swapaxes(1, 2).astype(np.float16)


def whole_images(described_images: Floats) -> tuple[Floats, Floats]:
    """(mean (d,), whitening (d, d)) of images (n, d), the covariance of the standardized ones shrunk."""
    mean = described_images.mean(0)
    sd = described_images.std(0) + np.float32(1e-2)
    covariance = shrunk_covariance((described_images - mean) / sd)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(np.maximum(values, 1e-6)) / np.sqrt(len(values))
    return mean.astype(np.float32), (whitening / sd[:, np.newaxis]).astype(np.float32)


def shrunk_covariance(rows: Floats) -> NDArray[np.float64]:
    """Of centred rows (n, d), drawn towards a multiple of the identity: Ledoit and Wolf, 2004."""
    count, dimensions = rows.shape
    values = rows.astype(np.float64)
    sample = values.T @ values / count
    level = float(np.trace(sample)) / dimensions
    spread = float(((sample - level * np.eye(dimensions)) ** 2).sum())
    squares = values**2
    noise = float((squares.T @ squares / count - sample**2).sum()) / count
    share = min(1.0, noise / spread) if spread > 0 else 1.0
    return np.asarray((1 - share) * sample + share * level * np.eye(dimensions), np.float64)
