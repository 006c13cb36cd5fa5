"""A camera on the Pi's own connector, through picamera2.

docs/measurements/cameras.md: what was checked, and against what.

Where the camera's format is that of Frame, Frame.image is a view of the camera's buffer: no copy. The buffer
goes back to the camera when the last array that looks at it is gone, whoever holds it. LENT buffers are out
at a time; while they are, further frames are copied, so that nobody who keeps a frame can starve the camera.
"""

from __future__ import annotations

import atexit
import logging
import queue
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from device.camera.worker import Worker
from device.config import CameraConfig
from device.errors import FrameError
from device.image.frame import BadFrame, Frame, Pixels
from device.image.geometry import Size

log = logging.getLogger(__name__)

PICAMERA2 = "picamera2"  # Frame.camera
LENT = 2
BUFFERS = LENT + 4  # one is ready to be taken, three are being filled
_OPEN_S = 20.0  # a sensor's start takes a second or two; nothing is inspected before
_CLOSE_S = 3.0
_GRACE_S = 1.0  # for picamera2 to report its own time-out
_SLOWEST_FRAME_US = 1_000_000
_OLDEST_NS = 60_000_000_000

# How the bytes of a picamera2 format become RGB; its names read from the top byte of a word down, so that
# "BGR888" is R, G, B in memory, and "RGB888" is B, G, R. None: they are RGB.
_TO_RGB: Mapping[str, int | None] = {
    "BGR888": None,
    "RGB888": cv2.COLOR_BGR2RGB,
    "XBGR8888": cv2.COLOR_RGBA2RGB,
    "XRGB8888": cv2.COLOR_BGRA2RGB,
    "YUV420": cv2.COLOR_YUV2RGB_I420,
}
_METADATA = {
    "ExposureTime": "exposure_us",
    "AnalogueGain": "analogue_gain",
    "DigitalGain": "digital_gain",
    "FrameDuration": "frame_duration_us",
    "Lux": "illuminance_lx",
    "ColourTemperature": "colour_temperature_k",
    "SensorTemperature": "sensor_temperature_c",
    "SensorTimestamp": "sensor_ts_ns",
    "FocusFoM": "focus_fom",
}


