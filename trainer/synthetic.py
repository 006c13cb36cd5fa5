"""A generated data set in DAGM's layout, to try the trainer and the device without any image of one's own.

    python -m trainer.synthetic --out DIR [--images N] [--size PX] [--seed N] [--defective-share R]

Each class is one texture (cloud, brushed, weave, speckle); its defects are of five kinds (scratch, stain,
dent, bald, crack) with masks of the changed pixels. Base gray, contrast and lighting vary from image to image
by more than a defect changes them, so an image's mean or variance does not tell good from defective. The same
arguments give the same bytes with the same numpy and OpenCV.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from math import floor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.errors import EdgeVisionError, StorageError

log = logging.getLogger(__name__)

FloatImage = NDArray[np.float32]
GrayImage = NDArray[np.uint8]

LEAST_IMAGES = 4  # of a texture, so that Train and Test both have some
REFERENCE_PX = 256  # lengths below are for this image size and scale with it
BASE_GRAY = (105.0, 150.0)
CONTRAST = (8.0, 13.0)  # gray levels in one standard deviation of the texture
LIGHT_GRAY = 10.0  # lighting differs by up to this from the centre to an edge
MASK_MARGIN_PX = 2  # a mask reaches this far beyond the pixels that the defect changed
MASK_CLOSING_PX = 11  # and has no gaps narrower than this: a dent's middle is as dented as its flanks


# ---- textures: zero mean, unit deviation, float32 (size, size)


def _cloud(rng: np.random.Generator, size: int) -> FloatImage:
    """Correlated noise at two scales, like cast metal."""
    return _unit(_noise(rng, size, 2.2, 2.2) + 0.6 * _noise(rng, size, 9.0, 9.0))


def _brushed(rng: np.random.Generator, size: int) -> FloatImage:
    """A vertical grain, like ground steel."""
    return _unit(_noise(rng, size, 1.0, 24.0) + 0.4 * _noise(rng, size, 4.0, 60.0))


def _weave(rng: np.random.Generator, size: int) -> FloatImage:
    """Two crossing threads with a little noise, like cloth. The period stays, the phase and angle wander."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    angle, period = rng.uniform(-0.04, 0.04), 10.0 * size / REFERENCE_PX
    phase_x, phase_y = rng.uniform(0, 2 * np.pi, 2)
    across = np.sin(2 * np.pi * (x + angle * y) / period + phase_x)
    along = np.sin(2 * np.pi * (y - angle * x) / period + phase_y)
    return _unit(_unit(across * along + 0.5 * (across + along)) + 0.35 * _noise(rng, size, 1.6, 1.6))


def _speckle(rng: np.random.Generator, size: int) -> FloatImage:
    """Scattered grains on a quiet ground, like terrazzo."""
    grains = np.maximum(_noise(rng, size, 1.8, 1.8) - 0.9, 0.0)
    return _unit(_unit(grains) + 0.4 * _noise(rng, size, 6.0, 6.0))


def _noise(rng: np.random.Generator, size: int, sigma_x: float, sigma_y: float) -> FloatImage:
    """Gaussian noise of unit deviation, correlated over about sigma (px at the reference size)."""
    scale = size / REFERENCE_PX
    white = rng.standard_normal((size, size), dtype=np.float32)
    blurred = cv2.GaussianBlur(
        white, (0, 0), sigmaX=sigma_x * scale, sigmaY=sigma_y * scale, borderType=cv2.BORDER_REFLECT
    )
    return _unit(np.asarray(blurred, dtype=np.float32))


def _unit(texture: NDArray[np.floating[Any]]) -> FloatImage:
    return np.asarray((texture - texture.mean()) / texture.std(), dtype=np.float32)


TEXTURES: dict[str, Callable[[np.random.Generator, int], FloatImage]] = {
    "cloud": _cloud,
    "brushed": _brushed,
    "weave": _weave,
    "speckle": _speckle,
}


# ---- defects: texture -> texture with the defect, in deviations of the texture


def _scratch(rng: np.random.Generator, texture: FloatImage) -> FloatImage:
    """A thin, slightly bent line, brighter or darker than its ground."""
    scale = texture.shape[0] / REFERENCE_PX
    start, angle = _place(rng, texture), rng.uniform(0, np.pi)
    steps = np.linspace(-0.5, 0.5, 24) * rng.uniform(50, 110) * scale
    bend = rng.uniform(-0.002, 0.002) * steps**2 / scale
    direction, normal = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    points = start + steps[:, None] * direction + bend[:, None] * normal
    line = _stroke(texture.shape, [points], rng.uniform(1.6, 3.0) * scale)
    return texture + _sign(rng) * rng.uniform(2.2, 3.6) * line


