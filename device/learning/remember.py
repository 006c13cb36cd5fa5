"""Making a memory of the features of good images; numpy alone, so that a device can do it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import MemoryKind
from device.bundle.memory import BLOCK, Good, described, in_blocks
from device.learning.coreset import coreset

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
) -> Good:
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
    return Good(kept, means, factors, image_mean, image_whitening, np.zeros(0, np.float32))


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
