"""Metrics against hand-made tables, scikit-learn and slow definitions."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

from trainer.scoring.metrics import (
    AUPRO_LIMIT,
    Confusion,
    PixelTally,
    auroc,
    average_precision,
    confusion,
    f1_max,
    pointing_hit,
    standard_error,
)

LABELS = [0, 0, 1, 0, 1, 1]
SCORES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_auroc_counts_ordered_pairs():
    assert auroc(LABELS, SCORES) == pytest.approx(8 / 9)
    assert auroc([0, 1], [0.5, 0.5]) == 0.5


def test_average_precision_of_a_table():
    assert average_precision(LABELS, SCORES) == pytest.approx(1 / 3 * (1 + 1 + 3 / 4))


def test_the_standard_error_of_an_auroc_is_that_of_its_formula():
    """Hanley and McNeil, Radiology 143, 1982, for the area 0.9 of 60 defective and 140 good images."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [140, 60])
    scores = rng.normal(labels * 1.8, 1.0)
    area = auroc(labels, scores)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + 59 * (q1 - area**2) + 139 * (q2 - area**2)
    expected = np.sqrt(variance / (60 * 140))
    assert standard_error(auroc, labels, scores) == pytest.approx(expected, rel=0.25)
    assert standard_error(auroc, labels, labels) == 0.0
    assert standard_error(auroc, [1, 1], [0.5, 0.6]) is None


def test_f1_max_of_a_table():
    best = f1_max(LABELS, SCORES)
    assert best is not None
    assert best.f1 == pytest.approx(6 / 7)
    assert best.threshold == 0.3


def test_f1_max_prefers_the_highest_of_equal_thresholds():
    best = f1_max([1, 0, 1], [0.2, 0.3, 0.4])
    assert best is not None
    assert best.f1 == pytest.approx(0.8)
    assert f1_max([1, 0, 0, 1], [0.1, 0.2, 0.3, 0.4]).threshold == 0.4


def test_f1_max_is_what_its_threshold_gives():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = np.round(rng.normal(labels, 1.0), 1)
    best = f1_max(labels, scores)
    assert best is not None
    tried = [f1_score(labels, scores >= threshold) for threshold in np.unique(scores)]
    assert best.f1 == pytest.approx(max(tried))
    assert confusion(labels, scores, best.threshold).f1 == pytest.approx(best.f1)


def test_a_perfect_order_scores_exactly_one():
    labels = [0] * 14 + [1] * 30
    scores = np.linspace(0.61, 0.93, 44)
    assert auroc(labels, scores) == 1.0
    assert average_precision(labels, scores) == 1.0


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_one_class_has_no_curve(labels):
    scores = [0.5] * len(labels)
    assert auroc(labels, scores) is None
    assert average_precision(labels, scores) is None
    assert f1_max(labels, scores) is None


def test_confusion_of_a_table():
    counts = confusion(LABELS, SCORES, 0.4)
    assert counts == Confusion(tp=2, fp=1, tn=2, fn=1)
    assert counts.precision == pytest.approx(2 / 3)
    assert counts.recall == pytest.approx(2 / 3)
    assert counts.f1 == pytest.approx(2 / 3)
    assert counts.false_reject_rate == pytest.approx(1 / 3)


def test_the_threshold_itself_rejects():
    assert confusion([1], [0.5], 0.5).tp == 1


def test_rates_without_a_denominator_are_none():
    empty = Confusion(0, 0, 0, 0)
    assert (empty.precision, empty.recall, empty.f1, empty.false_reject_rate) == (None, None, None, None)


# ---- pixels


def scene(seed: int, images: int = 6, side: int = 48) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Smooth float32 maps that half see elliptical regions; every third image is good."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for number in range(images):
        mask = np.zeros((side, side), np.uint8)
        for _ in range(0 if number % 3 == 0 else int(rng.integers(1, 4))):
            centre = tuple(int(value) for value in rng.integers(6, side - 6, 2))
            cv2.ellipse(mask, centre, (int(rng.integers(1, 7)), 3), float(rng.uniform(0, 180)), 0, 360, 1, -1)
        noise = cv2.GaussianBlur(rng.normal(size=(side, side)).astype(np.float32), (0, 0), 1.5)
        maps.append(noise * 3 + cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.0))
        masks.append(mask.astype(bool))
    return maps, masks


def tally_of(maps: list[np.ndarray], masks: list[np.ndarray]) -> PixelTally:
    tally = PixelTally(min(float(m.min()) for m in maps), max(float(m.max()) for m in maps))
    for evidence, mask in zip(maps, masks, strict=True):
        tally.add(evidence, mask)
    return tally


