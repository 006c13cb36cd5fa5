"""One HTML file that says how good a model is, where it errs and what made it: offline, without a script.

trainer.fit puts such a report into every bundle, as report.html, on the images that judged the model;
`python -m trainer.report` makes one on other images.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve
from tqdm import tqdm

from device.bundle.bundle import Bundle, Calibration
from device.bundle.reference import GoldenReference
from device.image.frame import frame_from_file, read_image
from device.inspection.detector import Evidence, Prediction, merged
from device.inspection.localizer import Localizer, evidence_in_frame
from device.inspection.pipeline import Pipeline
from device.inspection.preprocess import ModelInput, Preprocessor
from device.inspection.verdict import decide
from trainer import config as configs
from trainer import evaluate, localization
from trainer.config import ReportConfig
from trainer.data.dataset import Dataset, Sample, read_mask
from trainer.data.tiling import cuts
from trainer.localization import Look, Measured, Saliency
from trainer.network.export import Int8Model
from trainer.recipes.good_only import Remembered
from trainer.recipes.learned import Learned
from trainer.report import chart, page, thumbnail
from trainer.report.chart import Axis, Bars, Line, Mark
from trainer.report.page import Markup
from trainer.scoring import metrics
from trainer.scoring.thresholds import scored

BINS = 40  # of the histogram of scores
CONFIDENCE = "95 % (Clopper and Pearson, 1934)"

# What each part of the recipe is set by: sections of the settings, and entries of the training record.
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "data": (("input", "split"), ()),
    "augmentation": (("augment",), ()),
    "imbalance": (("sampling",), ()),
    "model": (("probe", "dense", "scratch"), ("recipe", "weights", "chosen")),
    "schedule": (("finetune",), ()),
    "metrics": ((), ("judged_by",)),
    "thresholds": (("threshold",), ()),
    "good parts only": (("good_only",), ()),
    "int8": (("quantization", "qat"), ()),
    "output": (("bundle", "report"), ()),
    "hardware": (("hardware",), ("hardware",)),
}


SETTINGS_NOTE = "Settings of every way to a model; those of a way that was not taken had no influence"
WAYS = {  # entries of the training record
    "fine_tuning": "Fine-tuned against the probe",
    "quantization_aware": "Quantization-aware training against quantization after training",
}


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Images and what was said of them: `scores` of int8, `scores_float` where they are known, (n,).

    `by`: who judged them, in words. `look`: what the judge saw of image i, and its evidence map.
    `saliency`: its gradient, where it can be had. `made`: scores of defects that were made from good images,
    where there are no others.
    """

    samples: Sequence[Sample]
    scores: NDArray[np.float64]
    scores_float: NDArray[np.float64] | None
    by: str
    look: Look
    saliency: Saliency | None
    made: NDArray[np.float64] | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array([sample.label for sample in self.samples])


@dataclass(frozen=True, slots=True)
class Facts:
    """What is told beside the figures. `took`: seconds of each step."""

    command_line: str
    data: Mapping[str, object]
    took: Mapping[str, float]


# ---- who is reported on


def of_fit(
    learned: Learned,
    calibration: Calibration,
    dataset: Dataset,
    reference: GoldenReference | None,
    settings: ReportConfig,
    took: Mapping[str, float],
) -> bytes:
    """The report that travels in a bundle: on the images that had judged the model."""
    curve = calibration.score_calibration
    judged = Judged(
        learned.judged,
        scored(learned.pooled, curve),
        scored(learned.pooled_float, curve),
        str(learned.record["judged_by"]),
        _look_of(learned),
        localization.of_judges(learned.judges, learned.pooling) if settings.gradient else None,
    )
    return render(calibration, judged, reference, settings, Facts(_command(), _facts_of(dataset), took))


def of_good_only(
    learned: Remembered,
    calibration: Calibration,
    dataset: Dataset,
    settings: ReportConfig,
    took: Mapping[str, float],
) -> bytes:
    """The same for a bundle that was made from good images alone."""
    curve = calibration.score_calibration
    judged = Judged(
        learned.judged,
        scored(learned.pooled, curve),
        None,
        f"{learned.record['judged_by']}; the maps are of the memory as it ships, made of these images",
        _look_of_memory(learned),
        None,
        scored(learned.made, curve),
    )
    return render(calibration, judged, None, settings, Facts(_command(), _facts_of(dataset), took))


