"""What a learned model's numbers mean to the device: its calibration, and the images that prove it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import (
    Calibration,
    DriftReference,
    GoldenSpec,
    GoldenVector,
    LocalizationSpec,
    PreprocessSpec,
    Reference,
    ReferenceSpec,
    ScoreCalibration,
    Thresholds,
)
from device.bundle.calibration import MOST_TOLERANCE, SCHEMA_VERSION, FamiliarRanges
from device.image.frame import Frame, frame_from_file
from device.inspection.checks import measure
from device.inspection.detector import mean_evidence
from device.inspection.preprocess import Preprocessor
from device.learning.familiarity import LEAST, natural
from device.system import clock
from trainer.bundle import familiarity
from trainer.data.dataset import Sample
from trainer.data.sizing import trained_frames
from trainer.data.tiling import Tiles
from trainer.network.export import Int8Model
from trainer.network.features import inputs
from trainer.network.network import shift_px
from trainer.recipes.good_only import MemoryModel
from trainer.recipes.learned import TrainedModel
from trainer.scoring import good_maps, metrics
from trainer.scoring.thresholds import scored

SIGMA_SHARE = 0.06  # of the input's lesser side: the Gaussian that the difference map takes for background
SIGMA_LIMIT_PX = 100.0  # the device refuses a wider one
DIFFERENCE_CUT = 24.0  # gray levels
MAP_IMAGES = 200  # of either label: the drift reference and the regions are measured on them
TOLERANCES = (0.002, MOST_TOLERANCE)  # of golden scores, the least and the greatest


def calibration(
    learned: TrainedModel | MemoryModel,
    scores: ScoreCalibration,
    thresholds: Thresholds,
    golden: Mapping[str, Sample],
    *,
    model_id: str,
    training: dict[str, Any],
    reference: ReferenceSpec | None = None,
    unfamiliar_rate: float = 0.0,
) -> Calibration:
    """Everything that calibration.json says of the model. `golden`: see golden_images.

    `unfamiliar_rate`: of good parts that may be MARGINAL for how their picture looks; 0: it never counts.
    """
    model = Int8Model(learned.content, learned.memory)
    seen = [_seen(model, learned, scores, label) for label in (0, 1)]
    return Calibration(
        schema_version=SCHEMA_VERSION,
        model_id=model_id,
        created=clock.stamp(),
        model_sha256=hashlib.sha256(learned.content).hexdigest(),
        preprocess=learned.preprocess,
        input_quantization=model.input_quantization,
        output_quantization=model.output_quantization,
        pooling=learned.pooling,
        score_calibration=scores,
        thresholds=thresholds,
        localization=replace(_localization(learned, *seen), reference=reference),
        drift_reference=_drift_reference(learned, scores, seen[0]),
        golden=_golden_spec(model, learned, scores, golden),
        training=training,
        metrics={
            "judged_by": learned.record["judged_by"],
            "float": _metrics(learned.labels, learned.pooled_float),
            "int8": _metrics(learned.labels, learned.pooled),
        },
        memory=learned.memory.spec if learned.memory else None,
        frames=trained_frames(learned.judged),
        familiar=_familiar(learned, scores, thresholds, seen, unfamiliar_rate) if unfamiliar_rate else None,
    )


def golden_images(
    learned: TrainedModel | MemoryModel, scores: ScoreCalibration, ng: float, count: int
) -> dict[str, Sample]:
    """By the name that the bundle gives them: a typical good one, a typical defective one, then the nearest.

    Nearest to the threshold: there an interpreter that computes otherwise would decide otherwise.
    """
    judged = scored(learned.pooled, scores)
    order = np.argsort(judged, kind="stable")
    of_label = [order[learned.labels[order] == label] for label in (0, 1)]
    picked = [int(ranked[len(ranked) // 2]) for ranked in of_label if len(ranked)]
    picked += [int(index) for index in np.argsort(np.abs(judged - ng), kind="stable")]
    samples = [learned.judged[index] for index in list(dict.fromkeys(picked))[:count]]
    return {f"{index}-{_plain(sample.kind)}.png": sample for index, sample in enumerate(samples)}


def _plain(kind: str) -> str:
    """Without what a bundle's file may not have in its name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", kind)[:64]


def golden_frame(sample: Sample, spec: PreprocessSpec) -> Frame:
    """The image no larger than the model sees it: whole, or of a tiled one a tile, a defective one if known.

    A bundle travels, and a photograph of 24 megapixels proves no more than what is made of it.
    """
    frame = frame_from_file(sample.path, 0, spec.white_level)
    model_input = Preprocessor(spec).prepare(frame)
    if model_input.framing.tiled:
        tile = model_input.framing.tiles[Tiles.of([sample], spec).example(0)]
        return replace(frame, image=model_input.placement.inverse(tile).of(frame.image))
    content = model_input.content
    if content.size >= frame.image.size:
        return frame
    shown = content if content.ndim == 3 else np.repeat(content[:, :, np.newaxis], 3, axis=2)
    return replace(frame, image=shown)


