"""A head's weights on the grid of int8, so that what it says changes as little as can be.

The weights that a head has for a cut share one scale, which the greatest of them decides. Rounded each by
itself, the small errors of thousands add up: on magnetic tiles, with a head that masks have taught, to a
quarter of the spread of the scores. Here they are rounded one after the other, and those that follow make
good what each has done, as far as what they see goes together (GPTQ: Frantar et al., ICLR 2023). The
converter finds all of them on its own grid then, and leaves them there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.network.network import CHANNELS, Head

MOST = 127  # of int8, both ways
CELLS_SHARE = 0.1  # how much single cells count, beside the means of images
DAMPING = 0.01  # of the mean variance, added to each

Floats = NDArray[np.float32]


def rounded(head: Head, means: Floats, cells: Floats) -> Head:
    """The head with weights that int8 holds as they are.

    `means` (n, channels): of images, or their tiles; what the head says of the mean of these stays as it is.
    `cells` (m, channels): some single cells, or none. Both of the head's cuts.
    """
    upper = np.linalg.cholesky(np.linalg.inv(_covariance(means, cells))).T
    greatest = _greatest(head)
    scales = np.maximum(greatest, np.finfo(np.float32).tiny) / MOST
    weights = head.weights.astype(np.float64)
    ends = np.abs(weights) >= greatest  # they decide the scales, and are on the grid already
    for at, scale in enumerate(scales):
        exact = weights[at].copy()
        weights[at] = np.clip(np.round(exact / scale), -MOST, MOST) * scale
        made_good = np.outer(upper[at, at + 1 :], (exact - weights[at]) / upper[at, at])
        weights[at + 1 :] -= np.where(ends[at + 1 :], 0.0, made_good)
    bias = head.bias + means.mean(0) @ (head.weights - weights)
    return Head(head.cuts, weights.astype(np.float32), bias.astype(np.float32))


def _greatest(head: Head) -> NDArray[np.float64]:
    """(channels, heads): the greatest weight of the same cut."""
    parts = np.split(np.abs(head.weights), np.cumsum([CHANNELS[cut] for cut in head.cuts])[:-1])
    return np.concatenate([np.full(part.shape, part.max(0), np.float64) for part in parts])


def _covariance(means: Floats, cells: Floats) -> NDArray[np.float64]:
    """(channels, channels), of a mean variance of about 1, and sure to have an inverse."""
    found = _normalized(means)
    if len(cells):
        found += CELLS_SHARE * _normalized(cells)
    return found + DAMPING * np.eye(len(found))


def _normalized(rows: Floats) -> NDArray[np.float64]:
    centred = (rows - rows.mean(0)).astype(np.float64)
    found = centred.T @ centred
    return np.asarray(found * (len(found) / max(np.trace(found), np.finfo(np.float64).tiny)), np.float64)
