"""Scores and thresholds, against tables made by hand and against second opinions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fixtures_trainer import wish
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from device.bundle.bundle import ScoreCalibration
from trainer.scoring import thresholds
from trainer.scoring.metrics import confusion

LOGITS = ScoreCalibration(1.0, 0.0)

tables = st.lists(  # few values, as of an int8 model, so that ties are many
    st.tuples(st.integers(0, 1), st.integers(-12, 12).map(lambda step: step / 4)), min_size=2, max_size=40
).filter(lambda rows: {label for label, _ in rows} == {0, 1})


def arrays(rows):
    labels, pooled = zip(*rows, strict=True)
    return np.array(labels, np.int64), np.array(pooled, np.float64)


def logit(score: float) -> float:
    return math.log(score / (1 - score))


def choose(good, bad, share=0.0):
    labels = np.array([0] * len(good) + [1] * len(bad))
    chosen = thresholds.choose(labels, np.array([*good, *bad], float), LOGITS, wish(marginal_share=share))
    return chosen, logit(chosen.ng), logit(chosen.marginal)


# ---- where NG begins


def test_separable_images_are_parted_halfway():
    chosen, ng, _ = choose([-3, -2, -1], [2, 4])
    assert ng == pytest.approx(0.5)
    row = next(row for row in chosen.table if row.threshold == chosen.ng)
    assert (row.tp, row.fp, row.tn, row.fn, row.f1) == (2, 0, 3, 0, 1.0)


def test_the_greatest_f1_of_a_table_made_by_hand():
    """From the top: 1 1 0 1 0 0 1 0, with F1 after each: .4 .667 .571 .75 .667 .6 .727 .667."""
    chosen, ng, _ = choose([2.5, 1.5, 1.0, 0.0], [4.0, 3.0, 2.0, 0.5])
    assert ng == pytest.approx(1.75)
    row = next(row for row in chosen.table if row.threshold == chosen.ng)
    assert (row.tp, row.fp, row.tn, row.fn, row.f1) == (3, 1, 3, 1, 0.75)


def test_of_two_places_with_equal_f1_the_widest_gap_is_taken():
    """1 0 0 1 from the top: F1 is 2/3 after the first (a gap of 1) and after the last (no image below)."""
    _, ng, _ = choose([2.0, 1.9], [3.0, 1.8])
    assert ng == pytest.approx(2.5)
    _, ng, _ = choose([2.9, 1.9], [3.0, 1.8])  # now the gap is 0.1, and below the last one there is room
    assert ng < 1.8


def test_images_of_equal_score_fall_on_the_same_side():
    """Cutting through the three of 1.0 would give a greater F1 than any threshold can."""
    chosen, ng, _ = choose([1.0, 1.0, 1.0, 0.0], [1.0, 2.0])
    assert ng == pytest.approx(1.5)
    row = next(row for row in chosen.table if row.threshold == chosen.ng)
    assert (row.tp, row.fp) == (1, 0)


def test_scores_that_are_all_equal_reject_all():
    _, ng, marginal = choose([1.0, 1.0], [1.0])
    assert marginal <= ng < 1.0


@given(tables)
def test_no_threshold_has_a_greater_f1(rows):
    labels, pooled = arrays(rows)
    chosen = thresholds.choose(labels, pooled, LOGITS, wish())
    scores = thresholds.scored(pooled, LOGITS)
    best = max(confusion(labels, scores, threshold).f1 for threshold in scores)
    assert confusion(labels, scores, chosen.ng).f1 == best


# ---- where MARGINAL begins


def test_marginal_lies_between_the_greatest_good_one_and_ng():
    _, ng, marginal = choose([0.0, 1.0], [3.0, 4.0])
    assert (ng, marginal) == (pytest.approx(2.0), pytest.approx(1.5))


def test_a_share_of_the_good_ones_may_reach_it():
    good = [float(step) for step in range(10)]
    _, ng, marginal = choose(good, [20.0], share=0.2)
    assert (ng, marginal) == (pytest.approx(14.5), pytest.approx(7.5))  # 8 and 9 reach it


def test_good_ones_of_equal_score_reach_it_together_or_not_at_all():
    _, _, marginal = choose([0.0, 1.0, 1.0, 1.0, 2.0], [9.0], share=0.4)
    assert marginal == pytest.approx(1.5)


def test_with_the_whole_share_every_good_one_reaches_it():
    _, _, marginal = choose([-1.0, 0.0, 1.0], [9.0], share=1.0)
    assert marginal == pytest.approx(-1.0)


def test_it_never_lies_above_ng():
    _, ng, marginal = choose([0.0, 5.0], [3.0, 4.0])
    assert marginal == ng


@given(tables, st.sampled_from([0.0, 0.02, 0.1, 0.34, 0.5, 1.0]))
def test_no_more_good_ones_reach_it_than_may(rows, share):
    labels, pooled = arrays(rows)
    chosen = thresholds.choose(labels, pooled, LOGITS, wish(marginal_share=share))
    good = thresholds.scored(pooled[labels == 0], LOGITS)
    assert 0 <= chosen.marginal <= chosen.ng <= 1
    assert chosen.marginal == chosen.ng or (good >= chosen.marginal).mean() <= share


def test_the_table_and_the_rule_say_how_it_was_chosen():
    good, bad = [-2.0, -1.0, 0.5], [1.0, 2.0]
    chosen, _, _ = choose(good, bad, share=0.1)
    listed = [row.threshold for row in chosen.table]
    assert listed == sorted(listed)
    assert {0.1, 0.5, 0.9, chosen.ng, chosen.marginal} <= set(listed)
    scores = thresholds.scored(np.array(good + bad), LOGITS)
    for row in chosen.table:
        assert row.tp == (scores[3:] >= row.threshold).sum()
        assert row.fp == (scores[:3] >= row.threshold).sum()
        assert row.tp + row.fn == 2
        assert row.fp + row.tn == 3
    assert "5 judged images (2 defective)" in chosen.rule
    assert "at most 0.1 of the good" in chosen.rule


# ---- the curve from logits to scores


def platt_loss(parameters, pooled, targets):
    values = parameters[0] * pooled + parameters[1]
    return np.sum(np.logaddexp(0, values) - targets * values)


@pytest.mark.parametrize("seed", range(4))
def test_the_curve_is_the_optimum_of_platts_loss(seed):
    rng = np.random.default_rng(seed)
    labels = np.array([0] * 30 + [1] * 12)
    pooled = rng.normal(labels * 2.5, 1.0) * 3 + 40  # not centred, not of unit deviation
    targets = np.where(labels == 1, 13 / 14, 1 / 32)
    found = thresholds.calibrate(labels, pooled)
    best = minimize(platt_loss, [0.1, -4.0], (pooled, targets), method="Nelder-Mead", tol=1e-10)
    assert found.slope == pytest.approx(best.x[0], rel=1e-3)
    assert found.offset == pytest.approx(best.x[1], rel=1e-3)


@pytest.mark.parametrize(("images", "apart"), [(1, 1.0), (5, 2.0), (200, 0.01)])
def test_separable_images_get_platts_targets(images, apart):
    """Two points decide two parameters: 5 images at each of -2 and 2 must score 6/7 and 1/7."""
    labels = np.array([0, 1] * images)
    found = thresholds.calibrate(labels, np.where(labels == 1, apart, -apart))
    assert found.slope == pytest.approx(logit((images + 1) / (images + 2)) / apart, rel=5e-3)
    assert found.offset == pytest.approx(0.0, abs=1e-3)


def test_scores_of_equal_logits_are_what_the_labels_say():
    labels = np.array([0, 0, 0, 1])
    found = thresholds.calibrate(labels, np.full(4, 7.25))
    assert found.slope == thresholds.LEAST_SLOPE
    assert found.score(7.25) == pytest.approx((3 * 1 / 5 + 2 / 3) / 4, abs=1e-4)


def test_logits_that_rank_the_wrong_way_do_not_turn_the_curve_over():
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = thresholds.calibrate(labels, np.array([5.0, 4.0, 3.0, -3.0, -4.0, -5.0]))
    assert found.slope == thresholds.LEAST_SLOPE
    assert found.score(5.0) > found.score(-5.0)


@given(tables)
def test_a_greater_logit_never_scores_less(rows):
    labels, pooled = arrays(rows)
    found = thresholds.calibrate(labels, pooled)
    scores = thresholds.scored(np.sort(pooled), found)
    assert found.slope > 0
    assert (np.diff(scores) >= 0).all()
    assert ((scores > 0) & (scores < 1)).all()


# ---- the whole sweep


def test_the_sweep_of_a_table_made_by_hand():
    """From the top: 1, then 0 and 1 of equal logit, then 0."""
    labels, pooled = np.array([1, 0, 1, 0]), np.array([3.0, 1.0, 1.0, -1.0])
    lines = thresholds.sweep(labels, pooled, LOGITS).decode().splitlines()
    assert lines[0] == "threshold,tp,fp,tn,fn,precision,recall,f1"
    rows = [[float(cell) for cell in line.split(",")] for line in lines[1:]]
    assert [row[1:5] for row in rows] == [[1, 0, 2, 1], [2, 1, 1, 0], [2, 2, 0, 0]]
    assert [logit(row[0]) for row in rows] == pytest.approx([2.0, 0.0, -1.5])
    assert rows[1][5:] == pytest.approx([2 / 3, 1.0, 0.8], abs=1e-6)


def test_a_long_sweep_is_thinned_and_keeps_its_ends():
    labels = np.arange(5000) % 2
    lines = thresholds.sweep(labels, np.linspace(-4, 4, 5000), LOGITS).decode().splitlines()
    assert len(lines) == thresholds.SWEEP_ROWS + 1
    assert lines[1].split(",")[1:3] == ["1", "0"]
    assert lines[-1].split(",")[1:3] == ["2500", "2500"]


# ---- slight changes of the images


SLIGHTLY = (
    np.array([0] * 10 + [1] * 10),
    np.array([*np.linspace(-2.0, 0.9, 10), *np.linspace(1.8, 5.0, 10)]),
)


def chosen_under(changed, **fields):
    labels, pooled = np.array([0, 0, 0, 1, 1]), np.array([-3.0, -2.0, -1.0, 2.0, 4.0])
    found = thresholds.choose(labels, pooled, LOGITS, wish(**fields), changed)
    return logit(found.ng), logit(found.marginal)


def test_where_the_images_leave_room_their_changed_copies_say_where_ng_begins():
    assert chosen_under([]) == (pytest.approx(0.5), pytest.approx(-0.25))
    ng, marginal = chosen_under([SLIGHTLY])
    assert ng == pytest.approx((0.9 + 1.8) / 2)
    assert marginal == pytest.approx(np.quantile(SLIGHTLY[1][:10], 0.8))


def test_marginal_does_not_rise_above_defective_copies():
    labels, pooled = SLIGHTLY
    faint = np.where(labels == 1, pooled - 1.8, pooled)
    _, marginal = chosen_under([SLIGHTLY, (labels, faint)])
    assert marginal == pytest.approx(np.quantile(faint[10:], 0.05))


def test_a_promise_is_of_the_images_as_they_are():
    wanted = {"choose": "false_reject_rate", "false_reject_rate": 0.7}
    assert chosen_under([SLIGHTLY], **wanted)[0] == chosen_under([], **wanted)[0]
