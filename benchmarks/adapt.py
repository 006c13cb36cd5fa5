"""What `device adapt` is worth: 30 good parts of another day, and the others before and after.

    python benchmarks/adapt.py --bundle DIR --data PATH [--parts 30] [--images N] [--change NAME]...

Every change (a name of trainer.data.changes; default: some) makes another day of the test images. So many
good parts of it adapt the bundle, by the command itself; the other good ones and the defective ones, at most
N of either, are inspected with both bundles. Of each: share of defective parts found (not OK), of good ones
NG and MARGINAL; the seconds of processor time and the MiB that the command took, or why it refused.

The shares "as it is" are what the bundle had before the change. --false-rejects 0.01 is what is wanted.

Exit codes: 0 done, 2 wrong command line, 4 bundle, 6 interpreter, 8 data.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer

import cv2
import numpy as np

from device.bundle import bundle as bundles
from device.errors import EdgeVisionError
from device.image.frame import Frame
from device.inspection.pipeline import Pipeline
from trainer import evaluate
from trainer.data.changes import TOMORROWS, Tomorrow
from trainer.data.dataset import Sample, load

AS_IT_IS = Tomorrow("as it is", lambda image, _: image, None)
CHANGES = ("gain 0.8", "gain 1.25", "blur, sigma 1 px", "noise, 8 levels", "JPEG, quality 30", "another lot")


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the defective parts, found; of the good ones, NG and MARGINAL."""

    found: float
    rejected: float
    marginal: float

    def __str__(self) -> str:
        return f"{self.found:.2f} | {self.rejected:.2f} | {self.marginal:.2f}"


def shown(sample: Sample, number: int, tomorrow: Tomorrow, pipeline: Pipeline) -> Frame:
    """The image of a sample on another day."""
    frame = pipeline.read(sample.path, number)
    return replace(frame, image=tomorrow.change(frame.image, np.random.default_rng(number)))


def judged(bundle: Path, samples: Sequence[Sample], tomorrow: Tomorrow) -> Shares:
    """What a bundle says of some images on another day."""
    pipeline = Pipeline(bundles.load(bundle), "adapt", "adapt")
    words: dict[int, list[str]] = {0: [], 1: []}
    for number, sample in enumerate(samples):
        words[sample.label].append(pipeline.inspect(shown(sample, number, tomorrow, pipeline)).verdict)

    def share(label: int, word: str) -> float:
        return words[label].count(word) / max(1, len(words[label]))

    return Shares(1 - share(1, "OK"), share(0, "NG"), share(0, "MARGINAL"))


def adapted(bundle: Path, parts: Sequence[Sample], tomorrow: Tomorrow, work: Path) -> tuple[Path | None, str]:
    """(the new bundle, or None where it was refused; what it took, or why)."""
    shutil.rmtree(work, ignore_errors=True)
    images, models = work / "images", work / "models"
    images.mkdir(parents=True)
    shutil.copytree(bundle.resolve(), models / bundle.resolve().name)
    (models / "current").symlink_to(bundle.resolve().name)
    pipeline = Pipeline(bundles.load(bundle), "adapt", "adapt")
    for number, sample in enumerate(parts):
        image = shown(sample, number, tomorrow, pipeline).image
        cv2.imwrite(str(images / f"{number:03d}.png"), image[:, :, ::-1])
    config = work / "config.toml"
    config.write_text(
        f'[station]\nname = "adapt"\nstate = "{work}/state"\n[bundle]\npath = "{models}"\n'
        f'[camera]\nsource = "{images}"\n'
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "device", "adapt", "--config", str(config), "--images", str(images)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1]
    return Path(done.stdout.strip()), f"{took_s:.1f} s, {after.ru_maxrss / 1024:.0f} MiB"


def measure(options: argparse.Namespace) -> None:
    """Print the table."""
    bundle = bundles.load(options.bundle)
    dataset = load([options.data], "auto", protocol="given")
    samples, _ = evaluate.chosen(dataset, evaluate.recorded(bundle), "test")
    good, bad = ([one for one in samples if one.label == label] for label in (0, 1))
    step = max(1, len(good) // options.parts)
    parts = good[::step][: options.parts]
    others = [*[one for one in good if one not in parts][: options.images], *bad[: options.images]]
    print(f"{bundle.name} on {dataset.name}: {len(parts)} good parts adapt it, {len(others)} images judge it")
    print(f"as it is: found, NG, MARGINAL: {judged(options.bundle, others, AS_IT_IS)}")
    print("| change | found | NG | MARGINAL | adapted: found | NG | MARGINAL | took |")
    print(f"{'|---' * 8}|")
    named = {one.name: one for one in TOMORROWS}
    with tempfile.TemporaryDirectory() as work:
        for name in options.change or CHANGES:
            before = judged(options.bundle, others, named[name])
            path, said = adapted(options.bundle, parts, named[name], Path(work) / "station")
            after = judged(path, others, named[name]) if path else "- | - | -"
            print(f"| {name} | {before} | {after} | {said} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="What `device adapt` is worth.")
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="of trainer.fit")
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="as of trainer.evaluate")
    parser.add_argument("--parts", type=int, default=30, metavar="N", help="good parts, default 30")
    parser.add_argument("--images", type=int, default=50, metavar="N", help="of either label, default 50")
    parser.add_argument("--change", action="append", choices=[one.name for one in TOMORROWS], metavar="NAME")
    options = parser.parse_args(arguments)
    try:
        measure(options)
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
