"""Charts of a report: ROC, precision over recall, and the scores of good and defective images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from device.bundle.bundle import Calibration
from trainer.report import chart, page
from trainer.report.chart import Axis, Bars, LabelledPoint, Line
from trainer.report.judged import Predictions
from trainer.report.page import Markup
from trainer.scoring import metrics

CONFIDENCE = "95 % (Clopper and Pearson, 1934)"
BINS = 40  # of the histogram of scores


def curves(calibration: Calibration, judged: Predictions) -> Iterator[Markup]:
    """All of them; without images of both labels the scores alone."""
    labels = judged.labels
    drawn = [_histogram(calibration, judged)]
    if 0 < labels.sum() < len(labels):
        drawn = [_roc(calibration, judged), _precision_recall(calibration, judged), *drawn]
    yield page.row_of(*drawn)
    yield page.paragraph(f"Intervals: {CONFIDENCE}.")


def drawn_of(judged: Predictions) -> list[tuple[str, NDArray[np.float64], str]]:
    """(name, scores, style) of int8, and of float where it is known."""
    exact = judged.scores_float
    return [("int8", judged.scores, "a"), *([("float", exact, "b")] if exact is not None else [])]


def _roc(calibration: Calibration, judged: Predictions) -> Markup:
    drawn = []
    for name, scores, style in drawn_of(judged):
        rate, recall, _ = roc_curve(judged.labels, scores)
        drawn.append(Line(name, rate, recall, style))
    marks = []
    for name, threshold in limits_of(calibration):
        found = metrics.confusion(judged.labels, judged.scores, threshold)
        marks.append(
            LabelledPoint(
                name,
                found.false_reject_rate or 0.0,
                found.recall or 0.0,
                metrics.interval(found.fp, found.fp + found.tn),
                metrics.interval(found.tp, found.tp + found.fn),
            )
        )
    x, y = Axis("false-reject rate"), Axis("recall")
    return page.figure(chart.lines("ROC curve", x, y, drawn, marks), "ROC: recall over false rejects.")


def _precision_recall(calibration: Calibration, judged: Predictions) -> Markup:
    drawn = []
    for name, scores, style in drawn_of(judged):
        precision, recall, _ = precision_recall_curve(judged.labels, scores)
        drawn.append(Line(name, recall[::-1], precision[::-1], style))
    marks = []
    for name, threshold in limits_of(calibration):
        found = metrics.confusion(judged.labels, judged.scores, threshold)
        if found.tp + found.fp:
            marks.append(
                LabelledPoint(
                    name,
                    found.recall or 0.0,
                    found.precision or 0.0,
                    metrics.interval(found.tp, found.tp + found.fn),
                    metrics.interval(found.tp, found.tp + found.fp),
                )
            )
    x, y = Axis("recall"), Axis("precision")
    svg = chart.lines("Precision-recall curve", x, y, drawn, marks)
    return page.figure(svg, "Precision over recall, with the thresholds that the bundle has.")


def limits_of(calibration: Calibration) -> list[tuple[str, float]]:
    """The names of the thresholds, and from which score on each holds."""
    return [("NG", calibration.thresholds.ng), ("MARGINAL", calibration.thresholds.marginal)]


def _histogram(calibration: Calibration, judged: Predictions) -> Markup:
    edges = np.linspace(0, 1, BINS + 1)
    word, bad = "defective", judged.scores[judged.labels == 1]
    if judged.made is not None:
        word, bad = "made defects", judged.made
    counts = [np.histogram(part, edges)[0].tolist() for part in (bad, judged.scores[judged.labels == 0])]
    drawn = [Bars(word, counts[0], "b"), Bars("good", counts[1], "a", up=False)]
    svg = chart.histogram(f"Scores of good and {word}", Axis("score"), drawn, limits_of(calibration))
    return page.figure(svg, f"Scores: {word} above the line, good images below it.")
