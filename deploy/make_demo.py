"""Make the demo's bundle and images again: generated parts, a small network trained from random weights.

    .venv/bin/python -m deploy.make_demo [--out DIR]       about 10 minutes on two CPU cores

DIR (default deploy/demo) receives bundle/ and images/, in place of what it had. Nothing in them comes from
anywhere but this repository, so their licence is its own. Needs requirements-train.txt.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer import synthetic
from trainer.data.dataset import Sample, load

IMAGES, SIDE_PX, DEFECTIVE_SHARE, SEED = 1000, 256, 0.4, 1
TEXTURES = ("brushed", "weave")  # two of the four: each more takes the small network minutes to learn
SHOWN = {0: 24, 1: 12}  # good and defective images of the test side that the demo replays
DEMO = Path(__file__).parent / "demo"


def make(out: Path) -> None:
    """Generate, train, and pick the images to show."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "parts"
        synthetic.generate(
            data,
            images=IMAGES,
            size=SIDE_PX,
            seed=SEED,
            defective_share=DEFECTIVE_SHARE,
            textures=TEXTURES,
        )
        for name in ("bundle", "images"):
            shutil.rmtree(out / name, ignore_errors=True)
        fit = ("--data", str(data), "--out", str(out / "bundle"), "--weights", "none", "--seed", str(SEED))
        subprocess.run((sys.executable, "-m", "trainer.fit", *fit), check=True)
        _copy(_shown(load(data).test), out / "images")


def _shown(samples: Sequence[Sample]) -> list[Sample]:
    """Some of each label, from all over the set, in a mixed order."""
    of_label = {label: [sample for sample in samples if sample.label == label] for label in SHOWN}
    picked = [
        members[index * len(members) // SHOWN[label]]
        for label, members in of_label.items()
        for index in range(SHOWN[label])
    ]
    return [picked[index] for index in np.random.default_rng(SEED).permutation(len(picked))]


def _copy(samples: Sequence[Sample], folder: Path) -> None:
    """part01.png and so on, masks/part01.png where it is defective, and labels.csv, a manifest of them."""
    (folder / "masks").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "mask", "group", "split"))
        for number, sample in enumerate(samples, start=1):
            name = f"part{number:02d}.png"
            shutil.copyfile(sample.path, folder / name)
            if sample.mask:
                shutil.copyfile(sample.mask, folder / "masks" / name)
            writer.writerow((name, sample.label, f"masks/{name}" if sample.mask else "", "", "test"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.make_demo", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=DEMO, help="folder of bundle/ and images/")
    make(parser.parse_args(arguments).out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
