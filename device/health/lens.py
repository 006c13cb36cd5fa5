"""Whether something sits on the lens or its window: pictures that are darker in one and the same place.

Parts differ from each other, and light changes over all of the picture; dirt stays where it is. So the mean
of the last pictures is compared with the mean of the first good ones, cell by cell, each picture in shares of
its own brightness. What changes smoothly across the picture, or with how bright a place is, is the light or
the camera, and left out; and a cell counts as darker where that is far beyond what it varies by anyway.
"""

from __future__ import annotations

import io
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from device.errors import StorageError
from device.image.frame import Pixels
from device.schemas import strict_npz
from device.system import durable

log = logging.getLogger(__name__)

CELLS = 16  # in a row and a column
LEARNED_FROM = 30  # good pictures; no more than the window
WINDOW = 30  # of the last pictures
SURE_SE = 5.0  # standard errors of a cell's mean: one of 256 cells is that far off by chance in 10^6 looks
LIGHT_RATIO = 0.15  # where all of the picture is so much darker or brighter, it is the light
CHANGED_CELLS = 0.4  # where more of them are darker it is the light, or other parts
_BLACK = 8.0  # gray levels: a picture this dark says nothing
_DARK = 0.1  # of the picture's brightness: nor does a cell
_NAMES = ("brightness", "mean", "variance")
_MOST_BYTES = 2**16  # of what is remembered

Cells = NDArray[np.float32]


class Lens:
    """learn() from the first good pictures, unless `path` remembers them; then observe() each.

    `path`: a file that is written once learned; delete it after changing the light or the parts on purpose.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._recent: deque[tuple[float, Cells]] = deque(maxlen=WINDOW)
        self._usual: _Usual | None = None
        self._recall()

    @property
    def learned(self) -> bool:
        return self._usual is not None

    def learn(self, image: Pixels) -> None:
        """Take one good picture; after LEARNED_FROM of them the lens is watched."""
        self._take(image)
        if len(self._recent) == LEARNED_FROM:
            self._usual = _Usual.of(self._recent)
            self._recent.clear()
            self._remember(self._usual)

    def observe(self, image: Pixels) -> float | None:
        """By what share the darkest place of the last WINDOW pictures is darker than it was.

        0: none surely is. None before there are so many, and where nothing was learned.
        """
        if self._usual is None:
            return None
        self._take(image)
        if len(self._recent) < WINDOW:
            return None
        return _darkest(self._usual, _Usual.of(self._recent))

    def _take(self, image: Pixels) -> None:
        luma = _cells(image)
        brightness = float(luma.mean())
        if brightness > _BLACK:
            self._recent.append((brightness, luma / np.float32(brightness)))

    def _recall(self) -> None:
        if self._path is None:
            return
        try:
            stored = strict_npz.read(self._path, dict.fromkeys(_NAMES, "float32"), _MOST_BYTES)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.warning("%s: cannot be read, the lens is learned anew: %s", self._path, error)
            return
        if [stored[name].shape for name in _NAMES] == [(), *[(CELLS, CELLS)] * 2]:
            self._usual = _Usual(float(stored["brightness"]), stored["mean"], stored["variance"])

    def _remember(self, usual: _Usual) -> None:
        if self._path is None:
            return
        file = io.BytesIO()
        np.savez(file, brightness=np.float32(usual.brightness), mean=usual.mean, variance=usual.variance)
        try:
            durable.write(self._path, file.getvalue())
        except StorageError as error:
            log.warning("%s; the lens is learned anew at the next start", error)


@dataclass(frozen=True, slots=True, eq=False)
class _Usual:
    """Some pictures: their brightness in gray levels; of their cells, in shares of it, mean and variance."""

    brightness: float
    mean: Cells
    variance: Cells

    @classmethod
    def of(cls, pictures: Sequence[tuple[float, Cells]]) -> _Usual:
        cells = np.stack([own for _, own in pictures])
        brightness = float(np.mean([level for level, _ in pictures]))
        return cls(brightness, cells.mean(axis=0), cells.var(axis=0, ddof=1))


def _darkest(usual: _Usual, now: _Usual) -> float:
    """The loss of the darkest cell; 0 where the light has changed, or no cell is surely darker."""
    counted = usual.mean > _DARK
    if abs(now.brightness / usual.brightness - 1) > LIGHT_RATIO or not counted.any():
        return 0.0
    floor = np.maximum(usual.mean, np.float32(_DARK))
    ratio = now.mean / floor
    variance = np.maximum(usual.variance, now.variance)
    error = np.sqrt(variance * np.float32(1 / WINDOW + 1 / LEARNED_FROM)) / floor
    loss = np.where(counted, 1 - ratio / _light(ratio, usual.mean, counted), 0.0)
    darker = loss > SURE_SE * error
    if not darker.any() or darker.sum() > CHANGED_CELLS * counted.sum():
        return 0.0
    return float(loss[darker].max())


def _light(ratio: Cells, usual: Cells, counted: NDArray[np.bool_]) -> Cells:
    """What place and brightness explain, linearly: fitted to the cells that are not far off themselves."""
    y, x = np.mgrid[-1 : 1 : CELLS * 1j, -1 : 1 : CELLS * 1j]
    terms = np.stack([np.ones_like(x), x, y, usual], axis=-1).astype(np.float32)
    fitted = np.full_like(ratio, np.median(ratio[counted]))
    for _ in range(3):
        off = np.abs(ratio - fitted)
        clean = counted & (off <= 2 * np.median(off[counted]) + np.float32(1e-3))
        weights, *_ = np.linalg.lstsq(terms[clean], ratio[clean], rcond=None)
        fitted = np.asarray(terms @ weights, np.float32)
    return np.maximum(fitted, np.float32(0.1))


def _cells(image: Pixels) -> Cells:
    """(CELLS, CELLS) mean luma, of every n'th pixel: quick for a frame of any size."""
    height, width = image.shape[:2]
    few = image[:: max(1, height // (8 * CELLS)), :: max(1, width // (8 * CELLS))]
    gray = cv2.cvtColor(np.ascontiguousarray(few), cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, (CELLS, CELLS), interpolation=cv2.INTER_AREA).astype(np.float32)
