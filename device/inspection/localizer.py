"""Where on the frame the evidence is: regions as boxes in captured-frame px, and the map over the frame."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import GoodMaps, Level, LocalizationSpec, ScoreCalibration
from device.bundle.memory import Scale
from device.bundle.reference import GoldenReference
from device.image.geometry import Box, Letterbox, Size, whole
from device.inspection.detector import Evidence, Prediction
from device.inspection.framing import Framing, content_cells
from device.inspection.preprocess import ModelInput
from device.inspection.verdict import Method, Region

log = logging.getLogger(__name__)

CELL_STEPS = 4  # grid points along the side of a cell: boxes are that much finer than the map
MAX_REGIONS = 32  # a verdict must stay a small message
FINEST_SIGMA_PX = 4.0  # of a reduced image: a narrower Gaussian would show its grid
LEAST_SIDE = 16  # px, of a reduced image: a smaller one is mostly its own reflection at the edges

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class _Marked:
    """The image's part of a grid over the canvas, and which of its points are marked."""

    mask: Mask  # (part.height, part.width), 0 or 1
    part: Box  # on the grid
    grid: Letterbox  # source: the canvas, target: the grid
    method: Method


@dataclass(frozen=True, slots=True)
class _Found:
    """A region, with the greatest evidence in it, a logit."""

    box: Box
    area_px: int
    peak: float
    method: Method


class Localizer:
    """Regions of a frame, as a LocalizationSpec says; `reference`: of the bundle, where it has one."""

    def __init__(
        self,
        spec: LocalizationSpec,
        scores: ScoreCalibration,
        reference: GoldenReference | None = None,
        method: Method = "evidence",
    ) -> None:
        """`method`: what the evidence is made of, for the regions that are cut from it."""
        self._spec = spec
        self._scores = scores
        self._method = method
        self._reference = reference
        self._told = False  # that a frame was not aligned

    def locate(self, model_input: ModelInput, prediction: Prediction) -> tuple[Region, ...]:
        """The regions, largest score first; of more than MAX_REGIONS those with the largest boxes.

        They are the 8-connected parts of the evidence map above the cut, each of spec.min_area_px or more,
        and of a part only what is not too far below its peak (GoodMaps.share).
        What lies in a hole of a region belongs to it, and what is masked to none.
        Where there is none: of the difference from the golden reference, in standard deviations; where the
        frame is not aligned with it, or nothing differs: of the difference from the Gaussian background.
        """
        placement, evidence = model_input.placement, self._above_level(model_input, prediction)
        for mark in (self._by_evidence, self._by_reference, self._by_background):
            marked = mark(model_input, evidence)
            found = [] if marked is None else _found(marked, evidence, placement, self._spec)
            if found:
                found.sort(key=lambda one: (-one.peak, -one.area_px))
                return tuple(self._region(one, prediction.scale) for one in found)
        return ()

    def _above_level(self, model_input: ModelInput, prediction: Prediction) -> Evidence:
        """The map, less what good images show at each place."""
        if self._spec.good is None:
            return prediction.evidence
        return above_level(prediction.evidence, model_input.placement, self._spec.good.level)

    def _region(self, found: _Found, scale: Scale) -> Region:
        """Its score: how its peak stands to what good images reach.

        Where that is not known: the score that the image would have if all that is pooled were like its peak.
        """
        good = self._spec.good
        score = self._scores.score(scale.of(found.peak)) if good is None else good.standing(found.peak)
        return Region(found.box, found.area_px, score, found.method)

    def _by_evidence(self, model_input: ModelInput, evidence: Evidence) -> _Marked:
        return _mark_evidence(evidence, model_input.framing, self._spec, self._method)

    def _by_background(self, model_input: ModelInput, evidence: Evidence) -> _Marked:
        return _mark_difference(model_input, self._spec)

    def _by_reference(self, model_input: ModelInput, evidence: Evidence) -> _Marked | None:
        """Where the image differs from the reference by its cut or more; None where it cannot be told."""
        spec, reference = self._spec.reference, self._reference
        if spec is None or reference is None:
            return None
        content = model_input.luma()
        if content.shape != reference.mean.shape:
            self._tell(f"the frame is {content.shape} on the model's input, not {reference.mean.shape}")
            return None
        alignment = reference.align(content)
        if alignment is None or alignment.response < spec.least_response:
            self._tell(f"the part lies elsewhere ({alignment}, least response {spec.least_response:g})")
            return None
        mask = reference.deviation(content, alignment) >= spec.cut
        return _marked_on_canvas(mask.astype(np.uint8), model_input, "reference")

    def _tell(self, why: str) -> None:
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        log.log(level, "not compared with the golden reference: %s", why)


