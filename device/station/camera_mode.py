"""In which mode the camera is: its size, whether it has colours, how bright it is. Day and night are two.

A model knows the mode that it was taught in and judges any other just as surely. So a live camera that is
suddenly in another mode than it was is found out frame by frame, before an OK of it counts:

    size        another width or height than that of the first frame that this model has judged here
    colour      gray all over (each pixel, within the rounding of a JPEG), where there were colours before
    brightness  black or white all over; of triggered frames, which all show a part, also below or above what
                [health] dark_ratio and bright_ratio leave of the last ones' mean

Size and colour are remembered over restarts, in `camera_mode.json` in the state folder, for as long as the
model and the camera are the same: a station that starts at night is not to take the night for its measure.
Colours that come are no change: a camera that starts in the dark may well find them later.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.config import HealthConfig
from device.errors import StorageError
from device.image.frame import FREE_RUN, Frame, Pixels
from device.schemas import strict_json
from device.system import durable

log = logging.getLogger(__name__)

FILE = "camera_mode.json"
GRAY = 4  # between the channels of a pixel: what conversions make of a gray one
COLOURED = 16
BLACK_RATIO = 0.02
KNOWN_AFTER = 20  # frames, until their mean is a measure
_MEMORY = 64  # frames that the mean is of, about
_STEP_PX = 16  # of the pixels that are looked at


@dataclass(frozen=True, slots=True)
class _Mode:
    camera: str
    model: str
    width_px: int
    height_px: int
    coloured: bool


class CameraMode:
    """change() for every frame, in order."""

    def __init__(self, folder: Path, camera: str, config: HealthConfig) -> None:
        """`camera`: its name; of another one, and of another model, what is remembered says nothing."""
        self._path = folder / FILE
        self._camera = camera
        self._config = config
        self._mode = self._read()
        self._brightness = 0.0
        self._frames = 0

    def change(self, frame: Frame, model: str, brightness_ratio: float) -> str | None:
        """How a frame is of another mode than those before; None where it is not, and then it is remembered.

        `model`: the SHA-256 of the one that judges. `brightness_ratio`: of white, as in Checks.
        """
        mode = self._mode
        if mode is None or (mode.camera, mode.model) != (self._camera, model):
            mode = self._begin(frame, model)
        change = (
            self._of_size(mode, frame)
            or self._of_colour(mode, frame)
            or self._of_light(frame, brightness_ratio)
        )
        if change is None:
            self._remember(brightness_ratio)
        return change

    def _begin(self, frame: Frame, model: str) -> _Mode:
        self._brightness, self._frames = 0.0, 0
        spread = _spread(frame.image)
        return self._keep(_Mode(self._camera, model, frame.size.width, frame.size.height, spread > COLOURED))

    def _of_size(self, mode: _Mode, frame: Frame) -> str | None:
        if (frame.size.width, frame.size.height) == (mode.width_px, mode.height_px):
            return None
        found = f"{frame.size.width}x{frame.size.height} px"
        return self._told(f"gives {found}, and gave {mode.width_px}x{mode.height_px} px")

    def _of_colour(self, mode: _Mode, frame: Frame) -> str | None:
        spread = _spread(frame.image)
        if mode.coloured and spread <= GRAY:
            return self._told("has lost its colours")
        if spread > COLOURED and not mode.coloured:
            self._keep(_Mode(mode.camera, mode.model, mode.width_px, mode.height_px, coloured=True))
        return None

    def _of_light(self, frame: Frame, brightness_ratio: float) -> str | None:
        usual = self._brightness
        if self._frames < KNOWN_AFTER:
            return None
        shows_part = frame.trigger != FREE_RUN
        dark = max(min(BLACK_RATIO, usual / 2), shows_part * self._config.dark_ratio * usual)
        left = 1 - usual
        bright = 1 - max(min(BLACK_RATIO, left / 2), shows_part * self._config.bright_ratio * left)
        if dark <= brightness_ratio <= bright:
            return None
        word = "darker" if brightness_ratio < dark else "brighter"
        return (
            f"the camera is suddenly {word}: {brightness_ratio:.3f} of white, and was {usual:.3f}; after a "
            "wanted change restart"
        )

    def _told(self, change: str) -> str:
        return f"the camera {change}; after a wanted change delete {self._path} and restart"

    def _remember(self, brightness_ratio: float) -> None:
        self._frames += 1
        self._brightness += (brightness_ratio - self._brightness) / min(self._frames, _MEMORY)

    def _keep(self, mode: _Mode) -> _Mode:
        self._mode = mode
        try:
            durable.write(self._path, json.dumps(asdict(mode)).encode() + b"\n")
        except StorageError as error:
            log.warning("%s; the camera's mode is not remembered over a restart", error)
        return mode

    def _read(self) -> _Mode | None:
        """What is remembered; a file that says nothing is as good as none."""
        try:
            found: Any = strict_json.parse(self._path.read_bytes())
            return _Mode(**found)
        except (OSError, ValueError, TypeError):
            return None


def _spread(image: Pixels) -> int:
    """The greatest difference between two channels of a pixel, of those that are looked at."""
    some = image[::_STEP_PX, ::_STEP_PX].astype(np.int16)
    return int((some.max(axis=2) - some.min(axis=2)).max())
