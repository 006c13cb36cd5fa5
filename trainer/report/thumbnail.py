"""Small pictures of judged images for a report: boxes on the left, a map as heat on the right."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.image.geometry import Box
from device.inspection.annotate import heat_map

QUALITY = 80
FOUND, TRUTH = (235, 60, 30), (40, 190, 90)  # RGB of the device's boxes and of the mask's outline
GAP_PX = 4

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A JPEG in base64, and its size in px."""

    encoded: str
    width: int
    height: int


def side_by_side(
    image: Pixels, maps: Sequence[Map], boxes: Sequence[Box], mask: NDArray[np.bool_] | None, side_px: int
) -> Thumbnail:
    """The image (H, W, 3) with its boxes and the outline of its mask, then under each map (H, W), logits."""
    scale = min(1.0, side_px / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = _resized(image, size)
    first = small.copy()
    if mask is not None and mask.any():
        outlined, _ = cv2.findContours(
            _resized(mask.astype(np.uint8), size), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(first, outlined, -1, TRUTH, 1)
    for box in boxes:
        corner = (round(box.x * scale) - 1, round(box.y * scale) - 1)
        opposite = (round((box.x + box.width) * scale), round((box.y + box.height) * scale))
        cv2.rectangle(first, corner, opposite, FOUND, 1)
    heats = [heat_map(small, np.asarray(_resized(values, size), np.float32)) for values in maps]
    gap = np.full((size[1], GAP_PX, 3), 255, np.uint8)
    parts = [first]
    for heat in heats:
        parts += [gap, heat]
    joined = np.concatenate(parts, axis=1)
    jpeg = cv2.imencode(".jpg", joined[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return Thumbnail(base64.b64encode(jpeg.tobytes()).decode(), joined.shape[1], joined.shape[0])


def as_logits(values: Map) -> Map:
    """A map of any scale >= 0, such that its greatest value is the hottest."""
    share = np.clip(values / max(float(values.max()), 1e-12), 1e-3, 1 - 1e-3)
    return np.asarray(np.log(share / (1 - share)), np.float32)


def _resized(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    smaller = size[0] < values.shape[1]
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