def boxes_by_evidence(evidence: Evidence, framing: Framing, spec: LocalizationSpec) -> list[Box]:
    """The boxes that a localizer cuts out of a map, the one with the greatest peak first."""
    if spec.good is not None:
        evidence = above_level(evidence, framing.placement, spec.good.level)
    marked = _mark_evidence(evidence, framing, spec, "evidence")
    found = _found(marked, evidence, framing.placement, spec)
    return [one.box for one in sorted(found, key=lambda one: (-one.peak, -one.area_px))]


def above_level(evidence: Evidence, placement: Letterbox, level: Level) -> Evidence:
    """A map less what good images show at each place of the image; of padding nothing is taken."""
    less = evidence.copy()
    part = less[content_cells(placement, evidence.shape)]
    part -= _over(level, (part.shape[0], part.shape[1]))
    return less


@lru_cache(maxsize=4)
def _over(level: Level, shape: tuple[int, int]) -> Evidence:
    return level.over(shape)


def evidence_in_frame(evidence: Evidence, placement: Letterbox, shift_px: float = 0.0) -> Evidence:
    """The map over the frame, float32 (H, W) of it, bilinear between the centres of the cells.

    Cell (i, j) of (h, w) has its centre at ((j + 0.5) / w, (i + 0.5) / h) of the canvas, plus `shift_px` in
    both directions (see LocalizationSpec). Beyond the outermost centres on the image their values go on;
    padding has no influence. Outside the region that was cut out of the frame it is the least of the map.
    """
    target, source, region = placement.target, placement.source, placement.region
    over_canvas = _shifted(_grown(_without_padding(evidence, placement), target), shift_px, shift_px)
    shown = _grown(placement.content.of(over_canvas), Size(region.width, region.height))
    if region == whole(source):
        return shown
    over_frame = np.full((source.height, source.width), evidence.min(), np.float32)
    region.of(over_frame)[:] = shown
    return over_frame


def _mark_evidence(evidence: Evidence, framing: Framing, spec: LocalizationSpec, method: Method) -> _Marked:
    """Where the evidence, on a grid of CELL_STEPS points a cell, reaches the cut.

    Where all of it stays below what good images reach, the image is NG for its sum: then its peak is shown.
    """
    height, width = evidence.shape
    placement, target = framing.placement, framing.placement.target
    size = Size(min(width * CELL_STEPS, target.width), min(height * CELL_STEPS, target.height))
    grid = Letterbox.fit(target, size, "stretch")
    part = grid.forward(placement.content)
    fine = _grown(_without_padding(evidence, placement), size)
    fine = _shifted(fine, spec.shift_px * grid.scale_x, spec.shift_px * grid.scale_y)
    fine, seen = part.of(fine), _seen(framing, grid, part)
    if isinstance(spec.cut, str):
        above = _above_otsu(fine, seen)
    else:
        above = fine >= spec.cut
        if spec.good is not None:
            above = _about_the_peaks(fine, above & (seen > 0), seen, spec.good)
    return _Marked(above.astype(np.uint8) & seen, part, grid, method)


def _about_the_peaks(
    values: Evidence, above: NDArray[np.bool_], seen: Mask, good: GoodMaps
) -> NDArray[np.bool_]:
    """Of each 8-connected part above the cut, what lies good.share of the way up to its peak or higher."""
    if not above.any():
        return _about_the_peak(values, seen, good)
    count, labels = cv2.connectedComponents(above.astype(np.uint8), connectivity=8)
    part_of = labels.astype(np.intp)
    peaks = np.full(count, good.usual, np.float32)
    np.maximum.at(peaks, part_of[above], values[above])
    least = np.float32(good.usual) + np.float32(good.share) * (peaks - np.float32(good.usual))
    least[0] = np.inf  # of what is in no part
    return np.asarray(values >= least[part_of], np.bool_)