class Picamera:
    """The camera number `config.number`; see default.toml for the settings that it obeys."""

    def __init__(self, config: CameraConfig) -> None:
        self._config = config
        self._worker = Worker(PICAMERA2)
        self._camera: Any = None
        self._stream: _Stream | None = None
        self._returned: queue.SimpleQueue[ExitStack] = queue.SimpleQueue()
        self._lent = 0
        self._seq = 0
        self._last_ns: int | None = None  # SensorTimestamp of the frame before, where none may be missed
        self._newest_ns: int | None = None  # the latest SensorTimestamp of all
        self._told = False
        self.dropped = 0

    @property
    def name(self) -> str:
        return f"{PICAMERA2} {self._config.number}, {self._config.stream}"

    @property
    def live(self) -> bool:
        return True

    def open(self) -> None:
        """Configure and start. Raises FrameError: no picamera2, no camera, or a setting that it refuses."""
        self.close()
        self._last_ns = self._newest_ns = None
        self._told = False
        self._worker.do("open", self._open, _OPEN_S)

    def read(self, timeout_s: float, *, flush: bool = False) -> Frame | None:
        """The next frame; with `flush`, the first that began to be exposed after the call.

        None after close() alone.
        """
        if self._camera is None:
            return None
        capture = partial(self._capture, timeout_s, flush)
        return self._worker.do("read", capture, timeout_s + _GRACE_S)

    def close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is None:
            return
        try:
            self._worker.do("close", partial(self._close, camera), _CLOSE_S)
        except FrameError as error:
            atexit.unregister(
                camera.close
            )  # picamera2 would call it at the end of the process, and hang there
            log.warning("%s; it is left alone", error)
        self._worker.stop()
        self._worker = Worker(PICAMERA2)

    # From here on in the worker's thread.

    def _open(self) -> None:
        library = _import()
        try:
            camera = library.Picamera2(self._config.number)
        except (RuntimeError, IndexError) as error:
            raise FrameError(f"{self.name}: cannot be opened: {_told(error)}") from error
        try:
            self._start(camera, library)
        except FrameError:
            camera.close()
            raise
        except Exception as error:  # libcamera raises what it likes
            camera.close()
            raise FrameError(f"{self.name}: cannot be started: {_told(error)}") from error
        self._camera = camera

    def _start(self, camera: Any, library: _Library) -> None:
        config = self._config
        main = Size(config.width_px, config.height_px) if config.width_px else _sensor_size(camera)
        lores = Size(config.lores_width_px, config.lores_height_px)
        camera.configure(
            camera.create_video_configuration(
                main={"size": (main.width, main.height), "format": "BGR888"},
                lores=self._lores(camera, lores),
                transform=library.Transform(hflip=config.mirror, vflip=config.flip),
                colour_space=library.ColorSpace.Smpte170m(),  # the one that OpenCV's YUV conversion knows
                buffer_count=BUFFERS,
                controls=_controls(config, camera.camera_controls, self.name),
                display=None,
                encode=None,
            )
        )
        asked = main if config.stream == "main" else lores
        self._stream = _stream_of(camera.stream_configuration(config.stream), asked, self.name)
        self._library = library
        camera.start()

    def _lores(self, camera: Any, size: Size) -> dict[str, Any] | None:
        """Up to the Pi 4 this stream can only be YUV."""
        if self._config.stream != "lores":
            return None
        is_yuv = camera.platform.name == "VC4"
        return {"size": (size.width, size.height), "format": "YUV420" if is_yuv else "BGR888"}

    def _capture(self, timeout_s: float, flush: bool) -> Frame:
        self._take_back()
        camera = self._camera
        try:
            request = camera.capture_request(wait=max(timeout_s, 0.001), flush=True if flush else None)
        except TimeoutError:
            camera.cancel_all_and_flush()  # else the job would take the next frame, and nobody give it back
            raise FrameError(f"{self.name}: no frame within {timeout_s:g} s") from None
        with ExitStack() as lease:
            lease.callback(request.release)
            metadata = request.get_metadata()
            self._require_new(metadata)
            image = self._image(request, lease)
            return self._frame(image, metadata, flush)

    def _require_new(self, metadata: Mapping[str, Any]) -> None:
        """By the sensor's clock. Raises BadFrame: not later than the one before, or without a time."""
        at_ns = metadata.get("SensorTimestamp")
        if at_ns and (self._newest_ns is None or at_ns > self._newest_ns):
            self._newest_ns = at_ns
            return
        seq, self._seq = self._seq, self._seq + 1
        what = "is one that was given before, by the sensor's time" if at_ns else "has no sensor's time"
        raise BadFrame(
            f"{self.name}: frame {seq} {what}",
            seq=seq,
            path=None,
            captured_ns=time.time_ns(),
            camera=PICAMERA2,
        )

    def _image(self, request: Any, lease: ExitStack) -> Pixels:
        """RGB: a view that takes the lease with it, or a copy that leaves it."""
        assert self._stream is not None  # noqa: S101 - set by open
        mapped = lease.enter_context(self._library.MappedArray(request, self._config.stream, write=False))
        array: Pixels = mapped.array
        conversion = _TO_RGB[self._stream.format]
        if conversion is not None:
            size = self._stream.size
            return np.asarray(cv2.cvtColor(array, conversion), np.uint8)[: size.height, : size.width]
        if self._lent >= LENT:
            return array.copy()
        self._lent += 1
        return np.asarray(_Loan(array, lease.pop_all(), self._returned.put))

    def _take_back(self) -> None:
        """Give buffers back whose last view is gone."""
        while not self._returned.empty():
            self._lent -= 1
            self._returned.get().close()

    def _frame(self, image: Pixels, metadata: Mapping[str, Any], flush: bool) -> Frame:
        now_ns, utc_ns = time.monotonic_ns(), time.time_ns()
        age_ns = now_ns - metadata.get("SensorTimestamp", now_ns)
        if not 0 <= age_ns < _OLDEST_NS:
            age_ns = 0
        self._count_missed(metadata, flush)
        seq, self._seq = self._seq, self._seq + 1
        self._tell_unlocked(metadata)
        return Frame(
            image=image,
            seq=seq,
            captured_ns=utc_ns - age_ns,
            monotonic_ns=now_ns - age_ns,
            camera=PICAMERA2,
            path=None,
            sha256=None,
            metadata=_named(metadata),
        )

    def _count_missed(self, metadata: Mapping[str, Any], flush: bool) -> None:
        """Frames between this one and the last, by the sensor's clock; picamera2 does not number them."""
        at_ns, duration_us = metadata.get("SensorTimestamp"), metadata.get("FrameDuration")
        if self._last_ns is not None and not flush and at_ns and duration_us:
            missed = max(0, round((at_ns - self._last_ns) / (duration_us * 1000)) - 1)
            self.dropped += missed
            self._seq += missed
        self._last_ns = at_ns

    def _tell_unlocked(self, metadata: Mapping[str, Any]) -> None:
        """Once: a locked exposure or gain that the camera does not keep."""
        for key, wanted in (
            ("ExposureTime", self._config.exposure_us),
            ("AnalogueGain", self._config.gain_ratio),
        ):
            found = metadata.get(key, wanted)
            if wanted and abs(found - wanted) > 0.1 * wanted and not self._told:
                self._told = True
                log.warning("%s: %s is %s, asked for was %s", self.name, _METADATA[key], found, wanted)

    def _close(self, camera: Any) -> None:
        self._take_back()
        camera.cancel_all_and_flush()
        camera.close()


