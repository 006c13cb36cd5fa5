"""What more images would bring: how well models judge that were made of a quarter and of a half of them.

Of linear heads, whose features are there already, each fold's are fitted anew. Decoders take too long for
that: two are taught by the halves of one part of the images and one by both, and they and the folds' decoders
judge the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainerConfig
from trainer.data.dataset import Sample, folds
from trainer.recipes import probe
from trainer.recipes.learned import TrainedModel
from trainer.scoring import enough, metrics
from trainer.scoring.quality import gain_error

FEWEST = 2  # images of either label, of which a model is made
QUARTERS = 4

Flags = NDArray[np.bool_]
Logits = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """`images`: how many a model was made of. `pooled`: logits of the same images by all such models."""

    images: int
    pooled: Sequence[Logits]

    def ap(self, labels: NDArray[np.int64]) -> float:
        found = [metrics.average_precision(labels, pooled) or 0.0 for pooled in self.pooled]
        return float(np.mean(found))


def described(
    points: Sequence[CurvePoint], labels: NDArray[np.int64], groups: Sequence[str]
) -> dict[str, list[int] | list[float] | float]:
    """For the record: a quarter, half, all; the standard error of the gain from half to all.

    `labels`, `groups`: of the images that are judged.
    """
    half, every = points[-2].pooled[0], points[-1].pooled[0]
    return {
        "images": [point.images for point in points],
        "ap": [round(point.ap(labels), 4) for point in points],
        "gain_error": round(gain_error(labels, every, half, groups), 4),
    }


def of_probe(
    learned: TrainedModel, candidate: probe.Candidate, config: TrainerConfig, seed: int
) -> TrainedModel:
    """The probe's model with the curve of its linear head in the record, where there are enough images."""
    samples, one = learned.judged, candidate.fitted
    search = probe.Search([one.size], samples, config.probe, config.split.folds, seed)
    quarter_of = quarters(samples, search.fold_of, seed)
    if quarter_of is None:
        return learned
    fewer = [
        search.fit(
            *(one.size, one.cuts, one.views, one.strength, one.mask_weight),
            lit=one.lit,
            among=quarter_of < count,
        )
        for count in (1, 2)
    ]
    judged = [found for found in search.judge(fewer) if found.pooling == candidate.pooling]
    share = 1 - 1 / (search.fold_of.max() + 1)
    points = [
        CurvePoint(round(share * len(samples) * part), [found.pooled])
        for part, found in zip((0.25, 0.5, 1.0), (*judged, candidate), strict=True)
    ]
    return noted(learned, described(points, learned.labels, [sample.group for sample in samples]))


def noted(learned: TrainedModel, curve: dict[str, Any]) -> TrainedModel:
    """With the curve in its record, and what it says."""
    said = {**curve, "says": enough.afterwards(curve)}
    return replace(learned, record={**learned.record, "learning_curve": said})


def quarters(samples: Sequence[Sample], fold_of: NDArray[np.int64], seed: int) -> NDArray[np.int64] | None:
    """(images,) 0..3, groups kept together, each quarter with its share of every fold and kind.

    `fold_of`: of the same seed. None where too few of either label are left of a quarter without a fold.
    """
    count = int(fold_of.max()) + 1
    found = np.array(folds(samples, QUARTERS * count, seed)) // count
    labels = np.array([sample.label for sample in samples])
    left = [
        np.sum((labels == label) & (found == 0) & (fold_of != fold))
        for label in (0, 1)
        for fold in range(count)
    ]
    return found if min(left) >= FEWEST else None


def halves(samples: Sequence[Sample], among: Flags, seed: int) -> NDArray[np.int64] | None:
    """(images,) 0 or 1 of some images, -1 of the others; None where a half would have too few of a label."""
    chosen = [sample for sample, kept in zip(samples, among, strict=True) if kept]
    if any(len({one.group for one in chosen if one.label == label}) < 2 * FEWEST for label in (0, 1)):
        return None
    half_of = np.full(len(samples), -1)
    half_of[among] = folds(chosen, 2, seed)
    labels = np.array([sample.label for sample in samples])
    fewest = min(np.sum((labels == label) & (half_of == half)) for label in (0, 1) for half in (0, 1))
    return half_of if fewest >= FEWEST else None
