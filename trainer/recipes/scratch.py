"""Training from random weights: a small network, end to end, with the masks to say where.

For data whose model must owe nothing to ImageNet. A share of the training images is kept aside: they choose
the epoch, the pooling and the thresholds.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Pooling, PreprocessSpec
from device.image.geometry import Box, Size
from device.inspection.detector import pool
from device.inspection.framing import Framing
from trainer.config import ScratchConfig
from trainer.data.batches import cell_truth
from trainer.data.dataset import Sample
from trainer.data.tiling import GOOD, Tiles, cuts, mask_on_canvas
from trainer.network.features import inputs
from trainer.network.network import STRIDES, backbone, scaled, trainable_model
from trainer.scoring.quality import Quality
from trainer.training.learner import TopMean
from trainer.training.logbook import Logbook
from trainer.training.losses import ImageLoss, MapLoss
from trainer.training.schedule import WarmUpCosine, warm_up_steps

log = logging.getLogger(__name__)

CUT = "block_6_expand_relu"
MOMENTUM = 0.9  # of BatchNorm's statistics: Keras's 0.999 needs far more steps than a small data set has
TRAINED_SHARE = 0.02  # of the greatest cells: what the image's loss is computed on
WARM_UP_SHARE = 0.1  # of the steps
ENTROPY = (0.0, 0.5)  # gamma and alpha with which the focal loss is half of the cross-entropy

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedImages:
    """All images in memory.

    `pixels`: uint8 (n, h, w, 3). `labels`: float32 (n,). `cells`: float32 (n, h', w'), the defective share of
    each cell of the map, NaN where no mask tells.
    """

    pixels: NDArray[np.uint8]
    labels: Floats
    cells: Floats

    def part(self, chosen: NDArray[np.bool_]) -> LoadedImages:
        return LoadedImages(self.pixels[chosen], self.labels[chosen], self.cells[chosen])


def read(samples: Sequence[Sample], preprocess: PreprocessSpec) -> tuple[LoadedImages, Tiles]:
    """Decode and prepare every sample; as many images as they have tiles."""
    tiles = Tiles.of(samples, preprocess)
    pixels: list[NDArray[np.uint8]] = []
    cells: list[Floats] = []
    for sample, model_input in zip(samples, inputs(samples, preprocess, "reading"), strict=True):
        pixels += list(cuts(model_input))
        cells += _cell_truth(sample, model_input.framing)
    labels = (tiles.truth != GOOD).astype(np.float32)
    return LoadedImages(np.concatenate(pixels), labels, np.stack(cells)), tiles


def _cell_truth(sample: Sample, framing: Framing) -> Iterator[Floats]:
    """(h', w') of each tile."""
    mask = mask_on_canvas(sample, framing.placement)
    stride = STRIDES[CUT]
    for tile in framing.tiles:
        size, grid = Size(tile.width, tile.height), (tile.height // stride, tile.width // stride)
        own = None if mask is None else tile.of(mask).astype(np.uint8)
        yield cell_truth(own, Box(0, 0, tile.width, tile.height), size, grid)


class BalancedBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches with as many defective as good images, each mirrored at random."""

    def __init__(self, images: LoadedImages, batch_size: int, seed: int) -> None:
        super().__init__()
        self._images, self._batch_size, self._seed, self._epoch = images, batch_size, seed, 0
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._batch_size)

    def on_epoch_end(self) -> None:
        self._random = np.random.default_rng([self._seed, self._epoch])
        good, bad = (np.flatnonzero(self._images.labels == label) for label in (0, 1))
        rarer, other = sorted((good, bad), key=len)
        again = self._random.choice(rarer, len(other) - len(rarer))
        self._order = self._random.permutation(np.concatenate([rarer, other, again]))
        self._epoch += 1

    def __getitem__(self, index: int) -> tuple[Floats, dict[str, Floats]]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        pixels, cells = self._images.pixels[chosen], self._images.cells[chosen]
        for row in range(len(chosen)):
            steps = self._random.choice([-1, 1], 2)
            pixels[row] = pixels[row, :: steps[0], :: steps[1]]
            cells[row] = cells[row, :: steps[0], :: steps[1]]
        targets = {"map": cells[..., np.newaxis], "image": self._images.labels[chosen, np.newaxis]}
        return scaled(pixels), targets


def train(
    images: LoadedImages, judged: NDArray[np.bool_], config: ScratchConfig, seed: int, logbook: Logbook
) -> keras.Model:
    """A model (n, h, w, 3) in [-1, 1] to (n, h', w', 1) logits, of the epoch that ranked `judged` best."""
    keras.utils.set_random_seed(seed)
    height, width = images.pixels.shape[1:3]
    base = backbone(Size(width, height), "none", config.alpha)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    model = trainable_model(base, CUT)
    batches = BalancedBatches(images.part(~judged), config.batch_size, seed)
    evidence = keras.layers.Identity(name="map")(model.output)
    pooled = TopMean(TRAINED_SHARE, name="image")(model.output)
    learner = keras.Model(model.input, {"map": evidence, "image": pooled})
    steps = config.epochs * len(batches)
    rate = WarmUpCosine(config.learning_rate, warm_up_steps(steps, WARM_UP_SHARE), steps)
    learner.compile(
        keras.optimizers.Adam(rate),
        loss={"map": MapLoss(gamma=0.0), "image": ImageLoss(*ENTROPY)},
        loss_weights={"map": config.mask_weight, "image": 2.0},
    )
    best = _KeepBest(model, images.part(judged), logbook)
    learner.fit(batches, epochs=config.epochs, callbacks=[best], verbose=2)
    model.set_weights(best.weights)
    return model


class _KeepBest(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the weights of the epoch that ranks the judged images best."""

    def __init__(self, network: keras.Model, judged: LoadedImages, logbook: Logbook) -> None:
        super().__init__()
        self._network, self._judged, self._logbook = network, judged, logbook
        self._quality: Quality | None = None
        self.weights = network.get_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        labels = self._judged.labels.astype(np.int64)
        pooled = pooled_logits(self._network, self._judged.pixels, Pooling("top", TRAINED_SHARE))
        quality = Quality.of(labels, pooled)
        log.info(
            "epoch %d: AP %.3f, d' %.2f on %d judged images",
            epoch + 1,
            quality.ap,
            quality.separation,
            len(pooled),
        )
        measured = {"val_ap": quality.ap, "val_separation": quality.separation}
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._logbook.note("scratch", epoch + 1, {**(logs or {}), **measured, "learning_rate": rate})
        if self._quality is None or quality.merit > self._quality.merit:
            self._quality, self.weights = quality, self._network.get_weights()


def pooled_logits(model: keras.Model, pixels: NDArray[np.uint8], pooling: Pooling) -> NDArray[np.float64]:
    """One pooled logit an image, of the float model."""
    maps = (np.asarray(model(scaled(image[np.newaxis]), training=False))[0, :, :, 0] for image in pixels)
    return np.array([pool(values, pooling) for values in maps])
