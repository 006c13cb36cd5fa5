"""A camera that may go away for a while: it is opened again, at growing intervals, before it counts as dead.

Network cameras restart, and switches do. Meanwhile nothing stands for the picture that is missing: a part
that is asked for has its ERROR verdict at once, and a camera that runs freely gives one in each time limit. A
camera that comes back and is lost again without a picture in between was never back.
"""

from __future__ import annotations

import logging
import threading
import time

from device.camera.camera import Camera
from device.config import CameraConfig
from device.errors import FrameError
from device.image.frame import BadFrame, Frame
from device.system.loudness import Loudness

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
_CLOSE_S = 1.0


def reopened(camera: Camera, config: CameraConfig) -> Camera:
    """The camera that is configured, with patience where it is a stream."""
    is_stream = config.kind == "opencv" and "://" in config.source
    return Reopening(camera, config.reopen_s) if is_stream and config.reopen_s else camera


class Reopening:
    """A camera as all are; `limit_s`: so long it may be away."""

    def __init__(self, camera: Camera, limit_s: float) -> None:
        self._camera = camera
        self._limit_s = limit_s
        self._loudness = Loudness()
        self._back = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost: FrameError | None = None
        self._lost_s = 0.0
        self._told = False
        self._pause_s = FIRST_PAUSE_S
        self._dead: FrameError | None = None
        self._next_seq = 0
        self.losses = 0  # how often it was lost

    @property
    def name(self) -> str:
        return self._camera.name

    @property
    def live(self) -> bool:
        return self._camera.live

    @property
    def dropped(self) -> int:
        return self._camera.dropped

    def open(self) -> None:
        """The first time it must be there. Raises FrameError."""
        self.close()
        self._lost = self._dead = None
        self._closing.clear()
        self._camera.open()

    def read(self, timeout_s: float, *, flush: bool = False) -> Frame | None:
        """The camera's next frame; while it is away, a BadFrame. FrameError when it was away for too long."""
        if self._thread is not None and not self._returned(0.0 if flush else timeout_s):
            raise self._away()
        try:
            frame = self._camera.read(timeout_s, flush=flush)
        except BadFrame as fault:
            self._next_seq = fault.seq + 1
            raise
        except FrameError as lost:
            self._lose(lost)
            raise self._away() from None
        if frame is not None:
            self._next_seq = frame.seq + 1
            self._welcome()
        return frame

    def close(self) -> None:
        self._closing.set()
        self._back.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_CLOSE_S)  # it may be waiting for an answer, and then comes too late
        self._camera.close()

    def _returned(self, timeout_s: float) -> bool:
        """Whether it is open again, waited for so long. Raises FrameError: it has been given up."""
        if not self._back.wait(timeout_s):
            return False
        if self._dead is not None:
            raise self._dead
        self._thread = None
        return True

    def _lose(self, lost: FrameError) -> None:
        if self._lost is None:
            self.losses += 1
            self._lost_s = time.monotonic()
            level = self._loudness.level()
            self._told = level > logging.DEBUG
            log.log(level, "%s; it is opened again, for %g s at most", lost, self._limit_s)
        elif self._left_s() <= 0:
            raise self._given_up(lost)
        self._lost = lost
        self._back.clear()
        self._thread = threading.Thread(target=self._reopen, name="reopening", daemon=True)
        self._thread.start()

    def _away(self) -> BadFrame:
        return BadFrame(
            f"{self._lost}; it is being opened again",
            seq=self._next_seq,
            path=None,
            captured_ns=time.time_ns(),
            camera=self._camera.name.partition(" ")[0],
            cause="away",
        )

    def _welcome(self) -> None:
        """A picture has come."""
        if self._lost is not None:
            self._lost = None
            self._pause_s = FIRST_PAUSE_S
            away_s = time.monotonic() - self._lost_s
            log.log(logging.INFO if self._told else logging.DEBUG, "%s: back after %.1f s", self.name, away_s)

    def _left_s(self) -> float:
        return self._lost_s + self._limit_s - time.monotonic()

    def _given_up(self, error: FrameError) -> FrameError:
        return FrameError(f"{error}; given up after {self._limit_s:g} s")

    # -- the thread

    def _reopen(self) -> None:
        opened = False
        while not opened and self._dead is None:
            if self._closing.wait(max(0.0, min(self._pause_s, self._left_s()))):
                return
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            try:
                self._camera.close()
                self._camera.open()
                opened = True
            except FrameError as error:
                log.debug("%s", error)
                if self._left_s() <= 0:
                    self._dead = self._given_up(error)
        self._back.set()
