"""How time and memory of `trainer.fit` grow with the number of images, and how well it said so beforehand.

    python benchmarks/scale.py --weights FILE [--images N ...] [--size PX] [--quick] [--mode MODE]

For each number (default: 100 1000 10000) so many images to learn from are generated, of one texture, 300 px,
three in ten of them defective, with masks. Printed: a row of a table each: minutes, seconds an image, the
exponent with which the time grows since the row before (1 is linear), the greatest memory of the process, and
the minutes that the log promised before the model was made.

Hardware: any. On two CPU cores 1,000 images take about 10 minutes and 10,000 an hour.

Exit codes: 0 done, 1 a fit failed, 2 wrong command line.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer

from trainer import synthetic

REPOSITORY = Path(__file__).resolve().parent.parent
TEXTURE = "cloud"
PROMISE = re.compile(r"step 2 of .*, (?:about (\d+) min|(less than a minute)) left")


@dataclass(frozen=True, slots=True)
class Run:
    """One fit: what it took, what memory at most, and the minutes that were promised (None: nothing)."""

    images: int
    took_s: float
    peak_mb: float
    promised_min: int | None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parse(arguments)
    print(
        "| images | min | s an image | exponent | peak MB | min promised |",
        "|---|---|---|---|---|---|",
        sep="\n",
    )
    before: Run | None = None
    for images in options.images:
        with tempfile.TemporaryDirectory() as name:
            try:
                found = measured(images, Path(name), options)
            except subprocess.CalledProcessError as error:
                print(
                    f"error: {images} images: ended with {error.returncode}: {error.stderr}", file=sys.stderr
                )
                return 1
        print(_row(found, before), flush=True)
        before = found
    return 0


def measured(images: int, folder: Path, options: argparse.Namespace) -> Run:
    """A fit of generated images. Raises CalledProcessError."""
    data, log = folder / "images", folder / "log"
    synthetic.generate(data, images=2 * images, size=options.size, textures=(TEXTURE,))  # half of it is test
    command = [sys.executable, "-m", "trainer.fit", "--data", data, "--out", folder / "bundles"]
    command += ["--weights", options.weights, "--mode", options.mode, *(["--quick"] if options.quick else [])]
    start = time.monotonic()
    with log.open("w") as told:
        process = subprocess.Popen(list(map(str, command)), cwd=REPOSITORY, stdout=told, stderr=told)
        _, status, used = os.wait4(process.pid, 0)
    took_s = time.monotonic() - start
    lines = log.read_text()
    if code := os.waitstatus_to_exitcode(status):
        raise subprocess.CalledProcessError(code, command, stderr=lines[-1000:])
    return Run(images, took_s, used.ru_maxrss / 1024, _promised(lines))


def _promised(log: str) -> int | None:
    found = PROMISE.search(log)
    return None if found is None else int(found[1] or 1)


def _row(run: Run, before: Run | None) -> str:
    grown = ""
    if before is not None:
        grown = f"{math.log(run.took_s / before.took_s) / math.log(run.images / before.images):.2f}"
    each = f"{run.took_s / run.images:.2f}"
    promised = "" if run.promised_min is None else str(run.promised_min)
    return f"| {run.images} | {run.took_s / 60:.1f} | {each} | {grown} | {run.peak_mb:.0f} | {promised} |"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How a fit grows with the number of images.")
    add = parser.add_argument
    add("--weights", required=True, metavar="FILE", help="of MobileNetV2, as for trainer.fit")
    add("--images", type=int, nargs="+", default=[100, 1000, 10000], metavar="N", help="to learn from")
    add("--size", type=int, default=300, metavar="PX", help="of an image; default 300")
    add("--quick", action="store_true", help="as of trainer.fit")
    add("--mode", default="supervised", choices=("supervised", "good-only"), help="as of trainer.fit")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
