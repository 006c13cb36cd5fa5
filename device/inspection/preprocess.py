"""From a captured frame to the model's input, as the calibration says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import PreprocessSpec
from device.image.frame import Frame
from device.image.geometry import Box, Letterbox, Size
from device.image.region_of_interest import EVERYTHING, RegionOfInterest
from device.image.resize import resized
from device.inspection.framing import Framing

Pixels = NDArray[np.uint8]
Rows = slice | NDArray[np.intp]

EVERY_ROW = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """What the model sees, and how it lies on the frame. The canvas may share the frame's memory."""

    canvas: Pixels  # of framing.placement.target: (h, w, 3), or (h, w) where the three are alike
    framing: Framing

    def __post_init__(self) -> None:
        canvas, target = self.canvas, self.framing.placement.target
        expected = (target.height, target.width)
        if canvas.dtype != np.uint8 or canvas.shape not in (expected, (*expected, 3)):
            raise ValueError(
                f"canvas must be uint8 {expected}, with 3 channels or none, got {canvas.dtype} {canvas.shape}"
            )

    @property
    def placement(self) -> Letterbox:
        """Source: the frame, target: the canvas."""
        return self.framing.placement

    @property
    def content(self) -> Pixels:
        """The canvas without its padding, (h, w, 3) or (h, w), not copied."""
        return self.placement.content.of(self.canvas)

    def luma(self, rows: Rows = EVERY_ROW) -> Pixels:
        """Some rows of the content as gray levels, (n, w), by ITU-R BT.601. May share the canvas's memory."""
        content = self.content[rows]
        return content if content.ndim == 2 else _converted(content, cv2.COLOR_RGB2GRAY)

    @property
    def tensor(self) -> Pixels:
        """The model's input where there is one tile, (1, h, w, 3), C-contiguous. ValueError with more."""
        [tile] = self.framing.tiles
        return self.cut(tile)

    def cut(self, tile: Box, into: Pixels | None = None) -> Pixels:
        """The model's input for a tile of the framing, (1, h, w, 3), C-contiguous.

        `into`: (h, w, 3) of a tile, where three channels are made of one; else in memory of its own.
        """
        part = tile.of(self.canvas)
        if part.ndim == 2:
            return np.asarray(cv2.cvtColor(part, cv2.COLOR_GRAY2RGB, dst=into), np.uint8)[np.newaxis]
        return np.ascontiguousarray(part[np.newaxis])


class Preprocessor:
    """Cut, colour, size and padding of a PreprocessSpec."""

    def __init__(self, spec: PreprocessSpec, station: RegionOfInterest = EVERYTHING) -> None:
        """`station`: what is looked at beside what the bundle says."""
        self._spec = spec
        self._framing = lru_cache(maxsize=8)(partial(Framing.of, spec=spec, station=station))

    def prepare(self, frame: Frame) -> ModelInput:
        """The frame as model input; not copied where its size and colour are right already.

        Raises BundleError, ConfigError for a frame of a size that the region of interest is not made for.
        """
        framing = self._framing(frame.size)
        placement = framing.placement
        content = Size(placement.content.width, placement.content.height)
        image = placement.region.of(frame.image)
        if self._spec.colour == "gray":
            image = resized(_converted(image, cv2.COLOR_RGB2GRAY), content)
        else:
            image = resized(image, content)
        if framing.covering is not None:
            image = image.copy(order="C")
            framing.covering.cover(image)
        if content != placement.target:
            image = self._padded(image, placement)
        return ModelInput(image, framing)

    def _padded(self, image: Pixels, placement: Letterbox) -> Pixels:
        target = placement.target
        canvas = np.full((target.height, target.width, *image.shape[2:]), self._spec.pad_value, np.uint8)
        placement.content.of(canvas)[:] = image
        return canvas


def _converted(image: Pixels, code: int) -> Pixels:
    return np.asarray(cv2.cvtColor(image, code), dtype=np.uint8)
