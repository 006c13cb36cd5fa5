"""The probe: linear evidence heads on a frozen backbone, chosen by cross-validation.

A head is fitted to the means of whole images, and where there are masks to single cells as well: the means
alone leave it open what a head says of a cell, as long as it comes out right on average.

Candidates are input sizes, cuts of the backbone, copies to train on that are mirrored, turned or in other
light, strengths of regularization, and poolings. Each fold's head judges the images that it has not seen; the
head that ships is trained in the same way on all of them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from device.bundle.bundle import Pooling, PreprocessSpec
from device.inspection.detector import merged, pooled_tiles
from device.inspection.framing import Framing
from device.inspection.preprocess import ModelInput
from trainer.config import ProbeConfig
from trainer.data.dataset import Sample, folds, read_mask
from trainer.data.tiling import MACS_PER_PX, PERHAPS, Tiles, cuts, describe
from trainer.network.cells import Cells
from trainer.network.export import Int8Model
from trainer.network.features import (
    LIT,
    CachingModel,
    ExtractedFeatures,
    channels_of,
    evidence,
    extract,
    inputs,
)
from trainer.network.network import CANDIDATE_CUTS, Cuts, Head
from trainer.recipes.in_words import in_words
from trainer.scoring.quality import Quality, ap_error, ap_gain_error, place

log = logging.getLogger(__name__)

Change = Callable[[int, ModelInput], ModelInput]  # of the images of a data set, by their number

FIRST_STRENGTH = 1.0  # the one with which all candidates are compared
ITERATIONS = 100
OWN_CONSTANT = 10.0  # of cells: so large that regularization does not hold on to the weight that goes with it
LEAST_ERROR = 0.005  # of the merit: one standard deviation of separation, where all rank without a fault
PLACE_ERROR = 0.02  # of the place
WORST_ROUNDS = 3  # in which the defective tile of an image without a mask is looked for


@dataclass(frozen=True, slots=True, eq=False)
class FittedHeads:
    """The heads of all folds for one way to build the model, trained on so many sets of views.

    `lit`: on copies in other light as well. `mask_weight`: of the cells that masks tell about, beside the
    images.
    """

    size: InputSize
    cuts: Cuts
    views: int
    strength: float
    mask_weight: float
    lit: bool
    heads: Head


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """FittedHeads heads with one pooling, and how each did on the images of its fold.

    `pooled`: the logits (images,).
    """

    fitted: FittedHeads
    pooling: Pooling
    quality: Quality
    pooled: NDArray[np.float64]

    def describe(self) -> dict[str, object]:
        """For the log, and for the record in a bundle."""
        fitted, quality = self.fitted, self.quality
        return {
            **describe(fitted.size.preprocess),
            "cuts": list(fitted.cuts),
            "views": fitted.size.views[fitted.views - 1],
            "lit": fitted.lit,
            "strength": fitted.strength,
            "mask_weight": fitted.mask_weight,
            "pooling_share": self.pooling.share,
            "ap": round(quality.ap, 4),
            "place": round(quality.place, 3),
            "separation": round(quality.separation, 2),
        }


def choose(search: Search) -> tuple[Candidate, list[Candidate]]:
    """(the best candidate, all that were compared, best first).

    Sizes, cuts and weights of masks are compared on the images as they are, with every pooling; the best few
    of them with more views; the best of all with copies in other light, and then with other strengths.
    """
    plain = [
        search.fit(size, cuts, 1, FIRST_STRENGTH, weight)
        for size in search.sizes
        for cuts in CANDIDATE_CUTS
        for weight in search.mask_weights(size)
    ]
    compared = search.ranked(search.judge(plain))
    finalists = list(dict.fromkeys(one.fitted for one in compared))[: search.config.finalists]
    viewed = [
        search.fit(one.size, one.cuts, count, FIRST_STRENGTH, one.mask_weight)
        for one in finalists
        for count in range(2, len(one.size.views) + 1)
    ]
    compared = search.ranked(compared + search.judge(viewed))
    rivals, others = _in_the_better_light(search, compared)
    best = rivals[0].fitted
    strengths = [
        search.fit(best.size, best.cuts, best.views, strength, best.mask_weight, lit=best.lit)
        for strength in search.config.strengths
        if strength != FIRST_STRENGTH
    ]
    compared = search.ranked(rivals + search.judge(strengths)) + others
    for one in compared[:5]:
        log.info("%s", in_words(one.describe()))
    return compared[0], compared


def _in_the_better_light(
    search: Search, compared: list[Candidate]
) -> tuple[list[Candidate], list[Candidate]]:
    """(those among which the best is, the others): it learns from copies in other light, or it does not.

    Such copies teach the head what not to look at. The merit decides, not the place first: a place shown a
    little better or worse by luck would outweigh what they do for the ranking.
    """
    best = compared[0]
    one = best.fitted
    if not one.size.lit:
        return compared, []
    lit = search.judge([search.fit(one.size, one.cuts, one.views, one.strength, one.mask_weight, lit=True)])
    merit = next(judged.quality.merit for judged in lit if judged.pooling == best.pooling)
    return (search.ranked(lit), compared) if merit > best.quality.merit else (compared, lit)


def ranked(judged: Sequence[Candidate], labels: NDArray[np.int64], groups: Sequence[str]) -> list[Candidate]:
    """The best first.

    Without masks by merit. With masks, all that rank the images as well as the best ranker does come first,
    by how well they show the defects: what is within one standard error of the difference is luck, and a
    place is not (the rule is that of Breiman, Friedman, Olshen and Stone, Classification and Regression
    Trees, 1984, who take the simplest model instead). The error is that of the same images for both: one
    candidate's own error is many times as large, and a ranking that is worse for certain would pass.
    """
    by_merit = sorted(judged, key=lambda one: one.quality.merit, reverse=True)
    if not any(one.quality.place for one in judged):
        return by_merit
    best = max(by_merit, key=lambda one: one.quality.ap)

    def key(one: Candidate) -> tuple[bool, float]:
        lost = best.quality.ap - one.quality.ap
        alike = lost <= ap_gain_error(labels, best.pooled, one.pooled, groups)
        return alike, one.quality.place if alike else 0.0

    return sorted(by_merit, key=key, reverse=True)


def cheapest_first(
    best_first: Sequence[Candidate], labels: NDArray[np.int64], groups: Sequence[str]
) -> list[Candidate]:
    """Before the others those of the cheapest size of input that is as good as the best.

    As good is what judges within one standard error of its average precision, and shows the places as well:
    what is within the error is luck, and a larger input costs its time at every part.
    """
    best = best_first[0]
    error = max(ap_error(labels, best.pooled, groups), LEAST_ERROR)
    as_good = {
        id(one)
        for one in best_first
        if one.quality.merit >= best.quality.merit - error
        and one.quality.ap >= best.quality.ap - error
        and one.quality.place >= best.quality.place - PLACE_ERROR
    }
    cheapest = min(one.fitted.size.macs for one in best_first if id(one) in as_good)
    return sorted(best_first, key=lambda one: id(one) not in as_good or one.fitted.size.macs > cheapest)


def unchanged(_number: int, model_input: ModelInput) -> ModelInput:
    """A model input as it is: the change that changes nothing."""
    return model_input


class InputSize:
    """One size of input: its int8 backbone, and its features, extracted when they are first asked for."""

    def __init__(
        self,
        preprocess: PreprocessSpec,
        backbone: Int8Model | CachingModel,
        samples: Sequence[Sample],
        views: tuple[str, ...],
        *,
        lit: bool = False,
    ) -> None:
        """`lit`: whether there is time for copies in other light as well."""
        self.preprocess, self.backbone, self.views, self.lit = preprocess, backbone, views, lit
        self.tiles = Tiles.of(samples, preprocess)
        self._samples = samples
        px = preprocess.size.width * preprocess.size.height
        self.macs = px * MACS_PER_PX * len(self.tiles) / len(samples)  # multiply-adds an image
        self._features: dict[str, ExtractedFeatures] = {}

    def features(self, cuts: Cuts, count: int, *, lit: bool = False) -> NDArray[np.float32]:
        """(views, tiles, channels of the cuts) of the first `count` sets of views, and in other light."""
        return channels_of(np.concatenate([one.means for one in self._extracted(count, lit)]), cuts)

    def cells(self, cuts: Cuts, count: int, *, lit: bool = False) -> Cells:
        """Of the same views, those whose truth is known, with the channels of the cuts."""
        found = Cells.of([one.cells for one in self._extracted(count, lit)])
        return replace(found, rows=channels_of(found.rows, cuts))

    def _extracted(self, count: int, lit: bool) -> list[ExtractedFeatures]:
        names = (*self.views[:count], *([LIT] if lit else []))
        for name in names:
            if name not in self._features:
                self._features[name] = extract(self.backbone, self._samples, self.preprocess, name)
        return [self._features[name] for name in names]


class Search:
    """What every candidate is fitted and judged on: labelled images in folds, at several sizes of input."""

    def __init__(
        self, sizes: Sequence[InputSize], samples: Sequence[Sample], config: ProbeConfig, k: int, seed: int
    ) -> None:
        self.sizes, self.samples, self.config = sizes, samples, config
        self.labels = np.array([sample.label for sample in samples])
        self.fold_of = np.array(folds(samples, fold_count(samples, k), seed))
        self._poolings = poolings(config)

    def mask_weights(self, size: InputSize) -> list[float]:
        """Those to try: without masks there is only one way."""
        known = size.cells(CANDIDATE_CUTS[0], 1)
        return self.config.mask_weights if known.tell else [0.0]

    def fit(
        self,
        size: InputSize,
        cuts: Cuts,
        views: int,
        strength: float,
        mask_weight: float = 0.0,
        *,
        lit: bool = False,
        among: NDArray[np.bool_] | None = None,
    ) -> FittedHeads:
        """A head for each fold, trained on the other folds. `among` (images,): on these of them alone."""
        of_image = [self.fold_of != fold for fold in range(self.fold_of.max() + 1)]
        chosen = of_image if among is None else [part & among for part in of_image]
        parts = [part[size.tiles.image] for part in chosen]
        heads = _heads(size, cuts, views, strength, mask_weight, parts, lit=lit)
        return FittedHeads(size, cuts, views, strength, mask_weight, lit, heads)

    def fit_on_all(self, fitted: FittedHeads) -> Head:
        """The head to ship: the same, trained on every image."""
        one, every = fitted, np.ones(len(fitted.size.tiles), np.bool_)
        return _heads(one.size, one.cuts, one.views, one.strength, one.mask_weight, [every], lit=one.lit)

    def ranked(self, judged: Sequence[Candidate]) -> list[Candidate]:
        """The best first, of the cheapest size that is as good as the best."""
        groups = [sample.group for sample in self.samples]
        return cheapest_first(ranked(judged, self.labels, groups), self.labels, groups)

    def judge(self, fitted: Sequence[FittedHeads], change: Change = unchanged) -> list[Candidate]:
        """All heads on the images that they have not seen, `change` made to these, with every pooling."""
        judged: list[Candidate] = []
        for size in self.sizes:
            of_size = [one for one in fitted if one.size is size]
            if of_size:
                judged += self._judge(of_size, size, change)
        return judged

    def _judge(self, fitted: Sequence[FittedHeads], size: InputSize, change: Change) -> list[Candidate]:
        """Heads of one size on the images unseen by each, so that an image goes through its backbone once."""
        seen = [_Seen(one, self._poolings) for one in fitted]
        prepared = map(change, count(), inputs(self.samples, size.preprocess, "judging"))
        with threadpool_limits(1, "blas"):  # see _fit; the backbone has threads of its own
            self._see(seen, size, prepared)
        return [judged for one in seen for judged in one.judged(self.labels)]

    def _see(self, seen: Sequence[_Seen], size: InputSize, prepared: Iterable[ModelInput]) -> None:
        for sample, fold, model_input in zip(self.samples, self.fold_of, prepared, strict=True):
            maps: list[list[NDArray[np.float32]]] = [[] for _ in seen]
            for tensor in cuts(model_input):
                found = list(size.backbone.run(tensor))
                for one, tiles in zip(seen, maps, strict=True):
                    tiles.append(one.map(found, fold))
            mask = read_mask(sample) if sample.mask else None
            for one, tiles in zip(seen, maps, strict=True):
                one.add(tiles, model_input.framing, mask)


class _Seen:
    """What one candidate's heads say, image after image: each image by the head that has not seen it."""

    def __init__(self, fitted: FittedHeads, ways: Sequence[Pooling]) -> None:
        self._fitted, self._poolings = fitted, ways
        self._pooled: list[list[float]] = []  # of each image, with each pooling
        self._places: list[float] = []

    def map(self, cuts: Sequence[NDArray[np.float32]], fold: int) -> NDArray[np.float32]:
        """(h, w) of one tile of an image of a fold."""
        return evidence(cuts, self._fitted.heads.only(fold))[:, :, 0]

    def add(
        self, maps: Sequence[NDArray[np.float32]], framing: Framing, mask: NDArray[np.bool_] | None
    ) -> None:
        """The maps of all tiles of an image."""
        self._pooled.append([max(pooled_tiles(framing, maps, pooling)) for pooling in self._poolings])
        if mask is not None:
            self._places.append(place(merged(framing, maps), framing.placement, mask))

    def judged(self, labels: NDArray[np.int64]) -> list[Candidate]:
        place = float(np.mean(self._places or 0.0))
        return [
            Candidate(self._fitted, pooling, Quality.of(labels, pooled, place), pooled)
            for pooling, pooled in zip(self._poolings, np.array(self._pooled).T, strict=True)
        ]


