"""Images and masks at another size, so that nothing thin is lost."""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from device.image.geometry import Size

STRIPS = 4  # the most channels that INTER_AREA takes

Level = TypeVar("Level", np.uint8, np.float32)


def resized(image: NDArray[Level], size: Size) -> NDArray[Level]:
    """(h, w) or (h, w, 3) at the size: area averages where it shrinks, bilinear where it grows.

    One after the other where a stretch does both, for then OpenCV's INTER_AREA would skip pixels.
    """
    height, width = image.shape[:2]
    found: Any = image
    smaller = (min(width, size.width), min(height, size.height))
    if smaller != (width, height):
        found = _shrunk(found, *smaller)
    if smaller != (size.width, size.height):
        found = cv2.resize(found, (size.width, size.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(found, image.dtype)


def _shrunk(image: Any, width: int, height: int) -> Any:
    """INTER_AREA. A gray image in four strips, one beside the other as the channels of one.

    OpenCV spends little more time on a pixel of four channels than on one of one. Each channel's sums are
    those of its strip; strips that begin at a whole row on both sides have the sums of the whole.
    """
    rows, columns = image.shape[:2]
    whole_steps = rows % height == 0 and columns % width == 0  # for which OpenCV has a faster way
    if image.ndim == 3 or image.dtype != np.uint8 or rows % STRIPS or height % STRIPS or whole_steps:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    step, small_step = rows // STRIPS, height // STRIPS
    strips = cv2.merge([image[top : top + step] for top in range(0, rows, step)])
    small = cv2.resize(strips, (width, small_step), interpolation=cv2.INTER_AREA)
    found = np.empty((height, width), np.uint8)
    cv2.split(small, [found[top : top + small_step] for top in range(0, height, small_step)])
    return found
