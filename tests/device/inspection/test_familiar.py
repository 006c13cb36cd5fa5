"""Which pictures are outside, why, and what has changed in most of some."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_health import FAMILIAR

from device.inspection import familiar
from device.inspection.checks import Checks, Look

LOOK = Look(sharpness=0.0, warmth=0.0, slope_x=0.0, slope_y=0.0, smear=0.0, fineness=0.0)
USUAL = Checks(0.4, 300.0, -6.0, LOOK)

CHANGES = [
    (replace(USUAL, brightness_ratio=0.29), "darker"),
    (replace(USUAL, brightness_ratio=0.51), "brighter"),
    (replace(USUAL, look=replace(LOOK, sharpness=-1.1)), "blurred"),
    (replace(USUAL, look=replace(LOOK, sharpness=1.1, fineness=0.5)), "noisy"),
    (replace(USUAL, look=replace(LOOK, sharpness=1.1)), "strange"),  # all of the detail has grown alike
    (replace(USUAL, look=replace(LOOK, smear=-1.1)), "blurred"),
    (replace(USUAL, look=replace(LOOK, fineness=1.1)), "noisy"),
    (replace(USUAL, look=replace(LOOK, warmth=0.6)), "colour"),
    (replace(USUAL, look=replace(LOOK, warmth=-0.6)), "colour"),
    (replace(USUAL, look=replace(LOOK, slope_x=0.11)), "uneven"),
    (replace(USUAL, look=replace(LOOK, slope_y=-0.11)), "uneven"),
    (replace(USUAL, evidence=-12.5), "strange"),
]


@pytest.mark.parametrize(("checks", "cause"), CHANGES)
def test_a_picture_outside_is_doubted_for_its_cause(checks: Checks, cause: str) -> None:
    found = familiar.doubt(FAMILIAR, checks)
    assert found is not None
    assert found.cause == cause
    assert str(found).startswith(familiar.WORDS[found.cause])


def test_a_picture_within_is_not_doubted() -> None:
    assert familiar.doubt(FAMILIAR, USUAL) is None
    assert familiar.doubt(FAMILIAR, replace(USUAL, evidence=100.0)) is None  # a defect is no strange picture
    assert familiar.doubt(FAMILIAR, replace(USUAL, evidence=None, look=None)) is None


def test_the_farthest_outside_is_named_and_the_model_speaks_last() -> None:
    dim = replace(USUAL, brightness_ratio=0.1, look=replace(LOOK, slope_x=0.15), evidence=-40.0)
    found = familiar.doubt(FAMILIAR, dim)
    assert found is not None
    assert (found.cause, found.quantity) == ("darker", "brightness")
    assert str(found) == "darker than the pictures of the training: brightness 0.1, known 0.3 to 0.5"


def test_what_changed_in_most_pictures_is_named_before_it_is_outside() -> None:
    dimmer = [replace(USUAL, brightness_ratio=0.31)] * 6
    assert familiar.changed(FAMILIAR, [USUAL] * 5 + dimmer[:4]) is None
    found = familiar.changed(FAMILIAR, [USUAL] * 5 + dimmer)
    assert found is not None
    assert (found.cause, round(found.excess_sd, 1)) == ("darker", 4.5)
    assert familiar.changed(FAMILIAR, []) is None


def test_light_from_a_side_is_told_where_the_side_changes() -> None:
    pictures = [replace(USUAL, look=replace(LOOK, slope_x=0.05 * sign)) for sign in (-1, 1) * 5]
    found = familiar.changed(FAMILIAR, pictures)
    assert found is not None
    assert (found.cause, found.quantity) == ("uneven", "slope_x")


def test_a_lamp_that_flickers_is_neither_darker_nor_brighter() -> None:
    assert familiar.changed(FAMILIAR, [replace(USUAL, brightness_ratio=x) for x in (0.32, 0.48)]) is None


def test_a_bundle_from_before_smear_and_fineness_were_kept_does_not_look_at_them() -> None:
    old = replace(FAMILIAR, smear=None, fineness=None)
    assert familiar.doubt(old, replace(USUAL, look=replace(LOOK, smear=-9.0, fineness=9.0))) is None
    found = familiar.doubt(old, replace(USUAL, look=replace(LOOK, sharpness=1.1)))
    assert found is not None
    assert found.cause == "noisy"