def poolings(config: ProbeConfig) -> list[Pooling]:
    """The poolings to try."""
    return [Pooling("top" if share < 1 else "mean", share) for share in config.pooling_shares]


def fold_count(samples: Sequence[Sample], k: int) -> int:
    """At most as many folds as there are groups of the rarer label, so that each fold judges some of it."""
    groups = [len({sample.group for sample in samples if sample.label == label}) for label in (0, 1)]
    return max(2, min(k, *groups))


def _heads(
    size: InputSize,
    cuts: Cuts,
    views: int,
    strength: float,
    mask_weight: float,
    parts: Sequence[NDArray[np.bool_]],
    *,
    lit: bool,
) -> Head:
    """One for each of some parts of the tiles, (tiles,)."""
    seen = size.features(cuts, views, lit=lit)
    known = size.cells(cuts, views, lit=lit) if mask_weight else None
    fits = [
        _fit_to_tiles(
            seen[:, part], size.tiles.part(part), strength, known.part(part) if known else None, mask_weight
        )
        for part in parts
    ]
    weights = np.stack([weights for weights, _ in fits], axis=1)
    return Head(cuts, weights, np.array([bias for _, bias in fits]))


def _fit_to_tiles(
    seen: NDArray[np.float32],
    tiles: Tiles,
    strength: float,
    known: Cells | None = None,
    weight: float = 0.0,
) -> tuple[NDArray[np.float32], np.float32]:
    """As _fit, on (views, tiles, channels).

    Of a defective image without a mask, all tiles are taken for defective at first, and then the one that the
    head finds worst (MI-SVM: Andrews et al., NIPS 2002): that one speaks for the image.
    """
    labels = (tiles.truth > 0).astype(np.int64)
    weights, bias = _fit(seen[:, tiles.clear], labels[tiles.clear], strength, known, weight)
    for _ in range(WORST_ROUNDS if (tiles.truth == PERHAPS).any() else 0):
        chosen = tiles.with_worst(seen[0] @ weights + bias)
        weights, bias = _fit(seen[:, chosen], labels[chosen], strength, known, weight)
    return weights, bias


