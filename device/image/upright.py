"""Parts that lie at any angle on a plain ground: turned before the model sees them, and its maps turned back.

A memory of a part at every angle has few rows for each of them. The axis is that of the second moments of
what differs from the level of the border; the wider end comes to the left, the centre of gravity to the
middle. Where no single, long part is found, as in a frame without one, nothing is turned: it looks strange.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.image.geometry import Size
from device.image.resize import resized

SEEN_PX = 256  # the image's lesser side when the part is looked for: its axis needs no more
SMOOTH_SHARE = 0.003  # of the image's lesser side: the Gaussian before levels are compared
CLOSED_SHARE = 0.025  # of it: gaps in the part as wide as that are closed
AREAS = (0.005, 0.5)  # of the image: a part is neither smaller nor larger
LEAST_ELONGATION = 1.5  # of its length to its width, in standard deviations
END_SHARE = 0.2  # of its pixels at either end, whose width is compared
WIDE = 0.95  # quantile of the distances from the axis that is taken for the width

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """`matrix`: (2, 3), from px of the image to those of the turned one. `ground`: of what is revealed."""

    matrix: NDArray[np.float64]
    ground: tuple[float, ...]
    size: tuple[int, int]  # (width, height) of both

    def turned(self, image: Pixels) -> Pixels:
        """The image (h, w, 3) with its part upright."""
        found: Any = cv2.warpAffine(
            image, self.matrix, self.size, borderMode=cv2.BORDER_CONSTANT, borderValue=self.ground
        )
        return np.asarray(found, np.uint8)

    def back(self, values: Map) -> Map:
        """A map (h, w) of the turned image as one of the image; beyond its edges its values go on."""
        height, width = values.shape
        scale = np.array([self.size[0] / width, self.size[1] / height])
        own = self.matrix[:, :2] * scale / scale[:, np.newaxis]
        middle = (scale - 1) / 2  # of the first cell, px
        moved = (self.matrix[:, :2] @ middle + self.matrix[:, 2] - middle) / scale
        matrix = np.concatenate([own, moved[:, np.newaxis]], axis=1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        found: Any = cv2.warpAffine(
            values, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(found, np.float32)


def find(image: Pixels) -> Turn | None:
    """How to turn the part of an image (h, w, 3) upright; None where there is none to turn."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    height, width = image.shape[:2]
    mask = _largest(_seen(image))
    if mask is None:
        return None
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], axis=1) + 0.5  # the pixels' middles, in px of the image
    points = points * (width / mask.shape[1], height / mask.shape[0]) - 0.5
    centre = points.mean(0)
    points -= centre
    values, vectors = np.linalg.eigh(points.T @ points)
    if values[1] < LEAST_ELONGATION**2 * values[0]:
        return None
    axis, across = vectors[:, 1], np.abs(points @ vectors[:, 0])
    along = points @ axis
    low, high = np.quantile(along, (END_SHARE, 1 - END_SHARE))
    if np.quantile(across[along >= high], WIDE) > np.quantile(across[along <= low], WIDE):
        axis = -axis
    matrix = np.array([[axis[0], axis[1], 0.0], [-axis[1], axis[0], 0.0]])
    matrix[:, 2] = np.array([width / 2, height / 2]) - matrix[:, :2] @ centre
    return Turn(matrix, tuple(float(level) for level in np.median(border, axis=0)), (width, height))


def part(image: Pixels) -> NDArray[np.bool_] | None:
    """(h, w), the largest piece of an image (h, w, 3) that differs from the border's level."""
    mask = _largest(_seen(image))
    if mask is None:
        return None
    height, width = image.shape[:2]
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _seen(image: Pixels) -> Pixels:
    """In gray, and no larger than it needs to be."""
    gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    height, width = gray.shape
    shrink = max(1.0, min(height, width) / SEEN_PX)
    return resized(gray, Size(round(width / shrink), round(height / shrink)))


def _largest(gray: Pixels) -> NDArray[np.bool_] | None:
    side = min(gray.shape)
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), max(SMOOTH_SHARE * side, 0.5))
    level = np.median(np.concatenate([smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1]]))
    levels = np.minimum(np.abs(smooth - level), 255).astype(np.uint8)
    _, mask = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    width = max(1, round(CLOSED_SHARE * side))
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((width, width), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if not AREAS[0] <= stats[largest, cv2.CC_STAT_AREA] / gray.size <= AREAS[1]:
        return None
    return np.asarray(labels == largest, np.bool_)
