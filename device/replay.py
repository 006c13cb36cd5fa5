"""The camera that replays a disk: a folder of images, one image, or a video."""

from __future__ import annotations

import logging
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from device.camera import BadFrame
from device.errors import FrameError
from device.frame import REPLAY, Frame, Pixels, read_image

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, slots=True)
class _Shot:
    """One place of the source: the name for Frame.path, and how to get (RGB image, sha256 of the file)."""

    path: str
    load: Callable[[], tuple[Pixels, str | None]]


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, in natural order (2.png before 10.png); hidden files are left out.

    Raises FrameError: the folder is missing, cannot be read, or has no image in it.
    """
    try:
        files = [
            p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
        ]
    except OSError as error:
        raise FrameError(f"{folder}: cannot be listed: {error.strerror}") from None
    if not files:
        raise FrameError(
            f"{folder}: no image directly in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return sorted(files, key=lambda p: _natural(p.name))


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sort key: runs of digits compare as numbers, the rest without regard to case."""
    parts = re.split(r"([0-9]+)", Path(name).stem)
    return [int(part) if at % 2 else part.casefold() for at, part in enumerate(parts)], name


class ReplayCamera:
    """Frames from the disk at a steady rate, once or in a loop.

    `source`: a folder of images, an image, or a video that OpenCV can read. `rate_hz`: frames a second, paced
    by the monotonic clock without catching up on a late one; 0 gives them as fast as they are read. `loop`:
    begin again at the end (a folder is listed afresh). `wait`: how to wait, in seconds.

    Frame.path is the file's path from the folder (an image: its name; a video: name#index, counted from 0).
    """

    def __init__(
        self,
        source: Path,
        rate_hz: float = 0.0,
        loop: bool = False,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._source = source
        self._period_s = 1 / rate_hz if rate_hz else 0.0
        self._loop = loop
        self._wait = wait
        self._shots: Iterator[_Shot] = iter(())
        self._due_s = 0.0
        self._seq = 0

    @property
    def name(self) -> str:
        return f"{REPLAY} of {self._source}"

    @property
    def live(self) -> bool:
        return False

    def open(self) -> None:
        """Look at the source. Raises FrameError: missing, unreadable, or without any frame."""
        self._shots = self._pass()
        self._due_s = time.monotonic()

    def read(self, timeout_s: float, *, flush: bool = False) -> Frame | None:
        """The next frame when it is due; None at the end of a source that is not looped.

        Raises BadFrame for a file that is no whole image; FrameError when the next frame is not due within
        timeout_s, or when the source cannot be begun again.
        """
        self._await_due(timeout_s)
        shot = next(self._shots, None)
        if shot is None and self._loop:
            self._shots = self._pass()
            shot = next(self._shots, None)
        return None if shot is None else self._frame(shot)

    def close(self) -> None:
        self._shots = iter(())

    def _await_due(self, timeout_s: float) -> None:
        left_s = self._due_s - time.monotonic()
        if left_s > timeout_s:
            raise FrameError(
                f"{self.name}: no frame within {timeout_s:g} s, the next is due in {left_s:.1f} s"
            )
        if left_s > 0:
            self._wait(left_s)
        now_s = time.monotonic()
        self._due_s += self._period_s
        if self._due_s <= now_s:  # late by more than a period: the beat starts anew
            self._due_s = now_s + self._period_s

    def _frame(self, shot: _Shot) -> Frame:
        seq, self._seq = self._seq, self._seq + 1
        try:
            image, sha256 = shot.load()
        except FrameError as error:
            raise BadFrame(
                str(error), seq=seq, path=shot.path, captured_ns=time.time_ns(), camera=REPLAY
            ) from None
        return Frame(
            image=image,
            seq=seq,
            captured_ns=time.time_ns(),
            monotonic_ns=time.monotonic_ns(),
            camera=REPLAY,
            path=shot.path,
            sha256=sha256,
        )

    def _pass(self) -> Iterator[_Shot]:
        """One pass over the source, which is looked at here and not at the first frame."""
        source = self._source
        try:
            mode = source.stat().st_mode
        except OSError as error:
            raise FrameError(f"{source}: cannot be read: {error.strerror}") from None
        if stat.S_ISDIR(mode):
            return _of_images(image_files(source))
        if source.suffix.lower() in IMAGE_SUFFIXES:
            return _of_images([source])
        return _of_video(source, _open_video(source))


def _of_images(files: list[Path]) -> Iterator[_Shot]:
    for file in files:
        yield _Shot(file.name, partial(read_image, file))


def _open_video(source: Path) -> cv2.VideoCapture:
    video = cv2.VideoCapture(str(source))
    if not video.isOpened() or not video.grab():
        raise FrameError(f"{source}: neither an image nor a video that OpenCV can read")
    return video


def _of_video(source: Path, video: cv2.VideoCapture) -> Iterator[_Shot]:
    """The frames of a video whose first frame has been grabbed."""
    index = 0
    grabbed = True
    while grabbed:
        yield _Shot(f"{source.name}#{index}", partial(_retrieve, source, index, video))
        index += 1
        grabbed = video.grab()
    expected = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if index < expected:  # the container's own count, which for some is an estimate
        log.warning("%s: ended after %d of %d frames", source, index, expected)


def _retrieve(source: Path, index: int, video: cv2.VideoCapture) -> tuple[Pixels, None]:
    decoded, image = video.retrieve()
    if not decoded:
        raise FrameError(f"{source}: frame {index} cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), None
