"""Where the model sees something over a whole frame, small enough to be kept and sent beside its picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import Calibration
from device.image.geometry import Letterbox, Size
from device.inspection.detector import Evidence
from device.inspection.framing import content_cells

MOST_PX = 128  # of the greater side; the map itself is seldom finer

Heat = NDArray[np.uint8]
"""(h, w), of the frame's proportions: the sigmoid of Calibration.heat() in 255ths; 0 where nobody looks."""


def heat_over(calibration: Calibration, placement: Letterbox, evidence: Evidence) -> Heat:
    """The heat of the evidence over the frame: evidence_in_frame() at the cost of these few pixels."""
    source, region = placement.source, placement.region
    scale = MOST_PX / max(source.width, source.height)
    size = Size(max(1, round(source.width * scale)), max(1, round(source.height * scale)))
    logits = calibration.heat(evidence[content_cells(placement, evidence.shape)])
    over = cv2.warpAffine(
        logits,
        _to_cells(placement, size, evidence.shape, calibration.localization.shift_px),
        (size.width, size.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    looked_at = Letterbox.fit(source, size, "stretch").forward(region)
    heat = np.zeros((size.height, size.width), np.uint8)
    looked_at.of(heat)[:] = np.rint(127.5 * (1 + np.tanh(looked_at.of(over) / 2)))
    return heat


def _to_cells(placement: Letterbox, size: Size, shape: tuple[int, ...], shift_px: float) -> NDArray[Any]:
    """The affine map (2, 3) of a point of the heat to a cell of those on the image, both by their indices."""
    rows, columns = content_cells(placement, (shape[0], shape[1]))
    target, corner = placement.target, np.array([placement.region.x, placement.region.y])
    px_per_point = np.array([placement.source.width / size.width, placement.source.height / size.height])
    scale, offset = np.array([placement.scale_x, placement.scale_y]), (placement.offset_x, placement.offset_y)
    cells_per_px = np.array([shape[1] / target.width, shape[0] / target.height])
    first = ((0.5 * px_per_point - corner) * scale + offset - shift_px) * cells_per_px - 0.5
    step = px_per_point * scale * cells_per_px
    return np.column_stack([np.diag(step), first - (columns.start, rows.start)])
