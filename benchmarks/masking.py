"""Whether what lies under an ignore mask has no say, by several ways of masking.

    python benchmarks/masking.py --bundle DIR --data DIR [--images N]

A mask is laid over the defect of each defective image, and over the same place of a good one. Printed is how
many of each are still NG: none should be. Ways: the cells of the mask are not counted; the pixels are given a
gray level, or a wide blur, as well; they are covered with the best matching piece of the image (which is what
the device does). About a minute for 50 images of 512 px. Only images whose defect has a mask are taken.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from device.bundle import bundle as bundles
from device.bundle.bundle import Bundle, PreprocessSpec
from device.image.frame import Frame, frame_from_file
from device.image.geometry import Polygon
from device.inspection.detector import Detector
from device.inspection.preprocess import ModelInput, Pixels, Preprocessor
from trainer.data.dataset import Sample, load, read_mask

MARGIN_PX = 8  # around the defect


def around(sample: Sample) -> Polygon | None:
    """A rectangle over the defect, or None where it is not known."""
    mask = read_mask(sample)
    if mask is None or not mask.any():
        return None
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    left, top = max(0, x - MARGIN_PX), max(0, y - MARGIN_PX)
    right = min(sample.size.width, x + width + MARGIN_PX)
    bottom = min(sample.size.height, y + height + MARGIN_PX)
    return Polygon(((left, top), (right, top), (right, bottom), (left, bottom)))


def ways(spec: PreprocessSpec, frame: Frame, ignored: Polygon) -> Iterator[tuple[str, ModelInput]]:
    """The model's input of a frame by each way of masking."""
    plain = Preprocessor(spec).prepare(frame)
    covered = Preprocessor(replace(spec, ignore=(*spec.ignore, ignored))).prepare(frame)
    hidden = covered.framing.seen == 0
    yield "not masked", plain
    for name, pixels in (
        ("cells only", plain.canvas),
        ("gray level", np.full_like(plain.canvas, 114)),
        ("blur", np.asarray(cv2.GaussianBlur(plain.canvas, (0, 0), 30), np.uint8)),
    ):
        yield name, ModelInput(_laid(plain.canvas, pixels, hidden), covered.framing)
    yield "covered", covered


def _laid(canvas: Pixels, pixels: Pixels, hidden: np.ndarray) -> Pixels:
    found = canvas.copy()
    found[hidden] = pixels[hidden]
    return found


def count(loaded: Bundle, samples: list[tuple[Sample, Polygon]]) -> Counter[str]:
    """How many are NG by each way."""
    detector = Detector(loaded)
    found: Counter[str] = Counter()
    for seq, (sample, ignored) in enumerate(samples):
        frame = frame_from_file(sample.path, seq)
        for name, model_input in ways(loaded.calibration.preprocess, frame, ignored):
            found[name] += detector.detect(model_input).score >= loaded.calibration.thresholds.ng
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images of the bundle's kind")
    parser.add_argument("--images", type=int, default=50, help="of each label; default: %(default)s")
    options = parser.parse_args()
    samples = load(options.data, "auto", protocol="given").samples
    places = [(one, place) for one in samples if one.label and (place := around(one))][: options.images]
    good = [one for one in samples if not one.label and one.size == places[0][0].size][: len(places)]
    loaded = bundles.load(options.bundle)
    defective = count(loaded, places)
    spared = count(loaded, [(one, place) for one, (_, place) in zip(good, places, strict=False)])
    print(f"{loaded.name}: NG, of {len(places)} defective and {len(good)} good images")
    print("| | defect under the mask | good |\n|---|---|---|")
    for name in defective:
        print(f"| {name} | {defective[name]} | {spared[name]} |")


if __name__ == "__main__":
    main()
