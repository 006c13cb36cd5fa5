"""Reports: what they are made of, and a whole one as a page."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from fixtures_bundle import SIDE, TinyModel, make_image
from fixtures_data import write_mask
from fixtures_trainer import gray_input, make_sample, wish

if TYPE_CHECKING:
    import keras

    from device.bundle.bundle import Calibration
    from trainer.recipes.learned import TrainedModel

NASTY = '<img src=x onerror="alert(1)">&$title'
RECORD = {
    "judged_by": "12 images kept aside",
    "recipe": "probe",
    "chosen": {"cuts": ["out_relu"]},
    "fine_tuning": {"shipped": "probe", "probe": {"int8_ap": 0.99}, "fine_tuned": {"int8_ap": 0.98}},
    "quantization_aware": {"shipped": "post-training", "not_done": "frames are seen in tiles"},
    "warnings": ["no epoch was better than <guessing>"],
    "history": [
        {
            "run": "head <1>",
            "epoch": epoch,
            "loss": 1 / epoch,
            "val_ap": 0.5 + epoch / 20,
            "learning_rate": 1e-4 * epoch,
        }
        for epoch in range(1, 6)
    ],
}


def float_network() -> keras.Model:
    """Much as tiny_model.py has it."""
    import keras

    image = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(image, keras.layers.Conv2D(1, 8, strides=8)(image))
    model.set_weights([np.full((8, 8, 3, 1), 10 / 192), np.zeros(1)])
    return model


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> TrainedModel:
    """Parts of which every other one has a bright spot; one defect is not to be seen, one good one has it."""
    from device.bundle.bundle import Pooling
    from device.inspection.detector import pool
    from trainer.network.export import Int8Model
    from trainer.network.features import inputs
    from trainer.recipes.learned import Judges, TrainedModel

    folder = tmp_path_factory.mktemp("parts")
    samples = []
    for number in range(14):
        path = folder / f"{number:02d}.png"
        label = number % 2
        mask = write_mask(folder / f"{number}-mask.png", side=SIDE, marked=16) if label else None
        name = NASTY if number == 3 else path.name
        sample = make_sample(path, (SIDE, SIDE), number, label=label, mask=mask)
        spot = (8, 8, 6 + number, 12) if (label and number != 3) or number == 6 else None
        assert cv2.imwrite(str(path), make_image(spot=spot, seed=number))
        samples.append(replace(sample, name=name))
    model, pooling = Int8Model(tiny_model.content), Pooling("top", 0.05)
    pooled = np.array(
        [pool(model.evidence(one.tensor), pooling) for one in inputs(samples, gray_input(), "testing")]
    )
    judges = Judges(float_network(), tiny_model.content, np.zeros(len(samples), np.int64))
    return TrainedModel(
        tiny_model.content,
        judges.network,
        gray_input(),
        pooling,
        tuple(samples),
        pooled,
        pooled + 0.01,
        judges,
        RECORD,
    )


def calibrated(learned: TrainedModel, training: dict[str, Any]) -> Calibration:
    """What a fit would say of it."""
    from trainer.bundle import calibration as calibrations
    from trainer.scoring import thresholds

    scores = thresholds.calibrate(learned.labels, learned.pooled)
    chosen = thresholds.choose(learned.labels, learned.pooled, scores, wish())
    golden = calibrations.golden_images(learned, scores, chosen.ng, 2)
    return calibrations.calibration(learned, scores, chosen, golden, model_id="spots", training=training)


def written(learned: TrainedModel, **changes: Any) -> str:
    """The page; `changes`: of [report]."""
    from trainer import config
    from trainer.data.dataset import Dataset
    from trainer.report import report

    training = {**learned.record, "config": {"split": {"folds": 7}}, "versions": {"keras": "3"}, "seed": 5}
    dataset = Dataset(learned.judged[0].path.parent, "csv", learned.judged, (), "d1", "by hand")
    settings = replace(config.load(None).report, **changes)
    return report.of_fit(
        learned, calibrated(learned, training), dataset, None, settings, {"model": 12.5}
    ).decode()


@pytest.fixture(scope="session")
def report_page(reported: TrainedModel) -> str:
    """For reading only."""
    return written(reported, images=3)


def section(page: str, title: str) -> str:
    """What stands under a heading."""
    found = re.search(rf"<section>(?:<details><summary>)?<h2>{title}</h2>(.*?)</section>", page, re.DOTALL)
    assert found
    return found[1]
