"""Colour photographs of a drilled plate, generated: good ones, and ones with a scratch, a stain or a chip.

    python benchmarks/parts.py --out DIR [--good N] [--bad N] [--seed N]

The plate lies a little moved and turned on a bench, in light that varies; photographs are of two sizes, and
some are turned by their EXIF tag. DIR receives photos/good and photos/bad (`trainer.fit --data DIR/photos`),
truth/ (masks, which nothing is taught by) and parts.csv, a manifest of the same without masks and without a
split.

Exit codes: 0 done, 2 wrong command line, 9 cannot write.
"""

from __future__ import annotations

import argparse
import csv
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZES = ((800, 600), (640, 480))  # width, height, px
TURNED_EVERY = 7  # photographs: one is stored on its side, with the tag that says so
HOLES = ((0.16, 0.2), (0.84, 0.2), (0.16, 0.8), (0.84, 0.8), (0.5, 0.5), (0.5, 0.24))  # shares of the plate
DEFECTS = ("scratch", "stain", "chip")

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def photograph(defect: str | None, size: tuple[int, int], rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """(RGB image (h, w, 3), mask (h, w) of 0 and 255)."""
    width, height = size
    bench = np.float32([118, 104, 92]) + _grain(rng, size, 2.5)[:, :, np.newaxis] * np.float32([4, 4, 5])
    plate = np.float32([92, 128, 158]) + _grain(rng, size, 1.2)[:, :, np.newaxis] * np.float32([5, 5, 4])
    outline, drilled = _shapes(size)
    image = _mixed(bench, plate, outline)
    image = _mixed(image, np.full_like(image, 28), drilled)
    ring = cv2.dilate(drilled, np.ones((7, 7), np.uint8)) - drilled
    image = _mixed(image, image * np.float32(1.35), ring)
    mask = np.zeros((height, width), np.float32)
    if defect is not None:
        image, mask = _damaged(image, defect, outline, drilled, rng)
    move = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-2, 2), 1.0)
    move[:, 2] += rng.uniform(-0.012, 0.012, 2) * width
    image = cv2.warpAffine(image, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    mask = cv2.warpAffine(mask, move, size)
    lit = image * _light(rng, size)[:, :, np.newaxis] + rng.normal(0, 2.0, image.shape)
    return np.clip(np.round(lit), 0, 255).astype(np.uint8), (mask > 0.35).astype(np.uint8) * np.uint8(255)


def _grain(rng: np.random.Generator, size: tuple[int, int], sigma: float) -> Floats:
    noise = cv2.GaussianBlur(rng.standard_normal(size[::-1]).astype(np.float32), (0, 0), sigma)
    return np.asarray(noise / noise.std(), np.float32)


def _light(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    across = np.linspace(-1, 1, size[0], dtype=np.float32)
    down = np.linspace(-1, 1, size[1], dtype=np.float32)[:, np.newaxis]
    slopes = rng.uniform(-0.06, 0.06, 2)
    return np.asarray(rng.uniform(0.93, 1.07) + slopes[0] * across + slopes[1] * down, np.float32)


def _shapes(size: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """(the plate's outline, its holes), each (h, w) of 0 and 1."""
    width, height = size
    left, top, right, bottom = (int(v) for v in (0.1 * width, 0.12 * height, 0.9 * width, 0.88 * height))
    outline = np.zeros((height, width), np.uint8)
    cv2.rectangle(outline, (left, top), (right, bottom), (1,), cv2.FILLED)
    drilled = np.zeros_like(outline)
    for x, y in HOLES:
        centre = (int(left + x * (right - left)), int(top + y * (bottom - top)))
        cv2.circle(drilled, centre, round(0.033 * height), (1,), cv2.FILLED)
    return outline, drilled


def _mixed(under: Floats, over: Floats, shares: Pixels | Floats) -> Floats:
    soft = cv2.GaussianBlur(shares.astype(np.float32), (0, 0), 0.8)[:, :, np.newaxis]
    return np.asarray(under + soft * (over - under), np.float32)


def _damaged(
    image: Floats, kind: str, outline: Pixels, drilled: Pixels, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """The image with a defect on the plate, clear of the holes, and how much of each pixel it covers."""
    height, width = outline.shape
    inside = cv2.erode(outline, np.ones((31, 31), np.uint8))
    places = np.argwhere(inside > cv2.dilate(drilled, np.ones((41, 41), np.uint8)))
    y, x = places[rng.integers(len(places))]
    shares = np.zeros((height, width), np.float32)
    scale = height / 600
    if kind == "scratch":
        angle, length = rng.uniform(0, np.pi), rng.uniform(35, 80) * scale
        step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        ends = [tuple(int(v) for v in np.array([x, y]) + sign * step) for sign in (-1, 1)]
        cv2.line(shares, ends[0], ends[1], (1.0,), max(2, round(3 * scale)), cv2.LINE_AA)
        return _mixed(image, np.full_like(image, 214), shares * outline), shares * outline
    axes = tuple(int(v * scale) for v in rng.uniform(11, 26, 2))
    cv2.ellipse(shares, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, (1.0,), cv2.FILLED)
    shares *= outline * np.float32(1.0)
    if kind == "stain":
        return _mixed(image, image * np.float32([0.95, 0.68, 0.5]), shares), shares
    return _mixed(image, image * np.float32(0.62) + np.float32(70), shares), shares


def write(out: Path, good: int, bad: int, seed: int) -> None:
    """All photographs, their masks and the manifest. Raises OSError."""
    for word in ("good", "bad"):
        (out / "photos" / word).mkdir(parents=True)
    (out / "truth").mkdir()
    with (out / "parts.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("path", "label"))
        for number in range(good + bad):
            rng = np.random.default_rng((seed, number))
            defect = DEFECTS[number % len(DEFECTS)] if number >= good else None
            image, mask = photograph(defect, SIZES[number % len(SIZES)], rng)
            name = f"{number:04d}-{defect or 'good'}"
            _, jpeg = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
            content = jpeg.tobytes()
            if number % TURNED_EVERY == 0:
                _, jpeg = cv2.imencode(".jpg", np.rot90(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 92])
                content = _tagged(jpeg.tobytes())
            photo = f"photos/{'bad' if defect else 'good'}/{name}.jpg"
            (out / photo).write_bytes(content)
            cv2.imwrite(str(out / "truth" / f"{name}.png"), mask)
            rows.writerow((photo, int(defect is not None)))


def _tagged(jpeg: bytes) -> bytes:
    """With the EXIF tag that a viewer has to turn it by 90 degrees clockwise (orientation 6)."""
    entry = struct.pack(">HHHIHH", 1, 0x0112, 3, 1, 6, 0)
    tiff = b"MM" + struct.pack(">HI", 42, 8) + entry + struct.pack(">I", 0)
    segment = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Colour photographs of a drilled plate, generated.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--good", type=int, default=80, metavar="N", help="default 80")
    parser.add_argument("--bad", type=int, default=40, metavar="N", help="default 40")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    options = parser.parse_args(arguments)
    try:
        write(options.out, options.good, options.bad, options.seed)
    except OSError as error:
        print(f"error: {options.out}: cannot write: {error}", file=sys.stderr)
        return 9
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
