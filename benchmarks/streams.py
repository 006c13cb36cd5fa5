"""How a network camera's Motion JPEG is best read: which readers give pictures that the camera did not give.

    python -m benchmarks.streams [--pictures N]

A camera of this script (benchmarks/network_camera.py) sends N pictures as usual, N of twice the size, N of
half, N without colours, N that were cut in the middle, N times the same bytes, and N as usual again. Three
readers look at every one: OpenCV, which decodes; PyAV, which decodes; and device/camera/video.py, which has
OpenCV hand over the bytes. A picture is right where it is, pixel for pixel, one that the camera sent, and
newer than the one before; a decoder's rounding of 8 levels is allowed. What is printed: right ones, wrong
ones (given as a success), those that the reader said are none, and the time of its thread for each.

Exit codes: 0 done, 2 wrong command line.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find device

from benchmarks.network_camera import NetworkCamera, Pixels, network_camera, number_of
from device.camera.video import open_stream
from device.errors import FrameError

SCRIPT = ("usual", "large", "small", "gray", "cut", "again", "usual")
INTERVAL_S = 0.01
ROUNDING = 8  # gray levels
TIMEOUT_S = 2.0


def by_opencv(address: str) -> Iterator[Pixels | None]:
    """As its tutorials do it."""
    video = cv2.VideoCapture(address, cv2.CAP_FFMPEG)
    while True:
        taken, image = video.read()
        if not taken:
            return
        yield np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def by_pyav(address: str) -> Iterator[Pixels | None]:
    """Its own decoder, damaged pictures told by it."""
    with av.open(address, timeout=(TIMEOUT_S, TIMEOUT_S)) as container:
        for packet in container.demux(video=0):
            try:
                for frame in packet.decode():
                    yield None if frame.is_corrupt else frame.to_ndarray(format="rgb24")
            except av.error.FFmpegError:
                yield None


def by_bytes(address: str) -> Iterator[Pixels | None]:
    """As the device does it."""
    video = open_stream(address, (TIMEOUT_S, TIMEOUT_S))
    while video is not None and video.grab():
        try:
            yield video.picture()
        except FrameError:
            yield None


READERS: dict[str, Callable[[str], Iterator[Pixels | None]]] = {
    "OpenCV decodes": by_opencv,
    "PyAV decodes": by_pyav,
    "OpenCV hands over bytes": by_bytes,
}


def judged(camera: NetworkCamera, image: Pixels | None, before: int) -> str:
    """What a reader gave: "right", "wrong" or "told"."""
    if image is None:
        return "told"
    number = number_of(image)
    sent = camera.sent.get(number)
    if sent is None or number <= before or sent.mode in ("cut", "again"):
        return "wrong"
    shown = sent.shown()
    near = shown.shape == image.shape and int(cv2.absdiff(shown, image).max()) <= ROUNDING
    return "right" if near else "wrong"


def read(name: str, count: int) -> None:
    """One reader through the whole script; a row of the table."""
    words: Counter[str] = Counter()
    with network_camera(INTERVAL_S) as camera:
        before, took_s, began_s = -1, 0.0, time.thread_time()
        for image in READERS[name](camera.address):
            took_s += time.thread_time() - began_s
            word = judged(camera, image, before)
            words[word] += 1
            before = number_of(image) if image is not None and word == "right" else before
            camera.mode = SCRIPT[min(camera.number // count, len(SCRIPT) - 1)]
            if camera.number >= count * len(SCRIPT):
                break
            began_s = time.thread_time()
    each_ms = 1000 * took_s / max(1, words.total())
    print(f"| {name} | {words['right']} | {words['wrong']} | {words['told']} | {each_ms:.2f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pictures", type=int, default=100, metavar="N", help="of each kind, default 100")
    options = parser.parse_args()
    av.logging.set_level(av.logging.PANIC)
    print("| read by | right | wrong, as a success | said to be none | ms a picture |\n|---|---|---|---|---|")
    for name in READERS:
        read(name, options.pictures)


if __name__ == "__main__":
    main()
