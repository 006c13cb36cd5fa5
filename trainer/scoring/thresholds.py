"""From pooled logits of judged images to scores, and to the thresholds between OK, MARGINAL and NG."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import ScoreCalibration, ThresholdRow, Thresholds
from trainer.config import ThresholdConfig
from trainer.scoring import operating_point as wishes
from trainer.scoring.metrics import Confusion, confusion

ROUND_THRESHOLDS = tuple(step / 10 for step in range(1, 10))
SWEEP_FILE = "thresholds.csv"
SWEEP_ROWS = 1000  # of the whole sweep that a bundle carries
SWEEP_COLUMNS = ("threshold", "tp", "fp", "tn", "fn", "precision", "recall", "f1")
NO_MARGINAL = (
    "MARGINAL begins where NG does: no part will be MARGINAL, as nothing that was judged lies between the "
    "good images and NG"
)
CHANGED_GOOD = 0.2  # of the good images that may be MARGINAL under a change
CHANGED_BAD = 0.05  # of the defective ones that may be OK under one for that
LEAST_SLOPE = 1e-3  # where the logits do not rank the images at all: scores must still rise with them

Labels = NDArray[np.int64]  # (n,), 0 good, 1 defective
Values = NDArray[np.float64]  # (n,)


def calibrate(labels: Labels, pooled: Values) -> ScoreCalibration:
    """The logistic curve from pooled logit to probability of a defect.

    Fitted to Platt's targets (n1+1)/(n1+2) and 1/(n0+2) instead of 1 and 0, so that separable images do not
    make it infinitely steep (Platt, Advances in Large Margin Classifiers, 1999).
    """
    from sklearn.linear_model import LogisticRegression

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


def choose(
    labels: Labels,
    pooled: Values,
    scores: ScoreCalibration,
    wish: ThresholdConfig,
    changed: Sequence[tuple[Labels, Values]] = (),
) -> Thresholds:
    """Where NG and MARGINAL begin.

    `ng` by the wish (operating_point.py); at most `marginal_share` of the good ones reach `marginal`. Both
    lie halfway, in logits, between two images that were seen. Where several places are equally good, the
    widest gap is taken. `changed`: labels and logits of some images, for each slight change of light, focus
    or sensor: where they leave room above `marginal` it rises, so that good parts stay OK tomorrow. Raises
    DataError where the images do not carry the wish.
    """
    ng = wishes.begin(labels, pooled, wish, changed)
    marginal = min(ng, _rarely_reached(np.sort(pooled[labels == 0])[::-1], wish.marginal_share, ng))
    if changed:
        marginal = min(ng, max(marginal, _steady_marginal(changed)))
    calibrated = scored(pooled, scores)
    ng_score, marginal_score = scores.score(ng), scores.score(marginal)
    rows = sorted({*ROUND_THRESHOLDS, marginal_score, ng_score})
    bad = int(labels.sum())
    rule = (
        f"ng: {_in_words(wish)} on {len(labels)} judged images ({bad} defective), int8 scores; "
        f"marginal: reached by at most {wish.marginal_share:g} of the good ones"
    )
    table = tuple(_row(labels, calibrated, threshold) for threshold in rows)
    return Thresholds(ng_score, marginal_score, rule, table)


def _in_words(wish: ThresholdConfig) -> str:
    sure = f"at a confidence of {wish.confidence:g},"
    return {
        "f1": "greatest F1",
        "precision": f"a precision of {wish.precision:g} {sure} most defects found,",
        "false_reject_rate": f"a false-reject rate of {wish.false_reject_rate:g} {sure} most defects found,",
        "cost": f"least cost (a miss {wish.cost_of_miss:g}, a false reject {wish.cost_of_false_reject:g})",
    }[wish.choose]


def sweep(labels: Labels, pooled: Values, scores: ScoreCalibration) -> bytes:
    """What every threshold would do, as CSV from the greatest down; evenly thinned to SWEEP_ROWS."""
    cuts = wishes.Cuts.of(labels, pooled)
    kept = np.unique(
        np.linspace(0, len(cuts.logit) - 1, min(SWEEP_ROWS, len(cuts.logit))).round().astype(int)
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SWEEP_COLUMNS)
    for index in kept:
        tp, fp = int(cuts.tp[index]), int(cuts.fp[index])
        found = Confusion(tp, fp, cuts.good - fp, cuts.bad - tp)
        ratios = ("" if one is None else f"{one:.6f}" for one in (found.precision, found.recall, found.f1))
        threshold = f"{scores.score(float(cuts.logit[index])):.9g}"
        writer.writerow((threshold, *asdict(found).values(), *ratios))
    return text.getvalue().encode()


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


def _steady_marginal(changed: Sequence[tuple[Labels, Values]]) -> float:
    """The logit that few good ones reach under any change, but nearly all defective ones do under each."""
    reached = max(float(np.quantile(pooled[labels == 0], 1 - CHANGED_GOOD)) for labels, pooled in changed)
    missed = min(float(np.quantile(pooled[labels == 1], CHANGED_BAD)) for labels, pooled in changed)
    return min(reached, missed)


def _row(labels: Labels, scores: Values, threshold: float) -> ThresholdRow:
    found = confusion(labels, scores, threshold)
    return ThresholdRow(threshold, found.precision, found.recall, found.f1, **asdict(found))
