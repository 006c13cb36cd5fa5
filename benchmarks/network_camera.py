"""A network camera for benchmarks and tests: Motion JPEG over HTTP, for as many as ask. It can misbehave.

A StreamServer sends any pictures. Those of a NetworkCamera bear their numbers in the squares of the top row,
bit by bit; the rest is noise around a gray level, another one for each number. It remembers the latest, to be
compared with what arrives.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 128  # px
BITS = 16
MEMORY = 4096  # pictures
MODES = ("usual", "large", "small", "gray", "cut", "again")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sent:
    """A picture that the camera gave: when it was made, in which mode, and its JPEG."""

    made_ns: int
    mode: str
    content: bytes

    def shown(self) -> Pixels:
        """What it shows, RGB."""
        image = cv2.imdecode(np.frombuffer(self.content, np.uint8), cv2.IMREAD_COLOR)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


class StreamServer(ThreadingHTTPServer):
    """`picture` makes the JPEG of a number, and may be exchanged at any time. `number`: of the next one.

    `flowing`: cleared, no picture is made. `holding`: set, those that are made lie in the network, and come
    all at once afterwards. `hung_up`: set, connections end.
    """

    daemon_threads = True

    def __init__(self, picture: Callable[[int], bytes], interval_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Stream)
        self.picture = picture
        self.interval_s = interval_s
        self.flowing, self.holding, self.hung_up = threading.Event(), threading.Event(), threading.Event()
        self.flowing.set()
        self.number = 0
        self._guard = threading.Lock()

    @property
    def address(self) -> str:
        """For [camera] source."""
        return f"http://127.0.0.1:{self.server_address[1]}/line.mjpg"

    def make(self) -> bytes:
        """The next picture."""
        with self._guard:
            content = self.picture(self.number)
            self.number += 1
            return content


class NetworkCamera(StreamServer):
    """`mode`, changed at any time: of MODES ("cut": half a JPEG; "again": the bytes of the one before)."""

    def __init__(self, interval_s: float, part: int = 45) -> None:
        """`part`: the gray level around which pictures lie."""
        super().__init__(self._made, interval_s)
        self.part = part
        self.mode = "usual"
        self.sent: OrderedDict[int, Sent] = OrderedDict()
        self._noise = np.random.default_rng(0).integers(-5, 6, (8, SIDE, SIDE, 3))

    def _made(self, number: int) -> bytes:
        """Remembered."""
        mode, made_ns = self.mode, time.monotonic_ns()
        again = mode == "again" and number
        content = self.sent[number - 1].content if again else self._jpeg(number, mode)
        self.sent[number] = Sent(made_ns, mode, content)
        if len(self.sent) > MEMORY:
            self.sent.popitem(last=False)
        return content

    def _jpeg(self, number: int, mode: str) -> bytes:
        level = self.part + number % 5
        image = np.asarray(np.clip(level + self._noise[number % len(self._noise)], 0, 255), np.uint8)
        image[..., 2] //= 2  # BGR: it has a colour
        side = SIDE // BITS
        for bit in range(BITS):
            image[:side, bit * side : (bit + 1) * side] = 255 * (number >> bit & 1)
        ratio = {"large": 2.0, "small": 0.5}.get(mode, 1.0)
        image = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_NEAREST)
        if mode == "gray":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        return content[: len(content) // 2] if mode == "cut" else content


Server = TypeVar("Server", bound=StreamServer)


class _Stream(BaseHTTPRequestHandler):
    server: StreamServer

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        held = b""
        while not self.server.hung_up.wait(self.server.interval_s):
            if not self.server.flowing.is_set():
                continue
            content = self.server.make()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
            held += head.encode() + content + b"\r\n"
            if self.server.holding.is_set():
                continue
            try:
                self.wfile.write(held)
            except OSError:
                return
            held = b""

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def number_of(image: Pixels) -> int:
    """That a picture bears, whatever its size."""
    side = image.shape[1] // BITS
    return sum(1 << bit for bit in range(BITS) if image[side // 2, bit * side + side // 2].mean() > 128)


@contextmanager
def network_camera(interval_s: float, part: int = 45) -> Iterator[NetworkCamera]:
    """One that runs until the end of the block."""
    with serving(NetworkCamera(interval_s, part)) as camera:
        yield camera


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.hung_up.set()
        server.shutdown()
        server.server_close()
