"""What a camera sends, picture by picture, each decoded into memory of its own.

A decoder's success is no proof of a picture. OpenCV's VideoCapture hands back the picture before, as a
success, when the present one has another size or colour than the first, and FFmpeg fills a JPEG that was cut
up with rows of the one before. A defective part would be judged by the picture of a good one. So nothing is
believed here but what was decoded from bytes that have just come:

    Motion JPEG   of a stream, a device or a file: OpenCV hands over the bytes as they came. They are looked
                  at, to be whole, and decoded by themselves. A live camera that sends the same bytes twice
                  has sent no second picture: a sensor's noise makes no two alike.
    other codecs  of a stream or a file: PyAV decodes. Each picture has its own size and format, and the
                  decoder's word that it is damaged; what follows a damaged one is drawn over it, up to the
                  next key frame.
    V4L2 devices  without JPEG: OpenCV converts whole buffers. The driver's time of each must be later than
                  that of the one before; where it tells none, the pixels must be others.

H.264 of a scene that stands still may well be the same pixels again, so there the bytes' arrival must do.
FFmpeg's own lines are off: OpenCV's copy of it writes them past the log, one a frame, and PyAV's would take
Python's lock in the decoder's threads. What is wrong with a picture is its FrameError.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from device.errors import FrameError
from device.image.decode import decoded
from device.image.frame import Pixels

_JPEG = ("MJPG", "JPEG", "mjpg", "jpeg")  # as four characters
_BYTES_AS_THEY_COME = -1  # of CAP_PROP_FORMAT
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # "key;value|key;value", which is OpenCV's own name for it
_QUIET = (
    "OPENCV_FFMPEG_LOGLEVEL",
    "-8",
)  # FFmpeg writes a line a frame to stderr; what is wrong is said here
_ERRORS = 2  # of OpenCV's levels: it warns on stderr of each stream that cannot be opened


class Video(Protocol):
    """Pictures one after the other. One thread alone uses it."""

    def grab(self) -> bool:
        """Wait for the next picture. False: there are no more."""

    def picture(self) -> Pixels:
        """The picture that was grabbed, RGB (H, W, 3), in new memory. Raises FrameError: damaged, not new."""

    @property
    def waited_s(self) -> float:
        """How long the source had nothing to give before this picture: about 0 if it lay there."""

    @property
    def is_none(self) -> bool:
        """Whether what was grabbed is no picture of its own: drawn over a damaged one, or sent before."""

    @property
    def expected(self) -> int:
        """How many pictures a file has by its own count, which for some is an estimate; 0: unknown."""

    def close(self) -> None:
        """Release the source."""


def open_stream(source: str, limits_s: tuple[float, float] | None) -> Video | None:
    """A stream or a file; None where nothing can be opened. `limits_s`: to open, and to wait for a picture.

    Raises FrameError: its codec needs PyAV, and that is missing.
    """
    os.environ.setdefault(*_QUIET)
    cv2.setLogLevel(_ERRORS)
    options = []
    if limits_s is not None:
        open_ms, read_ms = (round(1000 * limit_s) for limit_s in limits_s)
        options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
    video = cv2.VideoCapture(source, cv2.CAP_FFMPEG, options)
    live = limits_s is not None
    if not video.isOpened():
        if live:
            _require_reachable(source, limits_s)
        return None
    if _codec(video) in _JPEG and video.set(cv2.CAP_PROP_FORMAT, _BYTES_AS_THEY_COME):
        return JpegVideo(video, live=live)
    video.release()
    return AvVideo(source, limits_s)


def _require_reachable(source: str, limits_s: tuple[float, float] | None) -> None:
    """Raises FrameError with the reason, where there is PyAV to ask."""
    try:
        av = _import_av()
    except FrameError:
        return
    try:
        av.open(source, timeout=limits_s, options=_options(source)).close()
    except av.error.FFmpegError as error:
        raise FrameError(f"cannot be opened: {_told(error)}") from None


def of_device(video: cv2.VideoCapture) -> Video:
    """An opened V4L2 device."""
    if _codec(video) in _JPEG and video.set(cv2.CAP_PROP_CONVERT_RGB, 0):
        return JpegVideo(video, live=True)
    return DeviceVideo(video)


def _codec(video: cv2.VideoCapture) -> str:
    return int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True).decode("latin-1")


class JpegVideo:
    """Motion JPEG as OpenCV hands it over, undecoded."""

    def __init__(self, video: cv2.VideoCapture, *, live: bool) -> None:
        self._video = video
        self._live = live
        self._content: bytes | None = None  # of what was grabbed, once it was asked for
        self._before = b""  # of the last one that was asked for
        self.waited_s = 0.0

    def grab(self) -> bool:
        self._before, self._content = self._content or self._before, None
        began_s = time.monotonic()
        grabbed = self._video.grab()
        self.waited_s = time.monotonic() - began_s
        return grabbed

    @property
    def is_none(self) -> bool:
        return self._live and self._bytes() == self._before

    def picture(self) -> Pixels:
        """One JPEG by itself: its size and its colours are its own."""
        content = self._bytes()
        if not content:
            raise FrameError("is empty")
        if self.is_none:
            raise FrameError("is the one before again, byte for byte")
        return np.asarray(decoded(content, "is no picture"), np.uint8)

    @property
    def expected(self) -> int:
        return max(0, int(self._video.get(cv2.CAP_PROP_FRAME_COUNT)))

    def close(self) -> None:
        self._video.release()

    def _bytes(self) -> bytes:
        if self._content is None:
            taken, content = self._video.retrieve()
            self._content = content.tobytes() if taken and content is not None else b""
        return self._content


class DeviceVideo:
    """A V4L2 device whose buffers OpenCV converts; the size is fixed while it is open."""

    is_none = False

    def __init__(self, video: cv2.VideoCapture) -> None:
        self._video = video
        self._stamp_ms = 0.0
        self._image: Pixels | None = None
        self.waited_s = 0.0

    def grab(self) -> bool:
        began_s = time.monotonic()
        grabbed = self._video.grab()
        self.waited_s = time.monotonic() - began_s
        return grabbed

    def picture(self) -> Pixels:
        before_ms, self._stamp_ms = self._stamp_ms, self._video.get(cv2.CAP_PROP_POS_MSEC)
        before = self._image
        taken, found = self._video.retrieve()
        if not taken or found is None:
            raise FrameError("cannot be decoded")
        image = np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), np.uint8)
        self._image = None if self._stamp_ms else image
        if before_ms and self._stamp_ms <= before_ms:
            raise FrameError("is no later one, by the driver's time")
        if not self._stamp_ms and before is not None and np.array_equal(image, before):
            raise FrameError("is the one before again, pixel for pixel, and the driver tells no time")
        return image

    @property
    def expected(self) -> int:
        return 0

    def close(self) -> None:
        self._video.release()


@dataclass(frozen=True, slots=True)
class _Decoded:
    frame: Any  # av.VideoFrame; None: the packet gave none
    fault: str


class AvVideo:
    """Any other codec, through PyAV. Frame threads, which would hold pictures back, are off."""

    def __init__(self, source: str, limits_s: tuple[float, float] | None) -> None:
        """Raises FrameError: no PyAV, nothing to be opened, or no video in it."""
        self._av = _import_av()
        self._container: Any = None
        try:
            self._container = self._av.open(source, timeout=limits_s, options=_options(source))
            self._stream = self._container.streams.video[0]
            self._refuse_jpeg()
        except (self._av.error.FFmpegError, IndexError) as error:  # IndexError: sound alone
            self.close()
            raise FrameError(f"cannot be opened: {_told(error)}") from None
        self._stream.thread_type = "SLICE"
        self._decoded = self._decode()
        self._current = _Decoded(None, "nothing was grabbed")
        self._damaged = self.is_none = False
        self.waited_s = 0.0

    def grab(self) -> bool:
        try:
            found = next(self._decoded, None)
        except self._av.error.FFmpegError:  # time limit, connection lost, end of file in the middle
            return False
        if found is None:
            return False
        fresh = not found.fault and found.frame.key_frame
        self.is_none = self._damaged and not fresh
        self._damaged = self.is_none or bool(found.fault)
        self._current = found
        return True

    def picture(self) -> Pixels:
        """Converted anew, by the picture's own size and format."""
        if self.is_none or self._current.fault:
            raise FrameError(self._current.fault or "is drawn over a damaged one")
        return np.asarray(self._current.frame.to_ndarray(format="rgb24"), np.uint8)

    @property
    def expected(self) -> int:
        return int(self._stream.frames)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()

    def _refuse_jpeg(self) -> None:
        """FFmpeg fills a JPEG that is cut with rows of the one before, and does not tell."""
        if self._stream.codec_context.name == "mjpeg":
            self.close()
            raise FrameError("is Motion JPEG whose bytes OpenCV does not hand over")

    def _decode(self) -> Iterator[_Decoded]:
        packets = self._container.demux(self._stream)
        while True:
            began_s = time.monotonic()
            packet = next(packets, None)
            self.waited_s = time.monotonic() - began_s
            if packet is None:
                return
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError as error:
                yield _Decoded(None, f"cannot be decoded: {_told(error)}")
                continue
            for frame in frames:
                damaged = frame.is_corrupt or packet.is_corrupt
                yield _Decoded(frame, "is damaged, says the decoder" if damaged else "")


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise FrameError(
            f"is no Motion JPEG, and other codecs need PyAV: {error}; install the package av, or set the "
            "camera to Motion JPEG (docs/guide/cameras.md)"
        ) from None
    av.logging.set_level(av.logging.PANIC)  # what is wrong is said here
    return av


def _options(source: str) -> dict[str, str]:
    """FFmpeg's options from the environment; RTSP goes over TCP unless they say otherwise, as with OpenCV."""
    said = dict(pair.partition(";")[::2] for pair in os.environ.get(_OPTIONS, "").split("|") if pair)
    return said or ({"rtsp_transport": "tcp"} if source.startswith("rtsp") else {})


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