def _look_of_memory(learned: Remembered) -> Look:
    preprocessor, model = Preprocessor(learned.preprocess), Int8Model(learned.content, learned.memory)

    def look(index: int) -> tuple[ModelInput, Evidence]:
        model_input = preprocessor.prepare(frame_from_file(learned.judged[index].path, index))
        return model_input, model.evidence(model_input.tensor)

    return look


def _look_of(learned: Learned) -> Look:
    """Through the judge of each image."""
    preprocessor, model = Preprocessor(learned.preprocess), Int8Model(learned.judges.content)

    def look(index: int) -> tuple[ModelInput, Evidence]:
        model_input = preprocessor.prepare(frame_from_file(learned.judged[index].path, index))
        head = int(learned.judges.head_of[index])
        maps = [np.ascontiguousarray(next(model.run(tensor))[:, :, head]) for tensor in cuts(model_input)]
        return model_input, merged(model_input.framing, maps)

    return look


def of_bundle(
    bundle: Bundle, dataset: Dataset, split: str, network: Path | None, settings: ReportConfig
) -> bytes:
    """The report on other images, each through the device's own code. Raises DataError."""
    samples, left_out = evaluate.chosen(dataset, evaluate.recorded(bundle), split)
    pipeline = Pipeline(bundle, "report", "report")
    frames = (frame_from_file(sample.path, seq) for seq, sample in enumerate(samples))
    scores = [
        pipeline.predict(frame)[1].score for frame in tqdm(frames, "scoring", len(samples), unit="image")
    ]
    saliency = localization.of_network(network, bundle.calibration) if network else None

    def look(index: int) -> tuple[ModelInput, Evidence]:
        model_input, prediction = pipeline.predict(frame_from_file(samples[index].path, index))
        return model_input, prediction.evidence

    words = "every readable image" if split == "all" else "images that the model has not seen"
    judged = Judged(samples, np.array(scores), None, f"{len(samples)} images: {words}", look, saliency)
    facts = _facts_of(dataset) | ({"left out": left_out} if left_out else {})
    return render(bundle.calibration, judged, bundle.reference(), settings, Facts(_command(), facts, {}))


def _facts_of(dataset: Dataset) -> dict[str, object]:
    return {
        "folder": dataset.root.resolve().name,
        "format": dataset.format,
        "digest": dataset.digest,
        "split rule": dataset.split_rule,
        "images": len(dataset.samples),
        "problems": len(dataset.problems),
    }


def _command() -> str:
    """As it was given, without the path of the interpreter."""
    module = Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", f"trainer.{module}", *sys.argv[1:]])


# ---- the page


def render(
    calibration: Calibration,
    judged: Judged,
    reference: GoldenReference | None,
    settings: ReportConfig,
    facts: Facts,
) -> bytes:
    """The whole report, and never much more than settings.max_bytes: pictures are left out first."""
    viewer = _Viewer(calibration, judged, reference, settings)
    sections = [
        page.section("How good", *_warnings(calibration.training), _summary(calibration, judged)),
        page.section("Curves", *_curves(calibration, judged)),
        page.section("Thresholds", *_thresholds(calibration, judged)),
        page.section("Mistakes, and what was nearest to one", *viewer.mistakes()),
        page.section("Where it looks", *viewer.places()),
        page.section("float and int8", *_float_and_int8(calibration, judged)),
        page.section("How it was learned", *_learning(calibration.training)),
        page.section("The recipe, part by part", *_recipe(calibration.training)),
        page.section("Data", _data(calibration.training, facts)),
        page.section("Environment", *_environment(calibration, facts)),
    ]
    title = f"{calibration.model_id} {calibration.version}"
    return page.page(title, f"Made {calibration.created}; judged by {judged.by}.", sections)


def _warnings(training: Mapping[str, Any]) -> list[Markup]:
    return [page.paragraph(f"Warning: {text}.") for text in training.get("warnings", ())]


