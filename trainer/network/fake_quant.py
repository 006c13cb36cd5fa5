"""Networks that compute as their int8 file will: what quantization-aware training trains.

BatchNorms are folded into the convolutions before them, as the converter folds them; then weights are rounded
channel by channel, and activations in the ranges that the representative images give, with gradients that
pass through the rounding (Jacob et al., CVPR 2018). All of it is Keras 3, so it runs
on every backend. What was trained is converted like any other network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

Tensor: TypeAlias = keras.KerasTensor
Ranges = Mapping[str, tuple[float, float]]  # of the outputs of layers, by name

LEAST = 1e-8  # of a range: a channel of zeros stays one


def folded(model: keras.Model) -> keras.Model:
    """A network without the BatchNorms that follow a convolution."""
    after = _norms_by_convolution(model)
    folded_norms = {layer.name for layer in after.values()}

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name in folded_norms:
            return keras.layers.Activation("linear", name=layer.name)
        config = layer.get_config()
        if layer.name in after:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def called(layer: keras.layers.Layer, *inputs: Any, **options: Any) -> Any:
        options.pop("mask", None)  # a BatchNorm may be given one; what stands in its place takes none
        return layer(*inputs, **options)

    copy = keras.models.clone_model(model, clone_function=copied, call_function=called)
    for layer in model.layers:
        if layer.name in after:
            copy.get_layer(layer.name).set_weights(_folded_weights(layer, after[layer.name]))
        elif layer.weights and layer.name not in folded_norms:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def ranges(model: keras.Model, images: Iterable[NDArray[np.float32]]) -> dict[str, tuple[float, float]]:
    """Least and greatest of what each layer gives that the int8 file rounds; images (1, h, w, 3)."""
    layers = [layer for layer in model.layers if _is_rounded(layer)]
    seen = keras.Model(model.input, [layer.output for layer in layers])
    found = [[_extremes(values) for values in seen(image, training=False)] for image in images]
    # zero itself must be exact, so it is in every range
    low = np.minimum(np.array(found)[:, :, 0].min(0), 0.0)
    high = np.maximum(np.array(found)[:, :, 1].max(0), 0.0)
    names = (layer.name for layer in layers)
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _extremes(values: Tensor) -> tuple[float, float]:
    return float(ops.min(values)), float(ops.max(values))


def simulated(model: keras.Model, known: Ranges) -> keras.Model:
    """A copy of a folded network that rounds as its int8 file does; its variables are in the same order."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind: Any = _ROUNDED.get(type(layer), type(layer))
        return kind.from_config(layer.get_config())

    def called(layer: keras.layers.Layer, *inputs: Any, **options: Any) -> Any:
        output = layer(*inputs, **options)
        if layer.name not in known:
            return output
        return RoundedActivation(*known[layer.name], name=f"{layer.name}_rounded")(output)

    copy = keras.models.clone_model(model, clone_function=copied, call_function=called)
    copy.set_weights(model.get_weights())
    return copy


class RoundedActivation(keras.layers.Layer):  # type: ignore[misc]
    """Values in 256 steps from `low` to `high`."""

    def __init__(self, low: float, high: float, **options: Any) -> None:
        super().__init__(**options)
        self._low, self._high = low, max(high, low + LEAST)

    def call(self, values: Tensor) -> Tensor:
        return keras.quantizers.fake_quant_with_min_max_vars(values, self._low, self._high)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "low": self._low, "high": self._high}


class RoundedConv2D(keras.layers.Conv2D):  # type: ignore[misc]
    """With weights of 255 steps around zero in each of its output channels."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return super().convolution_op(inputs, _rounded_kernel(kernel, axis=3))


class RoundedDepthwiseConv2D(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
    """A convolution with one filter a channel, its weights rounded as int8 rounds them."""

    def call(self, inputs: Tensor) -> Tensor:
        kernel = _rounded_kernel(self.kernel, axis=2)
        found = ops.depthwise_conv(inputs, kernel, strides=self.strides, padding=self.padding)
        return found + self.bias


_ROUNDED = {
    keras.layers.Conv2D: RoundedConv2D,
    keras.layers.DepthwiseConv2D: RoundedDepthwiseConv2D,
}


def _rounded_kernel(kernel: Tensor, axis: int) -> Tensor:
    """The gradient passes straight through the rounding (Bengio et al., 2013)."""
    others = tuple(each for each in range(4) if each != axis)
    step = ops.maximum(ops.max(ops.abs(kernel), axis=others, keepdims=True), LEAST) / 127.0
    return kernel + ops.stop_gradient(ops.round(kernel / step) * step - kernel)


def _is_rounded(layer: keras.layers.Layer) -> bool:
    """Of a folded network: what ends an operation of the int8 file."""
    ends = isinstance(layer, keras.layers.ReLU | keras.layers.Add)
    return ends or layer.name.endswith("project_BN") or layer.name.startswith("evidence_")


def _norms_by_convolution(model: keras.Model) -> dict[str, keras.layers.BatchNormalization]:
    """{name of a convolution: the BatchNorm of its output}."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            before = layer.input._keras_history.operation  # noqa: SLF001
            if isinstance(before, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
                found[before.name] = layer
    return found


def _folded_weights(
    convolution: keras.layers.Layer, norm: keras.layers.BatchNormalization
) -> list[NDArray[np.float32]]:
    gamma, beta, mean, variance = norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    [kernel] = convolution.get_weights()
    channels = scale[:, np.newaxis] if isinstance(convolution, keras.layers.DepthwiseConv2D) else scale
    return [kernel * channels, beta - mean * scale]
