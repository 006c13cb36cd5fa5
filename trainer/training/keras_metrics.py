"""Metrics of an epoch as Keras counts them, right over any division into batches.

Counts are gathered over the batches and divided once, at the end: a mean of the F1 of batches is no F1. Truth
is 0 or 1, predictions are logits of images, both (n,) or (n, 1). metrics.py has the same figures of
arrays; tests hold both to scikit-learn.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import keras
from keras import ops

BINS = 2**14  # of the curves' histograms: images in one bin count as tied

Tensor: TypeAlias = keras.KerasTensor


class _Counts(keras.metrics.Metric):  # type: ignore[misc]
    """Counts of images that `threshold`, a logit, rejects rightly or wrongly, or misses."""

    def __init__(self, threshold: float = 0.0, name: str | None = None, **options: Any) -> None:
        super().__init__(name=name, **options)
        self._threshold = threshold
        self.tp = self.add_variable((), "zeros", name="tp")
        self.fp = self.add_variable((), "zeros", name="fp")
        self.fn = self.add_variable((), "zeros", name="fn")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        bad = ops.cast(ops.reshape(y_true, (-1,)) > 0.5, "float32")
        rejected = ops.cast(ops.reshape(y_pred, (-1,)) >= self._threshold, "float32")
        self.tp.assign_add(ops.sum(bad * rejected))
        self.fp.assign_add(ops.sum((1 - bad) * rejected))
        self.fn.assign_add(ops.sum(bad * (1 - rejected)))


class Precision(_Counts):
    """tp/(tp+fp); 0 where nothing is rejected."""

    def result(self) -> Tensor:
        return ops.divide_no_nan(self.tp, self.tp + self.fp)


class Recall(_Counts):
    """tp/(tp+fn); 0 where nothing is defective."""

    def result(self) -> Tensor:
        return ops.divide_no_nan(self.tp, self.tp + self.fn)


class F1(_Counts):
    """2tp/(2tp+fp+fn); 0 where nothing is defective or rejected."""

    def result(self) -> Tensor:
        return ops.divide_no_nan(2 * self.tp, 2 * self.tp + self.fp + self.fn)


class _Curve(keras.metrics.Metric):  # type: ignore[misc]
    """Histograms of the logits of good and of defective images, over all logits there can be."""

    def __init__(self, name: str | None = None, **options: Any) -> None:
        super().__init__(name=name, **options)
        self.good = self.add_variable((BINS,), "zeros", name="good")
        self.bad = self.add_variable((BINS,), "zeros", name="bad")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        logits = ops.cast(ops.reshape(y_pred, (-1,)), "float32")
        place = (logits / (1.0 + ops.abs(logits)) + 1.0) / 2.0  # rises with the logit, 0..1
        bins = ops.cast(ops.clip(place * BINS, 0, BINS - 1), "int32")
        bad = ops.cast(ops.reshape(y_true, (-1,)) > 0.5, "float32")
        self.bad.assign_add(ops.segment_sum(bad, bins, BINS))
        self.good.assign_add(ops.segment_sum(1.0 - bad, bins, BINS))

    def _from_the_top(self) -> tuple[Tensor, Tensor]:
        """How many defective and good images lie in each bin or above, from the highest bin down."""
        return ops.cumsum(ops.flip(self.bad, 0)), ops.cumsum(ops.flip(self.good, 0))


class AveragePrecision(_Curve):
    """Area under the precision-recall steps, without interpolation; NaN where nothing is defective."""

    def result(self) -> Tensor:
        tp, fp = self._from_the_top()
        precision = ops.divide_no_nan(tp, tp + fp)
        return ops.sum(precision * ops.flip(self.bad, 0)) / tp[-1]


class AUROC(_Curve):
    """Area under the ROC curve, a tie counts half; NaN where there is one class only."""

    def result(self) -> Tensor:
        tp, fp = self._from_the_top()
        bad, good = ops.flip(self.bad, 0), ops.flip(self.good, 0)
        return ops.sum(good * (tp - bad / 2.0)) / (tp[-1] * fp[-1])


def of_images() -> list[keras.metrics.Metric]:
    """Those that a training shows, an epoch at a time."""
    return [F1(name="f1"), Precision(name="precision"), Recall(name="recall"), AveragePrecision(name="ap")]
