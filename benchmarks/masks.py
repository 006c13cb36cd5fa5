"""What masks are worth: bundles that were taught by none, by a few and by all of them, on the same test.

    python benchmarks/masks.py --data PATH --weights FILE [--masks N|all ...] [--seed N] [--config FILE]
                               [--out DIR]

For each number of masks (default: 0 5 15 all) the data are listed anew with so many masked images in train,
of all kinds in proportion; the other defective ones keep their label, and the test part keeps its masks.
`trainer.fit` learns from that list, and `trainer.evaluate` judges its int8 file. Printed: a row of a table
each, with standard errors. --out keeps lists and bundles.

Hardware: any. One whole fit a row: minutes on two CPU cores.

Exit codes: 0 done, 1 a fit failed, 2 wrong command line, 8 data.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer

from device.errors import EdgeVisionError
from trainer import config
from trainer.data import dataset as datasets
from trainer.data.dataset import Sample
from trainer.data.splits import few
from trainer.layouts.csv_list import COLUMNS

REPOSITORY = Path(__file__).resolve().parent.parent
COLUMNS_SHOWN = (
    "masks",
    "AUROC",
    "AP",
    "pixel AUROC",
    "pointing",
    "best box, IoU",
    "box over half",
    "found at NG",
    "good rejected",
    "shipped",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parse(arguments)
    try:
        samples = _samples(options)
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(_line(COLUMNS_SHOWN), _line(["---"] * len(COLUMNS_SHOWN)), sep="\n")
    with tempfile.TemporaryDirectory() as name:
        for masks in options.masks:
            folder = Path(options.out or name) / masks
            folder.mkdir(parents=True, exist_ok=True)
            try:
                print(_row(samples, masks, folder, options), flush=True)
            except subprocess.CalledProcessError as error:
                print(
                    f"error: {' '.join(map(str, error.cmd))} ended with {error.returncode}", file=sys.stderr
                )
                return 1
    return 0


def _samples(options: argparse.Namespace) -> Sequence[Sample]:
    """With the groups of the layout: trainer.fit finds the others in the list again."""
    share = config.load(options.config).split.test_share
    return datasets.load(tuple(options.data), seed=options.seed, test_share=share, groups="given").samples


def _row(samples: Sequence[Sample], masks: str, folder: Path, options: argparse.Namespace) -> str:
    known = [sample for sample in samples if sample.split == "train" and sample.mask]
    kept = known if masks == "all" else few(_each_alone(known), int(masks), options.seed)
    tested = [sample for sample in samples if sample.split == "test" and sample.mask]
    data = _listed(samples, {sample.name for sample in (*kept, *tested)}, folder)
    settings = ["--config", options.config] if options.config else []
    made = ["--data", data, "--out", folder, "--weights", options.weights, "--seed", options.seed]
    bundle = _output("trainer.fit", *made, *settings).splitlines()[-1]
    report = json.loads(_output("trainer.evaluate", "--bundle", bundle, "--data", data, "--json"))
    training = json.loads((Path(bundle) / "calibration.json").read_text())["training"]
    return _in_words(f"{len(kept)}", report, training["decoder"]["shipped"])


def _each_alone(samples: Sequence[Sample]) -> list[Sample]:
    """Who draws masks draws them of different things."""
    return [replace(sample, group=sample.name) for sample in samples]


def _listed(samples: Sequence[Sample], masked: set[str], folder: Path) -> Path:
    """A list of the images, with the masks of those that are named."""
    path = folder / "manifest.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, sample in enumerate(samples):
            mask = _written(sample, folder / f"mask-{number}.png") if sample.name in masked else ""
            image = sample.path.resolve()
            writer.writerow((image, sample.label, mask, sample.group, sample.split, sample.kind))
    return path


def _written(sample: Sample, path: Path) -> Path:
    """All that marks its defects, in one file."""
    cv2.imwrite(str(path), np.asarray(datasets.read_mask(sample), np.uint8) * 255)
    return path.resolve()


def _output(module: str, *arguments: object) -> str:
    command = (sys.executable, "-m", module, *map(str, arguments))
    return subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout


def _in_words(masks: str, report: dict[str, Any], shipped: str) -> str:
    boxes, counts = report["boxes"], report["confusion"]
    cells = [
        masks,
        f"{report['auroc']:.3f} +- {report['auroc_error']:.3f}",
        f"{report['ap']:.3f} +- {report['ap_error']:.3f}",
        *(_number(report[name]) for name in ("pixel_auroc", "pointing_hit_rate")),
        *(_number(boxes[name]) for name in ("best_iou", "large_share")),
        f"{counts['tp']} of {counts['tp'] + counts['fn']}",
        f"{counts['fp']} of {counts['fp'] + counts['tn']}",
        shipped,
    ]
    return _line(cells)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _masks(text: str) -> str:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f'must be a number or "all", got {text}')
    return text


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What masks are worth.")
    add = parser.add_argument
    add("--data", type=Path, action="append", required=True, metavar="PATH", help="with masks")
    add("--weights", required=True, metavar="FILE", help="of MobileNetV2, as for trainer.fit")
    add("--masks", type=_masks, nargs="+", default=["0", "5", "15", "all"], metavar="N", help="to teach by")
    add("--seed", type=int, default=0, metavar="N", help="of split, choice and fit; default 0")
    add("--config", type=Path, metavar="FILE", help="settings of trainer.fit")
    add("--out", type=Path, metavar="DIR", help="keeps lists and bundles")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
