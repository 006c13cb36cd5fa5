"""What reading a data set costs beside decoding its images: no more than a third of it.

    python -m benchmarks.reading [--images 2000] [--side 512]

Writes so many images, PNG and JPEG, into good/ and bad/ of a temporary folder, and times what reads a data
set against decoding the same files in as many threads; the best of three turns each. Two CPU cores, two
minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from trainer.data.dataset import DECODERS, load

TURNS = 3


def write(folder: Path, count: int, side: int) -> None:
    """Photographs of noise, blurred so that they compress as photographs do."""
    rng = np.random.default_rng(0)
    for number in range(count):
        part = folder / ("good" if number % 2 else "bad")
        part.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        image = cv2.GaussianBlur(noise, (0, 0), 2.0)
        cv2.imwrite(str(part / f"{number:05d}{('.png', '.jpg')[number // 2 % 2]}"), image)


def decode(paths: list[Path]) -> None:
    """Read and decode every file, and nothing else."""
    with ThreadPoolExecutor(DECODERS) as pool:
        deque(pool.map(lambda path: cv2.imread(str(path)), paths), maxlen=0)


def best_s(work: Callable[[], object]) -> float:
    """The shortest of TURNS turns."""
    took = []
    for _ in range(TURNS):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return min(took)


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.images, options.side)
        paths = sorted(folder.rglob("*.*g"))
        decoding, reading = best_s(lambda: decode(paths)), best_s(lambda: load(folder, protocol="given"))
    print(f"{options.images} images of {options.side}x{options.side} px: decoding {decoding:.1f} s, ", end="")
    print(f"reading {reading:.1f} s, {reading / decoding:.2f} times as long")


if __name__ == "__main__":
    main()
