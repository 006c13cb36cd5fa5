"""What the training runs on: the backend of Keras, its devices, and the precision that suits them.

Chosen from what is there, named in the log and in the bundle's record. Several GPUs share each batch: with
TensorFlow through its mirrored strategy, with JAX through keras.distribution; with PyTorch one is used.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from trainer.config import HardwareConfig

log = logging.getLogger(__name__)

BFLOAT16_FROM = 8.0  # compute capability of NVIDIA's GPUs that compute in bfloat16 (Ampere)
FLOAT16_FROM = 7.0  # and of those that gain by float16 (Volta)


@dataclass(frozen=True, slots=True)
class Hardware:
    """`devices`: what shares a batch, by the backend's names. `precision`: a policy of Keras."""

    backend: str
    devices: tuple[str, ...]
    gpu: bool
    precision: str
    strategy: Any = field(
        default=None, compare=False
    )  # of tf.distribute, where several devices share a batch

    def describe(self) -> str:
        kind = "GPU" if self.gpu else "CPU"
        count = f"{len(self.devices)} {kind}s" if len(self.devices) > 1 else f"one {kind}"
        names = ", ".join(self.devices)
        return f"Keras {keras.version()} on {self.backend}, {count} ({names}), {self.precision}"

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Where variables must be made so that every device has them."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def share(self, batch_size: int) -> int:
        """The nearest batch size that the devices can divide, and never less than one image each."""
        return max(1, round(batch_size / len(self.devices))) * len(self.devices)

    def in_precision(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """A copy of a layer that computes in this precision; its weights stay float32."""
        return type(layer).from_config({**layer.get_config(), "dtype": self.precision})


def found(config: HardwareConfig) -> Hardware:
    """What there is, as far as `[hardware]` lets it be used."""
    backend = keras.backend.backend()
    every = _gpus(backend)
    devices = tuple(every[: config.devices or None]) or ("cpu:0",)
    chosen = of(backend, devices[:1] if backend == "torch" else devices, config.precision, gpu=bool(every))
    log.info("training on: %s", chosen.describe())
    return chosen


def of(backend: str, devices: Sequence[str], precision: str, *, gpu: bool) -> Hardware:
    """On these devices of a backend."""
    strategy = None
    if len(devices) > 1 and backend == "tensorflow":
        import tensorflow as tf

        strategy = tf.distribute.MirroredStrategy([f"/{name}" for name in devices])
    elif len(devices) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=list(devices)))
    if precision == "auto":
        precision = _precision(backend) if gpu else "float32"
    return Hardware(backend, tuple(devices), gpu, precision, strategy)


def _gpus(backend: str) -> list[str]:
    if backend == "torch":
        import torch

        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    try:
        return list(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX's word for none
        return []


def _precision(backend: str) -> str:
    """Of the first GPU, by its compute capability."""
    capability = _capability(backend)
    if capability >= BFLOAT16_FROM:
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= FLOAT16_FROM else "float32"


def _capability(backend: str) -> float:
    if backend == "tensorflow":
        import tensorflow as tf

        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        major, minor = details.get("compute_capability", (0, 0))
        return float(f"{major}.{minor}")
    if backend == "torch":
        import torch

        major, minor = torch.cuda.get_device_capability(0)
        return float(f"{major}.{minor}")
    import jax

    return float(getattr(jax.devices("gpu")[0], "compute_capability", 0.0))