def _stain(rng: np.random.Generator, texture: FloatImage) -> FloatImage:
    """A soft, uneven spot that leaves the texture visible."""
    ripple = 0.35 * _noise(rng, texture.shape[0], 7.0, 7.0)
    return texture + _sign(rng) * rng.uniform(2.0, 2.8) * _inside(_distance(rng, texture, 9, 20) + ripple, 9)


def _dent(rng: np.random.Generator, texture: FloatImage) -> FloatImage:
    """A hollow under slanting light: bright on one side, dark on the other, nothing on average."""
    size = texture.shape[0]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    centre, radius = _place(rng, texture), rng.uniform(7, 13) * size / REFERENCE_PX
    angle = rng.uniform(0, 2 * np.pi)
    dx, dy = (x - centre[0]) / radius, (y - centre[1]) / radius
    shade = (dx * np.cos(angle) + dy * np.sin(angle)) * np.exp(0.5 - 0.5 * (dx**2 + dy**2))
    return np.asarray(texture + rng.uniform(2.0, 3.2) * shade, dtype=np.float32)


def _bald(rng: np.random.Generator, texture: FloatImage) -> FloatImage:
    """A spot where the texture is worn off; it shines a little more or less than its ground."""
    worn = _inside(_distance(rng, texture, 13, 24), 12)
    shine = _sign(rng) * rng.uniform(0.9, 1.5) * worn
    return np.asarray(texture * (1.0 - rng.uniform(0.85, 1.0) * worn) + shine, dtype=np.float32)


def _crack(rng: np.random.Generator, texture: FloatImage) -> FloatImage:
    """A dark, jagged line with a branch."""
    scale = texture.shape[0] / REFERENCE_PX
    trunk = _walk(rng, _place(rng, texture), rng.uniform(0, 2 * np.pi), 14, scale)
    branch = _walk(rng, trunk[int(rng.integers(4, 9))], rng.uniform(0, 2 * np.pi), 6, scale)
    line = _stroke(texture.shape, [trunk, branch], rng.uniform(1.3, 2.2) * scale)
    return texture - rng.uniform(2.6, 4.0) * line


DEFECTS: dict[str, Callable[[np.random.Generator, FloatImage], FloatImage]] = {
    "scratch": _scratch,
    "stain": _stain,
    "dent": _dent,
    "bald": _bald,
    "crack": _crack,
}


def _place(rng: np.random.Generator, texture: FloatImage) -> NDArray[np.float64]:
    """A point (x, y) in px, away from the border by an eighth of the image."""
    return np.asarray(rng.uniform(0.125, 0.875, 2) * texture.shape[0])


def _sign(rng: np.random.Generator) -> float:
    return float(rng.choice((-1.0, 1.0)))


def _distance(rng: np.random.Generator, texture: FloatImage, low: float, high: float) -> FloatImage:
    """Distance from the centre of a random ellipse, 1 on its edge; half axes of low..high reference px."""
    size = texture.shape[0]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    centre, angle = _place(rng, texture), rng.uniform(0, np.pi)
    a, b = rng.uniform(low, high, 2) * size / REFERENCE_PX
    dx, dy = x - centre[0], y - centre[1]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    return np.asarray(np.hypot(along / a, across / b), dtype=np.float32)


def _inside(distance: FloatImage, steepness: float) -> FloatImage:
    """1 inside (distance 0), 0 outside, a half where the distance is 1."""
    return np.asarray(0.5 - 0.5 * np.tanh(0.5 * steepness * (distance - 1.0)), dtype=np.float32)


def _walk(
    rng: np.random.Generator, start: NDArray[np.float64], angle: float, steps: int, scale: float
) -> NDArray[np.float64]:
    """Points (steps, 2) of a jagged path that keeps its direction more or less."""
    turns = angle + np.cumsum(rng.normal(0, 0.25, steps)) + rng.normal(0, 0.5, steps)
    strides = rng.uniform(3, 7, steps)[:, None] * scale * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return np.asarray(start + np.cumsum(strides, axis=0))


def _stroke(shape: tuple[int, ...], paths: Sequence[NDArray[np.float64]], width_px: float) -> FloatImage:
    """Lines drawn soft-edged, 0..1; drawn four times too large, because OpenCV's lines have whole widths."""
    fine = 4
    canvas = np.zeros((shape[0] * fine, shape[1] * fine), dtype=np.uint8)
    points = [np.round(path * fine).astype(np.int32) for path in paths]
    cv2.polylines(canvas, points, False, (255,), thickness=max(1, round(width_px * fine)))
    small = cv2.resize(canvas, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 0.6), dtype=np.float32) / np.float32(255)


# ---- images


def render(
    texture: str, defect: str | None, size: int, rng: np.random.Generator
) -> tuple[GrayImage, GrayImage]:
    """(image, mask), both uint8 (size, size); the mask is 0 or 255, all 0 where there is no defect."""
    good = TEXTURES[texture](rng, size)
    light = _light(rng, size)
    contrast = rng.uniform(*CONTRAST)
    shown = good if defect is None else DEFECTS[defect](rng, good)
    image = np.clip(np.round(light + contrast * shown), 0, 255).astype(np.uint8)
    return image, _mask(np.abs(shown - good) > 0.5)


