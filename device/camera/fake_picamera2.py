"""A stand-in for picamera2 and libcamera that behaves, for machines without a Pi's camera.

What the adapter relies on is done as picamera2 0.3.38 does it (docs/measurements/cameras.md lists it):

- A frame needs a free buffer. Requests that nobody releases starve the camera.
- A released buffer is overwritten at once; so a view that outlives its request shows noise. A MappedArray of
  a released request raises.
- capture_request queues a job. One that ran into its time-out stays in the queue, and takes a frame that then
  nobody releases, until cancel_all_and_flush().
- The newest frame is held back for whoever asks next, unless `flush` wants one exposed later.
- Rows are padded to the stride; lores is YUV420 on a Pi 4 and may be RGB on a Pi 5; odd sizes are made even.
- Configurations and controls that picamera2 refuses raise what it raises.

`Picamera2.world` is what the camera looks at and how it misbehaves. To run a program on the stand-in, put it
in sys.modules as "picamera2" and "libcamera", or write modules of these names that import it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, ClassVar, Self

import cv2
import numpy as np

from device.image.frame import Pixels

_RGB_FORMATS = {"BGR888": 3, "RGB888": 3, "XBGR8888": 4, "XRGB8888": 4}
_FORMATS = {**_RGB_FORMATS, "YUV420": 1}
_SENSOR = (1456, 1088)
_LIMITS: Mapping[str, tuple[Any, Any, Any]] = {
    "AeEnable": (False, True, None),
    "AnalogueGain": (1.0, 16.0, 1.0),
    "AwbEnable": (False, True, None),
    "ColourGains": (0.0, 32.0, None),
    "ExposureTime": (29, 15_534_385, None),
    "FrameDurationLimits": (8_000, 15_534_444, None),
    "NoiseReductionMode": (0, 4, 0),
}


class Platform(Enum):
    """The image processor: VC4 up to the Pi 4, PISP from the Pi 5 on."""

    VC4 = 0
    PISP = 1


@dataclass(frozen=True)
class Transform:
    """libcamera.Transform, as far as a sensor can do it."""

    hflip: bool = False
    vflip: bool = False
    transpose: bool = False


class ColorSpace:
    """libcamera.ColorSpace."""

    @staticmethod
    def Sycc() -> ColorSpace:  # noqa: N802 - libcamera's name
        return ColorSpace()

    @staticmethod
    def Smpte170m() -> ColorSpace:  # noqa: N802
        return ColorSpace()

    @staticmethod
    def Rec709() -> ColorSpace:  # noqa: N802
        return ColorSpace()


def colour_picture(number: int, width: int, height: int) -> Pixels:
    """RGB: a red left third, a green middle and a blue right; the top row of squares counts the frames."""
    picture = np.zeros((height, width, 3), np.uint8)
    for channel in range(3):
        picture[:, channel * width // 3 : (channel + 1) * width // 3, channel] = 200
    side = max(2, width // 32)
    for bit in range(16):
        if number >> bit & 1:
            picture[:side, 2 * bit * side : (2 * bit + 1) * side] = 255
    return picture


@dataclass
class World:
    """What the camera is and sees. `picture(number, width, height)` gives RGB.

    `gives_frames`: cleared, no frame comes any more. `may_return`: cleared, calls into picamera2 block until
    it is set, as a driver does that waits in the kernel.
    """

    cameras: int = 1
    platform: Platform = Platform.VC4
    picture: Callable[[int, int, int], Pixels] = colour_picture
    alignment: int = 64
    frame_us: int = 10_000  # the shortest time between two frames
    gives_frames: threading.Event = field(default_factory=threading.Event)
    may_return: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gives_frames.set()
        self.may_return.set()


class CompletedRequest:
    """A frame. Its buffers are the camera's again when it has been released as often as acquired."""

    def __init__(self, camera: Picamera2, buffers: dict[str, Pixels], metadata: dict[str, Any]) -> None:
        self.request: dict[str, Any] | None = metadata
        self.ref_count = 1
        self.picam2 = camera
        self.config = dict(camera.camera_config)
        self._buffers = buffers
        self._stop_count = camera.stop_count

    def acquire(self) -> None:
        with self.picam2.request_lock:
            if self.ref_count == 0:
                raise RuntimeError("CompletedRequest: acquiring lock with ref_count 0")
            self.ref_count += 1

    def release(self) -> None:
        with self.picam2.request_lock:
            self.ref_count -= 1
            if self.ref_count < 0:
                raise RuntimeError("CompletedRequest: lock now has negative ref_count")
            if self.ref_count:
                return
            self.request = None
            for index, buffer in enumerate(self._buffers.values()):
                buffer[:] = (
                    np.arange(index, index + buffer.size, dtype=np.uint32) * 2_654_435_761 >> 24 & 0xFF
                )
        self.picam2.take_back(self._buffers, self._stop_count)

    def get_metadata(self) -> dict[str, Any]:
        assert self.request is not None  # noqa: S101 - as picamera2 does
        return dict(self.request)

    def make_array(self, name: str) -> Pixels:
        """A copy of the stream's image."""
        if self.config.get(name) is None:
            raise RuntimeError(f"Stream {name!r} is not defined")
        with MappedArray(self, name) as mapped:
            return np.ascontiguousarray(mapped.array).copy()

    def buffer(self, stream: str) -> Pixels:
        """The stream's bytes, as the camera has them."""
        return self._buffers[stream]


