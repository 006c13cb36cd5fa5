"""Thresholds from good images alone."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from fixtures_trainer import wish

from trainer.scoring.good_thresholds import choose, images_needed
from trainer.scoring.metrics import interval
from trainer.scoring.thresholds import scored

MADE = np.full(8, 50.0)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_so_many_images_show_a_rate(rate: float) -> None:
    needed = images_needed(rate, 0.95)
    assert interval(0, needed)[1] <= rate < interval(0, needed - 1)[1]


def test_as_many_good_images_are_rejected_as_may_be() -> None:
    pooled = np.random.default_rng(1).normal(0, 1, 400)
    scores, chosen = choose(pooled, MADE, wish(false_reject_rate=0.05, marginal_share=0.1))
    judged = scored(pooled, scores)
    assert chosen.ng == 0.5
    assert (judged >= chosen.ng).sum() == 20
    assert (judged >= chosen.marginal).sum() == 40
    assert np.median(judged) == pytest.approx(1 / (1 + np.exp(4)), abs=1e-3)
    row = next(row for row in chosen.table if row.threshold == 0.5)
    assert (row.fp, row.tn, row.tp, row.fn) == (20, 380, 0, 0)


def test_few_images_say_what_they_cannot_show(caplog: pytest.LogCaptureFixture) -> None:
    pooled = np.arange(10.0)
    with caplog.at_level(logging.WARNING):
        scores, chosen = choose(pooled, MADE, wish())
    assert "10 good images cannot show" in caplog.text
    assert "up to 30.85%; 368 images would be needed" in caplog.text
    assert "which 368 images would be needed to show" in chosen.rule
    assert scored(pooled, scores).max() < chosen.ng


def test_enough_images_warn_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    chosen = choose(np.random.default_rng(2).normal(0, 1, 400), MADE, wish(false_reject_rate=0.05))[1]
    assert not caplog.records
    assert "confidence 3.08% to 7.62% of good parts are rejected; wanted 5.00%" in chosen.rule
    assert chosen.rule.endswith("8 of 8 defects made from good images reach it")


def test_a_wish_that_lets_defects_pass_is_said(caplog: pytest.LogCaptureFixture) -> None:
    pooled = np.append(np.random.default_rng(2).normal(0, 1, 400), [50.0] * 9)
    chosen = choose(pooled, np.linspace(0, 60, 20), wish(false_reject_rate=0.01))[1]
    assert "at NG 4 of 20 defects made from good images are found" in caplog.text
    assert chosen.rule.endswith("4 of 20 defects made from good images reach it")


def test_equal_scores_of_all_images() -> None:
    scores, chosen = choose(np.full(20, 3.0), MADE, wish(false_reject_rate=0.05))
    assert (scored(np.full(20, 3.0), scores) < chosen.ng).all()