def _mask(changed: NDArray[np.bool_]) -> GrayImage:
    closing = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (MASK_CLOSING_PX, MASK_CLOSING_PX))
    margin = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * MASK_MARGIN_PX + 1, 2 * MASK_MARGIN_PX + 1))
    whole = cv2.morphologyEx(changed.astype(np.uint8) * np.uint8(255), cv2.MORPH_CLOSE, closing)
    return np.asarray(cv2.dilate(whole, margin), dtype=np.uint8)


def _light(rng: np.random.Generator, size: int) -> FloatImage:
    """Gray under the texture: a base and a slope across the image."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    slope_x, slope_y = rng.uniform(-LIGHT_GRAY, LIGHT_GRAY, 2)
    return np.asarray(rng.uniform(*BASE_GRAY) + slope_x * x + slope_y * y, dtype=np.float32)


def generate(
    out: Path,
    *,
    images: int = 200,
    size: int = REFERENCE_PX,
    seed: int = 0,
    defective_share: float = 0.3,
    textures: Sequence[str] = tuple(TEXTURES),
) -> None:
    """Write `images` images, divided among Class1, Class2... (one a texture), every other one to Test.

    Nothing is left behind where writing fails. Raises StorageError where `out` is not empty or not writable.
    """
    if out.exists() and any(out.iterdir()):
        raise StorageError(f"{out}: must be a new or empty folder, found files in it")
    try:
        for index, texture in enumerate(textures):
            share = images * (index + 1) // len(textures) - images * index // len(textures)
            _write_class(out / f"Class{index + 1}", texture, share, size, (seed, index), defective_share)
    except OSError as error:
        for folder in out.glob("Class*"):
            shutil.rmtree(folder, ignore_errors=True)
        raise StorageError(f"{out}: cannot write: {error}") from error


def _write_class(
    folder: Path, texture: str, images: int, size: int, seeds: tuple[int, int], defective_share: float
) -> None:
    parts = (folder / "Train", folder / "Test")
    lines: dict[Path, list[str]] = {part: ["1"] for part in parts}
    for part in parts:
        (part / "Label").mkdir(parents=True)
    made = {True: 0, False: 0}
    for number in range(images):
        defective = floor((number + 1) * defective_share + 0.5) > floor(number * defective_share + 0.5)
        part = parts[made[defective] % 2]  # both parts get the same share of defects
        kind = list(DEFECTS)[(made[True] // 2 + seeds[1]) % len(DEFECTS)] if defective else None
        made[defective] += 1
        image, mask = render(texture, kind, size, np.random.default_rng((*seeds, number)))
        stem = f"{number + 1:04d}"
        _write_png(part / f"{stem}.PNG", image)
        if defective:
            _write_png(part / "Label" / f"{stem}_label.PNG", mask)
        mask_name = f"{stem}_label.PNG" if defective else "0"
        lines[part].append(f"{number + 1}\t{int(defective)}\t{stem}.PNG\t0\t{mask_name}")
    for part, rows in lines.items():
        (part / "Label" / "Labels.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _write_png(path: Path, image: GrayImage) -> None:
    _, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])  # 8-bit gray always encodes
    path.write_bytes(encoded.tobytes())


# ---- command line


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.synthetic",
        description="Generate textures with and without defects, in DAGM's layout.",
        epilog="exit codes: 0 done, 2 wrong command line, 9 cannot write",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--images", type=_count, default=200, metavar="N", help="in all (default 200)")
    parser.add_argument("--size", type=_pixels, default=REFERENCE_PX, metavar="PX", help="default 256")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="default 0")
    parser.add_argument("--defective-share", type=_share, default=0.3, metavar="R", help="default 0.3")
    parser.add_argument(
        "--textures",
        nargs="+",
        choices=tuple(TEXTURES),
        default=tuple(TEXTURES),
        help="one class is made of each (default all)",
    )
    options = parser.parse_args(arguments)
    least = LEAST_IMAGES * len(options.textures)
    if options.images < least:
        parser.error(f"argument --images: {len(options.textures)} textures need {least} or more")
    return options


def _count(text: str) -> int:
    return _within(text, 1, 1_000_000)


def _pixels(text: str) -> int:
    return _within(text, 32, 4096)


def _seed(text: str) -> int:
    return _within(text, 0, 2**32 - 1)


def _within(text: str, low: int, high: int) -> int:
    value = int(text)
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"must be {low}..{high}, got {value}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"must be 0..1, got {value}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parse(arguments)
    try:
        generate(
            options.out,
            images=options.images,
            size=options.size,
            seed=options.seed,
            defective_share=options.defective_share,
            textures=options.textures,
        )
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
