"""A captured frame or the fault of one, and how a frame is read from an image file."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from device.errors import FrameError
from device.image.decode import Levels, decoded
from device.image.geometry import Size

Pixels = NDArray[np.uint8]

MOST_BYTES = 512 * 2**20  # of a file: the most pixels that are unpacked need no more

FREE_RUN: Final = "free-run"  # Frame.trigger of a camera that nobody asks
REPLAY = "replay"  # Frame.camera of what came from the disk


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image as the camera gave it. The image is not copied and must not be written to.

    It may be a view of the camera's own memory, which stays as it is for as long as any array looks at it.
    The camera lends only a few frames at a time and copies the others, so that a frame may be kept.
    """

    image: Pixels  # (H, W, 3), RGB
    seq: int  # counts the frames of a camera from 0; a gap is frames that nobody can see any more
    captured_ns: int  # UTC, ns since 1970
    monotonic_ns: int  # the same moment on the monotonic clock, for intervals
    camera: str
    path: str | None  # the file it came from, as the camera names it
    sha256: str | None  # of that file's bytes, hex
    part_id: str | None = None
    trigger: str = FREE_RUN  # what asked for it: TriggerEvent.kind
    metadata: Mapping[str, float | str] = field(default_factory=dict)  # exposure_us, analogue_gain and so on

    def __post_init__(self) -> None:
        image = self.image
        if not isinstance(image, np.ndarray):
            raise FrameError(f"image must be uint8 (H, W, 3), got {type(image).__name__}")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise FrameError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        if self.seq < 0:
            raise FrameError(f"seq must be >= 0, got {self.seq}")

    @property
    def size(self) -> Size:
        return Size(self.image.shape[1], self.image.shape[0])


Cause = Literal["unreadable", "away", "mode", "overload"]
"""Why there is no frame to judge: the camera gave one that cannot be read; it is away and may come back; it
gives other pictures than it did; or there was a frame or a trigger, and nobody had time for it."""


class BadFrame(FrameError):
    """There is no frame to judge; the next time there may be. The service gives an ERROR verdict and goes on.

    `seq` is the number that the frame would have had, `path` its file as in Frame.path, `captured_ns` when
    the fault was met (UTC); `part_id` and `trigger` as in Frame. Of the causes, only "unreadable" says that
    the camera may be broken.
    """

    def __init__(
        self,
        message: str,
        *,
        seq: int,
        path: str | None,
        captured_ns: int,
        camera: str,
        part_id: str | None = None,
        trigger: str = FREE_RUN,
        cause: Cause = "unreadable",
    ) -> None:
        super().__init__(message)
        self.seq = seq
        self.path = path
        self.captured_ns = captured_ns
        self.camera = camera
        self.part_id = part_id
        self.trigger = trigger
        self.cause = cause


def read_image(path: str | Path, white_level: int | None = None) -> tuple[Pixels, str]:
    """(the image as RGB uint8 (H, W, 3), SHA-256 of the file's bytes in hex).

    Gray becomes three equal channels, an alpha channel is dropped, and EXIF's note of how the camera was
    held is obeyed. More than 8 bits a channel are brought to 8 so that `white_level` becomes 255; without one
    they are refused: how a sensor's 10 or 12 bits sit in 16 is not written in the file, and a wrong guess
    gives a black image. Raises FrameError: missing, unreadable, cut off, damaged, not an image.
    """
    image, sha256 = read_levels(path)
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8), sha256
    if white_level is None:
        raise FrameError(
            f"{path}: must have 8 bits a channel, got {image.dtype}: which level is white is not known"
        )
    return _to_8_bits(white_level)[image], sha256


def read_levels(path: str | Path) -> tuple[Levels, str]:
    """The image in a file with all of its bits, uint8 or uint16 (H, W, 3), and the file's SHA-256 in hex."""
    try:
        wrong = _no_image_file(Path(path).stat())
        content = b"" if wrong else Path(path).read_bytes()
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror}") from None
    if wrong:
        raise FrameError(f"{path}: {wrong}")
    return decoded(content, str(path)), hashlib.sha256(content).hexdigest()


def _no_image_file(found: os.stat_result) -> str:
    """Why it is not read; empty for a file that fits into memory, and for a folder, which reading refuses."""
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return "must be a file, is a device, a pipe or a socket"
    if found.st_size > MOST_BYTES:
        return f"must have at most {MOST_BYTES >> 20} MiB, has {found.st_size >> 20}"
    return ""


@lru_cache(maxsize=4)
def _to_8_bits(white_level: int) -> Pixels:
    """(65536,): 255 * level / white_level, rounded, and 255 for all that is brighter."""
    levels = np.arange(65536, dtype=np.float64) * 255 / white_level
    return np.asarray(np.minimum(np.round(levels), 255), np.uint8)


def frame_from_file(path: str | Path, seq: int, white_level: int | None = None) -> Frame:
    """The image in a file as the frame of camera "replay", captured now; see read_image."""
    image, sha256 = read_image(path, white_level)
    return Frame(
        image=image,
        seq=seq,
        captured_ns=time.time_ns(),
        monotonic_ns=time.monotonic_ns(),
        camera=REPLAY,
        path=str(path),
        sha256=sha256,
    )
