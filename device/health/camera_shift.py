"""Whether the camera still looks at what it looked at: the picture's shift against a remembered one.

The shift is found by phase correlation, with a Hanning window, of luma images of SIDE x SIDE px. It can only
be told where something stands still: a fixture, an edge of the belt. So the first good frames are compared
with each other; where they do not agree, the view is not watched, and says so.
"""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from device.errors import StorageError
from device.image import correlation
from device.image.frame import Pixels
from device.schemas import strict_npz
from device.system import durable

log = logging.getLogger(__name__)

SIDE = 128
LEARNED_FROM = 8  # good frames
STILL_RESPONSE = 0.2  # of the correlation's peak, 0..1: two unrelated pictures of a texture give below 0.1
LOST_SHARE = 0.3  # of what the response was while learning: below it, this is another scene
_MOST_BYTES = 2**20  # of what is remembered
_FLAT_SD = 2.0  # gray levels: a picture with less in it says nothing

Luma = NDArray[np.float32]


class ReferenceView:
    """Learns from the first good frames, unless `path` remembers them from an earlier session.

    `path`: a file that is written once learned; delete it after moving the camera on purpose.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._window = cv2.createHanningWindow((SIDE, SIDE), cv2.CV_32F)
        self._seen: list[Luma] = []
        self._reference: Luma | None = None
        self._response = 0.0
        self.watched = True
        self._recall()

    @property
    def learned(self) -> bool:
        return self._reference is not None

    def learn(self, image: Pixels) -> None:
        """Take one good frame; after LEARNED_FROM of them the view is learned, or not watched."""
        if self.learned or not self.watched:
            return
        luma = _luma(image)
        if luma.std() < _FLAT_SD:
            return
        self._seen.append(luma)
        if len(self._seen) == LEARNED_FROM:
            self._settle()

    def shift_ratio(self, image: Pixels) -> float | None:
        """How far the picture is from the learned one, in shares of its width or height, the greater.

        Infinity when it is another picture altogether; None when there is nothing to tell it from.
        """
        if self._reference is None:
            return None
        luma = _luma(image)
        if luma.std() < _FLAT_SD:
            return None
        shift, response = self._compared(self._reference, luma)
        return math.inf if response < LOST_SHARE * self._response else shift

    def _settle(self) -> None:
        """The first frame is the reference, if the others agree with it."""
        first, *others = self._seen
        found = [self._compared(first, other) for other in others]
        response = float(np.median([response for _, response in found]))
        shift = float(np.median([shift for shift, _ in found]))
        self._seen = []
        if response < STILL_RESPONSE or shift > 2 / SIDE:
            self.watched = False
            log.info("nothing stands still in the picture: whether the camera moves is not watched")
            return
        self._reference, self._response = first, response
        self._remember()

    def _compared(self, reference: Luma, luma: Luma) -> tuple[float, float]:
        x, y, response = correlation.shift(reference, luma, self._window)
        return max(abs(x), abs(y)) / SIDE, response

    def _recall(self) -> None:
        if self._path is None:
            return
        try:
            stored = strict_npz.read(self._path, {"reference": "float32", "response": "float64"}, _MOST_BYTES)
            reference, response = stored["reference"], float(stored["response"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s: cannot be read, the view is learned anew: %s", self._path, error)
            return
        if reference.shape == (SIDE, SIDE) and np.isfinite(reference).all() and math.isfinite(response):
            self._reference, self._response = reference, response

    def _remember(self) -> None:
        if self._path is None:
            return
        file = io.BytesIO()
        np.savez(file, reference=self._reference, response=np.float64(self._response))  # type: ignore[arg-type]
        try:
            durable.write(self._path, file.getvalue())
        except StorageError as error:
            log.warning("%s; the view is learned anew at the next start", error)


def _luma(image: Pixels) -> Luma:
    """Every n'th pixel, then the mean over what is left: quick for a frame of any size."""
    height, width = image.shape[:2]
    few = image[:: max(1, height // (2 * SIDE)), :: max(1, width // (2 * SIDE))]
    gray = cv2.cvtColor(np.ascontiguousarray(few), cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
