"""How well boxes show defects: the boxes of verdicts against those around the parts of the masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from device.image.geometry import Box, Size

FOUND_FROM = 0.3  # IoU of a box with a defect's: lower than the usual half, as many defects are thin
LEAST_PX = 8  # of a mask's part: fewer are what an editor left behind
LARGE = 0.5  # of the image: a box that is larger points at nothing


@dataclass(frozen=True, slots=True)
class VerdictBoxes:
    """The boxes of one verdict, the strongest first, with their scores.

    `truth`: the boxes around the defects, none of them on a good image; None where there is no mask.
    """

    boxes: tuple[tuple[Box, float], ...]
    truth: tuple[Box, ...] | None
    size: Size
    rejected: bool


@dataclass(frozen=True, slots=True)
class BoxFigures:
    """Each None where there is nothing to tell it from.

    `best_iou`: of the strongest box with the defect that it fits best, on average over the `n` rejected
    images with masks (0 where there is no box), and its standard error. `ap30`: average precision of all
    boxes on images whose truth is known, where a box finds a defect from an IoU of 0.3 on, each once.
    `large_share`: of rejected images, those with a box over half of the image.
    """

    n: int
    best_iou: float | None
    best_iou_error: float | None
    ap30: float | None
    large_share: float | None


def around_parts(mask: NDArray[np.bool_]) -> tuple[Box, ...]:
    """A box around each 8-connected part of a mask (H, W) that is no speck."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return tuple(Box(*(int(side) for side in row[:4])) for row in stats[1:] if row[4] >= LEAST_PX)


def iou(one: Box, other: Box) -> float:
    """Of two boxes, 0..1: what they have in common of what they cover together."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(0, width) * max(0, height)
    return common / (one.area_px + other.area_px - common)


def figures(images: Sequence[VerdictBoxes]) -> BoxFigures:
    """Of the verdicts on some images."""
    rejected = [image for image in images if image.rejected]
    best = [_best(image.boxes, image.truth) for image in rejected if image.truth]
    large = [any(box.area_px > LARGE * _area(image.size) for box, _ in image.boxes) for image in rejected]
    return BoxFigures(
        len(best),
        float(np.mean(best)) if best else None,
        float(np.std(best, ddof=1) / np.sqrt(len(best))) if len(best) > 1 else None,
        average_precision([image for image in images if image.truth is not None]),
        float(np.mean(large)) if large else None,
    )


def average_precision(images: Sequence[VerdictBoxes], least: float = FOUND_FROM) -> float | None:
    """Area under the precision-recall steps of all boxes, ranked by score; None without a defect to find.

    A box counts for the defect that it fits best of those that no stronger box of its image has found
    (Everingham et al., International Journal of Computer Vision 88, 2010, with another least IoU).
    """
    wanted = sum(len(image.truth or ()) for image in images)
    if not wanted:
        return None
    ranked = sorted(
        ((score, hit) for image in images for score, hit in _hits(image, least)), key=lambda one: -one[0]
    )
    hits = np.array([hit for _, hit in ranked], np.float64)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / wanted)


def _hits(image: VerdictBoxes, least: float) -> list[tuple[float, bool]]:
    """(score, whether it finds a defect) of each box."""
    left = list(image.truth or ())
    found = []
    for box, score in image.boxes:
        nearest = max(left, key=lambda part: iou(box, part), default=None)
        hit = nearest is not None and iou(box, nearest) >= least
        if hit and nearest is not None:
            left.remove(nearest)
        found.append((score, hit))
    return found


def _best(boxes: Sequence[tuple[Box, float]], truth: Sequence[Box]) -> float:
    return max(iou(boxes[0][0], part) for part in truth) if boxes else 0.0


def _area(size: Size) -> int:
    return size.width * size.height