def _fit(
    seen: NDArray[np.float32],
    labels: NDArray[np.int64],
    strength: float,
    known: Cells | None = None,
    weight: float = 0.0,
) -> tuple[NDArray[np.float32], np.float32]:
    """(weights (channels,), bias) of a class-balanced logistic regression on (views, images, channels).

    A view counts as a share of its image: `strength` means the same with any number of them. The cells that
    are `known` weigh `weight` times as much as all images together, half of it for the defective ones.
    """
    mean, sd = seen[0].mean(0), seen[0].std(0) + np.float32(1e-3)
    rows = ((seen - mean) / sd).reshape(-1, seen.shape[2])
    truth = np.tile(labels, len(seen))
    shares = _balanced(truth)
    if known is not None and known.tell:
        rows = np.concatenate([np.pad(rows, ((0, 0), (0, 1))), _rows_of(known, sd)])
        truth = np.concatenate([truth, known.defective])
        each = weight * shares.sum() / len(known.rows)
        shares = np.concatenate([shares, each * _balanced(known.defective)])
    model = LogisticRegression(C=strength / len(seen), max_iter=ITERATIONS)
    # such small products take several threads longer than one, which waits for nobody
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # judged by cross-validation, converged or not
        model.fit(rows, truth, shares)
    weights = (model.coef_[0, : len(sd)] / sd).astype(np.float32)
    return weights, np.float32(model.intercept_[0] - mean @ weights)


def _rows_of(known: Cells, sd: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cells in the units of images, (n, channels + 1): their spread is the images', and they have a constant.

    What a defect adds to one cell it adds many times less to the mean of an image: with the same unit for
    both, the cells would want a head many times smaller than the images do.
    """
    good = known.rows[~known.defective]
    rows = (known.rows - good.mean(0)) / sd
    rows /= np.sqrt(((good / sd).var(0)).mean()) + np.float32(1e-9)
    return np.pad(rows, ((0, 0), (0, 1)), constant_values=OWN_CONSTANT)


def _balanced(labels: NDArray[Any]) -> NDArray[np.float64]:
    """The weight of each, with which both labels weigh the same and all together their number."""
    share = np.mean(labels == 1)
    return np.where(labels == 1, 0.5 / share, 0.5 / (1 - share))
