"""Good-only bundles beside PatchCore and PaDiM in float on the same network: accuracy, time and size.

    python benchmarks/good_only.py --data PATH --weights FILE [--bundle DIR] [--seed N] [--side PX] [--alone]
                                   [--coreset-images N] [--held-out N]

A bundle is made by `trainer.fit --mode good-only` from the good images of the data's train part, unless
--bundle names one that was. It is judged by the device's own code on the test part; the other two
(patch_baselines.py) see the same images at --side. Printed: a line each, figures with their standard errors,
medians of milliseconds an image for the network's invoke and for all that follows it, and the megabytes of
what is kept of good images. Times are only as good as the machine is quiet. PatchCore learns from
--coreset-images at most, spread over the good ones: its coreset takes the square of their number.

Printed before it is what the mean gray level alone tells: where it tells defective images from the good ones
of the test, these were taken in another light, and a way that sees light passes for one that sees defects.
With --held-out N, N good images of train, spread over it, are not learned from and take the place of the good
ones of the test.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer
sys.path.insert(0, str(Path(__file__).resolve().parent))

from patch_baselines import HEAD, METHODS, Row, auroc_figure, figures, row

from device.bundle import bundle as bundles
from device.bundle.bundle import Bundle
from device.bundle.memory import TurnedFeatures
from device.errors import DataError
from device.image.frame import frame_from_file, read_image
from device.inspection.interpreter import Interpreter
from device.inspection.localizer import evidence_in_frame
from device.inspection.pipeline import Pipeline
from device.inspection.preprocess import Preprocessor
from trainer import config as configs
from trainer import fit
from trainer.data.dataset import Sample, load

TIMED = 30  # images
TEST_SHARE = configs.load(None).split.test_share
MOST_SIDE = 512  # px, of the maps that are compared with masks: they are all held at once


def judged(bundle: Bundle, test: list[Sample]) -> Row:
    """The bundle's line of the table."""
    pipeline = Pipeline(bundle, "benchmark", "benchmark")
    shift_px = bundle.calibration.localization.shift_px
    scores, maps = [], []
    for number, sample in enumerate(tqdm(test, desc="bundle judges")):
        model_input, prediction = pipeline.predict(frame_from_file(sample.path, number))
        shown = evidence_in_frame(prediction.evidence, model_input.placement, shift_px)
        scale = min(1.0, MOST_SIDE / max(shown.shape))
        size = (round(shown.shape[1] * scale), round(shown.shape[0] * scale))
        maps.append(np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), np.float32))
        scores.append(prediction.score)
    invoke_ms, search_ms, megabytes = measured(bundle, test[:TIMED])
    return Row("this, int8", figures(test, scores, maps), invoke_ms, search_ms, megabytes)


def measured(bundle: Bundle, samples: list[Sample]) -> tuple[float, float, float]:
    """(ms of an invocation, ms of the search, megabytes at work); DataError without a memory."""
    memory = bundle.memory()
    if memory is None:
        raise DataError(f"{bundle.path}: was not made from good parts only")
    interpreter = Interpreter(bundle.model_path)
    preprocessor = Preprocessor(bundle.calibration.preprocess)
    invoke_ms, search_ms = [], []
    for number, sample in enumerate(samples):
        tensor = preprocessor.prepare(frame_from_file(sample.path, number)).tensor
        seen = TurnedFeatures.of(
            tensor, lambda pixels: interpreter.run(pixels)[0], upright=memory.spec.upright
        )
        begin = time.perf_counter()
        interpreter.invoke()
        invoked = time.perf_counter()
        memory.judge(seen)
        search_ms.append((time.perf_counter() - invoked) * 1e3)
        invoke_ms.append((invoked - begin) * 1e3)
    return float(np.median(invoke_ms)), float(np.median(search_ms)), memory.nbytes / 2**20


def light(train: Sequence[Sample], test: Sequence[Sample]) -> str:
    """How well the mean gray level alone, either way, tells defective test images from good ones."""
    bad = [sample for sample in test if sample.label]
    words = []
    for name, good in (
        ("the good ones of test", [one for one in test if not one.label]),
        ("those of train", train),
    ):
        levels = np.array([float(read_image(sample.path)[0].mean()) for sample in (*good, *bad)])
        found = auroc_figure(np.repeat([0, 1], [len(good), len(bad)]), levels)
        either = replace(found, value=None if found.value is None else max(found.value, 1 - found.value))
        words.append(f"{either} from {name} ({levels[: len(good)].mean():.0f} levels)")
    return f"the mean gray level alone tells defective images: {', '.join(words)}"


def held_out(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Some good images of train in place of the test's good ones."""
    good = [sample for sample in samples if sample.split == "train" and not sample.label]
    if not 0 < count <= len(good) - 10:
        raise DataError(f"--held-out: must be 1..{len(good) - 10}, for ten to learn from, got {count}")
    groups = list(dict.fromkeys(sample.group for sample in good))
    held = {groups[index] for index in spread(len(groups), count)}
    kept = [sample for sample in samples if sample.label and sample.split == "test"]
    return kept + [replace(one, split="test" if one.group in held else "train") for one in good]


def manifest(samples: Sequence[Sample], path: Path) -> None:
    """The same split as a data set for trainer.fit."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "mask", "group", "split", "kind"))
        for one in samples:
            mask = one.mask.resolve() if one.mask else ""
            writer.writerow((one.path.resolve(), one.label, mask, one.group, one.split, one.kind))


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="as of trainer.fit")
    parser.add_argument("--weights", required=True, metavar="FILE", help="imagenet, none or a .h5 file")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="default: made now")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--side", type=int, default=256, metavar="PX", help="of the others' input")
    parser.add_argument("--alone", action="store_true", help="without the others")
    parser.add_argument("--coreset-images", type=int, default=70, metavar="N", help="default: %(default)s")
    parser.add_argument("--held-out", type=int, default=0, metavar="N", help="good images of train to judge")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    samples = list(load(options.data, protocol="good-only", seed=options.seed, test_share=TEST_SHARE).samples)
    if options.held_out:
        samples = held_out(samples, options.held_out)
    good = [sample for sample in samples if sample.split == "train" and not sample.label]
    test = [sample for sample in samples if sample.split == "test"]
    print(f"{len(good)} good images; test: {len(test)}, {sum(sample.label for sample in test)} defective")
    print(light(good, test), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.bundle is None:
            manifest(samples, folder / "data.csv")
            given = ("--data", str(folder / "data.csv"), "--out", name, "--weights", options.weights)
            code = fit.main([*given, "--mode", "good-only", "--seed", str(options.seed)])
            if code:
                return code
        found = judged(bundles.load(options.bundle or folder), test)
    print(HEAD)
    print(found, flush=True)
    if not options.alone:
        few = [good[index] for index in spread(len(good), options.coreset_images)]
        for title, method in METHODS.items():
            learned = few if title.startswith("PatchCore") else good
            fitted = method(learned, options.side, options.weights, options.seed)
            print(row(f"{title}, {len(learned)} images", fitted, test), flush=True)
    return 0


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers below count, evenly."""
    few = min(count, most)
    return [index * count // few for index in range(few)]


if __name__ == "__main__":
    sys.exit(main())
