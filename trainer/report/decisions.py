"""What the thresholds of a bundle make of the images, and what others would."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Calibration
from device.inspection.verdict import decide
from trainer.report import page
from trainer.report.curves import CONFIDENCE, limits_of
from trainer.report.judged import Predictions
from trainer.report.page import Markup
from trainer.scoring import metrics, sorting


def decisions(calibration: Calibration, judged: Predictions) -> Iterator[Markup]:
    """How the thresholds were chosen, what they decide, and a table of others."""
    thresholds, labels, scores = calibration.thresholds, judged.labels, judged.scores
    yield page.paragraph(f"Chosen so: {thresholds.rule}.")
    yield page.row_of(
        *(_confusion(name, threshold, labels, scores) for name, threshold in limits_of(calibration)),
        _verdicts(calibration, labels, scores),
    )
    yield _sorted_for_good(labels, scores)
    levels = sorted(
        {*(row.threshold for row in thresholds.table), *(value for _, value in limits_of(calibration))}
    )
    rows = [_threshold_row(level, labels, scores) for level in levels]
    marked = [number for number, level in enumerate(levels) if level in (thresholds.ng, thresholds.marginal)]
    yield page.table(
        ("score of", "precision", "between", "recall", "between", "F1", "tp", "fp", "tn", "fn"),
        rows,
        f"What a threshold would do on these images; those of the bundle are marked. Intervals: {CONFIDENCE}",
        marked,
    )


def _sorted_for_good(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> Markup:
    said = {
        "PB": "bad parts sorted out, at so many good ones lost",
        "PG": "good parts passed, at so many bad missed",
    }
    rows = [
        (
            f"{name}, {said[name[:2]]}: {name[2:]} %",
            f"{one.hits} of {one.of}",
            one.share,
            f"{one.low:.3f} to {one.high:.3f}",
        )
        for name, one in sorting.shares(labels, scores).items()
    ]
    return page.table(
        ("what", "images", "share", "between (95 %)"),
        rows,
        "What a threshold could sort for good, at a price",
    )


def _threshold_row(
    level: float, labels: NDArray[np.int64], scores: NDArray[np.float64]
) -> tuple[object, ...]:
    found = metrics.confusion(labels, scores, level)
    between = [
        "-" if not of else "{:.3f} to {:.3f}".format(*metrics.interval(found.tp, of))
        for of in (found.tp + found.fp, found.tp + found.fn)
    ]
    counts = (found.tp, found.fp, found.tn, found.fn)
    return (level, found.precision, between[0], found.recall, between[1], found.f1, *counts)


def _confusion(name: str, threshold: float, labels: NDArray[np.int64], scores: NDArray[np.float64]) -> Markup:
    found = metrics.confusion(labels, scores, threshold)
    return page.table(
        ("truth", f"below {name}", f"{name} or above"),
        [("good", found.tn, found.fp), ("defective", found.fn, found.tp)],
        f"Confusion at {name}, {threshold:.4f}",
    )


def _verdicts(calibration: Calibration, labels: NDArray[np.int64], scores: NDArray[np.float64]) -> Markup:
    words = np.array([decide(float(score), calibration.thresholds) for score in scores])
    kinds = ("OK", "MARGINAL", "NG")
    rows = [
        (name, *(int(((words == kind) & (labels == label)).sum()) for kind in kinds))
        for label, name in ((0, "good"), (1, "defective"))
    ]
    return page.table(("truth", *kinds), rows, "Verdicts")
