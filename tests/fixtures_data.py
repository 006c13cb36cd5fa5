"""Small data sets in each layout, made of real image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SIDE = 24


def write_image(path: Path, seed: int, *, defective: bool = False, side: int = SIDE) -> Path:
    """Gray noise, a bright square in it where defective; the bytes differ from seed to seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(90, 110, (side, side), dtype=np.uint8)
    if defective:
        image[8:14, 8:14] = 220
    assert cv2.imwrite(str(path), image)
    return path


def write_mask(path: Path, *, marked: int = 6, side: int = SIDE, value: int = 255) -> Path:
    """A mask with a square of marked x marked px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((side, side), np.uint8)
    mask[8 : 8 + marked, 8 : 8 + marked] = value
    assert cv2.imwrite(str(path), mask)
    return path


def make_dagm(root: Path, *, good: int = 4, defective: int = 3, seed: int = 0) -> Path:
    """One DAGM class folder, so many of each in Train and in Test."""
    for part, base in (("Train", seed), ("Test", seed + 500)):
        folder = root / part
        lines = ["1"]
        for number in range(1, good + defective + 1):
            bad = number <= defective
            write_image(folder / f"{number:04d}.PNG", base + number, defective=bad)
            if bad:
                write_mask(folder / "Label" / f"{number:04d}_label.PNG")
            (folder / "Label").mkdir(exist_ok=True)
            mask = f"{number:04d}_label.PNG" if bad else "0\t"
            lines.append(f"{number}\t{int(bad)}\t{number:04d}.PNG\t0\t{mask}")
        (folder / "Label" / "Labels.txt").write_text("\n".join(lines) + "\n")
    return root


def make_mvtec(root: Path, *, kinds: Sequence[str] = ("bent", "crack"), seed: int = 0) -> Path:
    """One MVTec category: 8 train/good, 4 test/good, 4 of each kind with masks."""
    for number in range(8):
        write_image(root / "train" / "good" / f"{number:03d}.png", seed + number)
    for number in range(4):
        write_image(root / "test" / "good" / f"{number:03d}.png", seed + 100 + number)
        for index, kind in enumerate(kinds, start=2):
            write_image(
                root / "test" / kind / f"{number:03d}.png", seed + 100 * index + number, defective=True
            )
            write_mask(root / "ground_truth" / kind / f"{number:03d}_mask.png")
    return root


def make_manifest(folder: Path, rows: Sequence[str], *, images: int = 12) -> Path:
    """manifest.csv of the given rows (header included) beside images/NN.png (the last third defective)."""
    for number in range(images):
        write_image(folder / "images" / f"{number:02d}.png", number, defective=number >= images * 2 // 3)
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest
