"""Decoders that are taught side by side on one stream of copies: one for each fold, and the one to ship.

Each fold's has not seen the images of its fold and can judge them. All go through the same number of steps
at a rate that rises and falls; no epoch is chosen, so nothing is fitted to the images that are judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from device.errors import TrainingError
from device.image.geometry import Size
from trainer.network.decoder import Normalization, trainable
from trainer.network.network import Cuts
from trainer.steps import bar
from trainer.training.learner import TopMean
from trainer.training.lessons import Lesson
from trainer.training.losses import ImageLoss, PlaceLoss
from trainer.training.schedule import WarmUpCosine

WARM_UP = 0.2  # of the steps
DROPOUT = 0.1  # of whole channels of what the adaptors give
WEIGHT_DECAY = 1e-2
GRADIENT_NORM = 1.0
PLACED = (0.003,)  # of a map's cells, which speak for the image: where masks tell the places,
UNPLACED = (
    0.003,
    0.03,
    0.3,
)  # where none does: the worst few alone are long those that good images have, too


@dataclass(frozen=True, slots=True)
class DecoderSchedule:
    """So many `steps`, up to a peak `rate`. `image_weight`: of the images' loss beside the cells'.

    `shares` of a map's cells speak for an image: what the means of its greatest ones say on average.
    """

    steps: int
    rate: float
    image_weight: float
    shares: tuple[float, ...] = PLACED


def taught(
    lessons: Iterable[Lesson],
    folds: int,
    cuts: Cuts,
    size: Size,
    normalizations: Mapping[str, Normalization],
    course: DecoderSchedule,
) -> list[keras.Model]:
    """Those of the folds, then the one that has seen all. TrainingError where a loss is no number."""
    decoders = [trainable(cuts, size, normalizations, DROPOUT) for _ in range(folds + 1)]
    trainers = [_trainer(one, course) for one in decoders]
    counted = bar(lessons, "decoder", course.steps, unit="step")
    for lesson in counted:
        seen = np.pad(~lesson.unseen, ((0, 0), (0, 1)), constant_values=True)  # all of it by the one to ship
        losses = [_step(trainer, lesson, seen[:, number]) for number, trainer in enumerate(trainers)]
        counted.set_postfix(loss=f"{losses[-1]:.3f}")
        if not all(math.isfinite(loss) for loss in losses):
            raise TrainingError(f"the decoder's loss is {losses}: lower [decoder] learning_rate")
    return decoders


def _trainer(decoder: keras.Model, course: DecoderSchedule) -> keras.Model:
    means = [TopMean(share, dtype="float32")(decoder.output) for share in course.shares]
    pooled = keras.layers.Average(dtype="float32")(means) if len(means) > 1 else means[0]
    named = {"map": decoder.output, "image": pooled}
    model = keras.Model(
        decoder.inputs, {name: keras.layers.Identity(name=name)(one) for name, one in named.items()}
    )
    rate = WarmUpCosine(course.rate, round(WARM_UP * course.steps), course.steps)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY, clipnorm=GRADIENT_NORM),
        loss={"map": PlaceLoss(), "image": ImageLoss(0.0, 0.5)},
        loss_weights={"map": 1.0, "image": 2 * course.image_weight},
        jit_compile=False,
    )
    return model


def _step(trainer: keras.Model, lesson: Lesson, chosen: NDArray[np.bool_]) -> float:
    features = [maps[chosen] for maps in lesson.stored]
    truth: dict[str, Any] = {"map": lesson.cells[chosen], "image": lesson.labels[chosen]}
    return float(trainer.train_on_batch(features, truth, return_dict=True)["loss"])
