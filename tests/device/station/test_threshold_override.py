"""Thresholds that a command has set: kept for one model, over restarts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_bundle import make_calibration

from device.inspection.reach import ScoreRange
from device.inspection.verdict import Model
from device.station.threshold_override import RULE, ThresholdOverride

MODEL = Model("tiny", "20260304T050607Z-00000000", "0" * 64)
OWN = make_calibration().thresholds
SET = replace(OWN, ng=0.9, marginal=0.8, rule=RULE)
SCORES = ScoreRange(0.01, 0.95)


def test_they_are_kept_for_their_model_until_they_are_forgotten(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert ThresholdOverride(state).apply(MODEL, OWN, SCORES) == OWN
    ThresholdOverride(state).keep(MODEL, SET)
    assert ThresholdOverride(state).apply(MODEL, OWN, SCORES) == SET
    ThresholdOverride(state).forget()
    assert ThresholdOverride(state).apply(MODEL, OWN, SCORES) == OWN


@pytest.mark.parametrize("change", [{"version": "other"}, {"sha256": "1" * 64}])
def test_another_model_has_its_own_and_the_first_gets_them_back(
    tmp_path: Path, change: dict[str, str]
) -> None:
    override = ThresholdOverride(tmp_path)
    override.keep(MODEL, SET)
    assert override.apply(replace(MODEL, **change), OWN, SCORES) == OWN
    assert override.apply(MODEL, OWN, SCORES) == SET


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"schema":2,"version":"v","sha256":"s","ng":0.5,"marginal":0.5}',
        b'{"schema":1,"version":"20260304T050607Z-00000000","sha256":"%s","ng":0.5,"marginal":0.6}'
        % (b"0" * 64),
        b'{"schema":1,"version":"20260304T050607Z-00000000","sha256":"%s","ng":0.96,"marginal":0.6}'
        % (b"0" * 64),
    ],
)
def test_a_damaged_file_is_told_and_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "threshold.json").write_bytes(content)
    assert ThresholdOverride(tmp_path).apply(MODEL, OWN, SCORES) == OWN
    assert "threshold.json: the thresholds in it do not count, the bundle's own do: " in caplog.text
