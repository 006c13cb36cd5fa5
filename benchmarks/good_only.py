"""Good-only bundles beside PatchCore and PaDiM in float on the same network: accuracy, time and size.

    python benchmarks/good_only.py --data PATH --weights FILE [--bundle DIR] [--seed N] [--side PX] [--alone]

A bundle is made by `trainer.fit --mode good-only` from the good images of the data's train part, unless
--bundle names one that was. It is judged by the device's own code on the test part; the other two
(patch_baselines.py) see the same images at --side. Printed: a line each, figures with their standard errors,
medians of milliseconds an image for the network's invoke and for all that follows it, and the megabytes of
what is kept of good images. Times are only as good as the machine is quiet.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer
sys.path.insert(0, str(Path(__file__).resolve().parent))

from patch_baselines import HEAD, METHODS, Row, figures, row

from device import bundle as bundles
from device.bundle import Bundle
from device.errors import DataError
from device.frame import frame_from_file
from device.interpreter import Interpreter
from device.localizer import evidence_in_frame
from device.pipeline import Pipeline
from device.preprocess import Preprocessor
from trainer import fit
from trainer.data import Sample, load

TIMED = 30  # images
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
        stored = interpreter.run(preprocessor.prepare(frame_from_file(sample.path, number)).tensor)[0]
        begin = time.perf_counter()
        interpreter.invoke()
        invoked = time.perf_counter()
        memory.evidence(stored)
        search_ms.append((time.perf_counter() - invoked) * 1e3)
        invoke_ms.append((invoked - begin) * 1e3)
    return float(np.median(invoke_ms)), float(np.median(search_ms)), memory.nbytes / 2**20


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="as of trainer.fit")
    parser.add_argument("--weights", required=True, metavar="FILE", help="imagenet, none or a .h5 file")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="default: made now")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--side", type=int, default=256, metavar="PX", help="of the others' input")
    parser.add_argument("--alone", action="store_true", help="without the others")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    dataset = load(options.data, protocol="good-only", seed=options.seed)
    good = [sample for sample in dataset.train if sample.label == 0]
    test = list(dataset.test)
    print(f"{len(good)} good images; test: {len(test)}, {sum(sample.label for sample in test)} defective")
    with tempfile.TemporaryDirectory() as out:
        if options.bundle is None:
            arguments = ("--data", str(options.data), "--out", out, "--weights", options.weights)
            code = fit.main([*arguments, "--mode", "good-only", "--seed", str(options.seed)])
            if code:
                return code
        found = judged(bundles.load(options.bundle or out), test)
    print(HEAD)
    print(found, flush=True)
    if not options.alone:
        for name, method in METHODS.items():
            print(row(name, method(good, options.side, options.weights, options.seed), test), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