def slow_aupro(maps: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """The definition: every distinct value is a threshold; overlap of each region; area up to the limit."""
    values = np.stack(maps)
    good = ~np.stack(masks)
    regions = []
    for number, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(number, labelled == region) for region in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(values)[::-1]:
        marked = values >= threshold
        overlap = np.mean([marked[number][region].mean() for number, region in regions])
        points.append((marked[good].mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= AUPRO_LIMIT or x1 == x0:
            continue
        end = min(x1, AUPRO_LIMIT)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / AUPRO_LIMIT


@pytest.mark.parametrize("seed", range(4))
def test_pixel_auroc_agrees_with_scikit_learn(seed):
    maps, masks = scene(seed)
    exact = roc_auc_score(np.stack(masks).ravel(), np.stack(maps).ravel())
    assert tally_of(maps, masks).auroc == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_aupro_agrees_with_its_definition(seed):
    maps, masks = scene(seed)
    assert tally_of(maps, masks).aupro == pytest.approx(slow_aupro(maps, masks), abs=1e-4)


def test_aupro_of_tied_maps_agrees_with_its_definition():
    maps, masks = scene(7)
    coarse = [np.round(evidence * 4) / 4 for evidence in maps]
    assert tally_of(coarse, masks).aupro == pytest.approx(slow_aupro(coarse, masks), abs=1e-4)


def test_aupro_weighs_small_regions_like_large_ones():
    """One region of 1 px is found, one of 100 px missed: half of the regions, though 1 % of the pixels."""
    mask = np.zeros((40, 40), bool)
    mask[0, 0] = True
    mask[20:30, 20:30] = True
    evidence = np.zeros((40, 40), np.float32)
    evidence[0, 0] = 1.0
    evidence[mask] -= 1.0
    evidence[0, 0] = 1.0
    tally = tally_of([evidence], [mask])
    assert tally.aupro == pytest.approx(0.5, abs=1e-3)
    assert tally.auroc == pytest.approx(1 / 101, abs=1e-3)


def test_perfect_maps_score_one():
    _, masks = scene(1)
    tally = tally_of([mask.astype(np.float32) for mask in masks], masks)
    assert tally.auroc == 1.0
    assert tally.aupro == 1.0
    assert tally.pointing_hit_rate == 1.0


def test_touching_corners_are_one_region():
    mask = np.zeros((6, 6), bool)
    mask[1, 1] = mask[2, 2] = True
    evidence = np.where(mask, 1.0, 0.0).astype(np.float32)
    evidence[2, 2] = -1.0
    # One region half of which is found at no false positive, then nothing more below the limit.
    assert tally_of([evidence], [mask]).aupro == pytest.approx(0.5, abs=1e-3)


def test_pixel_metrics_without_defects_or_without_good_pixels_are_none():
    evidence = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    good = tally_of([evidence], [np.zeros((4, 4), bool)])
    assert (good.auroc, good.aupro, good.pointing_hit_rate) == (None, None, None)
    full = tally_of([evidence], [np.ones((4, 4), bool)])
    assert (full.auroc, full.aupro, full.pointing_hit_rate) == (None, None, 1.0)


def test_values_outside_the_range_fall_into_the_end_bins():
    mask = np.array([[True, False]])
    tally = PixelTally(0.0, 1.0)
    tally.add(np.array([[7.0, -7.0]], np.float32), mask)
    assert tally.auroc == 1.0


@pytest.mark.parametrize(
    ("evidence", "mask", "message"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((3, 2), bool), r"\(2, 3\) and bool \(3, 2\)"),
        (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8), "uint8"),
        (np.full((2, 2), np.nan, np.float32), np.zeros((2, 2), bool), "finite"),
    ],
)
def test_wrong_maps_are_refused(evidence, mask, message):
    with pytest.raises(ValueError, match=message):
        PixelTally(0.0, 1.0).add(evidence, mask)


def test_counts_of_different_images_add_up():
    rng = np.random.default_rng(4)
    maps = [rng.normal(size=(8, 8)) for _ in range(4)]
    masks = [rng.random((8, 8)) < 0.2 for _ in range(4)]
    parts = [PixelTally(-5.0, 5.0) for _ in range(2)]
    whole = PixelTally(-5.0, 5.0)
    for number, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        whole.add(values, mask)
        parts[number % 2].add(values, mask)
    both = parts[0].counts + parts[1].counts
    assert both.auroc == whole.auroc
    assert both.aupro == pytest.approx(whole.aupro)
    assert both.pointing_hit_rate == whole.pointing_hit_rate


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match=r"low < high, got 1\.0\.\.1\.0"):
        PixelTally(1.0, 1.0)


def test_pointing_needs_the_maximum_inside():
    evidence = np.array([[0.0, 2.0], [1.0, 0.5]])
    assert pointing_hit(evidence, np.array([[False, True], [False, False]]))
    assert not pointing_hit(evidence, np.array([[True, False], [True, True]]))


def test_good_images_do_not_count_for_pointing():
    maps, masks = scene(2)
    tally = tally_of(maps, masks)
    hits = [pointing_hit(evidence, mask) for evidence, mask in zip(maps, masks, strict=True) if mask.any()]
    assert len(hits) == 4
    assert tally.pointing_hit_rate == sum(hits) / 4


def test_average_precision_is_the_step_sum_of_the_curve():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 100)
    scores = rng.normal(labels, 1.0)
    precision, recall, _ = precision_recall_curve(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(-np.sum(np.diff(recall) * precision[:-1]))
