"""Thresholds that leave no room for a verdict are refused, whoever signed them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import TinyModel
from fixtures_daemon import REPOSITORY

from device.bundle import bundle as bundles
from device.bundle.bundle import Pooling, ScoreCalibration, ThresholdRow, Thresholds
from device.errors import BundleError
from device.inspection.detector import sharpened
from device.inspection.pipeline import Pipeline, prove
from device.inspection.reach import ScoreRange

ROW = ThresholdRow(0.95, 1.0, 0.9, 0.947, 9, 0, 10, 1)
TINY = ScoreRange(5.3e-05, 0.999943)  # what the tiny model's levels of int8 are as scores


def prove_with(model: TinyModel, folder: Path, thresholds: Thresholds) -> None:
    prove(bundles.load(model.write(folder, thresholds=thresholds)))


def test_the_range_is_that_of_the_levels_of_int8(tiny_model: TinyModel, tmp_path: Path) -> None:
    found = Pipeline(bundles.load(tiny_model.write(tmp_path)), "a", "b").scores
    assert (found.least, found.greatest) == pytest.approx((TINY.least, TINY.greatest), rel=1e-2)


def test_a_cell_of_a_sharpened_map_may_say_more_than_the_file_can_store(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(bundles.load(tiny_model.write(tmp_path)), "a", "b")
    plain, low, high = pipeline.scores, np.float32(-3), np.float32(5)
    monkeypatch.setattr(pipeline._detector, "_pooling", Pooling("top", 0.05, 2.0))
    assert pipeline.scores.least < plain.least < plain.greatest < pipeline.scores.greatest
    peak = np.full((9, 9), low)
    peak[4, 4] = high
    assert high < sharpened(peak, 2.0).max() <= high + 2 * (high - low)


@pytest.mark.parametrize(
    ("ng", "marginal", "rows", "problem"),
    [
        (1.0, 1.0, (), r"thresholds\.ng: must be 0\.999943 or less, the greatest score .*, got 1"),
        (1.0, 0.3, (), r"thresholds\.ng: .*, got 1"),
        (0.99999, 0.3, (), r"thresholds\.ng: .*, got 0\.99999"),
        (0.96, 0.3, (ROW,), r"thresholds\.ng: must be 0\.95 or less, the last threshold that .*, got 0\.96"),
        (0.5, 0.0, (), r"thresholds\.marginal: must be above 5\.3\d+e-05, the least score .*, got 0"),
        (0.0, 0.0, (), r"thresholds\.marginal: "),
        (0.5, 5e-05, (), r"thresholds\.marginal: "),
    ],
)
def test_what_leaves_no_room_is_refused(
    tiny_model: TinyModel,
    tmp_path: Path,
    ng: float,
    marginal: float,
    rows: tuple[ThresholdRow, ...],
    problem: str,
) -> None:
    with pytest.raises(BundleError, match=rf"calibration\.json: {problem}"):
        prove_with(tiny_model, tmp_path, Thresholds(ng, marginal, "by hand", rows))


@pytest.mark.parametrize(
    ("ng", "marginal", "rows"),
    [
        (0.99, 0.9, ()),  # learned on a station, or a separation without an error
        (0.999, 0.999, (ROW, ThresholdRow(0.999, 1.0, 0.9, 0.947, 9, 0, 10, 1))),
        (0.6, 0.001, (ROW,)),  # a table need not reach down to `marginal`
        (1e-3, 1e-4, ()),
    ],
)
def test_what_images_may_confirm_is_taken(
    tiny_model: TinyModel, tmp_path: Path, ng: float, marginal: float, rows: tuple[ThresholdRow, ...]
) -> None:
    prove_with(tiny_model, tmp_path, Thresholds(ng, marginal, "by images", rows))


def test_levels_that_are_certain_and_a_memory_end_below_one() -> None:
    for sure in (ScoreRange(0.0, 1.0), ScoreRange(ScoreCalibration(9.0, 0.0).score(-100), 1.0)):
        assert sure.refusal(1.0) == "must be below 1, the greatest score that this model can give, got 1"
        assert sure.refusal(0.999999) is None


def test_the_bundle_of_version_0_1_0_goes_on() -> None:
    prove(bundles.load(REPOSITORY / "deploy" / "demo" / "bundle"))
