"""How many parts a threshold sorts for good, at a price in per cent that one is ready to pay.

PBn: the share of bad parts that are sorted out where at most n % of the good ones are lost with them. PGn:
the share of good parts that are passed where at most n % of the bad ones are missed. So a quality engineer
asks, where AUROC averages over thresholds that nobody would choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.scoring.metrics import interval

PRICES = (1, 2, 5)  # per cent
RESAMPLES = 1000
CONFIDENCE = 0.95

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `of` images are sorted for good; between `low` and `high` with CONFIDENCE."""

    hits: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.hits / self.of


def shares(labels: ArrayLike, scores: ArrayLike) -> dict[str, Share]:
    """{"PB1": ..., "PG1": ..., "PB2": ...} of labels 0 or 1 and scores (n,); empty with one class only.

    The interval holds both what the bootstrap says (Efron, 1979; images of either label are drawn anew, which
    moves the threshold) and what so few images leave open at the threshold as it is (Clopper and Pearson,
    1934), which the bootstrap does not see where none is judged wrong.
    """
    truth, values = np.asarray(labels), np.asarray(scores, np.float64)
    good, bad = values[truth == 0], values[truth == 1]
    if not len(good) or not len(bad):
        return {}
    drawn = list(_drawn(good, bad))
    found = {}
    for price in PRICES:
        for name, of, sort in (("PB", len(bad), _bad_sorted_out), ("PG", len(good), _good_passed)):
            hits = sort(good, bad, price)
            tail = 50 * (1 - CONFIDENCE)
            spread = np.percentile([sort(*pair, price) / of for pair in drawn], (tail, 100 - tail))
            exact = interval(hits, of, CONFIDENCE)
            found[f"{name}{price}"] = Share(
                hits, of, float(min(spread[0], exact[0])), float(max(spread[1], exact[1]))
            )
    return found


def _bad_sorted_out(good: Scores, bad: Scores, price: float) -> int:
    """How many bad ones lie above all good ones but those that may be lost."""
    kept = np.sort(good)[: len(good) - _allowed(len(good), price)]
    return int((bad > kept[-1]).sum()) if len(kept) else len(bad)


def _good_passed(good: Scores, bad: Scores, price: float) -> int:
    """How many good ones lie below all bad ones but those that may be missed."""
    return _bad_sorted_out(-bad, -good, price)


def _allowed(count: int, price: float) -> int:
    return int(count * price / 100 + 1e-9)


def _drawn(good: Scores, bad: Scores) -> Iterator[tuple[Scores, Scores]]:
    rng = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        yield rng.choice(good, len(good)), rng.choice(bad, len(bad))
