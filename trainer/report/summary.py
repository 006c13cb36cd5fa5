"""What comes first in a report: how good, in plain words, then in a few figures with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Calibration
from device.inspection.verdict import decide
from trainer.report import page
from trainer.report.judged import Cost, Predictions
from trainer.report.page import Markup
from trainer.scoring import metrics

# Of the whole MobileNetV2 at 224 px in int8 with all threads, as published for a Pi 4 with 64 bits.
PI4_MS, PI4_MACS = 17.0, 300e6
PI5_TIMES = (2, 3)  # as fast as a Pi 4 by its maker's word: of this network no figure is published


def warnings(training: Mapping[str, Any]) -> list[Markup]:
    """What the training warned of."""
    return [page.paragraph(f"Warning: {text}.") for text in training.get("warnings", ())]


def in_words(calibration: Calibration, judged: Predictions) -> Markup:
    """A paragraph for who decides whether it goes to the line."""
    words = [decide(float(score), calibration.thresholds) for score in judged.scores]
    of_label = [
        [word for word, label in zip(words, judged.labels, strict=True) if label == n] for n in (0, 1)
    ]
    said = [*_of_defective(of_label[1]), *_of_good(of_label[0])]
    if judged.made is not None:
        found = int((judged.made >= calibration.thresholds.ng).sum())
        said.append(
            f"It has seen no defective part: of {len(judged.made)} defects that were drawn onto good ones "
            f"{found} were found, which says little of real ones."
        )
    return Markup(page.paragraph(" ".join(said)).replace("<p>", '<p class="lead">', 1))


def more_images(training: Mapping[str, Any]) -> list[Markup]:
    """Whether more would help, by the learning curve."""
    curve = training.get("learning_curve")
    return [page.paragraph(f"{curve['says']}.")] if curve else []


def _of_defective(words: Sequence[str]) -> Iterator[str]:
    if not words:
        return
    found, doubtful = words.count("NG"), words.count("MARGINAL")
    low, high = metrics.interval(found, len(words))
    were = f"{found or 'none'} {'was' if found == 1 else 'were'}"
    yield f"Of {_counted(len(words), 'defective part')} {were} found"
    yield (
        f"({doubtful} more {'is' if doubtful == 1 else 'are'} MARGINAL: for a person to look at);"
        if doubtful
        else "and rejected;"
    )
    yield f"of all such parts it would be {_percent(low)} to {_percent(high)}."


def _of_good(words: Sequence[str]) -> Iterator[str]:
    if not words:
        return
    rejected, doubtful = words.count("NG"), words.count("MARGINAL")
    low, high = metrics.interval(rejected, len(words))
    whose = _counted(len(words), "good part")
    if rejected:
        yield f"{rejected} of {whose} {'was' if rejected == 1 else 'were'} rejected by mistake,"
        yield f"which could be {_percent(low)} to {_percent(high)} of all good parts."
    else:
        yield f"None of {whose} was rejected, which could be up to {_percent(high)} of all good parts."
    if doubtful:
        yield f"{doubtful} more {'is' if doubtful == 1 else 'are'} MARGINAL."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def summary(calibration: Calibration, judged: Predictions) -> Markup:
    """A few large figures with their intervals."""
    labels, scores = judged.labels, judged.scores
    at_ng = metrics.confusion(labels, scores, calibration.thresholds.ng)
    bad = int(labels.sum())
    if judged.made is not None:
        return _good_summary(calibration, judged.scores, judged.made)
    return page.tiles(
        {
            "AUROC": (
                metrics.auroc(labels, scores),
                f"how often a defective part outscores a good one; {len(labels) - bad} good, {bad} defective",
            ),
            "average precision": (
                metrics.average_precision(labels, scores),
                "precision, averaged over all thresholds",
            ),
            "F1 at NG": (
                at_ng.f1,
                f"precision and recall in one; NG is a score of {calibration.thresholds.ng:.4f} or more",
            ),
            "precision at NG": (
                at_ng.precision,
                f"defective among the rejected: {_between(at_ng.tp, at_ng.tp + at_ng.fp)}",
            ),
            "recall at NG": (
                at_ng.recall,
                f"rejected among the defective: {_between(at_ng.tp, at_ng.tp + at_ng.fn)}",
            ),
            "false rejects at NG": (
                at_ng.false_reject_rate,
                f"rejected among the good: {_between(at_ng.fp, at_ng.fp + at_ng.tn)}",
            ),
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


def cost(spent: Cost) -> Markup:
    """What the model takes: room on the disk, time here, and about what on a station."""
    on_pi4 = PI4_MS * spent.macs / PI4_MACS
    slowest, fastest = (on_pi4 / times for times in PI5_TIMES)
    here = f"; here {spent.here_ms:.1f} ms an image" if spent.here_ms is not None else ""
    return page.paragraph(
        f"The model is a file of {spent.model_bytes / 1e6:.1f} MB{here}. Estimated, not measured, from its "
        f"{spent.macs / 1e9:.2g} billion multiply-adds at most and what is published of the boards: about "
        f"{on_pi4:.2g} ms on a Raspberry Pi 4, {fastest:.2g} to {slowest:.2g} ms on a Pi 5. "
        "python -m device bench measures it there."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _between(hits: int, of: int) -> str:
    if not of:
        return "no such image"
    low, high = metrics.interval(hits, of)
    return f"{hits} of {of}; {low:.3f} to {high:.3f}"
