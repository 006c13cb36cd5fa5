"""The first figures of a report: how good, and between what limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Calibration
from trainer.report import page
from trainer.report.judged import Judged
from trainer.report.page import Markup
from trainer.scoring import metrics


def warnings(training: Mapping[str, Any]) -> list[Markup]:
    """What the training warned of."""
    return [page.paragraph(f"Warning: {text}.") for text in training.get("warnings", ())]


def summary(calibration: Calibration, judged: Judged) -> Markup:
    """A few large figures with their intervals."""
    labels, scores = judged.labels, judged.scores
    at_ng = metrics.confusion(labels, scores, calibration.thresholds.ng)
    bad = int(labels.sum())
    if judged.made is not None:
        return _good_summary(calibration, judged.scores, judged.made)
    return page.tiles(
        {
            "AUROC": (metrics.auroc(labels, scores), f"{len(labels) - bad} good, {bad} defective"),
            "average precision": (metrics.average_precision(labels, scores), "over all thresholds"),
            "F1 at NG": (at_ng.f1, f"score of {calibration.thresholds.ng:.4f} or more"),
            "precision at NG": (at_ng.precision, _between(at_ng.tp, at_ng.tp + at_ng.fp)),
            "recall at NG": (at_ng.recall, _between(at_ng.tp, at_ng.tp + at_ng.fn)),
            "false rejects at NG": (at_ng.false_reject_rate, _between(at_ng.fp, at_ng.fp + at_ng.tn)),
        }
    )


def _good_summary(calibration: Calibration, scores: NDArray[np.float64], made: NDArray[np.float64]) -> Markup:
    """Of good images, and of defects that were made from them, which say nothing of what real ones give."""
    labels = np.repeat([0, 1], [len(scores), len(made)])
    ng, marginal = calibration.thresholds.ng, calibration.thresholds.marginal
    shares = {
        "false rejects at NG": (scores, ng),
        "good at MARGINAL or NG": (scores, marginal),
        "made defects at NG": (made, ng),
    }
    counts = {name: (int((values >= level).sum()), len(values)) for name, (values, level) in shares.items()}
    return page.tiles(
        {
            **{name: (hits / of, _between(hits, of)) for name, (hits, of) in counts.items()},
            "AUROC of made defects": (
                metrics.auroc(labels, np.concatenate([scores, made])),
                f"{len(scores)} good images, {len(made)} defects made from them",
            ),
        }
    )


def _between(hits: int, of: int) -> str:
    if not of:
        return "no such image"
    low, high = metrics.interval(hits, of)
    return f"{hits} of {of}; {low:.3f} to {high:.3f}"