def _about_the_peak(values: Evidence, seen: Mask, good: GoodMaps) -> NDArray[np.bool_]:
    """The 8-connected part about the greatest of the seen values; none where that is nothing unusual."""
    _, peak, _, (x, y) = cv2.minMaxLoc(values, seen)
    if peak <= good.usual:
        return np.zeros(values.shape, np.bool_)
    above = (values >= good.usual + good.share * (peak - good.usual)) & (seen > 0)
    _, labels = cv2.connectedComponents(above.astype(np.uint8), connectivity=8)
    return np.asarray(labels == labels[y, x], np.bool_)


def _above_otsu(values: Evidence, seen: Mask) -> NDArray[np.bool_]:
    """The upper of the two classes that Otsu's rule makes of the seen values; none of a flat map."""
    low, high, _, _ = cv2.minMaxLoc(values, seen)
    if low == high:
        return np.zeros(values.shape, np.bool_)
    scaled = values - np.float32(low)
    scaled *= np.float32(255.0 / (high - low))
    everything = bool(seen.all())
    if not everything:
        np.clip(scaled, 0, 255, out=scaled)
    levels = scaled.astype(np.uint8)
    judged = levels if everything else levels[seen > 0]
    cut, _ = cv2.threshold(judged, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(levels > cut, np.bool_)


@lru_cache(maxsize=8)
def _seen(framing: Framing, grid: Letterbox, part: Box) -> Mask:
    """1 for the points of a part of the grid that are looked at, else 0."""
    if framing.seen is None:
        return np.ones((part.height, part.width), np.uint8)
    size = (grid.target.width, grid.target.height)
    shares = cv2.resize(framing.seen.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(part.of(shares) >= 0.5, np.uint8)


def _mark_difference(model_input: ModelInput, spec: LocalizationSpec) -> _Marked:
    """Where the image differs from its Gaussian background by the cut or more, px by px of the canvas."""
    difference = background_difference(model_input.luma(), spec.difference_sigma_px)
    mask = (difference >= spec.difference_cut).astype(np.uint8)
    return _marked_on_canvas(mask, model_input, "difference")


def background_difference(gray: Mask, sigma_px: float) -> Mask:
    """By how many gray levels each pixel of (h, w) differs from its Gaussian background."""
    return np.asarray(cv2.absdiff(gray, _background(gray, sigma_px)), np.uint8)


def _background(gray: Mask, sigma_px: float) -> Mask:
    """The Gaussian blur of (h, w); a wide one at a reduced size, for its cost grows with its width.

    Averaging over `step` px and the bilinear way back blur as well: together by a variance of step^2 / 4.
    """
    step = max(1, min(int(sigma_px / FINEST_SIGMA_PX), min(gray.shape) // LEAST_SIDE))
    if step == 1:
        return np.asarray(cv2.GaussianBlur(gray, (0, 0), sigma_px), np.uint8)
    height, width = gray.shape
    size = (-(-width // step), -(-height // step))
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    sigma = math.sqrt(sigma_px**2 - step**2 / 4)
    sigmas = (sigma * size[0] / width, sigma * size[1] / height)
    blurred = cv2.GaussianBlur(small, (0, 0), sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REFLECT)
    grown = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.convertScaleAbs(grown), np.uint8)


def _marked_on_canvas(mask: Mask, model_input: ModelInput, method: Method) -> _Marked:
    """What is marked px by px of the canvas's content, and looked at."""
    placement = model_input.placement
    grid = Letterbox.fit(placement.target, placement.target, "stretch")
    mask &= _seen(model_input.framing, grid, placement.content)
    return _Marked(mask, placement.content, grid, method)


def _found(marked: _Marked, evidence: Evidence, placement: Letterbox, spec: LocalizationSpec) -> list[_Found]:
    """The regions of spec.min_area_px or more; where what exceeds good images is smaller, it is small."""
    found = _of_area(marked, evidence, placement, spec, spec.min_area_px)
    if found or spec.good is None or marked.method in ("reference", "difference"):
        return found
    return _of_area(marked, evidence, placement, spec, 0)[:1]


def _of_area(
    marked: _Marked, evidence: Evidence, placement: Letterbox, spec: LocalizationSpec, least_px: int
) -> list[_Found]:
    contours, _ = cv2.findContours(marked.mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cells = _Cells.of(evidence, placement, marked, spec.shift_px)
    grid, part = marked.grid, marked.part
    points_per_px = placement.scale_x * placement.scale_y * grid.scale_x * grid.scale_y
    regions = []
    for contour in sorted(contours, key=_extent, reverse=True)[:MAX_REGIONS]:
        x, y, width, height = cv2.boundingRect(contour)
        if width * height / points_per_px < least_px:
            break  # and so are those that follow
        filled = np.zeros((height, width), np.uint8)
        cv2.drawContours(filled, [contour], 0, (1,), cv2.FILLED, offset=(-x, -y))
        points = cv2.countNonZero(cv2.bitwise_and(filled, marked.mask[y : y + height, x : x + width]))
        if points / points_per_px < least_px:
            continue
        box = placement.inverse(grid.inverse(Box(part.x + x, part.y + y, width, height)))
        area_px = min(max(round(points / points_per_px), 1), box.area_px)
        regions.append(_Found(box, area_px, cells.peak(filled, x, y), marked.method))
    return regions


def _extent(contour: Any) -> int:
    """The area of the contour's box; the contour's own is 0 for a line."""
    _, _, width, height = cv2.boundingRect(contour)
    return int(width * height)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The cells on the image, (n, m), and the grid points in the part (rows, columns) at their centres."""

    values: Evidence
    rows: NDArray[np.intp]  # ascending
    columns: NDArray[np.intp]

    @classmethod
    def of(cls, evidence: Evidence, placement: Letterbox, marked: _Marked, shift_px: float) -> _Cells:
        rows, columns = content_cells(placement, evidence.shape)
        height, width = evidence.shape
        grid, part = marked.grid, marked.part
        size = grid.target
        return cls(
            evidence[rows, columns],
            _points(rows, size.height / height, shift_px * grid.scale_y - part.y, part.height),
            _points(columns, size.width / width, shift_px * grid.scale_x - part.x, part.width),
        )

    def peak(self, region: Mask, x: int, y: int) -> float:
        """The greatest value of the cells whose centres lie in a region (h, w) at x, y of the part.

        Where none does, that of the cell nearest to its middle.
        """
        height, width = region.shape
        rows = slice(*self.rows.searchsorted((y, y + height)))
        columns = slice(*self.columns.searchsorted((x, x + width)))
        at_centres = region[self.rows[rows, np.newaxis] - y, self.columns[columns] - x]
        if at_centres.any():
            return cv2.minMaxLoc(self.values[rows, columns], at_centres)[1]
        row = np.abs(self.rows - (y + height / 2)).argmin()
        column = np.abs(self.columns - (x + width / 2)).argmin()
        return float(self.values[row, column])


def _points(cells: slice, points_per_cell: float, offset: float, length: int) -> NDArray[np.intp]:
    centres = (np.arange(cells.start, cells.stop) + 0.5) * points_per_cell + offset
    return np.asarray(np.floor(centres).astype(np.intp).clip(0, length - 1), np.intp)


def _grown(values: Evidence, size: Size) -> Evidence:
    """Bilinear at another size; both sizes span the same area."""
    if values.shape == (size.height, size.width):
        return values
    grown = cv2.resize(values, (size.width, size.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, np.float32)


def _shifted(values: Evidence, right: float, down: float) -> Evidence:
    """Moved by whole points, the values of the edge left behind."""
    across, along = round(right), round(down)
    if not across and not along:
        return values
    height, width = values.shape
    return np.pad(values, ((along, 0), (across, 0)), mode="edge")[:height, :width]


def _without_padding(evidence: Evidence, placement: Letterbox) -> Evidence:
    """The map with the cells on padding set to their nearest neighbours on the image."""
    height, width = evidence.shape
    rows, columns = content_cells(placement, evidence.shape)
    margins = ((rows.start, height - rows.stop), (columns.start, width - columns.stop))
    return np.pad(evidence[rows, columns], margins, mode="edge") if any(map(any, margins)) else evidence
