"""The charts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fixtures_report import calibrated, section

from trainer.report.curves import curves, limits_of
from trainer.report.judged import Predictions, look_of
from trainer.scoring.thresholds import scored


def judged_of(reported, label: int | None = None) -> Predictions:
    """The images of one label, or all."""
    chosen = [index for index, sample in enumerate(reported.judged) if label in (None, sample.label)]
    scores = scored(reported.pooled, calibrated(reported, {}).score_calibration)
    look = look_of(reported)
    return Predictions(
        [reported.judged[index] for index in chosen],
        scores[chosen],
        None,
        "some images",
        lambda number: look(chosen[number]),
        None,
    )


def test_both_labels_have_two_curves_and_the_scores(reported):
    drawn = "".join(curves(calibrated(reported, {}), judged_of(reported)))
    assert drawn.count("<svg") == 3
    assert drawn.count("ROC curve") > 0


def test_one_label_has_no_curve(reported):
    drawn = "".join(curves(calibrated(reported, {}), judged_of(reported, 0)))
    assert drawn.count("<svg") == 1
    assert "Scores of good and defective" in drawn


def test_defects_made_from_good_images_stand_in_for_others(reported):
    judged = replace(judged_of(reported, 0), made=np.array([0.9, 0.95]))
    assert "Scores of good and made defects" in "".join(curves(calibrated(reported, {}), judged))


def test_the_thresholds_have_their_marks(reported, report_page):
    calibration = calibrated(reported, {})
    assert limits_of(calibration) == [
        ("NG", calibration.thresholds.ng),
        ("MARGINAL", calibration.thresholds.marginal),
    ]
    assert section(report_page, "Curves").count('class="mark"') == 4
