"""One network that is being taught, an epoch at a time, its state taken out and put in as plain arrays.

The training step is Keras's own `fit`: the same on TensorFlow, JAX and PyTorch, on one device or several.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Pooling
from device.errors import TrainingError
from trainer.data.batches import Batch
from trainer.network import network
from trainer.network.hardware import Hardware
from trainer.training import keras_metrics
from trainer.training.losses import ImageLoss, MapLoss
from trainer.training.schedule import WarmUpCosine, warm_up_steps

EVIDENCE_RANK = 4  # of the output of a network that gives a map; one that gives an image's logit has 2
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "ResourceExhausted", "OOM when", "out of memory", "OutOfMemory")

Arrays = list[NDArray[Any]]
Targets = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Phase:
    """So many epochs in which the layers from a block on train, up to one peak of the rate."""

    epochs: int
    from_block: int
    learning_rate: float
    warm_up_share: float


@dataclass(frozen=True, slots=True)
class Teaching:
    """What a network is taught by; see losses.py. `pooling`: from the map to the image's logit."""

    pooling: Pooling
    gamma: float
    alpha: float
    mask_weight: float


class TopMean(keras.layers.Layer):  # type: ignore[misc]
    """The mean of a share of a map's greatest cells, (n, h, w, 1) to (n, 1): detector.pool."""

    def __init__(self, share: float, **options: Any) -> None:
        super().__init__(**options)
        self._share = share

    def call(self, maps: keras.KerasTensor) -> keras.KerasTensor:
        cells = maps.shape[1] * maps.shape[2]
        count = max(1, math.ceil(round(self._share * cells, 6)))
        flat = keras.ops.reshape(maps, (-1, cells))
        greatest = keras.ops.top_k(flat, count)[0] if count < cells else flat
        return keras.ops.mean(greatest, axis=1, keepdims=True)


class Learner:
    """A copy of a network with what trains it in one phase.

    `steps`: batches of an epoch. `cached_from`: the batches hold what the layers before this block give, not
    pixels (see network.halves).
    """

    def __init__(
        self,
        template: keras.Model,
        phase: Phase,
        teaching: Teaching,
        steps: int,
        hardware: Hardware,
        *,
        cached_from: int | None = None,
    ) -> None:
        self._phase = phase
        with hardware.scope():
            self.network = keras.models.clone_model(template, clone_function=hardware.in_precision)
            network.freeze(self.network, phase.from_block)
            pixels = cached_from is None
            taught = self.network if cached_from is None else network.halves(self.network, cached_from)[1]
            self._model = _trainer_of(taught, teaching.pooling, pixels=pixels)
            total = steps * phase.epochs
            rate = WarmUpCosine(phase.learning_rate, warm_up_steps(total, phase.warm_up_share), total)
            losses: dict[str, keras.losses.Loss] = {"image": ImageLoss(teaching.gamma, teaching.alpha)}
            if "map" in self._model.output_names:
                losses["map"] = MapLoss(teaching.gamma)
            self._model.compile(
                keras.optimizers.Adam(rate),
                loss=losses,
                loss_weights={name: teaching.mask_weight if name == "map" else 1.0 for name in losses},
                metrics={"image": keras_metrics.of_images()},
            )
            self._model.optimizer.build(self._model.trainable_variables)
        self._fresh = _values(self._model.optimizer.variables)

    # ---- its state

    @property
    def state(self) -> Arrays:
        """All variables of the network, the states of its random numbers too, then all of the optimizer."""
        return _values(self.network.variables) + _values(self._model.optimizer.variables)

    def resume(self, state: Sequence[NDArray[Any]]) -> None:
        """Go on where a learner of the same phase was."""
        count = len(self.network.variables)
        _assign(self.network.variables, state[:count])
        _assign(self._model.optimizer.variables, state[count:])

    def begin(self, variables: Sequence[NDArray[Any]]) -> None:
        """Take the network as it is after another phase, or before any, and begin this one."""
        _assign(self.network.variables, variables[: len(self.network.variables)])
        _assign(self._model.optimizer.variables, self._fresh)

    # ---- its work

    def epoch(self, batches: Iterable[Batch], count: int) -> dict[str, float]:
        """Learn from one epoch's batches, so many of them: its loss and metrics. Raises TrainingError."""
        size = 0

        def fed() -> Iterator[tuple[NDArray[Any], Targets, Targets]]:
            nonlocal size
            for batch in batches:
                size = len(batch.labels)
                yield batch.pixels, *self._targets(batch)

        try:
            history = self._model.fit(fed(), steps_per_epoch=count, shuffle=False, verbose=0).history
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            raise TrainingError(_too_large(self._model.input_shape, size)) from error
        logs = {name: float(values[-1]) for name, values in history.items()}
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss is {logs['loss']}, no number, at a peak rate of {self._phase.learning_rate:g}: "
                "lower [finetune] learning_rate and head_learning_rate; the state before this epoch is kept"
            )
        return logs

    def judge(self, batches: Iterable[Batch], count: int) -> NDArray[np.float32]:
        """The maps (n, h, w) of all images of so many batches, or their logits (n,)."""
        found = self._model.predict(((batch.pixels,) for batch in batches), steps=count, verbose=0)
        return np.asarray(found["map"][..., 0] if "map" in found else found["image"][:, 0], np.float32)

    def _targets(self, batch: Batch) -> tuple[Targets, Targets]:
        """(truth, weights) by output."""
        truth, weights = {"image": batch.labels[:, np.newaxis]}, {"image": batch.weights}
        if "map" in self._model.output_names:
            if batch.cells is None:
                raise ValueError("a network that gives a map is taught by batches with cells")
            truth["map"] = batch.cells[..., np.newaxis]
            weights["map"] = np.ones_like(batch.weights)
        return truth, weights


def _trainer_of(taught: keras.Model, pooling: Pooling, *, pixels: bool) -> keras.Model:
    """From uint8 pixels, or from cached features, to {"map", "image"} or {"image"}, in float32."""
    if pixels:
        given = keras.Input(taught.input_shape[1:], dtype="uint8")
        seen = keras.layers.Rescaling(1 / 127.5, -1.0, dtype="float32")(given)
        output = taught(seen)
    else:
        given, output = taught.input, taught.output
    if len(output.shape) != EVIDENCE_RANK:
        return keras.Model(given, {"image": _named(output, "image")})
    logits = _named(output, "map")
    pooled = TopMean(pooling.share, name="pooled", dtype="float32")(logits)
    return keras.Model(given, {"map": logits, "image": _named(pooled, "image")})


def _named(output: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.Activation("linear", name=name, dtype="float32")(output)


def _values(variables: Sequence[Any]) -> Arrays:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _is_out_of_memory(error: Exception) -> bool:
    words = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(mark in words for mark in OUT_OF_MEMORY)


def _too_large(shape: Sequence[int], size: int) -> str:
    each = "x".join(str(side) for side in shape[1:])
    return (
        f"[finetune] batch_size = {size}: a batch of {size} inputs of {each} does not fit into memory; "
        f"try {max(1, size // 2)}, or train from a later block ([finetune] from_block)"
    )
