"""The networks as Keras models: MobileNetV2, cut where defects are still visible, with an evidence head.

The head is a 1x1 convolution on one cut, or on several whose maps are added on one grid. It gives an evidence
map, one logit a cell; the image's logit is a pooling of that map (device.inspection.detector.pool).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from device.errors import ConfigError
from device.image.geometry import Size

log = logging.getLogger(__name__)

STRIDES = {"block_6_expand_relu": 8, "block_13_expand_relu": 16, "out_relu": 32}  # input px a cell
CHANNELS = {"block_6_expand_relu": 192, "block_13_expand_relu": 576, "out_relu": 1280}  # at alpha 1.0

Cuts = tuple[str, ...]
CANDIDATE_CUTS: tuple[Cuts, ...] = (
    ("block_6_expand_relu",),
    ("block_13_expand_relu",),
    ("block_13_expand_relu", "out_relu"),
    ("block_6_expand_relu", "block_13_expand_relu", "out_relu"),
    ("block_6_expand_relu", "block_13_expand_relu"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Evidence heads on the same cuts: `weights` (channels of all cuts, heads), `bias` (heads,), float32."""

    cuts: Cuts
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def only(self, index: int) -> Head:
        """One of them."""
        return Head(self.cuts, self.weights[:, index : index + 1], self.bias[index : index + 1])


def backbone(size: Size, weights: str, alpha: float = 1.0) -> keras.Model:
    """MobileNetV2 without its top: (n, height, width, 3) in [-1, 1] to the maps of STRIDES, in that order.

    See tapped.
    """
    return tapped(size, weights, tuple(STRIDES), alpha)


def tapped(size: Size, weights: str, cuts: Cuts, alpha: float = 1.0) -> keras.Model:
    """A backbone with the outputs of any layers.

    `weights`: "imagenet" (Keras downloads them), "none" (random), or a Keras .weights.h5 file.
    Raises ConfigError where the weights cannot be had.
    """
    shape = (size.height, size.width, 3)
    try:
        source = None if weights == "none" else weights
        base = keras.applications.MobileNetV2(
            input_shape=shape, alpha=alpha, include_top=False, weights=source
        )
    except Exception as error:  # Keras raises whatever its download or HDF5 gave
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(_no_weights(weights, reason)) from error
    return keras.Model(base.input, [base.get_layer(cut).output for cut in cuts])


def _no_weights(weights: str, reason: str) -> str:
    if weights == "imagenet":
        return (
            f"--weights imagenet: Keras could not download them ({reason}). Without a network pass "
            "--weights FILE (Keras's MobileNetV2 1.0, include_top=False, .h5), "
            "or --weights none to start from random ones"
        )
    return f"--weights {weights}: must be weights of Keras's MobileNetV2 1.0, include_top=False: {reason}"


def evidence_model(base: keras.Model, head: Head, typical: NDArray[np.float32] | None = None) -> keras.Model:
    """The backbone up to the head's cuts, and the head: (n, height, width, 3) to (n, h, w, heads) logits.

    `typical` (channels of all cuts,): their means. With them each cut's own map lies around 0; without, large
    constants that only cancel in the sum of the cuts would use up the range of each map's int8.
    """
    layers = {cut: keras.layers.Conv2D(head.weights.shape[1], 1, name=f"evidence_{cut}") for cut in head.cuts}
    model = keras.Model(base.input, _evidence(base, head.cuts, layers))
    centre = np.zeros(len(head.weights), np.float32) if typical is None else typical
    left = head.bias + centre @ head.weights
    start = 0
    for cut, layer in layers.items():
        own = slice(start, start + output_of(base, cut).shape[-1])
        bias = left - centre[own] @ head.weights[own]
        left, start = np.zeros_like(head.bias), own.stop
        layer.set_weights([head.weights[np.newaxis, np.newaxis, own], bias])
    return model


def trainable_model(base: keras.Model, cut: str) -> keras.Model:
    """A backbone with one untrained head on one cut."""
    layer = keras.layers.Conv2D(1, 1, name=f"evidence_{cut}", dtype="float32")
    return keras.Model(base.input, _evidence(base, (cut,), {cut: layer}))


def _evidence(base: keras.Model, cuts: Cuts, layers: dict[str, keras.layers.Layer]) -> keras.KerasTensor:
    stride = map_stride(cuts)
    maps = [_on_grid(layers[cut](output_of(base, cut)), STRIDES[cut], stride) for cut in cuts]
    return keras.layers.Add()(maps) if len(maps) > 1 else maps[0]


