"""How a model was learned: ways that were compared, histories, and what int8 changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from device.bundle.bundle import Calibration
from device.inspection.verdict import decide
from trainer.report import chart, page
from trainer.report.chart import Axis, Line
from trainer.report.curves import drawn_of, limits_of
from trainer.report.judged import Predictions
from trainer.report.page import Markup
from trainer.scoring import metrics

WAYS = {  # entries of the training record
    "fine_tuning": "Fine-tuned against the probe",
    "quantization_aware": "Quantization-aware training against quantization after training",
}


def float_and_int8(calibration: Calibration, judged: Predictions) -> Iterator[Markup]:
    """What rounding to int8 changed: figures, decisions, scores."""
    kinds = {kind: calibration.metrics[kind] for kind in ("float", "int8") if kind in calibration.metrics}
    names = list(dict.fromkeys(name for found in kinds.values() for name in found))
    rows = [(kind, *(found.get(name) for name in names)) for kind, found in kinds.items()]
    by = calibration.metrics.get("judged_by", "")
    yield page.table(("model", *names), rows, f"As recorded when the model was made: {by}")
    exact = judged.scores_float
    if exact is None:
        return
    thresholds, labels = calibration.thresholds, judged.labels
    rows = [
        (f"{kind} at {name}", *asdict(metrics.confusion(labels, scores, threshold)).values())
        for name, threshold in limits_of(calibration)
        for kind, scores, _ in drawn_of(judged)
    ]
    yield page.table(("scores of", "tp", "fp", "tn", "fn"), rows, "The same thresholds on the scores of both")
    other = sum(
        decide(float(one), thresholds) != decide(float(two), thresholds)
        for one, two in zip(judged.scores, exact, strict=True)
    )
    gap = float(np.abs(judged.scores - exact).max())
    yield page.paragraph(
        f"Of {len(labels)} images {other} get another verdict; scores differ by up to {gap:.4f}."
    )


def learning(training: Mapping[str, Any]) -> Iterator[Markup]:
    """What was compared, and the course of each training."""
    yield page.paragraph(f"Recipe: {training.get('recipe', 'not recorded')}.")
    for name, caption in WAYS.items():
        yield from _ways(training.get(name, {}), caption)
    yield _records(training.get("candidates", ()), "What was compared, the best first")
    history = training.get("history", ())
    for run in dict.fromkeys(row.get("run") for row in history):
        yield from _history(str(run), [row for row in history if row.get("run") == run])


def _ways(said: Mapping[str, Any], caption: str) -> Iterator[Markup]:
    """Two ways beside each other on the same judged images, and which of them ships."""
    rows = [{"way": way, **found} for way, found in said.items() if isinstance(found, Mapping)]
    yield _records(rows, caption)
    rest = [f"{name}: {value}" for name, value in said.items() if not isinstance(value, Mapping)]
    if rest:
        yield page.paragraph(f"{caption}: {'; '.join(rest)}.")


def _records(rows: Sequence[Mapping[str, Any]], caption: str) -> Markup:
    """A table of records, a column for each name that any of them has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return page.table(names, [[row.get(name) for name in names] for row in rows], caption)


def _history(run: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    """Charts of what a run noted epoch by epoch: losses, rates, and everything else from 0 to 1."""
    numbers = {
        name
        for row in rows
        for name, value in row.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in ("epoch", "step")
    }
    groups: dict[str, Callable[[str], bool]] = {
        "loss": lambda name: "loss" in name,
        "learning rate": lambda name: "rate" in name,
        "measure": lambda name: "loss" not in name and "rate" not in name and not name.endswith("_s"),
    }
    charts = []
    for label, belongs in groups.items():
        names = sorted(filter(belongs, numbers))
        if names:
            charts.append(_over_epochs(label, names[:4], rows))
    if charts:
        yield page.heading(f"Training, epoch by epoch: {run}")
        yield page.row_of(*charts)


def _over_epochs(label: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Markup:
    epochs = np.arange(1, len(rows) + 1)
    drawn = [
        Line(name, epochs, [float(row.get(name, np.nan) or np.nan) for row in rows], style)
        for name, style in zip(names, "abcd", strict=False)
    ]
    values = np.concatenate([np.asarray(line.y) for line in drawn])
    known = values[np.isfinite(values)]
    top = float(known.max()) if known.size else 1.0
    low = 0.0 if label != "measure" else float(min(known.min(), 1.0)) if known.size else 0.0
    axis = Axis(label, low, 1.0 if label == "measure" and top <= 1 else top or 1.0)
    svg = chart.lines(f"{label} over epochs", Axis("epoch", 1.0, float(max(2, len(rows)))), axis, drawn)
    return page.figure(svg, f"{label}: {', '.join(names)}.")
