"""How good a way to judge is, in one number, and how sure a gain in it is."""

from __future__ import annotations

import numpy as np
import pytest

from device.image.geometry import Letterbox, Size
from trainer.scoring.quality import Quality, ap_error, ap_gain_error, gain_error, place


def test_quality_of_a_table_made_by_hand():
    """From the top: 1 0 1. AP is the mean of 1/1 and 2/3; the means differ by 1, both spreads counted."""
    quality = Quality.of(np.array([1, 0, 1]), np.array([3.0, 2.0, 1.0]), place=0.25)
    assert quality.ap == pytest.approx((1 + 2 / 3) / 2)
    assert quality.place == 0.25
    assert quality.separation == pytest.approx(0.0)
    apart = Quality.of(np.array([0, 0, 1, 1]), np.array([0.0, 2.0, 9.0, 13.0]))
    assert apart.separation == pytest.approx(10 / np.sqrt((1 + 4) / 2))


def test_ranking_comes_before_the_place_and_the_place_before_the_distance():
    assert Quality(0.99, 0.5, 2.0).merit > Quality(0.93, 0.5, 2.0).merit
    assert Quality(0.99, 0.9, 2.0).merit > Quality(0.99, 0.3, 2.0).merit
    assert Quality(0.99, 0.9, 3.0).merit > Quality(0.99, 0.9, 2.0).merit
    assert Quality(0.99, 0.0, 2.0).merit > Quality(0.90, 1.0, 2.0).merit


def test_the_place_of_a_perfect_map_and_of_one_that_points_elsewhere():
    frame, target = Size(128, 128), Size(64, 64)
    placement = Letterbox.fit(frame, target, "stretch")
    mask = np.zeros((128, 128), np.bool_)
    mask[32:64, 64:96] = True
    there = np.zeros((8, 8), np.float32)
    there[2:4, 4:6] = 5.0
    assert place(there, placement, mask) > 0.95
    assert place(-there, placement, mask) < 0.3
    assert place(there[::-1, ::-1].copy(), placement, mask) < 0.3


def test_the_gain_of_one_lucky_image_is_within_its_error() -> None:
    labels = np.repeat([0, 1], [20, 5])
    pooled = np.array([*np.arange(20.0), 30, 31, 32, 10, 11])
    lucky, better = pooled.copy(), pooled.copy()
    lucky[-1] = 11.5  # past a good one
    better[-2:] = 33, 34
    groups = [str(index) for index in range(25)]
    plain = Quality.of(labels, pooled).merit
    for other, sure in ((lucky, False), (better, True)):
        gain = Quality.of(labels, other).merit - plain
        assert gain > 0
        assert (gain > gain_error(labels, other, pooled, groups)) is sure
    one_part = gain_error(labels, better, pooled, ["same"] * 25)
    assert one_part < 1e-9  # drawn whole, it is the same every time


def test_the_error_of_a_gain_leaves_out_what_is_hard_for_both() -> None:
    labels, groups = np.repeat([0, 1], 20), [str(index) for index in range(40)]
    first = np.array([*np.arange(20.0), *np.arange(1.5, 17.5, 2), *np.arange(30.0, 42)])
    second = first.copy()
    second[20:28] -= 2
    assert ap_gain_error(labels, first, first, groups) == 0
    error = ap_gain_error(labels, first, second, groups)
    assert 0 < error < ap_error(labels, first, groups) / 3
    assert error == ap_gain_error(labels, second, first, groups)
