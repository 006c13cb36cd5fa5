"""What the two ways of trainer.fit decide; the whole of each: test_fit.py and recipes/test_good_only.py."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures_trainer import SIDE, make_samples

from device.bundle.bundle import ScoreCalibration
from device.errors import ConfigError, DataError
from trainer import config as configs
from trainer.bundle import rehearsal
from trainer.options import FitOptions
from trainer.scoring import thresholds
from trainer.strategy import GoodOnly, Supervised


@pytest.fixture
def options(tmp_path: Path) -> FitOptions:
    return FitOptions((tmp_path,), "auto", tmp_path / "out")


def judged(logits: list[float], labels: list[int]) -> SimpleNamespace:
    """What a decision needs of a model."""
    return SimpleNamespace(labels=np.array(labels), pooled=np.array(logits), made=np.array([3.0, 4.0]))


def test_both_labels_give_a_threshold_a_sweep_and_a_record(
    options: FitOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = [(np.array([0, 1]), np.array([0.5, 1.0]))]
    monkeypatch.setattr(rehearsal, "slightly_changed", lambda model: changed)
    wish = replace(configs.load(None).threshold, choose="f1")
    strategy = Supervised(options, replace(configs.load(None), threshold=wish))
    labels = [0] * 30 + [1] * 10
    decision = strategy.decide(judged([*np.linspace(-6, -2, 30), *np.linspace(2, 6, 10)], labels))
    assert decision.lines[0].startswith("thresholds: NG from 0.")
    assert "(tp 10, fp 0, tn 30, fn 0)" in decision.lines[0]
    assert 0.5 < _logit(decision.thresholds.ng, decision.scores) < 1.0  # between the changed ones
    assert set(decision.files) == {thresholds.SWEEP_FILE}
    assert decision.training["thresholds"]
    assert strategy.files(judged([], [])) == {}


def _logit(score: float, scores: ScoreCalibration) -> float:
    return (math.log(score / (1 - score)) - scores.offset) / scores.slope


def test_good_images_alone_give_a_threshold_without_a_sweep(options: FitOptions) -> None:
    strategy = GoodOnly(options, configs.load(None))
    decision = strategy.decide(judged(list(np.linspace(0.1, 1.0, 40)), [0] * 40))
    assert decision.lines[0].startswith("thresholds: ng: rejects ")
    assert (decision.files, decision.training) == ({}, {})
    assert strategy.reference(None, None) is None


def test_a_memory_has_no_network_to_keep(options: FitOptions) -> None:
    with pytest.raises(ConfigError, match="--keep-network"):
        GoodOnly(options, configs.load(None)).network(judged([], []))


def test_too_few_images_are_known_before_anything_is_learned(tmp_path: Path, options: FitOptions) -> None:
    samples = make_samples(tmp_path, [(SIDE, SIDE)] * 2)
    few = SimpleNamespace(train=tuple(samples), count=lambda split, label: 1)
    wish = replace(configs.load(None).threshold, choose="precision")
    with pytest.raises(DataError):
        Supervised(options, replace(configs.load(None), threshold=wish)).inputs(few)
