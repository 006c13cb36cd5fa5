"""Images and masks at another size, so that nothing thin is lost."""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from device.geometry import Size

Level = TypeVar("Level", np.uint8, np.float32)


def resized(image: NDArray[Level], size: Size) -> NDArray[Level]:
    """(h, w) or (h, w, 3) at the size: area averages where it shrinks, bilinear where it grows.

    One after the other where a stretch does both, for then OpenCV's INTER_AREA would skip pixels.
    """
    height, width = image.shape[:2]
    found: Any = image
    smaller = (min(width, size.width), min(height, size.height))
    if smaller != (width, height):
        found = cv2.resize(found, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (size.width, size.height):
        found = cv2.resize(found, (size.width, size.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(found, image.dtype)
