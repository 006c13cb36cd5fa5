"""A camera through OpenCV: a V4L2 device, an RTSP or HTTP stream, a video file.

A thread owns the capture and reads it all the time, because drivers and networks hold frames back: a camera
that is read only when a part comes would give the picture of the part before. A frame is decoded only when
somebody waits for it, and from bytes that came after the trigger alone: see video.py. The thread may hang in
the kernel; whoever waits for it does so with a limit.
"""

from __future__ import annotations

import logging
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import cv2

from device.camera.pace import Pace
from device.camera.video import Video, of_device, open_stream
from device.config import CameraConfig
from device.errors import FrameError
from device.image.frame import BadFrame, Frame, Pixels

log = logging.getLogger(__name__)

OPENCV = "opencv"  # Frame.camera
_V4L2_MANUAL_EXPOSURE = 1
_US_IN_V4L2_EXPOSURE = 100  # V4L2_CID_EXPOSURE_ABSOLUTE counts in 100 us
_CLOSE_S = 2.0


@dataclass(slots=True)
class _Wish:
    """What a reader waits for: a frame that arrives after `after_ns`; `part`: of a certain part."""

    after_ns: int
    part: bool
    answer: Frame | BadFrame | None = None


class OpenCvCamera:
    """Frames of `config.source`; see default.toml for the settings that it obeys."""

    def __init__(self, config: CameraConfig) -> None:
        self._config = config
        self._is_device = _is_device(config.source)
        self._is_file = not _is_address(config.source) and not self._is_device
        self._changed = threading.Condition()
        self._stop = threading.Event()  # of the thread that runs
        self._thread: threading.Thread | None = None
        self._opened = False
        self._ended: FrameError | None = None  # why there are no more frames
        self._wish: _Wish | None = None
        self._passed = 0  # frames since the last that was read
        self._seq = 0
        self._pace = Pace(config.latency_ms / 1000)
        self._fresh_ns = 0  # when a picture last came at the camera's pace: later ones are not older
        self.dropped = 0

    @property
    def name(self) -> str:
        return f"{OPENCV} of {without_password(self._config.source)}"

    @property
    def live(self) -> bool:
        return not self._is_file

    def open(self) -> None:
        """Open the source in the thread. Raises FrameError: missing, refused, or no answer in time."""
        self.close()
        self._opened, self._ended, self._wish, self._passed = False, None, None, 0
        self._pace, self._fresh_ns = Pace(self._config.latency_ms / 1000), 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name=OPENCV, daemon=True)
        self._thread.start()
        limit_s = self._config.timeout_s
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self._ended, limit_s)
            if self._ended is not None:
                raise self._ended
            if not self._opened:
                self._stop.set()
                raise FrameError(f"{self.name}: cannot be opened within {limit_s:g} s")

    def read(self, timeout_s: float, *, flush: bool = False) -> Frame | None:
        """The next frame that arrives; with `flush`, one that arrives latency_ms after the call or later.

        Frames that passed since the last call are dropped, unless `flush` says that only this one was wanted.
        """
        latency_ns = round(self._config.latency_ms * 1_000_000) if flush and self.live else 0
        with self._changed:
            self._count_passed(wanted=not flush)
            wish = self._wish = _Wish(time.monotonic_ns() + latency_ns, flush)
            self._changed.notify_all()
            self._changed.wait_for(lambda: wish.answer or self._ended or self._thread is None, timeout_s)
            self._wish = None
            return self._answer(wish, timeout_s)

    def close(self) -> None:
        thread, self._thread = self._thread, None
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if thread is not None:
            thread.join(_CLOSE_S)
            if thread.is_alive():
                log.warning("%s: hangs while it is closed; it is left alone", self.name)

    def _count_passed(self, wanted: bool) -> None:
        passed, self._passed = self._passed, 0
        if wanted:
            self.dropped += passed
            self._seq += passed

    def _answer(self, wish: _Wish, timeout_s: float) -> Frame | None:
        if isinstance(wish.answer, Frame):
            return wish.answer
        if isinstance(wish.answer, BadFrame):
            raise wish.answer
        if self._ended is not None and not isinstance(self._ended, _EndOfFile):
            raise self._ended
        if self._ended is not None or self._thread is None:
            return None
        raise FrameError(f"{self.name}: no frame within {timeout_s:g} s")

    def _run(self, stop: threading.Event) -> None:
        """The thread, which alone touches the capture."""
        video = None
        try:
            video = self._open_video()
            with self._changed:
                self._opened = True
                self._changed.notify_all()
            while not stop.is_set():
                self._turn(video, stop)
        except FrameError as error:
            with self._changed:
                if not stop.is_set():
                    self._ended = error
                self._changed.notify_all()
        finally:
            if video is not None:
                video.close()

    def _open_video(self) -> Video:
        source, limit_s = self._config.source, self._config.timeout_s
        if not _is_address(source) and not Path(source).exists():
            raise FrameError(f"{self.name}: no such file or device")
        try:
            if self._is_device:
                video = self._open_device()
            else:
                self._refuse_settings()
                video = open_stream(source, None if self._is_file else (limit_s, 2 * limit_s))
        except FrameError as error:
            raise FrameError(f"{self.name}: {error}") from None
        if video is None:
            raise FrameError(f"{self.name}: cannot be opened, or is nothing that OpenCV can read")
        return video

    def _open_device(self) -> Video | None:
        video = cv2.VideoCapture(self._config.source, cv2.CAP_V4L2)
        if not video.isOpened():
            return None
        for key, number, value in self._settings():
            if not video.set(number, value):
                raise FrameError(f"refuses [camera] {key}")
        return of_device(video)

    def _settings(self) -> list[tuple[str, int, float]]:
        """What is set on a device: the key, OpenCV's number for it, the value."""
        config = self._config
        wanted: list[tuple[str, int, float]] = []
        if config.width_px:
            wanted += [("width_px", cv2.CAP_PROP_FRAME_WIDTH, config.width_px)]
            wanted += [("height_px", cv2.CAP_PROP_FRAME_HEIGHT, config.height_px)]
        if config.rate_hz:
            wanted += [("rate_hz", cv2.CAP_PROP_FPS, config.rate_hz)]
        if config.exposure_us:
            wanted += [("exposure_us", cv2.CAP_PROP_AUTO_EXPOSURE, _V4L2_MANUAL_EXPOSURE)]
            exposure = max(1, round(config.exposure_us / _US_IN_V4L2_EXPOSURE))
            wanted += [("exposure_us", cv2.CAP_PROP_EXPOSURE, exposure)]
        return wanted

    def _refuse_settings(self) -> None:
        """A stream and a file can only be as they are. The size is checked frame by frame."""
        for key in ("rate_hz", "exposure_us"):
            if getattr(self._config, key):
                raise FrameError(f"refuses [camera] {key}: that is for devices")

    def _turn(self, video: Video, stop: threading.Event) -> None:
        """One frame. A file waits until somebody wants it. Raises FrameError at the end."""
        with self._changed:
            if self._is_file and not self._changed.wait_for(lambda: self._is_wanted() or stop.is_set(), 1.0):
                return
        if stop.is_set():
            return
        if not video.grab():
            raise self._end()
        now_ns, utc_ns = time.monotonic_ns(), time.time_ns()
        if self._pace.arrived(now_ns / 1e9, video.waited_s):
            self._fresh_ns = now_ns
        with self._changed:
            wish = self._wish
            if wish is None or wish.answer is not None:
                self._passed += 1
                return
            if (self._fresh_ns if wish.part and self.live else now_ns) < wish.after_ns:
                return
        is_none = video.is_none  # which takes a copy of its bytes
        with self._changed:
            if is_none and not wish.part:
                self._passed += 1
                return
            seq, self._seq = self._seq, self._seq + 1
        answer = self._decode(video, seq, now_ns, utc_ns)
        with self._changed:
            wish.answer = answer
            self.dropped += self._wish is not wish  # too late: nobody waits for it any more
            self._changed.notify_all()

    def _is_wanted(self) -> bool:
        return self._wish is not None and self._wish.answer is None

    def _end(self) -> FrameError:
        if self._is_file:
            return _EndOfFile(f"{self.name}: ended")
        return FrameError(f"{self.name}: gives no more frames")

    def _decode(self, video: Video, seq: int, now_ns: int, utc_ns: int) -> Frame | BadFrame:
        path = f"{Path(self._config.source).name}#{seq}" if self._is_file else None
        try:
            image = video.picture()
            self._check_size(image)
        except FrameError as error:
            message = f"{self.name}: frame {seq} {error}"
            return BadFrame(message, seq=seq, path=path, captured_ns=utc_ns, camera=OPENCV)
        return Frame(
            image=image,
            seq=seq,
            captured_ns=utc_ns,
            monotonic_ns=now_ns,
            camera=OPENCV,
            path=path,
            sha256=None,
        )

    def _check_size(self, image: Pixels) -> None:
        width, height = self._config.width_px, self._config.height_px
        found = image.shape[1], image.shape[0]
        if width and found != (width, height):
            raise FrameError(f"is {found[0]}x{found[1]} px, asked for were {width}x{height} px")


class _EndOfFile(FrameError):
    """The end that a file has by nature."""


def without_password(source: str) -> str:
    """An address as it may be logged: without user name and password."""
    if not _is_address(source):
        return source
    parts = urlsplit(source)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _is_address(source: str) -> bool:
    return "://" in source


def _is_device(source: str) -> bool:
    try:
        return stat.S_ISCHR(Path(source).stat().st_mode)
    except OSError:
        return source.startswith("/dev/")
