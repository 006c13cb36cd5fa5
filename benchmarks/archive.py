"""What the archive costs and what a JPEG changes: python benchmarks/archive.py [--bundle DIR] [--images DIR].

1. Verdicts a second of the pipeline alone, against the same with every image kept (as when every part is NG),
   turn about, so that what else the machine does hits both.
2. Bytes of an image, and by how much its score changes, as JPEG and as PNG.
3. Seconds and memory to count 100,000 kept images at the start.

Takes about a minute; the archive is made in a folder that is removed again.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from device.archive.archive import Archive
from device.archive.encode import jpeg, png
from device.archive.image_store import ImageStore, Quotas
from device.bundle import bundle as bundles
from device.camera.replay import image_files
from device.config import ArchiveConfig
from device.image.frame import Frame, frame_from_file
from device.inspection.pipeline import Pipeline

DEMO = Path(__file__).resolve().parent.parent / "deploy" / "demo"
CONFIG = ArchiveConfig(
    max_bytes=10**9,
    max_days=90,
    min_free_bytes=0,
    ok_ratio=1.0,
    format="jpeg",
    jpeg_quality=95,
    queue_bytes=6_000_000,
    publish_image_max_bytes=0,
)
ROUNDS = 8
ROUND_S = 2.0
KEPT_IMAGES, KEPT_DAYS = 100_000, 90


def rate(pipeline: Pipeline, frames: list[Frame], archive: Archive | None, start: int) -> tuple[float, int]:
    """(verdicts a second, verdicts) of a round."""
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < ROUND_S:
        frame = replace(frames[count % len(frames)], seq=start + count)
        verdict = pipeline.inspect(frame)
        if archive is not None:
            archive.keep(frame, verdict)
        count += 1
    return count / (time.perf_counter() - begin), count


def cost(pipeline: Pipeline, frames: list[Frame], folder: Path) -> None:
    """Print what keeping every image costs in verdicts a second."""
    archive = Archive(folder, CONFIG, publish=print)  # which publishes nothing: see CONFIG
    archive.start()
    alone, keeping, seq = [], [], 0
    for _ in range(ROUNDS):
        found, count = rate(pipeline, frames, None, seq)
        alone.append(found)
        found, kept = rate(pipeline, frames, archive, seq + count)
        keeping.append(found)
        seq += count + kept
    archive.stop()
    ratios = [after / before for before, after in zip(alone, keeping, strict=True)]
    print(f"verdicts/s, median of {ROUNDS} rounds: {statistics.median(alone):.1f} alone, ", end="")
    print(f"{statistics.median(keeping):.1f} with every image kept; ratio {statistics.median(ratios):.3f}")
    print(f"archive: {archive.state}")


def fidelity(pipeline: Pipeline, frames: list[Frame]) -> None:
    """Print how large an image file is, and how far its logit is from the frame's."""
    plain = [pipeline.predict(frame)[1] for frame in frames]
    for name, encode in (
        ("jpeg 95", lambda i: jpeg(i, 95)),
        ("jpeg 85", lambda i: jpeg(i, 85)),
        ("png", png),
    ):
        contents = [encode(frame.image) for frame in frames]
        again = [
            pipeline.predict(replace(frame, image=decoded(content)))[1]
            for frame, content in zip(frames, contents, strict=True)
        ]
        shifts = [abs(a.pooled - b.pooled) for a, b in zip(plain, again, strict=True)]
        size = statistics.mean(len(content) for content in contents)
        print(f"{name:8} {size:9.0f} bytes; pooled logit off by {np.median(shifts):.3f} (median), ", end="")
        print(f"{max(shifts):.3f} (greatest) of a spread of {np.ptp([p.pooled for p in plain]):.1f}")


def decoded(content: bytes) -> np.ndarray:
    """The bytes of an image file as RGB."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def counting(folder: Path) -> None:
    """Files of one byte: their number is what counts."""
    for number in range(KEPT_IMAGES):
        day = folder / f"{np.datetime64('2026-01-01') + number % KEPT_DAYS}"
        day.mkdir(parents=True, exist_ok=True)
        for suffix in (".jpg", ".json"):
            file = os.open(day / f"{'0' * 32}-{number:08d}{suffix}", os.O_CREAT | os.O_WRONLY)
            os.write(file, b"x")
            os.close(file)
    store = ImageStore(folder, Quotas(10**9, 90, 0))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    store.open()
    elapsed_s = time.perf_counter() - begin
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    print(f"{store.images} images counted in {elapsed_s:.2f} s; peak memory grown by {grown_kb} kB")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bundle", type=Path, default=DEMO / "bundle")
    parser.add_argument("--images", type=Path, default=DEMO / "images")
    options = parser.parse_args()
    pipeline = Pipeline(bundles.load(options.bundle), "benchmark", "b" * 32)
    frames = [frame_from_file(path, seq) for seq, path in enumerate(image_files(options.images))]
    print(f"{options.bundle}, {len(frames)} images of {options.images}, {pipeline.runtime}")
    with tempfile.TemporaryDirectory() as folder:
        counting(Path(folder) / "counted")
        fidelity(pipeline, frames)
        cost(pipeline, frames, Path(folder))


if __name__ == "__main__":
    main()
