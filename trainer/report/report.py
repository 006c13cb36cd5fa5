"""One HTML file that says how good a model is, where it errs and what made it: offline, without a script.

trainer.fit puts such a report into every bundle, as report.html, on the images that judged the model;
`python -m trainer.report` makes one on other images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from device.bundle.bundle import Bundle, Calibration
from device.bundle.reference import GoldenReference
from device.inspection.detector import Evidence
from device.inspection.pipeline import Pipeline
from device.inspection.preprocess import ModelInput
from trainer import evaluate, localization
from trainer.config import ReportConfig
from trainer.data.dataset import Dataset
from trainer.recipes.good_only import MemoryModel
from trainer.recipes.learned import TrainedModel
from trainer.report import page
from trainer.report.curves import curves
from trainer.report.decisions import decisions
from trainer.report.judged import (
    Cost,
    Predictions,
    ReportFacts,
    command_line,
    facts_of,
    look_of,
    look_of_memory,
)
from trainer.report.learning import float_and_int8, learning
from trainer.report.recipe import data, environment, recipe
from trainer.report.summary import cost, in_words, more_images, summary, warnings
from trainer.report.viewer import Viewer
from trainer.scoring.thresholds import scored
from trainer.steps import bar

# ---- who is reported on


def of_fit(
    learned: TrainedModel,
    calibration: Calibration,
    dataset: Dataset,
    reference: GoldenReference | None,
    settings: ReportConfig,
    took: Mapping[str, float],
) -> bytes:
    """The report that travels in a bundle: on the images that had judged the model."""
    curve = calibration.score_calibration
    judged = Predictions(
        learned.judged,
        scored(learned.pooled, curve),
        scored(learned.pooled_float, curve),
        str(learned.record["judged_by"]),
        look_of(learned),
        localization.of_judges(learned.judges, learned.pooling) if settings.gradient else None,
    )
    spent = Cost.of(len(learned.content), judged.samples, learned.preprocess, judged.look)
    facts = ReportFacts(command_line(), facts_of(dataset), took, spent)
    return render(calibration, judged, reference, settings, facts)


def of_good_only(
    learned: MemoryModel,
    calibration: Calibration,
    dataset: Dataset,
    settings: ReportConfig,
    took: Mapping[str, float],
) -> bytes:
    """The report of a bundle that was made from good images alone."""
    curve = calibration.score_calibration
    judged = Predictions(
        learned.judged,
        scored(learned.pooled, curve),
        None,
        f"{learned.record['judged_by']}; the maps are of the model as it ships, made of these images",
        look_of_memory(learned),
        None,
        scored(learned.made, curve),
    )
    spent = Cost.of(len(learned.content), judged.samples, learned.preprocess, judged.look)
    facts = ReportFacts(command_line(), facts_of(dataset), took, spent)
    return render(calibration, judged, None, settings, facts)


def of_bundle(
    bundle: Bundle, dataset: Dataset, split: str, network: Path | None, settings: ReportConfig
) -> bytes:
    """The report on other images, each through the device's own code. Raises DataError."""
    samples, left_out = evaluate.chosen(dataset, evaluate.recorded(bundle), split)
    pipeline = Pipeline(bundle, "report", "report")
    frames = (pipeline.read(sample.path, seq) for seq, sample in enumerate(samples))
    scores = [pipeline.predict(frame)[1].score for frame in bar(frames, "scoring", len(samples))]
    saliency = localization.of_network(network, bundle.calibration) if network else None

    def look(index: int) -> tuple[ModelInput, Evidence]:
        model_input, prediction = pipeline.predict(pipeline.read(samples[index].path, index))
        return model_input, prediction.evidence

    words = "every readable image" if split == "all" else "images that the model has not seen"
    judged = Predictions(samples, np.array(scores), None, f"{len(samples)} images: {words}", look, saliency)
    said = facts_of(dataset) | ({"left out": left_out} if left_out else {})
    size = bundle.model_path.stat().st_size
    spent = Cost.of(size, samples, bundle.calibration.preprocess, look)
    facts = ReportFacts(command_line(), said, {}, spent)
    return render(bundle.calibration, judged, bundle.reference(), settings, facts)


# ---- the page


def render(
    calibration: Calibration,
    judged: Predictions,
    reference: GoldenReference | None,
    settings: ReportConfig,
    facts: ReportFacts,
) -> bytes:
    """The whole report, and never much more than settings.max_bytes: pictures are left out first."""
    viewer = Viewer(calibration, judged, reference, settings)
    sections = [
        page.section(
            "How good",
            *warnings(calibration.training),
            in_words(calibration, judged),
            summary(calibration, judged),
            *more_images(calibration.training),
            *([cost(facts.cost)] if facts.cost else []),
        ),
        page.section("Mistakes, and what was nearest to one", *viewer.mistakes()),
        page.section("Curves", *curves(calibration, judged), folded=True),
        page.section("Thresholds", *decisions(calibration, judged), folded=True),
        page.section("Where it looks", *viewer.places(), folded=True),
        page.section("float and int8", *float_and_int8(calibration, judged), folded=True),
        page.section("How it was learned", *learning(calibration.training), folded=True),
        page.section("The recipe, part by part", *recipe(calibration.training), folded=True),
        page.section("Data", data(calibration.training, facts), folded=True),
        page.section("Environment", *environment(calibration, facts), folded=True),
    ]
    title = f"{calibration.model_id} {calibration.version}"
    return page.page(title, f"Made {calibration.created}; judged by {judged.by}.", sections)
