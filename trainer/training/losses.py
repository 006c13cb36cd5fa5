"""What a network is taught by: focal losses of images and of the cells of a map.

Truth is 0 (good) to 1 (defective); predictions are logits. Everything is keras.ops, and so the same on every
backend of Keras.
"""

from __future__ import annotations

from typing import TypeAlias

import keras

Tensor: TypeAlias = keras.KerasTensor

LEAST_SHARE = 0.25  # of a cell, from which it is defective
DEFECTIVE_WEIGHT = 5.0  # of such a cell, beside a good one
FEW_CELLS = 10.0  # defective ones: a batch with fewer teaches less


def focal(truth: Tensor, logits: Tensor, gamma: float, alpha: float) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log(p_t) of each element (Lin et al., ICCV 2017, equation 5).

    `alpha` weighs the defective, 1 - alpha the good. With gamma 0 and alpha 0.5 it is half the cross-entropy.
    A truth between 0 and 1 mixes both.
    """
    bad, good = _sides(logits, gamma)
    return alpha * truth * bad + (1 - alpha) * (1 - truth) * good


def alpha_of_balance(good: int, defective: int) -> float:
    """The alpha with which the defective weigh as much as the good ones do, all in all."""
    return good / (good + defective)


class ImageLoss(keras.losses.Loss):  # type: ignore[misc]
    """The mean focal loss of a batch of images: truth (n, 1), logits (n, 1), sample weights (n,)."""

    def __init__(self, gamma: float, alpha: float, name: str = "image") -> None:
        super().__init__(name=name)
        self._gamma, self._alpha = gamma, alpha

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        loss = focal(keras.ops.cast(y_true, y_pred.dtype), y_pred, self._gamma, self._alpha)
        return keras.ops.mean(loss, axis=-1)


class MapLoss(keras.losses.Loss):  # type: ignore[misc]
    """The focal loss of the cells of maps: truth and logits (n, h, w, 1).

    A cell's truth is the share of it that is defective; NaN where no mask tells. Defective and good cells
    are averaged for themselves, with one cell added: a few defective ones are not lost among the others.
    """

    def __init__(self, gamma: float, name: str = "map") -> None:
        super().__init__(name=name, reduction="sum")
        self._gamma = gamma

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        known = 1 - keras.ops.cast(keras.ops.isnan(y_true), y_pred.dtype)
        truth = keras.ops.cast(keras.ops.nan_to_num(y_true), y_pred.dtype)
        bad, good = _sides(y_pred, self._gamma)
        return _averaged(bad, known * truth) + _averaged(good, known * (1 - truth))


class PlaceLoss(keras.losses.Loss):  # type: ignore[misc]
    """What a decoder is taught of places: the focal loss of the cells of maps, truth and logits (n, h, w, 1).

    A cell's truth is the share of it that is defective, NaN where no mask tells: from LEAST_SHARE on it is
    defective, between 0 and that it teaches nothing. All that a batch's cells say is shared out among its
    defective ones, so that a false alarm weighs as much as a missed place, however many cells are good.
    """

    def __init__(self, gamma: float = 2.0, name: str = "place") -> None:
        super().__init__(name=name, reduction="sum")
        self._gamma = gamma

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        known = keras.ops.cast(keras.ops.logical_not(keras.ops.isnan(y_true)), y_pred.dtype)
        share = keras.ops.nan_to_num(y_true)
        defective = known * keras.ops.cast(share >= LEAST_SHARE, y_pred.dtype)
        good = known * keras.ops.cast(share <= 0, y_pred.dtype)
        missed, alarmed = _sides(y_pred, self._gamma)
        total = keras.ops.sum(DEFECTIVE_WEIGHT * defective * missed + good * alarmed)
        return total / (keras.ops.sum(defective) + FEW_CELLS)


def _sides(logits: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """(1-p)^gamma * -log(p) and p^gamma * -log(1-p), in logits, so that nothing under- or overflows."""
    missed, alarmed = keras.ops.softplus(-logits), keras.ops.softplus(logits)  # -log(p), -log(1 - p)
    return keras.ops.exp(-gamma * alarmed) * missed, keras.ops.exp(-gamma * missed) * alarmed


def _averaged(loss: Tensor, share: Tensor) -> Tensor:
    return keras.ops.sum(loss * share) / (keras.ops.sum(share) + 1.0)