def _summary(calibration: Calibration, judged: Judged) -> Markup:
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


# ---- curves


def _curves(calibration: Calibration, judged: Judged) -> Iterator[Markup]:
    labels = judged.labels
    drawn = [_histogram(calibration, judged)]
    if 0 < labels.sum() < len(labels):
        drawn = [_roc(calibration, judged), _precision_recall(calibration, judged), *drawn]
    yield page.row_of(*drawn)
    yield page.paragraph(f"Intervals: {CONFIDENCE}.")


def _drawn_of(judged: Judged) -> list[tuple[str, NDArray[np.float64], str]]:
    """(name, scores, style) of int8, and of float where it is known."""
    exact = judged.scores_float
    return [("int8", judged.scores, "a"), *([("float", exact, "b")] if exact is not None else [])]


def _roc(calibration: Calibration, judged: Judged) -> Markup:
    drawn = []
    for name, scores, style in _drawn_of(judged):
        rate, recall, _ = roc_curve(judged.labels, scores)
        drawn.append(Line(name, rate, recall, style))
    marks = []
    for name, threshold in _chosen(calibration):
        found = metrics.confusion(judged.labels, judged.scores, threshold)
        marks.append(
            Mark(
                name,
                found.false_reject_rate or 0.0,
                found.recall or 0.0,
                metrics.interval(found.fp, found.fp + found.tn),
                metrics.interval(found.tp, found.tp + found.fn),
            )
        )
    x, y = Axis("false-reject rate"), Axis("recall")
    return page.figure(chart.lines("ROC curve", x, y, drawn, marks), "ROC: recall over false rejects.")