class MappedArray:
    """The stream's memory as an array, without a copy: good until the request is released."""

    def __init__(
        self, request: CompletedRequest, stream: str, reshape: bool = True, write: bool = True
    ) -> None:
        assert request.request is not None  # noqa: S101 - as picamera2 does
        self._request = request
        self._stream = stream
        self._reshape = reshape
        self._array: Pixels | None = None

    def __enter__(self) -> Self:
        array = self._request.buffer(self._stream)
        if self._reshape:
            array = _shaped(array, self._request.config[self._stream])
        self._array = array
        return self

    def __exit__(self, exc_type: object, exc_value: object, exc_traceback: object) -> None:
        self._array = None

    @property
    def array(self) -> Any:
        return self._array


class _Job:
    def __init__(self, steps: list[Callable[[], tuple[bool, Any]]]) -> None:
        self.steps = steps
        self.future: Future[Any] = Future()

    def execute(self) -> bool:
        """One turn. True when the job is done."""
        result: Any = None
        while self.steps:
            done, result = self.steps[0]()
            if not done:
                return False
            self.steps.pop(0)
        if not self.future.done():
            self.future.set_result(result)
        return True


class Picamera2:
    """A camera; see the head of this module."""

    world: ClassVar[World] = World()

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        return [{"Num": number, "Model": "stand-in"} for number in range(Picamera2.world.cameras)]

    def __init__(
        self, camera_num: int = 0, verbose_console: Any = None, tuning: Any = None, allocator: Any = None
    ) -> None:
        self.world.may_return.wait()
        if camera_num >= len(self.global_camera_info()):
            raise RuntimeError(
                f'No camera number {camera_num} found - use "rpicam-hello --list-cameras" to check '
                "connected cameras"
            )
        self.request_lock = threading.Lock()
        self.lock = threading.Lock()  # the jobs and the completed requests
        self.sensor_resolution = _SENSOR
        self.camera_config: dict[str, Any] = {}
        self.stop_count = 0
        self.started = False
        self.is_open = True
        self.completed_requests: list[CompletedRequest] = []
        self.starved = 0  # frames that were lost because no buffer was free
        self._jobs: list[_Job] = []
        self._controls: dict[str, Any] = {}
        self._buffers: list[dict[str, Pixels]] = []
        self._buffers_lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def platform(self) -> Platform:
        return self.world.platform

    @property
    def camera_controls(self) -> dict[str, tuple[Any, Any, Any]]:
        return dict(_LIMITS)

    def create_video_configuration(
        self,
        main: Mapping[str, Any] | None = None,
        lores: Mapping[str, Any] | None = None,
        raw: Mapping[str, Any] | None = None,
        transform: Transform | None = None,
        colour_space: ColorSpace | None = None,
        buffer_count: int = 6,
        controls: Mapping[str, Any] | None = None,
        display: str | None = "main",
        encode: str | None = "main",
        queue: bool = True,
        sensor: Mapping[str, Any] | None = None,
        use_case: str = "video",
    ) -> dict[str, Any]:
        """A configuration for configure()."""
        of_main = _stream_config({"format": "XBGR8888", "size": (1280, 720), "preserve_ar": True}, main or {})
        of_lores = None
        if lores is not None:
            of_lores = _stream_config(
                {"format": "YUV420", "size": of_main["size"], "preserve_ar": False}, lores
            )
        config = {
            "use_case": use_case,
            "transform": transform or Transform(),
            "colour_space": colour_space or ColorSpace.Rec709(),
            "buffer_count": buffer_count,
            "queue": queue,
            "main": of_main,
            "lores": of_lores,
            "raw": None,
            "controls": {"NoiseReductionMode": 1, "FrameDurationLimits": (33333, 33333), **(controls or {})},
            "sensor": sensor,
        }
        for key, stream in (("display", display), ("encode", encode)):
            if stream is not None and config.get(stream) is None:
                raise RuntimeError(f"{key.capitalize()} stream {stream} was not defined")
            config[key] = stream
        return config

    def configure(self, camera_config: dict[str, Any] | None = None) -> None:
        self.world.may_return.wait()
        if self.started:
            raise RuntimeError("Camera must be stopped before configuring")
        config = dict(camera_config if camera_config is not None else self.create_video_configuration())
        self._check(config)
        for name in ("main", "lores"):
            if config[name] is not None:
                config[name] = _with_stride(config[name], self.world.alignment)
        self._controls = {}
        self.set_controls(config["controls"])
        self.camera_config = config
        with self._buffers_lock:
            self._buffers = [
                {
                    name: np.zeros(config[name]["framesize"], np.uint8)
                    for name in ("main", "lores")
                    if config[name]
                }
                for _ in range(config["buffer_count"])
            ]

    def camera_configuration(self) -> dict[str, Any]:
        return self.camera_config

    def stream_configuration(self, name: str = "main") -> dict[str, Any]:
        found: dict[str, Any] = self.camera_config[name]
        return found

    def set_controls(self, controls: Mapping[str, Any]) -> None:
        for name, value in controls.items():
            if name not in _LIMITS:
                raise RuntimeError(f"Control {name} is not advertised by libcamera")
            self._controls[name] = value

    def start(self, config: dict[str, Any] | None = None, show_preview: bool = False) -> None:
        self.world.may_return.wait()
        if config is not None:
            self.configure(config)
        if not self.camera_config:
            raise RuntimeError("Camera has not been configured")
        if self.started:
            return
        self.started = True
        self._stopping.clear()
        self._thread = threading.Thread(target=self._expose, name="fake picamera2", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.world.may_return.wait()
        if not self.started:
            return
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self.started = False
        self.stop_count += 1
        with self.lock:
            requests, self.completed_requests = self.completed_requests, []
        for request in requests:
            request.release()

    def close(self) -> None:
        self.stop()
        self.is_open = False
        self.camera_config = {}

    def capture_request(self, wait: Any = None, signal_function: Any = None, flush: Any = None) -> Any:
        """The next request, which the caller must release. Raises TimeoutError after `wait` seconds."""
        self.world.may_return.wait()
        if flush is True:
            flush = time.monotonic_ns()
        job = _Job([partial(self._wait_for_timestamp, flush), self._next_request])
        with self.lock:
            self._jobs.append(job)
            self._run_jobs()
        if wait is None:
            wait = signal_function is None
        if not wait:
            return job
        return job.future.result(timeout=None if wait is True else wait)

    @contextmanager
    def captured_request(self, wait: Any = None, flush: Any = None) -> Iterator[CompletedRequest]:
        request = self.capture_request(wait=wait, flush=flush)
        try:
            yield request
        finally:
            request.release()

    def cancel_all_and_flush(self) -> None:
        with self.lock:
            for job in self._jobs:
                job.future.set_exception(CancelledError())
            self._jobs = []

    def take_back(self, buffers: dict[str, Pixels], stop_count: int) -> None:
        """Of a released request."""
        with self._buffers_lock:
            if stop_count == self.stop_count:
                self._buffers.append(buffers)

    def _check(self, config: dict[str, Any]) -> None:
        for name in ("colour_space", "transform", "main", "lores", "raw"):
            if name not in config:
                raise RuntimeError(f"{name!r} key expected in camera configuration")
        if not isinstance(config["colour_space"], ColorSpace):
            raise RuntimeError("Colour space has incorrect type")  # noqa: TRY004 - as there
        if not isinstance(config["transform"], Transform):
            raise RuntimeError("Transform has incorrect type")  # noqa: TRY004
        for name in ("main", "lores"):
            if config[name] is not None:
                _check_stream(config[name], name)
        if config["lores"] is None:
            return
        pairs = zip(config["lores"]["size"], config["main"]["size"], strict=True)
        if any(of_lores > of_main for of_lores, of_main in pairs):
            raise RuntimeError("lores stream dimensions may not exceed main stream")
        if self.platform is Platform.VC4 and config["lores"]["format"] in _RGB_FORMATS:
            raise RuntimeError("lores stream must be YUV")

    def _wait_for_timestamp(self, timestamp_ns: int | None) -> tuple[bool, Any]:
        if not timestamp_ns:
            return True, None
        while self.completed_requests:
            metadata = self.completed_requests[0].get_metadata()
            if metadata["SensorTimestamp"] - 1000 * metadata["ExposureTime"] >= timestamp_ns:
                return True, None
            self.completed_requests.pop(0).release()
        return False, None

    def _next_request(self) -> tuple[bool, Any]:
        if not self.completed_requests:
            return False, None
        return True, self.completed_requests.pop(0)

    def _run_jobs(self) -> None:
        while self._jobs and self._jobs[0].execute():
            self._jobs.pop(0)

    def _expose(self) -> None:
        """The sensor: a frame each period, if there is a buffer for it."""
        number = 0
        due_s = time.monotonic()
        while not self._stopping.is_set():
            due_s += self._period_us() / 1e6
            if self._stopping.wait(max(0.0, due_s - time.monotonic())):
                return
            if not self.world.gives_frames.is_set():
                continue
            self._complete(number)
            number += 1

    def _period_us(self) -> int:
        low, _ = self._controls.get("FrameDurationLimits", (33333, 33333))
        return max(self.world.frame_us, int(low), int(self._controls.get("ExposureTime", 0)))

    def _complete(self, number: int) -> None:
        with self._buffers_lock:
            buffers = self._buffers.pop(0) if self._buffers else None
        if buffers is None:
            self.starved += 1
            return
        for name, buffer in buffers.items():
            self._fill(buffer, self.camera_config[name], number)
        with self.lock:
            self.completed_requests.append(CompletedRequest(self, buffers, self._metadata()))
            self._run_jobs()
            keep = 1 if self.camera_config["queue"] and self.camera_config["buffer_count"] > 1 else 0
            while len(self.completed_requests) > keep:
                self.completed_requests.pop(0).release()

    def _fill(self, buffer: Pixels, stream: Mapping[str, Any], number: int) -> None:
        rgb = self.world.picture(number, *stream["size"])
        transform: Transform = self.camera_config["transform"]
        rgb = rgb[:: -1 if transform.vflip else 1, :: -1 if transform.hflip else 1]
        _write(buffer, stream, np.ascontiguousarray(rgb))

    def _metadata(self) -> dict[str, Any]:
        period_us = self._period_us()
        return {
            "SensorTimestamp": time.monotonic_ns(),
            "ExposureTime": min(self._controls.get("ExposureTime", 5_000), period_us),
            "AnalogueGain": self._controls.get("AnalogueGain", 1.0),
            "DigitalGain": 1.0,
            "ColourGains": tuple(self._controls.get("ColourGains", (1.5, 1.8))),
            "FrameDuration": period_us,
            "Lux": 400.25,
            "ColourTemperature": 4500,
            "SensorTemperature": 35.0,
        }


def _stream_config(default: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    valid = ("format", "size", "stride", "preserve_ar")
    for key in given:
        if key not in valid:
            raise ValueError(f"Bad key {key!r}: valid stream configuration keys are {valid}")
    stream = {**default, **given}
    width, height = stream["size"]
    return {**stream, "size": (width - width % 2, height - height % 2)}


def _check_stream(stream: Mapping[str, Any], name: str) -> None:
    if stream["format"] not in _FORMATS:
        raise RuntimeError("Bad format " + stream["format"] + " in stream " + name)
    size = stream["size"]
    if not isinstance(size, tuple) or len(size) != 2:
        raise RuntimeError("size in " + name + " stream should be (width, height)")
    if size[0] % 2 or size[1] % 2:
        raise RuntimeError("width and height should be even")


def _with_stride(stream: Mapping[str, Any], alignment: int) -> dict[str, Any]:
    width, height = stream["size"]
    row = width * _FORMATS[stream["format"]]
    stride = -(-row // alignment) * alignment
    rows = height * 3 // 2 if stream["format"] == "YUV420" else height
    return {**stream, "stride": stride, "framesize": stride * rows}


def _shaped(buffer: Pixels, stream: Mapping[str, Any]) -> Pixels:
    """As picamera2's Helpers._make_array_shared: padding is cut off from RGB, and left in YUV420."""
    width, height = stream["size"]
    rows = buffer.reshape(-1, stream["stride"])
    if stream["format"] == "YUV420":
        return rows
    channels = _RGB_FORMATS[stream["format"]]
    return rows[:, : width * channels].reshape(height, width, channels)


def _write(buffer: Pixels, stream: Mapping[str, Any], rgb: Pixels) -> None:
    """The picture in the format of the stream, which is named from the top byte of a word down."""
    if stream["format"] == "YUV420":
        _write_yuv(buffer, stream, rgb)
        return
    bytes_of = _shaped(buffer, stream)
    bytes_of[..., :3] = rgb if stream["format"] in ("BGR888", "XBGR8888") else rgb[..., ::-1]
    bytes_of[..., 3:] = 255


def _write_yuv(buffer: Pixels, stream: Mapping[str, Any], rgb: Pixels) -> None:
    """Three planes, one after the other, the rows of the last two half as long, padding included."""
    (width, height), stride = stream["size"], stream["stride"]
    planes = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8).reshape(-1)
    half = (height // 2, width // 2)
    luma, chroma = np.split(planes, [width * height])
    buffer[: stride * height].reshape(height, stride)[:, :width] = luma.reshape(height, width)
    rows = buffer[stride * height :].reshape(2, height // 2, stride // 2)
    rows[:, :, : width // 2] = chroma.reshape(2, *half)