@dataclass(frozen=True, slots=True)
class _Library:
    Picamera2: Any
    MappedArray: Any
    Transform: Any
    ColorSpace: Any


def _import() -> _Library:
    try:
        from libcamera import ColorSpace, Transform
        from picamera2 import MappedArray, Picamera2
    except ImportError as error:
        raise FrameError(
            f"[camera] kind picamera2: {error}; install python3-picamera2, and make the environment with "
            "--system-site-packages (docs/guide/cameras.md)"
        ) from None
    return _Library(Picamera2, MappedArray, Transform, ColorSpace)


@dataclass(frozen=True, slots=True)
class _Stream:
    size: Size
    format: str


def _stream_of(found: Mapping[str, Any], asked: Size, name: str) -> _Stream:
    """What libcamera made of the configuration. Raises FrameError when that cannot be inspected."""
    size = Size(*found["size"])
    if size != asked:
        raise FrameError(
            f"{name}: gives {size.width}x{size.height} px, asked for were {asked.width}x{asked.height} px"
        )
    if found["format"] not in _TO_RGB:
        raise FrameError(f"{name}: gives {found['format']}, must be one of {', '.join(_TO_RGB)}")
    return _Stream(size, found["format"])


def _sensor_size(camera: Any) -> Size:
    return Size(*camera.sensor_resolution)


def _controls(config: CameraConfig, limits: Mapping[str, tuple[Any, Any, Any]], name: str) -> dict[str, Any]:
    """What is locked. Raises FrameError for a value out of the camera's range, which libcamera would clip."""
    exposure_us, gain, gains = config.exposure_us, config.gain_ratio, config.colour_gains
    for key, control, value in (
        ("exposure_us", "ExposureTime", exposure_us),
        ("gain_ratio", "AnalogueGain", gain),
    ):
        low, high, _ = limits.get(control, (None, None, None))
        if value and low is not None and not (low <= value and (not high or value <= high)):
            raise FrameError(f"{name}: [camera] {key}: must be {low:g}..{high:g}, got {value:g}")
    period_us = round(1e6 / config.rate_hz) if config.rate_hz else 0
    controls: dict[str, Any] = {
        "FrameDurationLimits": (period_us or 100, period_us or max(_SLOWEST_FRAME_US, 2 * exposure_us))
    }
    if exposure_us:
        controls["ExposureTime"] = exposure_us
    if gain:
        controls["AnalogueGain"] = gain
    if exposure_us and gain:
        controls["AeEnable"] = False
    if any(gains):
        controls |= {"AwbEnable": False, "ColourGains": tuple(gains)}
    return controls


def _named(metadata: Mapping[str, Any]) -> dict[str, float]:
    """The camera's metadata with units in the names."""
    named: dict[str, float] = {
        ours: round(metadata[theirs], 4) for theirs, ours in _METADATA.items() if theirs in metadata
    }
    if "ColourGains" in metadata:
        named["red_gain"], named["blue_gain"] = (round(gain, 4) for gain in metadata["ColourGains"])
    return named


class _Loan:
    """Memory of the camera, the base of arrays. When the last of them is gone, `give_back` gets the lease."""

    def __init__(self, array: Pixels, lease: ExitStack, give_back: Callable[[ExitStack], None]) -> None:
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {
            **array.__array_interface__,
            "data": (address, True),  # read-only
            "strides": array.strides,
        }
        self._lease = lease
        self._give_back = give_back

    def __del__(self) -> None:
        # In whatever thread, perhaps in the middle of a collection: a SimpleQueue may be put to even there.
        self._give_back(self._lease)


def _told(error: Exception) -> str:
    """The message, with that of its cause: picamera2 says of most faults "did not complete"."""
    causes = [str(error) or type(error).__name__]
    if error.__cause__ is not None:
        causes.append(str(error.__cause__))
    return ": ".join(causes)