def _precision_recall(calibration: Calibration, judged: Judged) -> Markup:
    drawn = []
    for name, scores, style in _drawn_of(judged):
        precision, recall, _ = precision_recall_curve(judged.labels, scores)
        drawn.append(Line(name, recall[::-1], precision[::-1], style))
    marks = []
    for name, threshold in _chosen(calibration):
        found = metrics.confusion(judged.labels, judged.scores, threshold)
        if found.tp + found.fp:
            marks.append(
                Mark(
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


def _chosen(calibration: Calibration) -> list[tuple[str, float]]:
    return [("NG", calibration.thresholds.ng), ("MARGINAL", calibration.thresholds.marginal)]


def _histogram(calibration: Calibration, judged: Judged) -> Markup:
    edges = np.linspace(0, 1, BINS + 1)
    word, bad = "defective", judged.scores[judged.labels == 1]
    if judged.made is not None:
        word, bad = "made defects", judged.made
    counts = [np.histogram(part, edges)[0].tolist() for part in (bad, judged.scores[judged.labels == 0])]
    drawn = [Bars(word, counts[0], "b"), Bars("good", counts[1], "a", up=False)]
    svg = chart.histogram(f"Scores of good and {word}", Axis("score"), drawn, _chosen(calibration))
    return page.figure(svg, f"Scores: {word} above the line, good images below it.")


# ---- thresholds


def _thresholds(calibration: Calibration, judged: Judged) -> Iterator[Markup]:
    thresholds, labels, scores = calibration.thresholds, judged.labels, judged.scores
    yield page.paragraph(f"Chosen so: {thresholds.rule}.")
    yield page.row_of(
        *(_confusion(name, threshold, labels, scores) for name, threshold in _chosen(calibration)),
        _verdicts(calibration, labels, scores),
    )
    levels = sorted(
        {*(row.threshold for row in thresholds.table), *(value for _, value in _chosen(calibration))}
    )
    rows = [_threshold_row(level, labels, scores) for level in levels]
    marked = [number for number, level in enumerate(levels) if level in (thresholds.ng, thresholds.marginal)]
    yield page.table(
        ("score of", "precision", "between", "recall", "between", "F1", "tp", "fp", "tn", "fn"),
        rows,
        f"What a threshold would do on these images; those of the bundle are marked. Intervals: {CONFIDENCE}",
        marked,
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


# ---- pictures


class _Viewer:
    """The pictures of a report, as many as its size allows."""

    def __init__(
        self,
        calibration: Calibration,
        judged: Judged,
        reference: GoldenReference | None,
        settings: ReportConfig,
    ) -> None:
        self._calibration, self._judged, self._settings = calibration, judged, settings
        self._reference = reference
        self._localizer = Localizer(calibration.localization, calibration.score_calibration, reference)
        self._bytes_left = settings.max_bytes
        self._left_out = 0

    def mistakes(self) -> Iterator[Markup]:
        """False rejects, misses, and the nearest to the threshold that are neither."""
        kinds = _mistakes(self._judged.labels, self._judged.scores, self._calibration.thresholds.ng)
        yield page.paragraph(
            "Left the image, with the boxes that the device draws (red) and the outline of the mask where "
            "there is one (green); right the evidence map as heat."
        )
        for title, found in kinds.items():
            yield page.heading(f"{title}: {len(found)}")
            pictures = [self._mistake(index) for index in found[: self._settings.images]]
            yield page.row_of(*pictures) if pictures else page.paragraph("None.")

    def _mistake(self, index: int) -> Markup:
        judged, calibration = self._judged, self._calibration
        sample, score = judged.samples[index], float(judged.scores[index])
        model_input, evidence = judged.look(index)
        shown = evidence_in_frame(evidence, model_input.placement, calibration.localization.shift_px)
        regions = self._localizer.locate(model_input, Prediction(evidence, 0.0, score))
        word = decide(score, calibration.thresholds)
        boxes = [region.box for region in regions]
        caption = f"{sample.name}: {sample.kind}, score {score:.4f}, {word}"
        logits = calibration.score_calibration.logits(shown)
        return self._picture(sample, [logits], boxes, caption)

    def _picture(
        self, sample: Sample, maps: Sequence[localization.Map], boxes: Sequence[Any], caption: str
    ) -> Markup:
        side = self._settings.thumbnail_px
        image = read_image(sample.path)[0]
        mask = read_mask(sample) if sample.mask else None
        small = thumbnail.side_by_side(image, maps, boxes, mask, side)
        self._bytes_left -= len(small.encoded)
        if self._bytes_left < 0:
            self._left_out += 1
            return page.figure("", f"{caption} (no picture: the report would be larger than max_bytes)")
        return page.figure(page.picture(small.encoded, caption, small.width, small.height), caption)

    def places(self) -> Iterator[Markup]:
        """The three kinds of map, measured against the masks, and a few of them side by side."""
        judged, calibration, settings = self._judged, self._calibration, self._settings
        indices = localization.few(judged.samples, settings.map_images)
        if not any(judged.samples[index].mask for index in indices):
            yield page.paragraph("No defective image has a mask: where the model looks cannot be measured.")
            return
        samples = [judged.samples[index] for index in indices]
        look, saliency = _renumbered(judged, indices)
        spec = calibration.localization
        found = localization.compare(samples, look, saliency, spec, self._reference)
        yield _place_table(found, samples)
        yield page.paragraph(PLACE_NOTE)
        masked = [number for number, sample in enumerate(samples) if sample.mask]
        shown = [self._strip(samples[number], number, look, saliency) for number in masked[: settings.images]]
        yield page.row_of(*shown)

    def _strip(self, sample: Sample, number: int, look: Look, saliency: Saliency | None) -> Markup:
        spec = self._calibration.localization
        maps, kinds = [], []
        for kind, values in localization.maps_of(number, look, saliency, spec, self._reference):
            kinds.append(kind)
            logits = self._calibration.score_calibration.logits
            maps.append(logits(values) if kind == "evidence" else thumbnail.as_logits(values))
        return self._picture(sample, maps, [], f"{sample.name}: the image, {', '.join(kinds)}")


PLACE_NOTE = (
    "Evidence: what the device shows, from int8. Gradient: by how much each pixel moves the score of the "
    "float network (SmoothGrad), which only a workstation can compute. Difference: from the golden reference "
    "or the local background, in units of its cut. Pixel AUROC and AUPRO are over the pixels of all these "
    "images, own AUROC is the mean of each defective image's; pointing says how often the maximum lies in "
    "the mask; box IoU is that of the box around the region with the maximum. The heat of gradient and "
    "difference is relative to their maximum in the image."
)


def _renumbered(judged: Judged, indices: Sequence[int]) -> tuple[Look, Saliency | None]:
    """The same for some of the images, which are counted from 0."""
    saliency = judged.saliency
    chosen: Saliency | None = None
    if saliency is not None:

        def chosen(number: int, seen: ModelInput) -> localization.Map:
            return saliency(indices[number], seen)

    return (lambda number: judged.look(indices[number])), chosen


def _place_table(found: Mapping[str, Measured], samples: Sequence[Sample]) -> Markup:
    rows = [(kind, *measured.words()) for kind, measured in found.items()]
    bad = sum(sample.label for sample in samples)
    return page.table(
        ("map", *localization.MEASURES),
        rows,
        f"Against the masks of {bad} defective images, with {len(samples) - bad} good ones",
    )


def _mistakes(labels: NDArray[np.int64], scores: NDArray[np.float64], ng: float) -> dict[str, list[int]]:
    """{kind: indices, the worst first}."""
    order = np.argsort(scores, kind="stable")
    misses = [int(index) for index in order if labels[index] == 1 and scores[index] < ng]
    rejects = [int(index) for index in order[::-1] if labels[index] == 0 and scores[index] >= ng]
    wrong = {*misses, *rejects}
    nearest = [int(index) for index in np.argsort(np.abs(scores - ng), kind="stable") if index not in wrong]
    return {"False rejects": rejects, "Misses": misses, "Right, and nearest to the threshold": nearest[:6]}


# ---- float and int8, and how it was learned


def _float_and_int8(calibration: Calibration, judged: Judged) -> Iterator[Markup]:
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
        for name, threshold in _chosen(calibration)
        for kind, scores, _ in _drawn_of(judged)
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


def _learning(training: Mapping[str, Any]) -> Iterator[Markup]:
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


# ---- what made it


def _recipe(training: Mapping[str, Any]) -> Iterator[Markup]:
    """Every part of the recipe with its settings, and what of them is not as it is by default."""
    given: Mapping[str, Mapping[str, Any]] = training.get("config", {})
    default = asdict(configs.load(None))
    named = {section for sections, _ in PARTS.values() for section in sections}
    parts = {**PARTS, "others": (tuple(section for section in given if section not in named), ())}
    rows = []
    for part, (sections, entries) in parts.items():
        said = [f"{entry}: {page.shown(training[entry])}" for entry in entries if entry in training]
        said += [
            f"[{section}] {_settings_of(given[section], default.get(section, {}))}"
            for section in sections
            if section in given
        ]
        rows.append((part, Markup("<br>".join(said)) if said else "not part of this bundle's training"))
    yield page.table(
        ("part", "how it was set; what differs from the default is in bold"), rows, SETTINGS_NOTE, long=True
    )


def _settings_of(given: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    shown = []
    for key, value in given.items():
        text = f"{page.shown(key)} = {page.shown(value)}"
        if key in default and default[key] != value:
            text = f"<b>{text}</b> (default {page.shown(default[key])})"
        shown.append(text)
    return "; ".join(shown)


def _data(training: Mapping[str, Any], facts: Facts) -> Markup:
    made_of = training.get("data", {})
    names = list(dict.fromkeys([*(name.replace("_", " ") for name in made_of), *facts.data]))
    learned = {name.replace("_", " "): value for name, value in made_of.items()}
    rows = [(name, learned.get(name), facts.data.get(name)) for name in names]
    return page.table(("what", "the model was made of", "this report is on"), rows, "Data", long=True)


def _environment(calibration: Calibration, facts: Facts) -> Iterator[Markup]:
    training = calibration.training
    rows = [
        ("command", facts.command_line),
        ("seed", training.get("seed")),
        ("model", calibration.model_sha256),
        ("input", f"{calibration.preprocess.size.width} x {calibration.preprocess.size.height} px"),
        ("git", training.get("git")),
        *training.get("versions", {}).items(),
    ]
    yield page.table(("what", "which"), rows, "What it was made with", long=True)
    if facts.took:
        rows = [(name, f"{seconds:.1f}") for name, seconds in facts.took.items()]
        yield page.table(("step", "seconds"), rows, "How long it took, until this report was written")
