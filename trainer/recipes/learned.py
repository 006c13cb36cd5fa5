"""What every way to learn comes to: a model, and what was said of images that it had not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Pooling, PreprocessSpec
from trainer.data.dataset import Sample


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """Who judged images that they had not seen: one network, or a head for each fold on one network.

    `network`: float, (n, h, w, 3) in [-1, 1] to (n, h', w', heads) logits. `content`: the same as an int8
    .tflite. `head_of` (images,): which of the heads judged an image. `folds`: the networks behind the heads,
    where each has one of its own.
    """

    network: keras.Model
    content: bytes
    head_of: NDArray[np.int64]
    folds: tuple[keras.Model, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A model, and what was said of images that had not been seen.

    `content`: the int8 .tflite. `network`: the same in float, (n, h, w, 3) in [-1, 1] to (n, h', w', 1)
    logits. `judged`: the n images. `pooled`, `pooled_float`: their pooled logits (n,), from int8 and from
    float. `judges`: who gave them. `record`: how the model was chosen, for people to read.
    """

    content: bytes
    network: keras.Model
    preprocess: PreprocessSpec
    pooling: Pooling
    judged: tuple[Sample, ...]
    pooled: NDArray[np.float64]
    pooled_float: NDArray[np.float64]
    judges: Judges
    record: dict[str, Any]

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array([sample.label for sample in self.judged])

    @property
    def memory(self) -> None:
        """The network gives evidence itself."""
        return

    @property
    def good_maps(self) -> None:
        """They are measured on the maps of the model that ships."""
        return
