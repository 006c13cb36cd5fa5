"""The metrics of an epoch: any division into batches gives what scikit-learn says of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from trainer.training import keras_metrics
from trainer.training.keras_metrics import AUROC, F1, AveragePrecision, Precision, Recall

BATCHES = (1, 7, 64, 500)


def images(seed: int = 0, count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random(count) < 0.15).astype(np.float32)
    return truth, (rng.normal(-1.0, 2.0, count) + 2.5 * truth).astype(np.float32)


def counted(metric, truth, logits, size):
    for start in range(0, len(truth), size):
        metric.update_state(truth[start : start + size, np.newaxis], logits[start : start + size, np.newaxis])
    return float(metric.result())


EXPECTED = {
    F1: lambda truth, logits: reference.f1_score(truth, logits >= 0),
    Precision: lambda truth, logits: reference.precision_score(truth, logits >= 0),
    Recall: lambda truth, logits: reference.recall_score(truth, logits >= 0),
    AveragePrecision: reference.average_precision_score,
    AUROC: reference.roc_auc_score,
}


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_what_scikit_learn_says(kind, size):
    truth, logits = images()
    assert counted(kind(), truth, logits, size) == pytest.approx(EXPECTED[kind](truth, logits), abs=2e-4)


def test_the_mean_of_batches_would_be_wrong():
    """What the metric is for: with few defects a batch, a mean of F1s is far from the F1."""
    truth, logits = images()
    parts = [
        reference.f1_score(truth[start : start + 8], logits[start : start + 8] >= 0, zero_division=0)
        for start in range(0, 496, 8)
    ]
    assert abs(np.mean(parts) - counted(F1(), truth, logits, 8)) > 0.05


def test_counts_by_hand():
    """Two of three defects found, one false alarm."""
    truth, logits = np.float32([1, 1, 1, 0, 0]), np.float32([2.0, 0.0, -1.0, 0.5, -3.0])
    assert counted(Precision(), truth, logits, 2) == pytest.approx(2 / 3)
    assert counted(Recall(), truth, logits, 2) == pytest.approx(2 / 3)
    assert counted(F1(), truth, logits, 2) == pytest.approx(2 / 3)


def test_ties_count_half():
    truth, logits = np.float32([1, 0, 1, 0]), np.float32([1.0, 1.0, 0.0, 0.0])
    assert counted(AUROC(), truth, logits, 1) == pytest.approx(0.5)
    assert counted(AveragePrecision(), truth, logits, 1) == pytest.approx(0.5)


def test_a_new_epoch_forgets_the_last():
    truth, logits = images()
    for metric in (F1(), AveragePrecision()):
        counted(metric, truth, -logits, 64)
        metric.reset_state()
        kind = type(metric)
        assert counted(metric, truth, logits, 64) == pytest.approx(EXPECTED[kind](truth, logits), abs=2e-4)


def test_one_class_only_has_no_curve():
    assert np.isnan(counted(AUROC(), np.zeros(3, np.float32), np.zeros(3, np.float32), 2))
    assert np.isnan(counted(AveragePrecision(), np.zeros(3, np.float32), np.zeros(3, np.float32), 2))
    assert counted(F1(), np.zeros(3, np.float32), -np.ones(3, np.float32), 2) == 0.0


def test_extreme_logits_still_rank():
    truth, logits = np.float32([0, 1, 0, 1]), np.float32([-90.0, -30.0, 20.0, 21.0])
    assert counted(AUROC(), truth, logits, 4) == pytest.approx(0.75)


def test_those_of_a_training():
    assert [metric.name for metric in keras_metrics.of_images()] == ["f1", "precision", "recall", "ap"]
