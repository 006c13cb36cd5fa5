"""From a captured frame to the model's input, as the calibration says."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from device.calibration import PreprocessSpec
from device.frame import Frame
from device.geometry import Letterbox, Size

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """What the model sees, and how it lies on the frame. The tensor may share the frame's memory."""

    tensor: Pixels  # (1, h, w, 3), C-contiguous
    placement: Letterbox  # source: the frame, target: the tensor

    def __post_init__(self) -> None:
        tensor, target = self.tensor, self.placement.target
        expected = (1, target.height, target.width, 3)
        if tensor.dtype != np.uint8 or tensor.shape != expected:
            raise ValueError(f"tensor must be uint8 {expected}, got {tensor.dtype} {tensor.shape}")

    @property
    def content(self) -> Pixels:
        """The tensor without its padding, (h, w, 3), not copied."""
        box = self.placement.content
        return self.tensor[0, box.y : box.y + box.height, box.x : box.x + box.width]


class Preprocessor:
    """Colour, size and padding of a PreprocessSpec."""

    def __init__(self, spec: PreprocessSpec) -> None:
        self._spec = spec

    def prepare(self, frame: Frame) -> ModelInput:
        """The frame as model input; not copied where its size and colour are right already."""
        spec = self._spec
        placement = Letterbox.fit(frame.size, spec.size, spec.resize)
        content = Size(placement.content.width, placement.content.height)
        image = frame.image
        if spec.colour == "gray":
            luma = _resize(_converted(image, cv2.COLOR_RGB2GRAY), content)
            image = _converted(luma, cv2.COLOR_GRAY2RGB)
        else:
            image = _resize(image, content)
        if content != spec.size:
            image = self._pad(image, placement)
        return ModelInput(np.ascontiguousarray(image[np.newaxis]), placement)

    def _pad(self, image: Pixels, placement: Letterbox) -> Pixels:
        box, target = placement.content, placement.target
        canvas = np.full((target.height, target.width, 3), self._spec.pad_value, np.uint8)
        canvas[box.y : box.y + box.height, box.x : box.x + box.width] = image
        return canvas


def _converted(image: Pixels, code: int) -> Pixels:
    return np.asarray(cv2.cvtColor(image, code), dtype=np.uint8)


def _resize(image: Pixels, size: Size) -> Pixels:
    """(h, w) or (h, w, 3) to the size: area averages where it shrinks, bilinear where it grows.

    One after the other where a stretch does both, for then OpenCV's INTER_AREA would skip pixels.
    """
    height, width = image.shape[:2]
    smaller = (min(width, size.width), min(height, size.height))
    if smaller != (width, height):
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if smaller != (size.width, size.height):
        full = (size.width, size.height)
        image = np.asarray(cv2.resize(image, full, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return image
