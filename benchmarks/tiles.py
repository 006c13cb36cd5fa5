"""What a large frame in tiles costs beside its model.

    python benchmarks/tiles.py [--bundle DIR] [--threads N]

1. A frame of 4056 x 3040 px in 4 x 4 tiles against 16 bare invocations of the same interpreter, half of them
   before and half after it; the median of the rounds' ratios counts.
2. The stage that only a suspect frame without a clear place of evidence reaches: the difference with the
   local background of the whole frame.
3. Tiles in one invocation (the model's input resized to a batch) against one after the other.

Each tile shows a golden image of the bundle, one of them a defective one. Takes about a minute.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from device.bundle import bundle as bundles
from device.bundle.bundle import Bundle, GoldenSpec, GoldenVector
from device.image.frame import Frame, frame_from_file, read_image
from device.image.geometry import Size
from device.inspection.detector import Detector
from device.inspection.localizer import Localizer
from device.inspection.pipeline import Pipeline
from device.inspection.preprocess import Preprocessor

DEMO = Path(__file__).resolve().parent.parent / "deploy" / "demo"
LARGE = Size(4056, 3040)
SIDE = 4  # tiles along each side
ROUNDS = 9
BATCHES = (1, 2, 4, 16)


def taken_ms(work: Callable[[], object]) -> float:
    """Of one call."""
    begin_ns = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - begin_ns) / 1e6


def tiled(loaded: Bundle) -> Bundle:
    """With tiles of a quarter of the frame's sides, and the golden score that goes with them."""
    calibration = loaded.calibration
    tiles = Size(LARGE.width // SIDE, LARGE.height // SIDE)
    spec = replace(calibration.preprocess, tiles=tiles, overlap=0.0, roi=(), ignore=())
    changed = replace(loaded, calibration=replace(calibration, preprocess=spec))
    vector = calibration.golden.vectors[0]
    golden = Preprocessor(spec).prepare(frame_from_file(loaded.golden_path(vector), 0))
    score = Detector(changed).detect(golden).score
    golden_spec = GoldenSpec(calibration.golden.tolerance, (GoldenVector(vector.file, score),))
    return replace(changed, calibration=replace(changed.calibration, golden=golden_spec))


def large_frame(loaded: Bundle) -> Frame:
    """A good golden image on each tile, and a defective one on one of them; so the model sees its scale."""
    golden = loaded.calibration.golden.vectors
    good, bad = (
        cv2.resize(
            read_image(loaded.golden_path(pick(golden, key=lambda vector: vector.score)))[0],
            (LARGE.width // SIDE, LARGE.height // SIDE),
            interpolation=cv2.INTER_CUBIC,
        )
        for pick in (min, max)
    )
    rows = [[good] * SIDE for _ in range(SIDE)]
    rows[1][1] = bad
    image = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    return Frame(image, 0, time.time_ns(), time.monotonic_ns(), "memory", None, None)


def whole_frame(pipeline: Pipeline, frame: Frame) -> None:
    """Print the ratios, and the stages of the round in the middle."""
    count = len(pipeline.inspect(frame).tiles)
    rounds, judging = [], []
    for _ in range(ROUNDS):
        alone = [taken_ms(pipeline.invoke) for _ in range(count // 2)]
        verdict = pipeline.inspect(frame)
        alone += [taken_ms(pipeline.invoke) for _ in range(count - count // 2)]
        frame_ms, prepare_ms = verdict.timing_ms["total"], verdict.timing_ms["preprocess"]
        rounds.append((frame_ms / sum(alone), frame_ms, sum(alone), verdict))
        judging.append((frame_ms - prepare_ms) / sum(alone))
    rounds.sort(key=lambda one: one[0])
    ratio, frame_ms, alone_ms, verdict = rounds[len(rounds) // 2]
    spread = f"{rounds[0][0]:.3f} to {rounds[-1][0]:.3f}, {ROUNDS} rounds"
    print(f"{LARGE.width}x{LARGE.height} px in {count} tiles: {frame_ms:.1f} ms, ", end="")
    print(f"{count} bare invocations {alone_ms:.1f} ms; ratio {ratio:.3f} ({spread})")
    print(f"  without preprocess, which is the capture thread's: ratio {statistics.median(judging):.3f}")
    print(f"  {verdict.verdict}, {len(verdict.regions)} regions; ", end="")
    print(", ".join(f"{stage} {ms:.1f} ms" for stage, ms in verdict.timing_ms.items()))


def background(pipeline: Pipeline, frame: Frame) -> None:
    """Print what it costs where the evidence shows no place."""
    calibration = pipeline.bundle.calibration
    localizer = Localizer(calibration.localization, calibration.score_calibration)
    model_input, prediction = pipeline.predict(frame)
    flat = replace(prediction, evidence=np.zeros_like(prediction.evidence))
    found = [taken_ms(lambda: localizer.locate(model_input, flat)) for _ in range(ROUNDS)]
    sigma_px = calibration.localization.difference_sigma_px
    print(f"  difference with the background of {sigma_px:.1f} px: {statistics.median(found):.1f} ms")


def batches(loaded: Bundle, threads: int) -> None:
    """Print the table of batches, all in turn in every round."""
    size = loaded.calibration.preprocess.size
    interpreters = {}
    for batch in BATCHES:
        interpreter = Interpreter(model_path=str(loaded.model_path), num_threads=threads)
        shape = (batch, size.height, size.width, 3)
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape, strict=False)
        interpreter.allocate_tensors()
        values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        interpreter.invoke()
        interpreters[batch] = interpreter
    found: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for _ in range(ROUNDS):
        for batch, interpreter in interpreters.items():
            repeats = max(BATCHES) // batch
            found[batch].append(sum(taken_ms(interpreter.invoke) for _ in range(repeats)) / max(BATCHES))
    print("| tiles in one invocation | ms a tile | of one by one |\n|---|---|---|")
    for batch, each in found.items():
        ratio = statistics.median(ms / one for ms, one in zip(each, found[1], strict=True))
        print(f"| {batch} | {statistics.median(each):.2f} | {ratio:.2f} |")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bundle", type=Path, default=DEMO / "bundle")
    parser.add_argument("--threads", type=int, default=1, help="of the interpreter; default: %(default)s")
    options = parser.parse_args()
    loaded = bundles.load(options.bundle)
    size = loaded.calibration.preprocess.size
    pipeline = Pipeline(tiled(loaded), "benchmark", "b" * 32, options.threads)
    print(f"{loaded.name}, {size.width}x{size.height}, {options.threads} threads, {pipeline.runtime}")
    frame = large_frame(loaded)
    whole_frame(pipeline, frame)
    background(pipeline, frame)
    batches(loaded, options.threads)


if __name__ == "__main__":
    main()
