"""Focal losses against tables made by hand from the formula of the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.training.losses import ImageLoss, MapLoss, alpha_of_balance, focal

LOGIT_OF_0_9 = math.log(9.0)

# truth, probability, gamma, alpha, -alpha_t (1 - p_t)^gamma log(p_t) worked out by hand
TABLE = [
    (1.0, 0.9, 0.0, 0.5, 0.0526803),  # 0.5 * 0.1053605
    (0.0, 0.9, 0.0, 0.5, 1.1512925),  # 0.5 * 2.3025851
    (1.0, 0.9, 2.0, 0.5, 0.000526803),  # 0.5 * 0.01 * 0.1053605
    (0.0, 0.9, 2.0, 0.5, 0.9325470),  # 0.5 * 0.81 * 2.3025851
    (1.0, 0.9, 2.0, 0.25, 0.000263401),
    (0.0, 0.9, 2.0, 0.25, 1.3988204),  # 0.75 * 0.81 * 2.3025851
    (1.0, 0.5, 1.0, 0.5, 0.1732868),  # 0.5 * 0.5 * 0.6931472
    (0.3, 0.5, 0.0, 0.5, 0.3465736),  # half of log 2, whatever the truth
]


@pytest.mark.parametrize(("truth", "probability", "gamma", "alpha", "expected"), TABLE)
def test_the_focal_loss_by_hand(truth, probability, gamma, alpha, expected):
    logit = np.float32([math.log(probability / (1 - probability))])
    assert float(focal(np.float32([truth]), logit, gamma, alpha)[0]) == pytest.approx(expected, rel=1e-4)


def test_great_logits_stay_finite():
    logits = np.float32([-80.0, 80.0, -80.0, 80.0])
    found = np.asarray(focal(np.float32([1, 1, 0, 0]), logits, 2.0, 0.5))
    np.testing.assert_allclose(found, [40.0, 0.0, 0.0, 40.0], atol=1e-4)


def test_alpha_from_the_balance():
    """Of 30 good and 10 defective images, a defective one weighs three times as much."""
    alpha = alpha_of_balance(30, 10)
    assert alpha == 0.75
    assert 10 * alpha == pytest.approx(30 * (1 - alpha))


def test_images_weigh_what_they_are_said_to_weigh():
    """Half of log 2 and half of 2.302585, the second three times: mean over two images."""
    truth, logits = np.float32([[1], [0]]), np.float32([[0.0], [LOGIT_OF_0_9]])
    loss = ImageLoss(0.0, 0.5)
    assert float(loss(truth, logits)) == pytest.approx((0.3465736 + 1.1512925) / 2, rel=1e-5)
    weighted = float(loss(truth, logits, sample_weight=np.float32([1, 3])))
    assert weighted == pytest.approx((0.3465736 + 3 * 1.1512925) / 2, rel=1e-5)


def of_map(truth, logits, gamma=0.0):
    shape = (1, -1, 1, 1)
    return float(MapLoss(gamma)(np.reshape(np.float32(truth), shape), np.reshape(np.float32(logits), shape)))


def test_the_loss_of_the_map_by_hand():
    """One defective cell and three good ones: each kind is averaged for itself, with one cell added."""
    assert of_map([1, 0, 0, 0], [2, 0, 0, 0]) == pytest.approx(0.1269280 / 2 + 3 * 0.6931472 / 4, rel=1e-5)


def test_a_sure_cell_costs_little_with_focus():
    """(1 - 0.9)^2 of what it would cost."""
    plain, focused = of_map([1], [LOGIT_OF_0_9]), of_map([1], [LOGIT_OF_0_9], gamma=2.0)
    assert focused == pytest.approx(0.01 * plain, rel=1e-3)


def test_a_cell_that_no_mask_tells_costs_nothing():
    known = of_map([1, 0], [0.3, -0.2], gamma=2.0)
    assert of_map([1, 0, np.nan, np.nan], [0.3, -0.2, 9, -9], gamma=2.0) == pytest.approx(known, rel=1e-6)


def test_a_map_of_which_nothing_is_known_costs_nothing():
    assert of_map([np.nan, np.nan], [3, -3]) == 0.0
