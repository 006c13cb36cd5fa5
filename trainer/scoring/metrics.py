"""How good scores and maps are: of images, against labels; of pixels, against masks.

Labels are 0 (good, the negative) or 1 (defective, the positive). What is not defined, such as a curve over
one class only, is None, never NaN. Heavy libraries are imported where they are used: `--help` needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 2**16  # of a PixelTally's histograms; tests hold it to 1e-4 of the exact curves
RESAMPLES = 200  # of the bootstrap
AUPRO_LIMIT = 0.3  # the false positive rate up to which Bergmann et al. integrate


# ---- images


def auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the receiver operating characteristic; a tie counts half.

    The probability that a defective image scores above a good one (Hanley and McNeil, Radiology 143, 1982).
    None where there is one class only.
    """
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(labels)
    return _area(roc_auc_score(truth, np.asarray(scores))) if _two_classes(truth) else None


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the precision-recall steps, without interpolation.

    Why not to interpolate: Davis and Goadrich, ICML 2006. None where there is one class only.
    """
    from sklearn.metrics import average_precision_score

    truth = np.asarray(labels)
    return _area(average_precision_score(truth, np.asarray(scores))) if _two_classes(truth) else None


def standard_error(
    measure: Callable[[ArrayLike, ArrayLike], float | None], labels: ArrayLike, scores: ArrayLike
) -> float | None:
    """Of a measure of ranked images, by the bootstrap (Efron, 1979): those of either label are drawn anew.

    None where there is one class only. Where both are ranked without a fault it is 0: that is not certainty.
    """
    truth, values = np.asarray(labels), np.asarray(scores)
    if not _two_classes(truth):
        return None
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(truth == label) for label in (0, 1)]
    drawn = (np.concatenate([rng.choice(one, len(one)) for one in members]) for _ in range(RESAMPLES))
    return float(np.std([measure(truth[chosen], values[chosen]) or 0.0 for chosen in drawn]))


@dataclass(frozen=True, slots=True)
class BestF1:
    """The greatest F1 that any threshold gives, and the highest such threshold (a score >= it rejects)."""

    f1: float
    threshold: float


def f1_max(labels: ArrayLike, scores: ArrayLike) -> BestF1 | None:
    """The best F1 = 2PR/(P+R) over all thresholds (van Rijsbergen, Information Retrieval, 1979, ch. 7).

    Optimistic by construction: it looks at the labels it is measured on. None where there is one class only.
    """
    from sklearn.metrics import precision_recall_curve

    truth = np.asarray(labels)
    if not _two_classes(truth):
        return None
    precision, recall, thresholds = precision_recall_curve(truth, np.asarray(scores))
    total = precision[:-1] + recall[:-1]
    f1 = np.divide(2 * precision[:-1] * recall[:-1], total, out=np.zeros_like(total), where=total > 0)
    best = int(np.flatnonzero(f1 == f1.max())[-1])
    return BestF1(float(f1[best]), float(thresholds[best]))


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts at one threshold, and the rates that follow (Fawcett, Pattern Recognition Letters 27, 2006)."""

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def precision(self) -> float | None:
        """Defective among the rejected: tp/(tp+fp); None where nothing is rejected."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Rejected among the defective: tp/(tp+fn); None where nothing is defective."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        """2tp/(2tp+fp+fn); None where nothing is defective or rejected."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def false_reject_rate(self) -> float | None:
        """Rejected among the good: fp/(fp+tn); None where nothing is good."""
        return _ratio(self.fp, self.fp + self.tn)


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Confusion:
    """Counts where a score of at least `threshold` rejects."""
    defective = np.asarray(labels) == 1
    rejected = np.asarray(scores) >= threshold
    return Confusion(
        tp=int(np.sum(defective & rejected)),
        fp=int(np.sum(~defective & rejected)),
        tn=int(np.sum(~defective & ~rejected)),
        fn=int(np.sum(defective & ~rejected)),
    )


