"""How far a picture may change: as far as the verdicts of the model that ships hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import TinyModel
from fixtures_trainer import learned_spots, wish

from device.bundle.calibration import ScoreCalibration, Thresholds
from device.image.frame import frame_from_file
from device.inspection import familiar
from device.inspection.checks import Checks, measure
from device.inspection.detector import mean_evidence
from device.inspection.preprocess import Preprocessor
from trainer.bundle import familiarity
from trainer.data.changes import gained
from trainer.network.export import Int8Model
from trainer.recipes.learned import TrainedModel
from trainer.scoring import thresholds


@pytest.fixture
def learned(tmp_path: Path, tiny_model: TinyModel) -> TrainedModel:
    found: TrainedModel = learned_spots(tmp_path, tiny_model, 24)
    return found


def chosen(learned: TrainedModel) -> tuple[ScoreCalibration, Thresholds]:
    scores = thresholds.calibrate(learned.labels, learned.pooled)
    return scores, thresholds.choose(learned.labels, learned.pooled, scores, wish())


def pictures(learned: TrainedModel, label: int, gain: float = 1.0) -> list[Checks]:
    model, preprocessor = Int8Model(learned.content), Preprocessor(learned.preprocess)
    found = []
    for sample in learned.judged:
        if sample.label != label:
            continue
        frame = frame_from_file(sample.path, 0)
        lit = replace(frame, image=gained(gain)(frame.image, np.random.default_rng(0)))
        model_input = preprocessor.prepare(lit)
        seen = model.predict(model_input, learned.pooling, ScoreCalibration(1.0, 0.0))
        evidence = mean_evidence(model_input.framing, seen.evidence)
        found.append(replace(measure(model_input), evidence=evidence))
    return found


def test_pictures_of_the_training_are_known(learned: TrainedModel) -> None:
    scores, limits = chosen(learned)
    known = familiarity.measured(learned, scores, limits, pictures(learned, 0), pictures(learned, 1), 0.01)
    assert known is not None
    for label in (0, 1):
        assert [familiar.doubt(known, one) for one in pictures(learned, label)] == [None] * 12


def test_what_is_not_borne_is_outside_and_what_is_borne_inside(learned: TrainedModel) -> None:
    """The tiny model looks for bright spots: darkness hides them, and light makes spots of everything."""
    scores, limits = chosen(learned)
    known = familiarity.measured(learned, scores, limits, pictures(learned, 0), pictures(learned, 1), 0.01)
    assert known is not None
    for gain in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.4, 1.6, 1.8):
        doubted = np.mean([familiar.doubt(known, one) is not None for one in pictures(learned, 1, gain)])
        missed, rejected = wrong(learned, scores, limits, gain)
        if missed > 0.2 or rejected > 0.2:
            assert doubted > 0.5, gain
    assert familiar.doubt(known, pictures(learned, 0, 0.4)[0]) is not None


def wrong(
    learned: TrainedModel, scores: ScoreCalibration, limits: Thresholds, gain: float
) -> tuple[float, float]:
    """(share of defective parts that are OK, share of good ones that are NG) in other light."""
    model, preprocessor = Int8Model(learned.content), Preprocessor(learned.preprocess)
    judged: dict[int, list[float]] = {0: [], 1: []}
    for sample in learned.judged:
        frame = frame_from_file(sample.path, 0)
        lit = replace(frame, image=gained(gain)(frame.image, np.random.default_rng(0)))
        found = model.predict(preprocessor.prepare(lit), learned.pooling, scores)
        judged[sample.label].append(found.score)
    missed = np.mean(np.array(judged[1]) < limits.marginal)
    return float(missed), float(np.mean(np.array(judged[0]) >= limits.ng))


def test_too_few_good_images_say_nothing(learned: TrainedModel) -> None:
    assert familiarity.measured(learned, *chosen(learned), pictures(learned, 0)[:4], [], 0.01) is None
