"""What the trainer's tests share: images, weights that nobody trained, and `python -m trainer.fit`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures_bundle import SIDE as SPOT_SIDE
from fixtures_bundle import TinyModel, make_image

from device.bundle.bundle import Pooling, PreprocessSpec
from device.image.geometry import ResizeMode, Size
from device.inspection.detector import pool
from trainer.config import ThresholdConfig
from trainer.config import load as load_config
from trainer.data.dataset import Sample, load
from trainer.synthetic import generate

REPOSITORY = Path(__file__).resolve().parent.parent
SIDE = 64  # px, of the shared images
FAST = """
[input]
scales = [1.0]
[split]
folds = 2
[probe]
strengths = [1.0]
mask_weights = [1.0]
max_megapixels = 1.0
[scratch]
epochs = 2
[decoder]
when = "never"
[quantization]
images = 8
[report]
images = 2
map_images = 4
gradient = false
"""


def wish(**fields: Any) -> ThresholdConfig:
    """The trainer's own wish for thresholds, but for these fields."""
    return replace(load_config(None).threshold, **fields)


def make_samples(folder: Path, sizes: Sequence[tuple[int, int]], **fields: Any) -> list[Sample]:
    """Gray images of these (width, height), every other one defective, as a data set has them."""
    return [
        make_sample(folder / f"{number:03d}.png", size, number, label=number % 2, **fields)
        for number, size in enumerate(sizes)
    ]


def with_mask(sample: Sample, *boxes: tuple[int, int, int, int]) -> Sample:
    """The sample as a defective one, with these (x, y, width, height) marked."""
    mask = np.zeros((sample.size.height, sample.size.width), np.uint8)
    for x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = 255
    path = sample.path.with_suffix(".mask.png")
    assert cv2.imwrite(str(path), mask)
    return replace(sample, label=1, mask=path)


def make_sample(path: Path, size: tuple[int, int], seed: int, **fields: Any) -> Sample:
    """One image of noise; its group is its own unless a field says otherwise."""
    width, height = size
    image = np.random.default_rng(seed).integers(90, 110, (height, width), dtype=np.uint8)
    assert cv2.imwrite(str(path), image)
    values = {
        "name": path.name,
        "path": path,
        "label": 0,
        "kind": "defective" if fields.get("label") else "good",
        "mask": None,
        "group": path.name,
        "split": "train",
        "sha256": f"{seed:064d}",
        "size": Size(width, height),
        "coloured": False,
    }
    return Sample(**{**values, **fields})


def run_fit(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m trainer.fit` to its end."""
    return subprocess.run(
        (sys.executable, "-m", "trainer.fit", *map(str, arguments)),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
        timeout=240,
    )


def run(model: Any, pixels: np.ndarray) -> Any:
    """What a model with one output, or with several, gives in inference."""
    outputs = model(pixels, training=False)
    return [np.asarray(one) for one in outputs] if isinstance(outputs, list) else np.asarray(outputs)


def make_head(cuts: tuple[str, ...], heads: int = 3, seed: int = 0) -> Any:
    """Evidence heads that nobody fitted."""
    from trainer.network.network import CHANNELS, Head

    rng = np.random.default_rng(seed)
    channels = sum(CHANNELS[cut] for cut in cuts)
    return Head(
        cuts,
        rng.normal(0, 0.1, (channels, heads)).astype(np.float32),
        rng.normal(0, 1, heads).astype(np.float32),
    )


@pytest.fixture(scope="session")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DAGM's layout, one class: 12 good and 8 defective images in each part. For reading only."""
    folder = tmp_path_factory.mktemp("data") / "textures"
    generate(folder, images=40, size=SIDE, defective_share=0.4, textures=("weave",))
    return folder


@pytest.fixture(scope="session")
def fast_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings under which the trainer does all that it does, but less of it."""
    path = tmp_path_factory.mktemp("config") / "fast.toml"
    path.write_text(FAST)
    return path


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of MobileNetV2 as --weights takes them.

    Random, but with statistics in its BatchNorms: without any, what it sees fades from layer to layer.
    """
    import keras

    keras.utils.set_random_seed(3)
    model = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(np.random.default_rng(3).uniform(-1, 1, (16, SIDE, SIDE, 3)).astype(np.float32), training=True)
    path = tmp_path_factory.mktemp("weights") / "random.weights.h5"
    model.save_weights(path)
    return path


@pytest.fixture(scope="session")
def int8_backbone(weights_file: Path, textures: Path) -> bytes:
    """The whole backbone with all its cuts as an int8 file, for images of SIDE px."""
    from trainer.network import network
    from trainer.network.export import to_int8
    from trainer.network.features import inputs

    samples = load(textures).train[:8]
    examples = [one.tensor for one in inputs(samples, gray_input(), "quantizing")]
    return to_int8(network.backbone(Size(SIDE, SIDE), str(weights_file)), examples)


def gray_input(size: Size = Size(SIDE, SIDE), resize: ResizeMode = "stretch") -> PreprocessSpec:  # noqa: B008
    """How the shared images go into a model."""
    return PreprocessSpec(size, resize, "gray", 114)


@dataclass(frozen=True)
class Fitted:
    """What one run of the command left behind."""

    done: subprocess.CompletedProcess[str]
    out: Path
    data: Path


@pytest.fixture(scope="session")
def fitted(
    textures: Path, weights_file: Path, fast_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Fitted:
    """The probe on random weights, from the command line to the bundle. For reading only."""
    out = tmp_path_factory.mktemp("probed") / "bundles"
    given = ("--data", textures, "--out", out, "--weights", weights_file, "--config", fast_config)
    return Fitted(run_fit(*given, "--input-size", str(SIDE)), out, textures)


def spotted(folder: Path, count: int) -> tuple[Sample, ...]:
    """Parts of which every other one has a bright spot, each a little larger than the one before."""
    samples = []
    for number in range(count):
        path = folder / f"{number:02d}.png"
        sample = make_sample(path, (SPOT_SIDE, SPOT_SIDE), number, label=number % 2)
        spot = (8, 8, 6 + number, 12) if number % 2 else None
        assert cv2.imwrite(str(path), make_image(spot=spot, seed=number))
        samples.append(sample)
    return tuple(samples)


def learned_spots(folder: Path, tiny_model: TinyModel, count: int = 12) -> Any:
    """The tiny model as what a recipe learned from them; it brings TensorFlow."""
    from trainer.network.export import Int8Model
    from trainer.network.features import inputs
    from trainer.recipes.learned import Judges, TrainedModel

    samples = spotted(folder, count)
    model, pooling = Int8Model(tiny_model.content), Pooling("top", 0.05)
    pooled = np.array(
        [pool(model.evidence(one.tensor), pooling) for one in inputs(samples, gray_input(), "testing")]
    )
    record = {"judged_by": "12 images kept aside", "chosen": {}}
    judges = Judges(None, tiny_model.content, np.zeros(len(samples), np.int64))
    return TrainedModel(
        tiny_model.content, None, gray_input(), pooling, samples, pooled, pooled + 0.01, judges, record
    )
