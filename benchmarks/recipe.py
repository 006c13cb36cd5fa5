"""What each element of the classic fine-tuning recipe does, from a frozen base to all of it.

    python benchmarks/recipe.py --data PATH --weights FILE [--input-size N] [--seeds N] [--epochs N]
                                [--fine-tune-epochs N] [--only TEXT] [--without TEXT] [--json FILE]

The recipe: MobileNetV2, global average pooling, Dense 64 and 32 with BatchNorm and dropout, a sigmoid; focal
loss; defective images repeated, flipped, until they are as many as the good ones; random flips, rotation,
zoom, shift, contrast and brightness; a cosine schedule with warm-up; the last blocks fine-tuned at a low
rate. Each element is switched on alone beside a frozen base with one Dense unit, and then on top of those
before it. What is printed is measured on the test part that the layout gives, in float, after the last epoch:
mean and standard error over seeds.

What the frozen layers see is computed once for each image, its three flips and COPIES random augmentations.
Fine-tuning trains everything behind block_12_add, with BatchNorm in inference mode.

Exit codes: 0 done, 2 wrong command line, 3 no such weights, 8 data.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from device.bundle.bundle import PreprocessSpec
from device.errors import EdgeVisionError
from device.image.frame import frame_from_file
from device.image.geometry import Size
from device.inspection.preprocess import Preprocessor
from trainer.data.dataset import Sample, load
from trainer.network.network import backbone, scaled
from trainer.scoring import metrics

CUT = "block_12_add"  # what lies behind it is fine-tuned
FLIPS = ((1, 1), (1, -1), (-1, 1), (-1, -1))  # the first is the image itself
COPIES = 6  # random augmentations of each image
BATCH = 16
RATE, FINE_RATE = 1e-3, 1e-5  # of Adam, for the head and for fine-tuning
ELEMENTS = (
    "Dense 64 and 32",
    "focal loss",
    "oversampling with flips",
    "augmentation",
    "cosine with warm-up",
    "fine-tuning",
)

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Row:
    """One way to train: which elements are switched on."""

    name: str
    elements: frozenset[str]


@dataclass(frozen=True)
class Seen:
    """What the frozen layers see of n images in c copies: `maps` (c, n, h, w, 96), `means` (c, n, 1280).

    `maps` are empty where nothing is fine-tuned.
    """

    maps: NDArray[np.float16]
    means: NDArray[np.float32]
    labels: NDArray[np.float32]


def rows() -> tuple[Row, ...]:
    """The bare one; each element alone; each on top of those before it. What is fine-tuned comes last."""
    alone = [Row(f"{name}, alone", frozenset({name})) for name in ELEMENTS]
    grown = [
        Row(f"+ {name}", frozenset(ELEMENTS[: count + 1])) for count, name in enumerate(ELEMENTS) if count
    ]
    every = (Row("frozen base, one Dense unit", frozenset()), *alone, *grown)
    return tuple(sorted(every, key=lambda row: "fine-tuning" in row.elements))


# ---- what the frozen layers see


def look(
    base: keras.Model,
    samples: Sequence[Sample],
    spec: PreprocessSpec,
    copies: int,
    seed: int,
    *,
    keep_maps: bool,
) -> Seen:
    """With `copies` 0: the images as they are; else with their flips and so many augmentations.

    `keep_maps`: whether what fine-tuning needs is kept; at 512 px it takes 2 MB an image.
    """
    watch = keras.Model(
        base.input,
        [
            base.get_layer(CUT).output,
            keras.layers.GlobalAveragePooling2D()(base.get_layer("out_relu").output),
        ],
    )
    keras.utils.set_random_seed(seed)
    change = augmentation()
    preprocessor = Preprocessor(spec)
    maps, means = [], []
    for seq, sample in enumerate(tqdm(samples, desc=f"frozen base at {spec.size.width}", unit="image")):
        image = preprocessor.prepare(frame_from_file(sample.path, seq)).tensor
        shown = [image]
        if copies:
            shown += [image[:, ::down, ::right] for down, right in FLIPS[1:]]
            many = np.repeat(image, copies, axis=0).astype(np.float32)
            shown.append(np.asarray(change(many, training=True)).clip(0, 255).astype(np.uint8))
        cut, mean = watch.predict_on_batch(scaled(np.concatenate(shown)))
        maps.append(cut.astype(np.float16) if keep_maps else np.zeros((len(cut), 0), np.float16))
        means.append(mean)
    labels = np.array([sample.label for sample in samples], np.float32)
    return Seen(np.stack(maps, axis=1), np.stack(means, axis=1), labels)


def augmentation() -> keras.Model:
    """Pixels 0..255 to pixels, in the usual ranges."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.RandomFlip("horizontal_and_vertical"),
            layers.RandomRotation(0.05, fill_mode="reflect"),
            layers.RandomZoom(0.1, fill_mode="reflect"),
            layers.RandomTranslation(0.1, 0.1, fill_mode="reflect"),
            layers.RandomContrast(0.2, value_range=(0, 255)),
            layers.RandomBrightness(0.1, value_range=(0, 255)),
        ]
    )


# ---- training


def train(
    row: Row, base: keras.Model, seen: Seen, test: Seen, options: argparse.Namespace, seed: int
) -> Floats:
    """What the trained network says of the test images, (n,)."""
    keras.utils.set_random_seed(seed)
    head = head_of(row, seen.means.shape[-1])
    fit(head, seen.means, seen.labels, row, options.epochs, RATE, seed)
    if "fine-tuning" not in row.elements:
        return np.asarray(head.predict_on_batch(test.means[0]))[:, 0]
    top = top_of(base)
    pooled = keras.layers.GlobalAveragePooling2D()(top(top.input, training=False))
    tuned = keras.Model(top.input, head(pooled))
    fit(tuned, seen.maps, seen.labels, row, options.fine_tune_epochs, FINE_RATE, seed + 1)
    return np.concatenate(
        [
            np.asarray(tuned.predict_on_batch(part.astype(np.float32)))[:, 0]
            for part in np.array_split(test.maps[0], 12)
        ]
    )


