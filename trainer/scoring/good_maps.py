"""What the evidence maps of good images reach, and where defects end in the maps of defective ones.

Regions are cut out of a map by it (device.localizer), and heat maps and the numbers of regions are on its
scale. It is measured with the int8 file that ships.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import MOST_LEVEL_SIDE, GoodMaps, Level, LocalizationSpec
from device.image.geometry import Box
from device.inspection.checks import Checks
from device.inspection.detector import Evidence
from device.inspection.framing import Framing, content_cells, counted_cells
from device.inspection.localizer import above_level, boxes_by_evidence
from trainer.data.dataset import Sample, read_mask
from trainer.scoring.boxes import LARGE, around_parts, iou

LEVEL_QUANTILE = 0.9  # of good images' cells at a place
LEAST_IMAGES = 10  # good ones; of fewer it would be chance what each place shows
SHARES = (0.0, 0.15, 0.3, 0.4, 0.5, 0.65)  # to try where masks do
CUTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # to try, of the way from what is reached to a typical defect
LEAST_MASKS = 5  # images; fewer are no ground to choose on


@dataclass(frozen=True, slots=True, eq=False)
class ImageMap:
    """An image's map, as the shipped model gives it."""

    sample: Sample
    framing: Framing
    checks: Checks
    evidence: Evidence


def measured(good: Sequence[ImageMap]) -> GoodMaps:
    """From the maps of good images."""
    level = _level([one.evidence[content_cells(one.framing.placement, one.evidence.shape)] for one in good])
    return reached([_counted(one, level) for one in good], level)


def reached(cells: Sequence[NDArray[np.float32]], level: Level | None = None) -> GoodMaps:
    """From the cells (n,) of each good image, less their level."""
    usual = float(np.median(np.concatenate(cells)))
    return GoodMaps.of(usual, [float(one.max()) for one in cells], level)


def fitted(spec: LocalizationSpec, good: GoodMaps, defective: Sequence[ImageMap]) -> LocalizationSpec:
    """With the cut, and where masks are known the cut and share whose boxes fit them best on the average."""
    plain = replace(spec, cut=good.reach, good=good)
    known = [(one, boxes) for one in defective if (boxes := _truth(one.sample))]
    if len(known) < LEAST_MASKS:
        return plain
    peaks = [float(_counted(one, good.level).max()) for one, _ in known]
    way = max(float(np.median(peaks)) - good.reach, 0.0)
    tried = [
        replace(plain, cut=good.reach + part * way, good=replace(good, share=share))
        for part in CUTS
        for share in SHARES
    ]
    return max(tried, key=lambda one: _overlap(one, known))


def _truth(sample: Sample) -> tuple[Box, ...]:
    mask = read_mask(sample) if sample.mask else None
    return () if mask is None else around_parts(mask)


def _overlap(spec: LocalizationSpec, known: Sequence[tuple[ImageMap, tuple[Box, ...]]]) -> float:
    """Of the first box of each image with the part of its mask that it fits best, on the average.

    Less the share of images with a box over half of them: such a box points at nothing.
    """
    found, large = [], []
    for one, boxes in known:
        cut = boxes_by_evidence(one.evidence, one.framing, spec)
        found.append(max((iou(cut[0], box) for box in boxes), default=0.0) if cut else 0.0)
        size = one.sample.size
        large.append(any(box.area_px > LARGE * size.width * size.height for box in cut))
    return float(np.mean(found)) - float(np.mean(large))


def _counted(one: ImageMap, level: Level) -> NDArray[np.float32]:
    """Of the cells that count, (n,)."""
    less = above_level(one.evidence, one.framing.placement, level)
    return np.asarray(less[counted_cells(one.framing, less.shape)], np.float32).ravel()


def _level(maps: Sequence[Evidence]) -> Level:
    """Over maps (h, w) of images alike; none where they differ in size or are few.

    A place is as high as the highest about it: parts do not lie still to the cell.
    """
    if len({one.shape for one in maps}) != 1 or len(maps) < LEAST_IMAGES:
        return Level()
    high = np.quantile(np.stack(maps), LEVEL_QUANTILE, axis=0).astype(np.float32)
    around = cv2.dilate(high, np.ones((3, 3), np.uint8))
    around = np.maximum(around - np.median(around), 0)
    rows, columns = (_bounds(side) for side in around.shape)
    return Level(
        tuple(
            tuple(float(f"{around[top:bottom, left:right].max():.4g}") for left, right in pairwise(columns))
            for top, bottom in pairwise(rows)
        )
    )


def _bounds(cells: int) -> list[int]:
    """Where the rows of a level begin and end along so many cells."""
    parts = min(cells, MOST_LEVEL_SIDE)
    return [part * cells // parts for part in range(parts + 1)]
