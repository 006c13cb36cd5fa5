"""Defects made from good images, to choose between ways to see them where there are no real ones.

Cut and paste of another place (CutPaste, Li et al., CVPR 2021), scratches, blobs of noise and stains. They
lie where the image has structure more often than on an empty background, and their strength varies down to
what is hard to see, so that not every way finds all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Shares = NDArray[np.float32]  # (h, w), 0..1: how much of a pixel is defective
Maker = Callable[[NDArray[np.float32], Shares, np.random.Generator], NDArray[np.float32]]

LEAST_CONTRAST = 12.0  # gray levels
STRENGTHS = (0.25, 1.2)  # of the image's contrast
SIDES = (0.02, 0.4)  # of the image's lesser side; every doubling is as likely: no size is favoured
EDGE_SIGMA_PX = 1.5  # of a part, beyond which a defect does not reach
VISIBLE = 0.3  # from this share on a pixel belongs to the mask


def with_defect(
    image: Pixels,
    rng: np.random.Generator,
    part: NDArray[np.bool_] | None = None,
    maker: int | None = None,
) -> tuple[Pixels, NDArray[np.bool_]]:
    """(a copy of the RGB image (h, w, 3) with one defect, its mask (h, w)).

    `part`: (h, w), where the defect lies: dirt on the ground beside a part is none of it. None: anywhere.
    `maker`: the index of the one of MAKERS that makes it; None: any.
    """
    height, width = image.shape[:2]
    side = max(4.0, float(np.exp(rng.uniform(*np.log(SIDES)))) * min(height, width))
    row, column = _place(image, rng) if part is None else _place_on(part, rng)
    drawn = int(rng.integers(len(MAKERS)))
    number = drawn if maker is None else maker
    shape = _line if MAKERS[number] is _scratched else _blob
    shares = shape((height, width), (row, column), side, rng)
    if part is not None:
        shares *= cv2.GaussianBlur(part.astype(np.float32), (0, 0), EDGE_SIGMA_PX)
    changed = MAKERS[number](image.astype(np.float32), shares, rng)
    mixed = image + shares[:, :, np.newaxis] * (changed - image)
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8), shares >= VISIBLE


def _place(image: Pixels, rng: np.random.Generator) -> tuple[int, int]:
    """A pixel, rather where the image has structure."""
    gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)
    edges = np.abs(cv2.Laplacian(cv2.GaussianBlur(gray, (0, 0), 1.5), cv2.CV_32F))
    side = 32
    weights = cv2.resize(cv2.GaussianBlur(edges, (0, 0), 6), (side, side), interpolation=cv2.INTER_AREA)
    weights = np.maximum(weights, 0.02 * weights.max() + 1e-6).ravel().astype(np.float64)
    cell = int(rng.choice(side * side, p=weights / weights.sum()))
    height, width = gray.shape
    row = (cell // side + rng.uniform()) * height / side
    column = (cell % side + rng.uniform()) * width / side
    return min(int(row), height - 1), min(int(column), width - 1)


def _place_on(part: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    pixels = np.flatnonzero(part)
    row, column = divmod(int(pixels[rng.integers(len(pixels))]), part.shape[1])
    return row, column


# ---- shapes


def _blob(size: tuple[int, int], centre: tuple[int, int], side: float, rng: np.random.Generator) -> Shares:
    """An ellipse with a soft, uneven edge."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    angle, ratio = rng.uniform(0, np.pi), rng.uniform(1.0, 3.0)
    down, right = rows - centre[0], columns - centre[1]
    along = (right * np.cos(angle) + down * np.sin(angle)) / (side / 2 * np.sqrt(ratio))
    across = (down * np.cos(angle) - right * np.sin(angle)) / (side / 2 / np.sqrt(ratio))
    uneven = _noise(size, max(1.0, side / 4), rng) * 0.3
    return np.asarray(np.clip(2.0 * (1.25 - np.hypot(along, across) + uneven), 0, 1), np.float32)


def _line(size: tuple[int, int], centre: tuple[int, int], side: float, rng: np.random.Generator) -> Shares:
    """A bent line, some times as long as a blob is wide."""
    length, angle = side * rng.uniform(1.0, 3.0), rng.uniform(0, 2 * np.pi)
    steps = np.linspace(-0.5, 0.5, 12)
    bend = rng.uniform(-0.6, 0.6) * steps**2 + rng.normal(0, 0.02, 12)
    right = centre[1] + length * (steps * np.cos(angle) - bend * np.sin(angle))
    down = centre[0] + length * (steps * np.sin(angle) + bend * np.cos(angle))
    points = np.round(np.stack([right, down], 1)).astype(np.int32)
    canvas = np.zeros(size, np.uint8)
    thickness = max(1, round(side * rng.uniform(0.03, 0.15)))
    cv2.polylines(canvas, [points.reshape(-1, 1, 2)], False, (255,), thickness, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(canvas, (3, 3), 0), np.float32) / np.float32(255)


def _noise(size: tuple[int, int], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Of unit deviation, correlated over about sigma px."""
    small = (max(2, round(size[1] / sigma)), max(2, round(size[0] / sigma)))
    coarse = rng.standard_normal((small[1], small[0])).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float32)


# ---- what is within the shape


def _strength(image: NDArray[np.float32], rng: np.random.Generator) -> float:
    """Gray levels, brighter or darker."""
    contrast = max(float(image.std()), LEAST_CONTRAST)
    return float(rng.choice((-1, 1)) * rng.uniform(*STRENGTHS) * contrast)


def _scratched(image: NDArray[np.float32], shares: Shares, rng: np.random.Generator) -> NDArray[np.float32]:
    return image + np.float32(2 * _strength(image, rng))


def _stained(image: NDArray[np.float32], shares: Shares, rng: np.random.Generator) -> NDArray[np.float32]:
    return image + np.float32(_strength(image, rng))


def _noisy(image: NDArray[np.float32], shares: Shares, rng: np.random.Generator) -> NDArray[np.float32]:
    sigma = float(rng.uniform(1.0, 5.0))
    noise = _noise((shares.shape[0], shares.shape[1]), sigma, rng)
    return np.asarray(image + np.float32(_strength(image, rng)) * noise[:, :, np.newaxis], np.float32)


def _pasted(image: NDArray[np.float32], shares: Shares, rng: np.random.Generator) -> NDArray[np.float32]:
    """Another place of the same image, turned about."""
    height, width = shares.shape
    angle = float(rng.uniform(20, 340))
    turn = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0), np.float64)
    turn[:, 2] += rng.uniform(-0.15, 0.15, 2) * (width, height)
    return np.asarray(cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT), np.float32)


MAKERS: tuple[Maker, ...] = (_scratched, _stained, _noisy, _pasted)
