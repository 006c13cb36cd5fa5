"""What a camera is to the service: the protocol, and the camera that is configured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from device.camera.faults import FaultScript
from device.config import CameraConfig
from device.image.frame import Frame

WhiteLevel = Callable[[], int | None]  # of more than 8 bits, what becomes 255; None: not known


def no_white_level() -> None:
    """Nobody knows it."""


class Camera(Protocol):
    """A source of frames. Every wait is bounded; no call returns an old frame in place of a missing one.

    One thread calls open, read and close, one after the other. `dropped` may be read from any.
    """

    @property
    def name(self) -> str:
        """The kind of camera and what it looks at, for the log."""

    @property
    def live(self) -> bool:
        """Whether frames pass by while nobody reads. A recording waits, and nothing of it is skipped."""

    @property
    def dropped(self) -> int:
        """Frames lost in the camera or overtaken by newer ones: each is a gap of one in Frame.seq."""

    def open(self) -> None:
        """Get ready to read. Raises FrameError when that cannot be."""

    def read(self, timeout_s: float, *, flush: bool = False) -> Frame | None:
        """The next frame, or None at the end of a finite source.

        `flush`: the frame must have been exposed after the call, which is what a trigger wants. A source that
        is no camera (a folder, a file) gives its next image.
        Raises BadFrame when this one frame is lost, FrameError when the camera is (no frame within timeout_s,
        or nothing left to read from).
        """

    def close(self) -> None:
        """Release the source. May be called at any time, and twice."""


def make_camera(
    config: CameraConfig, wait: Callable[[float], object], white_level: WhiteLevel = no_white_level
) -> Camera:
    """The camera that is configured. `wait(seconds)` is how it waits, so that a signal can cut it short.

    `white_level`: of the bundle at work, asked at each image of a replay; cameras give 8 bits.
    Each kind is imported when it is chosen: the others need what this machine may not have.
    """
    if config.kind == "opencv":
        from device.camera.opencv import OpenCvCamera

        return OpenCvCamera(config)
    if config.kind == "picamera2":
        from device.camera.picamera import Picamera

        return Picamera(config)
    from device.camera.replay import ReplayCamera

    script = FaultScript(config.faults, config.fault_seed)
    return ReplayCamera(Path(config.source), config.rate_hz, config.loop, wait, script, white_level)
