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

from device.camera.camera import WhiteLevel, no_white_level
from device.camera.faults import Fault, FaultScript
from device.camera.video import Video, open_stream
from device.errors import FrameError
from device.image.frame import REPLAY, BadFrame, Frame, Pixels, read_image
from device.image.image_file import IMAGE_SUFFIXES

log = logging.getLogger(__name__)

_NOTHING = Fault("none")


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
    begin again at the end (a folder is listed afresh). `wait`: how to wait, in seconds. `faults`: what goes
    wrong with which frame; they are counted from 0 as the source gives them, also round a loop.
    `white_level`: asked at each image, which may have more than 8 bits.

    Frame.path is the file's path from the folder (an image: its name; a video: name#index, counted from 0).
    """

    def __init__(
        self,
        source: Path,
        rate_hz: float = 0.0,
        loop: bool = False,
        wait: Callable[[float], object] = time.sleep,
        faults: FaultScript | None = None,
        white_level: WhiteLevel = no_white_level,
    ) -> None:
        self._source = source
        self._period_s = 1 / rate_hz if rate_hz else 0.0
        self._loop = loop
        self._wait = wait
        self._faults = faults or FaultScript()
        self._white_level = white_level
        self._current = _NOTHING
        self._fault_of = -1  # the frame that it is about
        self.dropped = 0
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
        deadline_s = time.monotonic() + timeout_s
        while True:
            fault = self._fault()
            self._await_due(deadline_s, timeout_s)
            if fault.kind == "die":
                raise FrameError(f"{self.name}: the camera is gone (frame {self._seq} of the fault script)")
            shot = self._next_shot()
            if shot is None:
                return None
            if fault.kind != "drop":
                return self._frame(shot, fault, deadline_s, timeout_s)
            self._seq += 1
            self.dropped += 1

    def close(self) -> None:
        self._shots = iter(())

    def _fault(self) -> Fault:
        """What happens to the frame whose turn it is. A stall begins when it is asked for the first time."""
        if self._fault_of != self._seq:
            self._fault_of = self._seq
            self._current = self._faults.at(self._seq) or _NOTHING
            if self._current.kind == "stall":
                self._due_s = max(self._due_s, time.monotonic()) + self._current.seconds
        return self._current

    def _await_due(self, deadline_s: float, timeout_s: float) -> None:
        """Wait for the beat. Raises FrameError, at the deadline, when it comes after that."""
        left_s = self._due_s - time.monotonic()
        if self._due_s > deadline_s:
            self._wait(max(0.0, deadline_s - time.monotonic()))
            raise FrameError(
                f"{self.name}: no frame within {timeout_s:g} s, the next is due in {left_s:.1f} s"
            )
        if left_s > 0:
            self._wait(left_s)
        now_s = time.monotonic()
        self._due_s += self._period_s
        if self._due_s <= now_s:  # late by more than a period: the beat starts anew
            self._due_s = now_s + self._period_s

    def _next_shot(self) -> _Shot | None:
        shot = next(self._shots, None)
        if shot is None and self._loop:
            self._shots = self._pass()
            shot = next(self._shots, None)
        return shot

    def _frame(self, shot: _Shot, fault: Fault, deadline_s: float, timeout_s: float) -> Frame:
        seq, self._seq = self._seq, self._seq + 1
        captured_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
        try:
            image, sha256 = _with_fault(shot.load, fault, seq)
        except FrameError as error:
            raise BadFrame(
                str(error), seq=seq, path=shot.path, captured_ns=captured_ns, camera=REPLAY
            ) from None
        if fault.seconds and fault.kind == "slow":
            left_s = deadline_s - time.monotonic()
            self._wait(max(0.0, min(fault.seconds, left_s)))
            if fault.seconds > left_s:
                self.dropped += 1
                raise FrameError(f"{self.name}: no frame within {timeout_s:g} s, frame {seq} comes too late")
        return Frame(
            image=image,
            seq=seq,
            captured_ns=captured_ns,
            monotonic_ns=monotonic_ns,
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
            return self._of_images(image_files(source))
        if source.suffix.lower() in IMAGE_SUFFIXES:
            return self._of_images([source])
        return _of_video(source, _open_video(source))

    def _of_images(self, files: list[Path]) -> Iterator[_Shot]:
        for file in files:
            yield _Shot(file.name, partial(self._read, file))

    def _read(self, file: Path) -> tuple[Pixels, str]:
        return read_image(file, self._white_level())


def _with_fault(
    load: Callable[[], tuple[Pixels, str | None]], fault: Fault, seq: int
) -> tuple[Pixels, str | None]:
    """The image with what happens to it; it is then no longer that of the file, and has no digest."""
    if fault.kind == "fail":
        raise FrameError(f"frame {seq} cannot be read (fault script)")
    image, sha256 = load()
    if fault.kind == "black":
        return np.zeros_like(image), None
    if fault.size is not None:
        resized = cv2.resize(image, (fault.size.width, fault.size.height), interpolation=cv2.INTER_AREA)
        return np.asarray(resized, np.uint8), None
    return image, sha256


def _open_video(source: Path) -> Video:
    video = open_stream(str(source), None)
    if video is None or not video.grab():
        raise FrameError(f"{source}: neither an image nor a video that OpenCV can read")
    return video


def _of_video(source: Path, video: Video) -> Iterator[_Shot]:
    """The frames of a video whose first frame has been grabbed."""
    index = 0
    grabbed = True
    while grabbed:
        yield _Shot(f"{source.name}#{index}", partial(_picture, source, index, video))
        index += 1
        grabbed = video.grab()
    if index < video.expected:
        log.warning("%s: ended after %d of %d frames", source, index, video.expected)


def _picture(source: Path, index: int, video: Video) -> tuple[Pixels, None]:
    try:
        return video.picture(), None
    except FrameError as error:
        raise FrameError(f"{source}: frame {index} {error}") from None
