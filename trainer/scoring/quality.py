"""How good a way to judge images is, in one number, and how sure a gain in it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from device.image.geometry import Letterbox
from device.inspection.localizer import evidence_in_frame
from trainer.network.network import shift_px
from trainer.scoring import metrics
from trainer.scoring.metrics import pointing_hit

RESAMPLES = 200  # of the bootstrap


@dataclass(frozen=True, slots=True)
class Quality:
    """How well unseen images were ranked and their defects found.

    `ap`: average precision. `place`: 0..1, how well the maps show the defects that have masks, the mean of
    the pointing hit rate and of each map's own AUROC; 0 without masks. `separation`: of good from defective
    in standard deviations (d'; Green and Swets, 1966), which still tells candidates apart where all rank
    without a fault.
    """

    ap: float
    place: float
    separation: float

    @property
    def merit(self) -> float:
        """Ranking comes first: to show every place instead of none is worth 0.05 of average precision.

        One more standard deviation between good and defective, which int8 and a change of light eat into, is
        worth 0.005.
        """
        return self.ap + 0.05 * self.place + 0.005 * self.separation

    @classmethod
    def of(cls, labels: NDArray[np.int64], pooled: NDArray[np.float64], place: float = 0.0) -> Quality:
        """Of one pooled logit an image."""
        ap = metrics.average_precision(labels, pooled)
        good, bad = pooled[labels == 0], pooled[labels == 1]
        spread = np.sqrt((good.var() + bad.var()) / 2) + 1e-9
        return cls(ap or 0.0, place, float((bad.mean() - good.mean()) / spread))


def gain_error(
    labels: NDArray[np.int64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    groups: Sequence[str],
) -> float:
    """The standard error of the gain in merit of one way to judge images over another, places left out.

    `first`, `second`: pooled logits of the same images. By the bootstrap (Efron, 1979): images of either
    label are drawn anew, whole groups at a time.
    """
    gains = []
    for drawn in _drawn(labels, groups):
        merits = [Quality.of(labels[drawn], pooled[drawn]).merit for pooled in (first, second)]
        gains.append(merits[0] - merits[1])
    return float(np.std(gains))


def ap_gain_error(
    labels: NDArray[np.int64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    groups: Sequence[str],
) -> float:
    """The standard error of the gain in average precision, of the same images for both, by that bootstrap.

    Less than that of either alone: an image that is hard for one is mostly hard for the other.
    """
    return float(np.std(_aps(labels, first, groups) - _aps(labels, second, groups)))


def ap_error(labels: NDArray[np.int64], pooled: NDArray[np.float64], groups: Sequence[str]) -> float:
    """The standard error of the average precision, by the same bootstrap."""
    return float(np.std(_aps(labels, pooled, groups)))


def _aps(
    labels: NDArray[np.int64], pooled: NDArray[np.float64], groups: Sequence[str]
) -> NDArray[np.float64]:
    """(RESAMPLES,): metrics.average_precision of what was drawn, all at once: candidates are hundreds."""
    order = np.argsort(-pooled, kind="stable")
    drawn = _counts(labels.tobytes(), labels.dtype.str, tuple(groups))[:, order]
    ends = np.flatnonzero(np.diff(pooled[order], append=np.nan))  # of each score; those of one are one step
    found = np.cumsum(drawn * labels[order], axis=1)[:, ends]
    precision = found / np.maximum(np.cumsum(drawn, axis=1)[:, ends], 1)
    gained = np.diff(found, axis=1, prepend=0)
    return np.asarray((gained * precision).sum(1) / found[:, -1])


@lru_cache(maxsize=4)
def _counts(labels: bytes, kind: str, groups: tuple[str, ...]) -> NDArray[np.int64]:
    """(RESAMPLES, images): how often each was drawn."""
    known = np.frombuffer(labels, kind)
    return np.stack([np.bincount(drawn, minlength=len(known)) for drawn in _drawn(known, groups)])


def _drawn(labels: NDArray[np.int64], groups: Sequence[str]) -> Iterator[NDArray[np.intp]]:
    """Indices of images, drawn anew RESAMPLES times."""
    rng = np.random.default_rng(0)
    parts: list[list[NDArray[np.intp]]] = []
    for label in (0, 1):
        members: dict[str, list[int]] = {}
        for index in np.flatnonzero(labels == label):
            members.setdefault(groups[index], []).append(int(index))
        parts.append([np.array(one) for one in members.values()])
    for _ in range(RESAMPLES):
        yield np.concatenate([part[at] for part in parts for at in rng.integers(0, len(part), len(part))])


def place(values: NDArray[np.float32], placement: Letterbox, mask: NDArray[np.bool_]) -> float:
    """How well a map (h, w) shows the defect of a mask in the image's pixels, 0..1; see Quality."""
    height, width = values.shape
    shown = evidence_in_frame(values, placement, shift_px(placement.target.width // width))
    coverage = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    cells = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA)
    return (pointing_hit(shown, mask) + (metrics.auroc((coverage > 0).ravel(), cells.ravel()) or 0.0)) / 2
