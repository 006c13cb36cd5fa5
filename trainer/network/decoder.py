"""The decoder: what a frozen backbone shows at several strides, put together into one evidence map.

An adaptor for each cut (a 1x1 convolution), all on the finest cut's grid, a 3x3 convolution over them, and
one logit a cell. It is taught on the numbers that the int8 backbone stores (trainable), and ships as plain
convolutions behind that backbone (decoded), whose normalizations are folded into their weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Quantization
from device.image.geometry import Size
from trainer.network.network import CHANNELS, STRIDES, Cuts, map_stride, output_of

ADAPTED = 32  # channels of each cut, and of what the 3x3 convolution gives
RARE = -3.0  # the logit of a cell before anything is learned: defects are rare
LEAST_SPREAD = 0.1  # of a cut's median channel: a channel that hardly varies must not be blown up
DECODED = "decoded"  # the layer that gives the map
STEPS = 16  # maps that are stored, each a sixteenth of a step of int8 above the one before it

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """Of the numbers that the int8 backbone stores for one cut: `mean` and `spread` (channels,)."""

    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, stored: Sequence[NDArray[np.int8]]) -> Normalization:
        """Of maps (h, w, channels) of some images."""
        rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in stored]).astype(np.float32)
        spread = rows.std(0)
        return cls(rows.mean(0), np.maximum(spread, LEAST_SPREAD * float(np.median(spread)) + 1e-3))


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """`kernel` (h, w, channels, filters), `bias` (filters,)."""

    kernel: Floats
    bias: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """Plain convolutions on the real numbers of the cuts. `adaptors`: of each cut, in the cuts' order."""

    cuts: Cuts
    adaptors: tuple[Convolution, ...]
    fused: Convolution
    evidence: Convolution


def trainable(
    cuts: Cuts, size: Size, normalizations: Mapping[str, Normalization], dropout: float
) -> keras.Model:
    """A decoder to be taught: from the stored int8 numbers of each cut to a map (n, h, w, 1) of logits."""
    inputs, maps, stride = [], [], map_stride(cuts)
    for cut in cuts:
        own = STRIDES[cut]
        stored = keras.Input((size.height // own, size.width // own, CHANNELS[cut]), dtype="int8", name=cut)
        known = normalizations[cut]
        standard = keras.layers.Rescaling(1 / known.spread, -known.mean / known.spread)(stored)
        inputs.append(stored)
        maps.append(_adapted(standard, cut, stride, ""))
    together = keras.layers.SpatialDropout2D(dropout)(_joined(maps))
    fused = keras.layers.Conv2D(ADAPTED, 3, padding="same", use_bias=False, name="fused")(together)
    fused = keras.layers.ReLU()(keras.layers.BatchNormalization(name="normalized")(fused))
    rare = keras.initializers.Constant(RARE)
    logits = keras.layers.Conv2D(1, 1, bias_initializer=rare, name="evidence", dtype="float32")(fused)
    return keras.Model(inputs, logits)


def folded(
    taught: keras.Model, normalizations: Mapping[str, Normalization], stored: Mapping[str, Quantization]
) -> Decoder:
    """What was taught, as plain convolutions. `stored`: what the numbers of each cut stand for."""
    cuts = tuple(one.name for one in taught.inputs)
    adaptors = []
    for cut in cuts:
        kernel, bias = taught.get_layer(f"adaptor_{cut}").get_weights()
        mean, spread = normalizations[cut].mean, normalizations[cut].spread
        scale, zero_point = np.float32(stored[cut].scale), np.float32(stored[cut].zero_point)
        real = kernel / (spread * scale)[:, np.newaxis]
        adaptors.append(Convolution(real, bias - ((mean - zero_point) * scale) @ real[0, 0]))
    normalized = taught.get_layer("normalized")
    gamma, beta, mean, variance = normalized.get_weights()
    gain = gamma / np.sqrt(variance + normalized.epsilon)
    fused = Convolution(taught.get_layer("fused").get_weights()[0] * gain, beta - mean * gain)
    return Decoder(cuts, tuple(adaptors), fused, Convolution(*taught.get_layer("evidence").get_weights()))


def decoded(base: keras.Model, decoders: Sequence[Decoder]) -> keras.Model:
    """The backbone with decoders on the same cuts: (n, height, width, 3) to (n, h, w, decoders) logits."""
    maps = [
        _decoded(base, one, f"_{index}" if len(decoders) > 1 else "") for index, one in enumerate(decoders)
    ]
    return keras.Model(base.input, _joined(maps))


def is_decoder(model: keras.Model) -> bool:
    """Whether one decoder ends it."""
    return bool(model.layers[-1].name == DECODED)


def finer(model: keras.Model, step: float) -> keras.Model:
    """A network that one decoder ends, with its map STEPS times, a fraction of `step` apart.

    Rounded to steps of int8, their mean is as many times as fine (Hermite's identity): a threshold that must
    be met exactly needs more than 256 levels.
    """
    last = model.layers[-1]
    kernel, bias = last.get_weights()
    shifts = (np.arange(STEPS, dtype=np.float32) - (STEPS - 1) / 2) * np.float32(step / STEPS)
    evidence = keras.layers.Conv2D(STEPS, 1, name="finer")
    found = keras.Model(model.input, evidence(last.input))
    evidence.set_weights([np.repeat(kernel, STEPS, axis=3), bias + shifts])
    return found


def _decoded(base: keras.Model, decoder: Decoder, mark: str) -> keras.KerasTensor:
    stride = map_stride(decoder.cuts)
    maps = [_adapted(output_of(base, cut), cut, stride, mark) for cut in decoder.cuts]
    fused = keras.layers.Conv2D(ADAPTED, 3, padding="same", activation="relu", name=f"fused{mark}")
    evidence = keras.layers.Conv2D(1, 1, name=f"{DECODED}{mark}")
    logits = evidence(fused(_joined(maps)))
    model = keras.Model(base.input, logits)
    layers = [
        (model.get_layer(f"adaptor_{cut}{mark}"), one)
        for cut, one in zip(decoder.cuts, decoder.adaptors, strict=True)
    ]
    for layer, own in (*layers, (fused, decoder.fused), (evidence, decoder.evidence)):
        layer.set_weights([own.kernel, own.bias])
    return logits


def _adapted(features: keras.KerasTensor, cut: str, stride: int, mark: str) -> keras.KerasTensor:
    adapted = keras.layers.Conv2D(ADAPTED, 1, activation="relu", name=f"adaptor_{cut}{mark}")(features)
    factor = STRIDES[cut] // stride
    if factor == 1:
        return adapted
    return keras.layers.UpSampling2D(factor, interpolation="bilinear")(adapted)


def _joined(maps: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    return keras.layers.Concatenate()(maps) if len(maps) > 1 else maps[0]
