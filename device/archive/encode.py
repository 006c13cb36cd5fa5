"""Pixels to the bytes of an image file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from device.image.frame import Pixels

LEAST_SIDE_PX = 32  # below this nothing can be seen, and most of the bytes are the JPEG's own tables
_QUALITIES = (85, 70, 50)
_SHRINK = 0.75
_STRIDE = 16  # px between those that are looked at first


def jpeg(image: Pixels, quality: int) -> bytes:
    """An RGB image (H, W, 3) as a JPEG file; `quality` 1..100."""
    return _encoded(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))


def png(image: Pixels) -> bytes:
    """An RGB image (H, W, 3) as a PNG file, without loss."""
    return _encoded(".png", image, ())


def png_layer(image: Pixels) -> bytes:
    """An image with opacity, RGBA (H, W, 4), as a PNG file: in a tenth of the time that a WebP takes."""
    return _written(".png", cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA), (cv2.IMWRITE_PNG_COMPRESSION, 1))


def thumbnail(image: Pixels, max_bytes: int) -> bytes | None:
    """An RGB image (H, W, 3) as a JPEG of at most `max_bytes`, of the same aspect and as large as fits.

    Nothing is drawn into it: a verdict's `bbox_norm` fits at every size. None where even LEAST_SIDE_PX on the
    greater side would be too much.
    """
    while max(image.shape[:2]) >= LEAST_SIDE_PX:
        for quality in _QUALITIES:
            content = jpeg(image, quality)
            if len(content) <= max_bytes:
                return content
        height, width = image.shape[:2]
        smaller = (max(1, round(width * _SHRINK)), max(1, round(height * _SHRINK)))
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return None


def _encoded(suffix: str, image: Pixels, parameters: Sequence[int]) -> bytes:
    """What has no colour, as from a monochrome camera, with one channel: in half the time, and smaller."""
    gray = _is_gray(image)
    pixels = cv2.extractChannel(image, 0) if gray else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return _written(suffix, pixels, parameters)


def _written(suffix: str, pixels: Any, parameters: Sequence[int]) -> bytes:
    encoded, content = cv2.imencode(suffix, pixels, parameters)
    if not encoded:
        raise ValueError(f"an image of {pixels.shape} cannot be written as {suffix}")
    return content.tobytes()


def _is_gray(image: Pixels) -> bool:
    """Whether the channels are equal; of a coloured image a few pixels tell."""
    few = image[::_STRIDE, ::_STRIDE]
    if (few != few[:, :, :1]).any():
        return False
    red, green, blue = cv2.split(image)
    return np.array_equal(red, green) and np.array_equal(green, blue)
