"""Few rows that stand for many: greedy k-centre (Gonzalez, 1985; PatchCore, Roth et al., CVPR 2022)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
