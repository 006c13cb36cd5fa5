"""A fixture of the line that stands still before the camera, with a part in it."""

from __future__ import annotations

import cv2
import numpy as np

WIDTH, HEIGHT = 640, 480


def scene(seed: int, shift: tuple[int, int] = (0, 0), turn: float = 0.0) -> np.ndarray:
    """A fixture that stands still, with a part in it that lies a little different each time, and noise."""
    draw = np.random.default_rng(7)
    canvas = np.full((HEIGHT + 200, WIDTH + 200, 3), 90, np.uint8)
    for _ in range(60):
        x, y = int(draw.integers(0, WIDTH + 150)), int(draw.integers(0, HEIGHT + 150))
        level = int(draw.integers(20, 230))
        cv2.rectangle(canvas, (x, y), (x + 50, y + 30), (level, level, level), -1)
    random = np.random.default_rng(seed)
    x, y = (int(value) for value in random.integers(-6, 6, 2))
    cv2.circle(canvas, (420 + x, 340 + y), 35, (200, 190, 180), -1)
    if turn:
        matrix = cv2.getRotationMatrix2D((150, 150), turn, 1.0)
        canvas = cv2.warpAffine(canvas, matrix, (WIDTH + 200, HEIGHT + 200))
    dx, dy = shift
    image = canvas[100 + dy : 100 + dy + HEIGHT, 100 + dx : 100 + dx + WIDTH].astype(np.int16)
    return np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def spotted(image: np.ndarray, left: int = 120, keeps: float = 0.8) -> np.ndarray:
    """The same through a lens with a soft spot on it, which lets `keeps` of the light through."""
    light = np.ones(image.shape[:2], np.float32)
    cv2.circle(light, (left, 200), 40, (keeps,), cv2.FILLED)
    return (image * cv2.GaussianBlur(light, (0, 0), 10)[:, :, np.newaxis]).astype(np.uint8)
