"""What fewer images would have brought: of heads that are fitted anew, and who is in which part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fixtures_network import PlantedBackbone, numbered, spotted
from fixtures_trainer import gray_input

from device.bundle.bundle import Pooling
from trainer import config
from trainer.data.splits import folds
from trainer.recipes import learning_curve, probe
from trainer.recipes.learned import Judges, TrainedModel
from trainer.recipes.learning_curve import CurvePoint

CUT = "block_13_expand_relu"


def of_images(samples) -> TrainedModel:
    """Of a model what a curve asks for."""
    nothing = np.zeros(len(samples))
    judges = Judges(None, b"", nothing.astype(int))  # type: ignore[arg-type]
    return TrainedModel(
        b"", None, gray_input(), Pooling("mean", 1.0), tuple(samples), nothing, nothing, judges, {}
    )


def test_the_linear_head_of_fewer_images(tmp_path):
    """A faint defect in some channels, which takes many images to be told from noise."""
    labels = [0, 1] * 32
    samples = numbered(tmp_path, labels)
    faint = np.where(np.arange(576) < 12, 0.12, 0.0)
    backbone = PlantedBackbone(lambda number, cut: faint * labels[number] if cut == CUT else 0.0)
    settings = replace(config.load(None), split=replace(config.load(None).split, folds=4))
    search = probe.Search(
        [probe.InputSize(gray_input(), backbone, samples, ("as is",))], samples, settings.probe, 4, seed=0
    )
    [candidate] = [
        one
        for one in search.judge([search.fit(search.sizes[0], (CUT,), 1, 1.0)])
        if one.pooling.kind == "mean"
    ]
    learned = of_images(samples)
    said = learning_curve.of_probe(learned, candidate, settings, 0).record["learning_curve"]
    assert said["images"] == [12, 24, 48]  # of the 48 that the heads of four folds know
    assert said["ap"][2] == round(candidate.quality.ap, 4)
    assert said["ap"][0] < said["ap"][1] < said["ap"][2]
    few = replace(learned, judged=tuple(samples[:12]))
    assert learning_curve.of_probe(few, candidate, settings, 0) is few


def test_parts_hold_both_labels_and_keep_groups(tmp_path):
    samples = [
        replace(sample, group=f"{number // 4}-{sample.label}")
        for number, sample in enumerate(spotted(tmp_path, 48))
    ]
    fold_of = np.array(folds(samples, 3, 0))
    quarter_of = learning_curve.quarters(samples, fold_of, 0)
    assert quarter_of is not None
    assert set(quarter_of) == {0, 1, 2, 3}
    assert len({(sample.group, quarter) for sample, quarter in zip(samples, quarter_of, strict=True)}) == 24
    assert {(fold, quarter) for fold, quarter in zip(fold_of, quarter_of, strict=True) if quarter == 0} == {
        (0, 0),
        (1, 0),
        (2, 0),
    }
    few = samples[:12]
    assert learning_curve.quarters(few, np.array(folds(few, 2, 0)), 0) is None
    among = np.arange(48) < 32
    half_of = learning_curve.halves(samples, among, 0)
    assert half_of is not None
    assert (half_of[~among] == -1).all()
    assert set(half_of[among]) == {0, 1}
    assert learning_curve.halves(samples, np.arange(48) < 12, 0) is None


def test_the_record_has_means_and_the_error_of_the_gain():
    labels = np.array([0, 0, 1, 1])
    right, wrong = np.array([0.0, 1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0, 0.0])
    points = [CurvePoint(5, [right, wrong]), CurvePoint(10, [wrong]), CurvePoint(20, [right])]
    said = learning_curve.described(points, labels, ["a", "b", "c", "d"])
    assert said["images"] == [5, 10, 20]
    assert said["ap"] == [round((1 + 5 / 12) / 2, 4), round(5 / 12, 4), 1.0]
    assert said["gain_error"] >= 0
