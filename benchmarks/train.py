"""How fast the trainer's step is, beside Keras's own `fit` of the same network on the same images.

    python benchmarks/train.py [--images N] [--size PX] [--batch N] [--alpha A] [--from-block N]
                               [--repeats N] [--fit]

Three epochs are timed in turn, `--repeats` times, and the medians compared: the trainer's (batches drawn,
augmented and fed by batches.py), the same with all its batches made beforehand, and a bare Keras `fit`
with binary cross-entropy on arrays in memory. Printed: images/s of each, the ratio of the first and the last
(0.95 is asked for), the share of its time that the first waits for data, peak memory. With --fit the whole
command `trainer.fit` is timed as well, from images to a bundle.

Hardware: any; it is named. With the defaults, a few minutes on two CPU cores.

Exit codes: 0 done, 2 wrong command line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer

import keras
import numpy as np

from device.bundle.bundle import Pooling, PreprocessSpec
from device.image.geometry import Size
from trainer import config, synthetic
from trainer.data import dataset as datasets
from trainer.data.augment import Augmentation
from trainer.data.batches import Batches
from trainer.network import hardware, network
from trainer.network.network import STRIDES, Head
from trainer.training.learner import Learner, Phase, Teaching

CUT = "block_6_expand_relu"
AUGMENTATION = Augmentation(flip_horizontal=True, flip_vertical=True, brightness=0.05, contrast=0.1)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parse(arguments)
    machine = hardware.found(config.load(None).hardware)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        synthetic.generate(folder, images=2 * options.images, size=options.size, defective_share=0.4)
        found = measured(folder, options, machine)
        if options.fit:
            found["command_to_bundle_s"] = round(_seconds(lambda: _whole(folder, Path(name))), 1)
    print(json.dumps({"hardware": machine.describe(), **found}, indent=1))
    return 0


def measured(folder: Path, options: argparse.Namespace, machine: hardware.Hardware) -> dict[str, float]:
    """Images/s of the three ways, and what follows from them."""
    samples = datasets.load(folder).train
    size = Size(options.size, options.size)
    spec = PreprocessSpec(size, "stretch", "gray", 114)
    base = network.backbone(size, "none", options.alpha)
    channels = base.outputs[list(STRIDES).index(CUT)].shape[-1]
    model = network.evidence_model(
        base, Head((CUT,), np.zeros((channels, 1), np.float32), np.zeros(1, np.float32))
    )
    batches = Batches.read(
        samples, spec, model.output_shape[1:3], machine.share(options.batch), 0, augmentation=AUGMENTATION
    )
    phase = Phase(100, options.from_block, 1e-5, 0.1)
    learner = Learner(model, phase, Teaching(Pooling("top", 0.1), 2.0, 0.5, 0.1), len(batches), machine)
    ready = list(batches.epoch(1))
    seen = sum(len(batch.labels) for batch in ready)
    bare = _bare(model, options.from_block)
    pixels, labels = (
        np.concatenate([getattr(batch, name) for batch in ready]) for name in ("pixels", "labels")
    )
    ways: dict[str, Callable[[], object]] = {
        "trainer": lambda: learner.epoch(batches.epoch(1), len(batches)),
        "ready": lambda: learner.epoch(ready, len(ready)),
        "keras": lambda: bare.fit(pixels, labels, batch_size=batches.batch_size, verbose=0),
    }
    took = _medians(ways, options.repeats)
    return {
        "images": seen,
        "trainer_images_per_s": round(seen / took["trainer"], 2),
        "keras_images_per_s": round(seen / took["keras"], 2),
        "ratio": round(took["keras"] / took["trainer"], 3),
        "waiting_for_data_share": round(max(0.0, 1 - took["ready"] / took["trainer"]), 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _bare(model: keras.Model, from_block: int) -> keras.Model:
    """The same network, the same layers training, as a tutorial would train it."""
    copy = network.copy_of(model)
    network.freeze(copy, from_block)
    given = keras.Input(copy.input_shape[1:], dtype="uint8")
    maps = copy(keras.layers.Rescaling(1 / 127.5, -1.0)(given))
    bare = keras.Model(given, keras.layers.GlobalMaxPooling2D()(maps))
    bare.compile(keras.optimizers.Adam(1e-5), keras.losses.BinaryCrossentropy(from_logits=True))
    return bare


def _medians(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each way, taken in turn, so that what slows the machine slows all of them."""
    for work in ways.values():
        work()  # traced and compiled
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            took[name].append(_seconds(work))
    return {name: statistics.median(times) for name, times in took.items()}


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _whole(folder: Path, out: Path) -> None:
    command = (
        sys.executable,
        "-m",
        "trainer.fit",
        "--data",
        folder,
        "--out",
        out / "bundles",
        "--weights",
        "none",
    )
    subprocess.run(tuple(map(str, command)), check=True, cwd=Path(__file__).resolve().parent.parent)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The training step beside a bare Keras fit.")
    add = parser.add_argument
    add("--images", type=int, default=48, metavar="N", help="to train on; default 48")
    add("--size", type=int, default=224, metavar="PX", help="of the input; default 224")
    add("--batch", type=int, default=8, metavar="N", help="default 8")
    add("--alpha", type=float, default=1.0, metavar="A", help="width of MobileNetV2; default 1.0")
    add("--from-block", type=int, default=0, metavar="N", help="first that trains; default 0: all")
    add("--repeats", type=int, default=3, metavar="N", help="default 3")
    add("--fit", action="store_true", help="time trainer.fit --weights none too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