def output_of(base: keras.Model, cut: str) -> keras.KerasTensor:
    """What a backbone shows at a cut."""
    return base.get_layer(cut).output


def _on_grid(evidence: keras.KerasTensor, own: int, wanted: int) -> keras.KerasTensor:
    if own == wanted:
        return evidence
    return keras.layers.UpSampling2D(own // wanted, interpolation="bilinear")(evidence)


def map_stride(cuts: Cuts) -> int:
    """Input px a cell of the evidence map: the finest cut's. The others are interpolated onto its grid."""
    return min(STRIDES[cut] for cut in cuts)


# ---- which layers train

ALL_BLOCKS, LAST_BLOCK, HEAD = 0, 17, 18  # 1..16 are MobileNetV2's own numbers, 17 is its last convolution
STEM = ("Conv1", "bn_Conv1", "expanded_conv_")  # what comes before block 1
TAIL = ("Conv_1", "out_relu")
AT_CUTS = ("evidence_", "adaptor_")  # before the name of the cut that a layer of a head or a decoder sees


def block_of(layer: str) -> int:
    """The block of the backbone that a layer belongs to, by its name: 0..17, or HEAD."""
    if layer.startswith("block_"):
        return int(layer.split("_")[1])
    if layer.startswith(STEM):
        return ALL_BLOCKS
    return LAST_BLOCK if layer.startswith(TAIL) else HEAD


def freeze(model: keras.Model, from_block: int) -> None:
    """Let the layers from a block on train, and none of the backbone's BatchNorms.

    Those stay in inference mode: their statistics are of ImageNet, and the batches here are small.
    """
    for layer in model.layers:
        block = block_of(layer.name)
        own = isinstance(layer, keras.layers.BatchNormalization) and block < HEAD
        layer.trainable = block >= from_block and not own


def halves(model: keras.Model, from_block: int) -> tuple[keras.Model, keras.Model]:
    """(all before a block, the rest), on the same layers: the first's output is the second's input.

    Where an earlier block's map is asked for by the head, the halves part there. From HEAD on, a dense head
    (trainer.network.dense_head) is alone.
    """
    if from_block == HEAD and not _heads(model):
        between = model.get_layer("dense_mean").output
        return keras.Model(model.input, between), keras.Model(between, model.output)
    asked = [block_of(_cut_of(layer)) for layer in _heads(model)]
    block = min(from_block, LAST_BLOCK, *asked)
    first = next(layer for layer in model.layers if block_of(layer.name) == block)
    between = first.input
    return keras.Model(model.input, between), keras.Model(between, model.output)


def _heads(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if layer.name.startswith(AT_CUTS)]


def _cut_of(layer: keras.layers.Layer) -> str:
    return str(layer.name).split("_", 1)[1]


def with_head(model: keras.Model, judges: keras.Model, index: int) -> keras.Model:
    """A copy of a one-headed evidence model with one head of a many-headed one of the same backbone."""
    copy = copy_of(model)
    for layer in _heads(copy):
        kernel, bias = judges.get_layer(layer.name).get_weights()
        layer.set_weights([kernel[..., index : index + 1], bias[index : index + 1]])
    return copy


def side_by_side(models: Sequence[keras.Model], from_block: int) -> keras.Model:
    """Models that are alike before a block as one, their maps as its channels in this order."""
    shared, _ = halves(copy_of(models[0]), from_block)
    maps = []
    for index, model in enumerate(models):
        own = copy_of(halves(model, from_block)[1])
        own.name = f"judge_{index}"
        maps.append(own(shared.output))
    return keras.Model(shared.input, keras.layers.Concatenate()(maps))


def copy_of(model: keras.Model) -> keras.Model:
    """With weights of its own."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def shift_px(stride: int) -> float:
    """How far right of and below its own middle a cell looks, input px.

    MobileNetV2 pads each strided convolution on one side only, which moves the middle of what a cell can see
    by (stride - 1) / 2. What it weighs most moves by about half of that: on masks of real defects a quarter
    of the stride gave the greatest pixel AUROC at strides 8 and 16.
    """
    return stride / 4


def called(model: keras.Model, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Its one output for a few images, without the minute that compiling may take; on any backend."""
    return np.asarray(keras.ops.convert_to_numpy(model(images, training=False)), np.float32)


def scaled(tensor: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels 0..255 in MobileNetV2's range [-1, 1]."""
    return tensor.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
