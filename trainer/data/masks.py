"""Which pixels a mask marks, whatever drew it: any that is not zero, unless the file itself says otherwise.

Class numbers (1, 2, 3), colours and bright drawings are all "not zero". Beside that
- a drawing on a transparent ground is what is not transparent;
- 255 around class numbers is the border that annotators leave between a thing and its ground: not marked;
- soft edges, and the noise of a JPEG, are cut at half the height of the thing that they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from device.errors import FrameError
from device.image.image_file import fault_of

MarkedPixels = NDArray[np.bool_]

BORDER = 255
MOST_CLASSES = 64  # numbers of classes are small ones
BORDER_PX = 11  # a border is no wider than half of this, on either side of what it surrounds
SHARE_OF_BORDER = 0.9  # of all that is 255, lies so near to a class
FEW_LEVELS = 64  # of a drawing; with more, edges are soft or it was compressed with loss
NOISE = 16  # levels, that compression leaves on a black ground
TRANSPARENT_GROUND, CLASS_BORDER = "a drawing on a transparent ground", "class numbers with a border of 255"


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """`marked`: (H, W). `read_as`: what was made of the file where that is not plain, or ""."""

    marked: MarkedPixels
    read_as: str = ""

    @property
    def ratio(self) -> float:
        return float(self.marked.mean())

    @property
    def all_corners(self) -> bool:
        """Whether all four corners are marked, as they are where a drawing says what is *not* defective."""
        return bool(self.marked[[0, 0, -1, -1], [0, -1, 0, -1]].all())


def read(paths: Sequence[Path]) -> Mask:
    """What one or several files of one size mark together. Raises FrameError."""
    found = [_of_file(path) for path in paths]
    sizes = {mask.marked.shape for mask in found}
    if len(sizes) > 1:
        raise FrameError(f"{paths[0]}: masks of one image must be of one size, got {sorted(sizes)}")
    return Mask(
        np.logical_or.reduce([mask.marked for mask in found]),
        next((m.read_as for m in found if m.read_as), ""),
    )


def _of_file(path: Path) -> Mask:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror}") from None
    if fault := fault_of(content):
        raise FrameError(f"{path}: {fault}")
    lossy = content.startswith(b"\xff\xd8")
    flags = (
        cv2.IMREAD_COLOR if lossy else cv2.IMREAD_UNCHANGED
    )  # a JPEG has no alpha, and may be turned by EXIF
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise FrameError(f"{path}: cannot be decoded: {error.err}") from None
    if image is None:
        raise FrameError(f"{path}: damaged: cannot be decoded")
    return _of_levels(*_levels(np.asarray(image)), lossy=lossy)


def _levels(image: NDArray[np.generic]) -> tuple[NDArray[np.generic], str]:
    """((H, W) of which 0 is not marked, how that was read)."""
    if image.ndim == 2:
        return image, ""
    colours = image[:, :, :3].max(2)
    if image.shape[2] < 4:
        return colours, ""
    opaque = image[:, :, 3] > 0  # type: ignore[operator]
    if opaque.all() or not opaque.any():
        return colours, ""
    shown = image[opaque][:, :3]
    if (shown == shown[0]).all():
        return image[:, :, 3], TRANSPARENT_GROUND
    return np.where(opaque, colours, 0), TRANSPARENT_GROUND


def _of_levels(levels: NDArray[np.generic], read_as: str, *, lossy: bool) -> Mask:
    if levels.dtype != np.uint8:
        return Mask(np.asarray(np.isfinite(levels) & (levels != 0)), read_as)
    values = np.asarray(levels, np.uint8)
    counts = np.bincount(values.ravel(), minlength=256)
    if lossy or np.count_nonzero(counts) > FEW_LEVELS:
        return Mask(_cut_at_half(values), read_as)
    if _has_border(values, counts):
        return Mask(np.asarray((values > 0) & (values < BORDER)), read_as or CLASS_BORDER)
    return Mask(values > 0, read_as)


def _cut_at_half(values: NDArray[np.uint8]) -> MarkedPixels:
    """Where a thing reaches half of its own greatest level; between two things is ground."""
    ground = min(NOISE, int(values.max()) // 2)
    things = np.asarray(
        cv2.connectedComponents((values > ground).astype(np.uint8), connectivity=8)[1], np.intp
    )
    peaks = np.zeros(int(things.max()) + 1, np.uint8)
    np.maximum.at(peaks, things, values)
    peaks[0] = 255
    return np.asarray((things > 0) & (values > peaks[things] / 2))


def _has_border(values: NDArray[np.uint8], counts: NDArray[np.intp]) -> bool:
    if not counts[BORDER] or not counts[1:BORDER].any() or counts[MOST_CLASSES + 1 : BORDER].any():
        return False
    classes = ((values > 0) & (values < BORDER)).astype(np.uint8)
    near = cv2.dilate(classes, np.ones((BORDER_PX, BORDER_PX), np.uint8)) > 0
    return bool(near[values == BORDER].mean() >= SHARE_OF_BORDER)