def png(sample: Sample, spec: PreprocessSpec) -> bytes:
    """Its golden frame, without loss."""
    image = golden_frame(sample, spec).image
    gray = bool((image == image[:, :, :1]).all())
    encoded = cv2.imencode(".png", image[:, :, 0] if gray else image[:, :, ::-1])[1]
    return encoded.tobytes()


def _golden_spec(
    model: Int8Model,
    learned: TrainedModel | MemoryModel,
    scores: ScoreCalibration,
    golden: Mapping[str, Sample],
) -> GoldenSpec:
    spec = learned.preprocess
    prepared = [Preprocessor(spec).prepare(golden_frame(sample, spec)) for sample in golden.values()]
    found = [model.predict(one, learned.pooling, scores).score for one in prepared]
    step = scores.slope * model.output_quantization.scale / 4  # of score, where its curve is steepest
    vectors = tuple(GoldenVector(*pair) for pair in zip(golden, found, strict=True))
    return GoldenSpec(float(np.clip(step, *TOLERANCES)), vectors)


def localization(learned: TrainedModel | MemoryModel) -> LocalizationSpec:
    """Without a golden reference, which needs the least area to be learned."""
    model = Int8Model(learned.content, learned.memory)
    size = learned.preprocess.size
    sigma_px = min(SIGMA_SHARE * min(size.width, size.height), SIGMA_LIMIT_PX)
    return LocalizationSpec("otsu", model.stride**2, sigma_px, DIFFERENCE_CUT, shift_px(model.stride))


def _localization(
    learned: TrainedModel | MemoryModel,
    good: Sequence[good_maps.ImageMap],
    defective: Sequence[good_maps.ImageMap],
) -> LocalizationSpec:
    """How regions are found, with what good images reach, which a memory knows of the images it has seen."""
    found = learned.good_maps or good_maps.measured(good)
    return good_maps.fitted(localization(learned), found, defective)


def _familiar(
    learned: TrainedModel | MemoryModel,
    scores: ScoreCalibration,
    thresholds: Thresholds,
    seen: Sequence[Sequence[good_maps.ImageMap]],
    rate: float,
) -> FamiliarRanges | None:
    """Of a memory nothing says which changes it bears: there, what good images show is the bound."""
    good, bad = (
        [replace(one.checks, evidence=mean_evidence(one.framing, one.evidence)) for one in of] for of in seen
    )
    if isinstance(learned, TrainedModel):
        return familiarity.measured(learned, scores, thresholds, good, bad, rate)
    return natural(good, rate) if len(good) >= LEAST else None


def _seen(
    model: Int8Model, learned: TrainedModel | MemoryModel, scores: ScoreCalibration, label: int
) -> list[good_maps.ImageMap]:
    """The maps of some of the images of a label."""
    samples = [sample for sample in learned.judged if sample.label == label]
    few = samples[:: max(1, len(samples) // MAP_IMAGES)]
    return [
        good_maps.ImageMap(
            sample, one.framing, measure(one), model.predict(one, learned.pooling, scores).evidence
        )
        for sample, one in zip(few, inputs(few, learned.preprocess, "maps"), strict=True)
    ]


def _drift_reference(
    learned: TrainedModel | MemoryModel, scores: ScoreCalibration, good: Sequence[good_maps.ImageMap]
) -> DriftReference:
    seen = [one.checks for one in good]
    evidence = [mean_evidence(one.framing, one.evidence) for one in good]
    return DriftReference(
        brightness_ratio=Reference.of([checks.brightness_ratio for checks in seen]),
        focus=Reference.of([checks.focus for checks in seen]),
        score=Reference.of(scored(learned.pooled[learned.labels == 0], scores)),
        evidence=Reference.of(evidence),
        pooled=Reference.of(learned.pooled[learned.labels == 0]),
    )


def _metrics(labels: NDArray[np.int64], pooled: NDArray[np.float64]) -> dict[str, Any]:
    best = metrics.f1_max(labels, pooled)
    return {
        "n_images": len(labels),
        "n_defective": int(labels.sum()),
        "auroc": metrics.auroc(labels, pooled),
        "ap": metrics.average_precision(labels, pooled),
        "f1_max": best.f1 if best else None,
        "distinct_scores": len(np.unique(pooled)),
    }
