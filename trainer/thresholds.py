"""From pooled logits of judged images to scores, and to the thresholds between OK, MARGINAL and NG."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from device.bundle import ScoreCalibration, ThresholdRow, Thresholds
from trainer.metrics import confusion

ROUND_THRESHOLDS = tuple(step / 10 for step in range(1, 10))
LEAST_SLOPE = 1e-3  # where the logits do not rank the images at all: scores must still rise with them

Labels = NDArray[np.int64]  # (n,), 0 good, 1 defective
Values = NDArray[np.float64]  # (n,)


def calibrate(labels: Labels, pooled: Values) -> ScoreCalibration:
    """The logistic curve from pooled logit to probability of a defect.

    Fitted to Platt's targets (n1+1)/(n1+2) and 1/(n0+2) instead of 1 and 0, so that separable images do not
    make it infinitely steep (Platt, Advances in Large Margin Classifiers, 1999).
    """
    bad, good = int((labels == 1).sum()), int((labels == 0).sum())
    target = np.where(labels == 1, (bad + 1) / (bad + 2), 1 / (good + 2))
    centre, spread = float(pooled.mean()), float(pooled.std()) + 1e-9
    rows = np.tile((pooled - centre) / spread, 2)[:, np.newaxis]
    outcome = np.repeat([1, 0], len(pooled))
    model = LogisticRegression(C=np.inf, max_iter=1000).fit(
        rows, outcome, sample_weight=np.concatenate([target, 1 - target])
    )
    slope = max(float(model.coef_[0, 0]) / spread, LEAST_SLOPE)
    return ScoreCalibration(slope, float(model.intercept_[0]) - slope * centre)


def scored(pooled: Values, scores: ScoreCalibration) -> Values:
    """The score of each pooled logit."""
    return np.array([scores.score(logit) for logit in pooled])


def choose(labels: Labels, pooled: Values, scores: ScoreCalibration, marginal_share: float) -> Thresholds:
    """Where NG and MARGINAL begin.

    `ng` gives the greatest F1 on the judged images; at most `marginal_share` of the good ones reach
    `marginal`. Both lie halfway, in logits, between two images that were seen. Where equal F1 can be had at
    several places, the widest gap is taken.
    """
    ng = _greatest_f1(labels, pooled)
    marginal = min(ng, _rarely_reached(np.sort(pooled[labels == 0])[::-1], marginal_share, ng))
    calibrated = scored(pooled, scores)
    ng_score, marginal_score = scores.score(ng), scores.score(marginal)
    rows = sorted({*ROUND_THRESHOLDS, marginal_score, ng_score})
    bad = int(labels.sum())
    rule = (
        f"ng: greatest F1 on {len(labels)} judged images ({bad} defective), int8 scores; "
        f"marginal: reached by at most {marginal_share:g} of the good ones"
    )
    table = tuple(_row(labels, calibrated, threshold) for threshold in rows)
    return Thresholds(ng_score, marginal_score, rule, table)


def _greatest_f1(labels: Labels, pooled: Values) -> float:
    """The logit halfway into the widest of the gaps that give the greatest F1."""
    order = np.argsort(-pooled, kind="stable")
    ranked, hits = pooled[order], np.cumsum(labels[order])
    rejected = np.arange(1, len(ranked) + 1)
    f1 = 2 * hits / (rejected + hits[-1])
    below = np.append(ranked[1:], ranked[-1] - 1.0)
    gap = ranked - below
    f1[gap <= 0] = -1.0  # images of equal score fall on the same side
    best = np.flatnonzero(f1 == f1.max())  # quotients of whole numbers: equal ones are exactly equal
    index = int(best[np.argmax(gap[best])])
    return float(ranked[index] + below[index]) / 2


def _rarely_reached(good: Values, share: float, ceiling: float) -> float:
    """A logit that at most `share` of the good ones (descending) reach.

    It lies halfway from the greatest that must not reach it to the next greater one, or to the ceiling.
    """
    allowed = int(share * len(good) + 1e-9)
    if allowed >= len(good):
        return float(good[-1])
    refused = float(good[allowed])
    greater = good[good > refused]
    above = float(greater[-1]) if len(greater) else max(ceiling, refused)
    return (refused + above) / 2


def _row(labels: Labels, scores: Values, threshold: float) -> ThresholdRow:
    found = confusion(labels, scores, threshold)
    return ThresholdRow(threshold, found.precision, found.recall, found.f1, **asdict(found))
