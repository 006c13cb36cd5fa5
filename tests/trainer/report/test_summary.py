"""What comes first, in plain words and in figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fixtures_report import calibrated, section

from trainer.report.judged import Cost, Predictions, look_of
from trainer.report.summary import cost, in_words, more_images


def judged_as(reported, good: list[float], bad: list[float]) -> Predictions:
    """So many images with these scores."""
    samples = [one for one in reported.judged if not one.label][: len(good)]
    samples += [one for one in reported.judged if one.label][: len(bad)]
    return Predictions(samples, np.array([*good, *bad]), None, "some", look_of(reported), None)


def thresholds(reported):
    calibration = calibrated(reported, {})
    return replace(calibration, thresholds=replace(calibration.thresholds, ng=0.6, marginal=0.4))


def test_a_warning_of_the_training_stands_first(report_page):
    assert (
        section(report_page, "How good")
        .strip()
        .startswith("<p>Warning: no epoch was better than &lt;guessing&gt;.</p>")
    )


def test_a_person_reads_what_it_means(reported):
    said = in_words(thresholds(reported), judged_as(reported, [0.1] * 6, [0.9] * 4 + [0.5, 0.2]))
    assert said == (
        '<p class="lead">Of 6 defective parts 4 were found (1 more is MARGINAL: for a person to look at); '
        "of all such parts it would be 22 % to 96 %. None of 6 good parts was rejected, which could be up to "
        "46 % of all good parts.</p>"
    )


def test_it_says_whether_more_images_would_help():
    [said] = more_images({"learning_curve": {"says": "From 10 images 0.5, and more would help"}})
    assert said == "<p>From 10 images 0.5, and more would help.</p>"
    assert more_images({}) == []


def test_a_single_part_is_one_part(reported):
    said = in_words(thresholds(reported), judged_as(reported, [0.9, 0.5], [0.1]))
    assert "Of 1 defective part none were found and rejected;" in said
    assert "1 of 2 good parts was rejected by mistake, which could be 1 % to 99 % of all good parts." in said
    assert "1 more is MARGINAL." in said


def test_made_defects_are_called_so(reported):
    judged = replace(judged_as(reported, [0.1], []), made=np.array([0.9, 0.1]))
    assert "of 2 defects that were drawn onto good ones 1 were found" in in_words(
        thresholds(reported), judged
    )


def test_what_it_takes_on_a_station_is_marked_as_an_estimate():
    said = cost(Cost(3_100_000, 600e6, 12.34))
    assert "a file of 3.1 MB; here 12.3 ms an image. Estimated, not measured" in said
    assert "about 34 ms on a Raspberry Pi 4, 11 to 17 ms on a Pi 5" in said


def test_the_report_says_what_the_model_takes(report_page):
    assert "The model is a file of" in section(report_page, "How good")
