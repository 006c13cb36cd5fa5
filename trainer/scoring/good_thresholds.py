"""Thresholds from good images alone: from the share of good parts that may be rejected."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict

import numpy as np

from device.bundle.bundle import ScoreCalibration, ThresholdRow, Thresholds
from trainer.config import ThresholdConfig
from trainer.scoring.metrics import confusion, interval
from trainer.scoring.thresholds import Values, scored

log = logging.getLogger(__name__)

STEEPNESS = 4.0  # logits from the typical good image to the threshold: its score is 0.018
BEYOND = 0.25  # of the way from the typical to the strangest good image: the margin beyond the latter
LEAST_FOUND = 0.5  # of the made defects, at NG: fewer are worth a warning
ROUND_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def images_needed(rate: float, confidence: float) -> int:
    """So many good images, none of them rejected, show a rate below `rate` by the two-sided interval."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log1p(-rate))


def choose(pooled: Values, made: Values, wish: ThresholdConfig) -> tuple[ScoreCalibration, Thresholds]:
    """Where NG and MARGINAL begin, and the scores that go with it: NG is 0.5.

    `pooled`: logits of good images that the memory had not seen. At most the wish's `false_reject_rate` of
    them reach NG, at most its `marginal_share` MARGINAL. Where not one may, NG lies beyond the strangest by
    a margin: unlike operating_point.py, this refuses nothing, since ten good images are a beginning. `made`:
    logits of defects made from good images, which say what such a threshold costs.
    """
    rate, confidence = wish.false_reject_rate, wish.confidence
    ranked = np.sort(pooled)[::-1]
    middle = float(np.median(ranked))
    ng = _reached_by(ranked, rate, middle)
    marginal = min(ng, _reached_by(ranked, max(rate, wish.marginal_share), middle))
    slope = STEEPNESS / max(ng - middle, 1e-6)
    scores = ScoreCalibration(slope, -slope * ng)
    rejected = int((pooled >= ng).sum())
    low, high = interval(rejected, len(pooled), confidence)
    needed = images_needed(rate, confidence)
    rule = (
        f"ng: rejects {rejected} of {len(pooled)} good images, each judged by a memory without it; with "
        f"{confidence:.0%} confidence {low:.2%} to {high:.2%} of good parts are rejected; wanted {rate:.2%}"
    )
    if len(pooled) < needed:
        log.warning(
            "%d good images cannot show that at most %.2f%% of good parts are rejected: with %.0f%% "
            "confidence it is up to %.2f%%; %d images would be needed",
            len(pooled),
            100 * rate,
            100 * confidence,
            100 * high,
            needed,
        )
        rule += f", which {needed} images would be needed to show"
    found = int((made >= ng).sum())
    rule += f"; {found} of {len(made)} defects made from good images reach it"
    if found < LEAST_FOUND * len(made):
        log.warning(
            "at NG %d of %d defects made from good images are found, the others are not stranger than the "
            "strangest good images: look at these in the report, allow more false rejects ([threshold] "
            "false_reject_rate), learn from more good images, or from a few known defects (--from)",
            found,
            len(made),
        )
    judged = scored(pooled, scores)
    at = {0.5, scores.score(marginal), *ROUND_THRESHOLDS}
    table = tuple(_row(judged, threshold) for threshold in sorted(at))
    return scores, Thresholds(0.5, min(0.5, scores.score(marginal)), rule, table)


def _reached_by(ranked: Values, share: float, middle: float) -> float:
    """A logit that at most `share` of the descending ones reach."""
    allowed = int(share * len(ranked) + 1e-9)
    refused = float(ranked[min(allowed, len(ranked) - 1)])
    if allowed == 0:
        return refused + BEYOND * max(refused - middle, 1e-6)
    greater = float(ranked[allowed - 1])
    return (refused + greater) / 2 if greater > refused else float(np.nextafter(refused, np.inf))


def _row(scores: Values, threshold: float) -> ThresholdRow:
    found = confusion(np.zeros(len(scores), np.int64), scores, threshold)
    return ThresholdRow(threshold, found.precision, found.recall, found.f1, **asdict(found))