def head_of(row: Row, channels: int) -> keras.Model:
    """From the means of the channels to a probability."""
    layers = keras.layers
    given = values = keras.Input((channels,))
    if "Dense 64 and 32" in row.elements:
        for units in (64, 32):
            values = layers.Dense(units, activation="relu")(values)
            values = layers.BatchNormalization()(values)
            values = layers.Dropout(0.3)(values)
    return keras.Model(given, layers.Dense(1, activation="sigmoid")(values))


def top_of(base: keras.Model) -> keras.Model:
    """A copy of what lies behind the cut, all of it trainable."""
    top = keras.Model(base.get_layer(CUT).output, base.get_layer("out_relu").output)
    copy = keras.models.clone_model(top)
    copy.set_weights(top.get_weights())
    return copy


def fit(
    model: keras.Model, copies: Floats, labels: Floats, row: Row, epochs: int, rate: float, seed: int
) -> None:
    """Adam over the epochs, as the row says."""
    batches = list(batched(labels, row, len(copies), np.random.default_rng(seed), epochs))
    loss: keras.losses.Loss = keras.losses.BinaryCrossentropy()
    if "focal loss" in row.elements:
        loss = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True, alpha=0.25, gamma=2.0)
    model.compile(keras.optimizers.Adam(schedule(row, rate, len(batches))), loss=loss)
    for chosen, which in batches:
        model.train_on_batch(copies[which, chosen].astype(np.float32), labels[chosen, np.newaxis])


def schedule(row: Row, rate: float, steps: int) -> object:
    """Constant; or up over a tenth of the steps and down a cosine (Loshchilov and Hutter, ICLR 2017)."""
    if "cosine with warm-up" not in row.elements:
        return rate
    warm_up = max(1, steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=rate, warmup_steps=warm_up
    )


def batched(
    labels: Floats, row: Row, copies: int, random: np.random.Generator, epochs: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(which images, which copy of each), a batch at a time."""
    flips = len(FLIPS)
    for _ in range(epochs):
        images = np.arange(len(labels))
        which = np.zeros(len(labels), np.int64)
        if "oversampling with flips" in row.elements:
            bad = np.flatnonzero(labels == 1)
            again = random.choice(bad, max(0, len(labels) - 2 * len(bad)))
            images = np.concatenate([images, again])
            which = np.concatenate([which, random.integers(1, flips, len(again))])
        if "augmentation" in row.elements:
            which = random.integers(flips, copies, len(images))
        order = random.permutation(len(images))
        for part in np.array_split(order, math.ceil(len(order) / BATCH)):
            yield images[part], which[part]


# ---- the table


def table(found: dict[str, list[tuple[float, float]]]) -> Iterator[str]:
    """A Markdown row for each way: mean and standard error of AUROC and AP over the seeds."""
    yield "| | AUROC | AP |"
    yield "|---|---|---|"
    for name, values in found.items():
        shown = [f"{mean:.4f} ± {error:.4f}" for mean, error in map(spread, zip(*values, strict=True))]
        yield f"| {name} | {' | '.join(shown)} |"


def spread(values: Sequence[float]) -> tuple[float, float]:
    """(mean, its standard error)."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), deviation / math.sqrt(len(values))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="with its own test part")
    parser.add_argument("--weights", required=True, metavar="FILE", help="or imagenet, or none")
    parser.add_argument("--input-size", type=int, default=224, metavar="N", help="px, default 224")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="default 5")
    parser.add_argument("--epochs", type=int, default=40, metavar="N", help="of the head, default 40")
    parser.add_argument("--fine-tune-epochs", type=int, default=10, metavar="N", help="default 10")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose names hold it; default all")
    parser.add_argument(
        "--without", metavar="TEXT", help='rows whose names do not; "fine-tuning" saves most time'
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="every seed's figures, too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    start = time.monotonic()
    chosen = [
        row
        for row in rows()
        if options.only in row.name and (options.without is None or options.without not in row.name)
    ]
    tuned = any("fine-tuning" in row.elements for row in chosen)
    try:
        dataset = load(options.data, protocol="given")
        size = Size(options.input_size, options.input_size)
        spec = PreprocessSpec(size, "stretch", "gray", 0)
        base = keras.Model(*ends(backbone(size, options.weights)))
        seen = look(base, dataset.train, spec, COPIES, seed=0, keep_maps=tuned)
        test = look(base, dataset.test, spec, 0, seed=0, keep_maps=tuned)
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    found: dict[str, list[tuple[float, float]]] = {}
    for row in tqdm(chosen, desc="rows", unit="row"):
        found[row.name] = []
        for seed in range(options.seeds):
            scores = train(row, base, seen, test, options, seed)
            auroc, ap = metrics.auroc(test.labels, scores), metrics.average_precision(test.labels, scores)
            found[row.name].append((auroc or 0.0, ap or 0.0))
        print(f"{row.name}: {found[row.name]}", file=sys.stderr)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))
    print(
        f"{dataset.root.name} at {size.width} px, {len(test.labels)} test images "
        f"({int(test.labels.sum())} defective), {options.seeds} seeds, {time.monotonic() - start:.0f} s\n"
    )
    print("\n".join(table(found)))
    return 0


def ends(base: keras.Model) -> tuple[object, object]:
    """(input, output) of the whole backbone."""
    return base.input, base.get_layer("out_relu").output


if __name__ == "__main__":
    sys.exit(main())
