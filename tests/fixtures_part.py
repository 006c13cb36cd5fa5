"""A part with holes and a keyway as a camera sees it: never quite in the same place and light."""

from __future__ import annotations

import cv2
import numpy as np

MARGIN = 64  # px around, so that a shift shows something


def shot(
    right: float = 0.0,
    down: float = 0.0,
    *,
    side: int = 256,
    gain: float = 1.0,
    noise: float = 2.0,
    seed: int = 0,
    spot: tuple[int, int] | None = None,
) -> np.ndarray:
    """(side, side) gray; `spot`: the middle of a small dark defect, where the part has it unshifted."""
    drawn = _part(side)
    if spot is not None:
        cv2.circle(drawn, (spot[0] + MARGIN, spot[1] + MARGIN), max(3, side // 40), (30,), -1)
    move = np.array([[1, 0, right - MARGIN], [0, 1, down - MARGIN]], np.float32)
    image = cv2.warpAffine(drawn, move, (side, side)).astype(np.float32) * gain
    image += np.random.default_rng(seed).normal(0, noise, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def _part(side: int) -> np.ndarray:
    image = np.full((side + 2 * MARGIN, side + 2 * MARGIN), 90, np.uint8)
    middle = side // 2 + MARGIN
    cv2.circle(image, (middle, middle), side // 3, (170,), -1)
    cv2.circle(image, (middle, middle), side // 8, (60,), -1)
    for angle in np.arange(6) * np.pi / 3:
        hole = (middle + round(side / 4 * np.cos(angle)), middle + round(side / 4 * np.sin(angle)))
        cv2.circle(image, hole, side // 28, (110,), -1)
    top = middle - side // 3
    cv2.rectangle(image, (middle - side // 25, top - side // 16), (middle + side // 25, top + 2), (200,), -1)
    return cv2.GaussianBlur(image, (0, 0), 1)


def shots(count: int, *, side: int = 256, most: float = 5.0, seed: int = 0) -> list[np.ndarray]:
    """Good ones, shifted by up to `most` px, in changing light."""
    rng = np.random.default_rng(seed)
    return [
        shot(*rng.uniform(-most, most, 2), side=side, gain=rng.uniform(0.85, 1.15), seed=seed + index)
        for index in range(count)
    ]