def interval(hits: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Where the true share lies when `hits` of `of` were seen (Clopper and Pearson, Biometrika 26, 1934).

    (0, 1) where nothing was seen.
    """
    from scipy.special import betaincinv

    if not 0 <= hits <= of:
        raise ValueError(f"hits must be 0..{of}, got {hits}")
    tail = (1 - confidence) / 2
    low = float(betaincinv(hits, of - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, of - hits, 1 - tail)) if hits < of else 1.0
    return low, high


# ---- pixels


@dataclass(frozen=True, slots=True, eq=False)
class PixelCounts:
    """What a PixelTally has counted; counts of different images can be added.

    `good`, `defective`: pixels in each bin. `overlap`: of the defective; those of a region weigh 1 together.
    """

    good: NDArray[np.int64]
    defective: NDArray[np.int64]
    overlap: NDArray[np.float64]
    regions: int
    pointed: int
    hits: int

    @classmethod
    def none(cls) -> PixelCounts:
        """Of no image."""
        empty = np.zeros(BINS, np.int64)
        return cls(empty, empty, np.zeros(BINS), 0, 0, 0)

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(
            self.good + other.good,
            self.defective + other.defective,
            self.overlap + other.overlap,
            self.regions + other.regions,
            self.pointed + other.pointed,
            self.hits + other.hits,
        )

    @property
    def auroc(self) -> float | None:
        """Area under the ROC curve over all pixels; None unless there are good and defective ones."""
        good, defective = _from_the_top(self.good), _from_the_top(self.defective)
        if not good[-1] or not defective[-1]:
            return None
        return _area(_under(good / good[-1], defective / defective[-1]))

    @property
    def aupro(self) -> float | None:
        """Area under the per-region-overlap curve up to a false positive rate of 0.3, divided by 0.3.

        The overlap is the share of a defective region that is marked, averaged over all regions (8-connected
        components of the masks); the rate is over all good pixels. Bergmann et al., CVPR 2019, and
        International Journal of Computer Vision 129, 2021, section 5. None unless there are both.
        """
        good, overlap = _from_the_top(self.good), _from_the_top(self.overlap)
        if not good[-1] or not self.regions:
            return None
        rate, overlap = good / good[-1], overlap / self.regions
        inside = rate <= AUPRO_LIMIT
        rates = np.append(rate[inside], AUPRO_LIMIT)
        overlaps = np.append(overlap[inside], np.interp(AUPRO_LIMIT, rate, overlap))
        return _area(_under(rates, overlaps) / AUPRO_LIMIT)

    @property
    def pointing_hit_rate(self) -> float | None:
        """The share of defective images in which the map's maximum lies inside the mask; None without any."""
        return _ratio(self.hits, self.pointed)


class PixelTally:
    """Pixel metrics over any number of maps in the memory of three histograms.

    Feed it each map with its mask, then ask. Values are sorted into BINS equal bins over low..high, the range
    of the maps (values outside fall into the end bins); values of one bin count as ties.
    """

    def __init__(self, low: float, high: float) -> None:
        """The range is in the maps' own unit."""
        if not low < high:
            raise ValueError(f"the range of the maps must be low < high, got {low}..{high}")
        self._low = low
        self._bins_per_unit = BINS / (high - low)
        self.counts = PixelCounts.none()

    def add(self, evidence: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> None:
        """One image: its map, float (H, W), and its mask, bool (H, W), all False for a good one."""
        if evidence.ndim != 2 or evidence.shape != mask.shape or mask.dtype != np.bool_:
            raise ValueError(
                f"map and bool mask must both be (H, W), got {evidence.shape} and {mask.dtype} {mask.shape}"
            )
        if not np.isfinite(evidence).all():
            raise ValueError("map must be finite")
        bins = np.clip((evidence - self._low) * self._bins_per_unit, 0, BINS - 1).astype(np.int32)
        self.counts += _counted(bins, mask, hit=bool(mask.any()) and pointing_hit(evidence, mask))

    @property
    def auroc(self) -> float | None:
        """Area under the ROC curve of all pixels; None where it is not defined."""
        return self.counts.auroc

    @property
    def aupro(self) -> float | None:
        """Area under the per-region overlap; None where it is not defined."""
        return self.counts.aupro

    @property
    def pointing_hit_rate(self) -> float | None:
        """How often the maximum lies in the mask; None where it is not defined."""
        return self.counts.pointing_hit_rate


def _counted(bins: NDArray[np.int32], mask: NDArray[np.bool_], *, hit: bool) -> PixelCounts:
    """Of one image."""
    count, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    of_pixel = regions[mask].astype(np.int32, copy=False)
    areas = np.bincount(of_pixel, minlength=count)
    return PixelCounts(
        np.bincount(bins[~mask], minlength=BINS),
        np.bincount(bins[mask], minlength=BINS),
        np.asarray(np.bincount(bins[mask], 1.0 / areas[of_pixel], BINS), np.float64),
        count - 1,  # component 0 is the background
        int(mask.any()),
        int(hit),
    )


def pointing_hit(evidence: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> bool:
    """Whether the map's maximum (the first in reading order) lies in the mask.

    The pointing game of Zhang et al., ECCV 2016, without their tolerance of 15 px.
    """
    return bool(mask.flat[int(np.argmax(evidence))])


def _from_the_top(histogram: NDArray[np.generic]) -> NDArray[np.float64]:
    """How much lies at or above each bin, from the highest bin down, with a 0 in front."""
    return np.concatenate([[0.0], np.cumsum(histogram[::-1], dtype=np.float64)])


def _under(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The area under straight lines between points."""
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)


def _area(summed: float) -> float:
    """Without the rounding of a long sum, so that a perfect curve has exactly 1."""
    return round(float(summed), 12)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _two_classes(truth: NDArray[np.generic]) -> bool:
    return bool(np.any(truth == 1) and np.any(truth == 0))
