"""Small networks for the tests of training: of width 0.35, for 64 px, weights that nobody trained."""

from __future__ import annotations

from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
from fixtures_trainer import SIDE, gray_input, make_sample

from device.bundle.bundle import Pooling
from device.image.geometry import Size
from trainer.data.batches import Batches
from trainer.data.dataset import Sample
from trainer.network import hardware, network
from trainer.network.network import CHANNELS, STRIDES, Head

CPU = hardware.Hardware("tensorflow", ("cpu:0",), gpu=False, precision="float32")
CUT = "block_6_expand_relu"
GRID = (SIDE // STRIDES[CUT], SIDE // STRIDES[CUT])
POOLING = Pooling("top", 0.1)


class PlantedBackbone:
    """Cuts of noise in which channels say what `plant` says of an image. An image's gray is its number."""

    def __init__(self, plant) -> None:
        self.plant = plant
        self.runs = 0

    def run(self, tensor):
        number = int(tensor[0, 0, 0, 0])
        self.runs += 1
        for cut, stride in STRIDES.items():
            rng = np.random.default_rng((number, stride))
            shape = (SIDE // stride, SIDE // stride, CHANNELS[cut])
            yield (rng.normal(0, 1, shape) + self.plant(number, cut)).astype(np.float32)


def numbered(folder, labels, groups=None, masks=False):
    """Flat images of gray 0, 1, 2..., with these labels."""
    samples = []
    for number, label in enumerate(labels):
        path = folder / f"{number:03d}.png"
        group = f"{groups[number]}" if groups else f"{number}"
        sample = make_sample(path, (SIDE, SIDE), number, label=label, group=group)
        assert cv2.imwrite(str(path), np.full((SIDE, SIDE), number, np.uint8))
        if masks and label:
            marked = np.zeros((SIDE, SIDE), np.uint8)
            marked[16:32, 32:48] = 255
            assert cv2.imwrite(str(path.with_suffix(".mask.png")), marked)
            sample = replace(sample, mask=path.with_suffix(".mask.png"))
        samples.append(sample)
    return samples


@pytest.fixture(scope="session")
def narrow() -> keras.Model:
    """A backbone whose BatchNorms know what its layers give, so that images differ in its maps."""
    keras.utils.set_random_seed(3)
    base = network.backbone(Size(SIDE, SIDE), "none", 0.35)
    rng = np.random.default_rng(3)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    base(rng.uniform(-1, 1, (16, SIDE, SIDE, 3)).astype(np.float32), training=True)
    return base


def evidence_of(base: keras.Model, heads: int = 1, seed: int = 0) -> keras.Model:
    """Evidence heads on one cut that nobody fitted; their maps lie between about -3 and 3."""
    channels = base.outputs[list(STRIDES).index(CUT)].shape[-1]
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.05, (channels, heads)).astype(np.float32)
    return network.evidence_model(base, Head((CUT,), weights, np.zeros(heads, np.float32)))


def spotted(folder, count: int, masks: bool = True) -> list[Sample]:
    """Gray noise, every other image with a bright spot and a mask of it."""
    samples = []
    for number in range(count):
        path = folder / f"{number:03d}.png"
        rng = np.random.default_rng(number)
        image = rng.integers(60, 90, (SIDE, SIDE), dtype=np.uint8)
        mask = np.zeros_like(image)
        if number % 2:
            row, column = rng.integers(0, SIDE - 16, 2)
            mask[row : row + 16, column : column + 16] = 255
            image[mask > 0] = 240
            assert cv2.imwrite(str(path.with_suffix(".mask.png")), mask)
        known = path.with_suffix(".mask.png") if number % 2 and masks else None
        sample = make_sample(path, (SIDE, SIDE), number, label=number % 2, mask=known)
        assert cv2.imwrite(str(path), image)
        samples.append(sample)
    return samples


@pytest.fixture(scope="session")
def spots(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """24 of them, half defective, each with its mask. For reading only."""
    return spotted(tmp_path_factory.mktemp("spots"), 24)


@pytest.fixture(scope="session")
def feed(spots: list[Sample]) -> Batches:
    """All of them, in batches of 8."""
    return Batches.read(spots, gray_input(), GRID, 8, seed=1)
