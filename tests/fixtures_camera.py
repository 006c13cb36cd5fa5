"""What cameras look at, and servers that stream it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.network_camera import StreamServer, serving
from device import config
from device.camera import fake_picamera2
from device.camera.fake_picamera2 import World, colour_picture
from device.config import CameraConfig

SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's, which has gi
WIDTH, HEIGHT = 84, 64  # 84 * 3 bytes fill no row of the stand-in, whose rows are multiples of 64


def camera_config(folder: Path, **changes: object) -> CameraConfig:
    """The default's, with changes."""
    path = folder / "camera.toml"
    path.write_text("")
    return replace(config.load(path).camera, **changes)


def bgr(number: int) -> np.ndarray:
    return np.ascontiguousarray(colour_picture(number, WIDTH, HEIGHT)[..., ::-1])


def write_pictures(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        assert cv2.imwrite(str(folder / f"{number}.png"), bgr(number))
    return folder


def write_film(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for number in range(count):
        writer.write(bgr(number))
    writer.release()
    return path


def jpeg(number: int, side_ratio: float = 1.0, *, gray: bool = False, kept: float = 1.0) -> bytes:
    """The picture of a number as a JPEG: `side_ratio` times as large, without colours, or cut off."""
    picture = bgr(number)
    if side_ratio != 1:
        picture = cv2.resize(picture, None, fx=side_ratio, fy=side_ratio, interpolation=cv2.INTER_NEAREST)
    if gray:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    return content[: round(kept * len(content))]


def number_of(image: np.ndarray) -> int:
    """The squares in the top row of the colour picture are the number's bits."""
    side = image.shape[1] * (WIDTH // 32) // WIDTH
    centres = [image[side // 2, 2 * bit * side + side // 2] for bit in range(16)]
    return sum(1 << bit for bit, pixel in enumerate(centres) if pixel.min() > 128)


@pytest.fixture
def stream() -> Iterator[StreamServer]:
    """A network camera with Motion JPEG: pictures of jpeg(), a hundred a second."""
    with serving(StreamServer(jpeg, 0.01)) as server:
        yield server


class RtspServer:
    """A network camera with RTSP, by GStreamer: see rtsp_server.py. It can stall, go away, and come again."""

    def __init__(self, folder: Path, codec: str = "h264") -> None:
        self._folder = write_pictures(folder, 50)
        self._codec = codec
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/line"

    def start(self) -> None:
        script = Path(__file__).with_name("rtsp_server.py")
        command = (SYSTEM_PYTHON, script, self._folder, self._port, self._codec)
        self._process = subprocess.Popen(tuple(map(str, command)), stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def stall(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@cache
def rtsp_is_missing() -> str:
    """Why there is no RTSP server here; "" where there is one."""
    if not Path(SYSTEM_PYTHON).exists():
        return f"no {SYSTEM_PYTHON}"
    asked = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst\n"
    asked += "Gst.init(None); assert Gst.ElementFactory.find('x264enc'), 'no x264enc'"
    done = subprocess.run((SYSTEM_PYTHON, "-c", asked), capture_output=True, text=True, check=False)
    packages = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
    return f"no RTSP server by GStreamer ({packages})" if done.returncode else ""


@pytest.fixture
def rtsp(tmp_path: Path) -> Iterator[RtspServer]:
    if rtsp_is_missing():
        pytest.skip(rtsp_is_missing())
    server = RtspServer(tmp_path / "pictures")
    yield server
    server.stop()


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield listening.getsockname()[1]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The stand-in in place of picamera2 and libcamera, with a world of its own."""
    made = World()
    monkeypatch.setattr(fake_picamera2.Picamera2, "world", made)
    monkeypatch.setitem(sys.modules, "picamera2", fake_picamera2)
    monkeypatch.setitem(sys.modules, "libcamera", fake_picamera2)
    yield made
    made.may_return.set()


def wait_until(true: Callable[[], object], limit_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline_s, "not within the limit"
        threading.Event().wait(0.005)
