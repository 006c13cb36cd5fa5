"""Good frames from the camera into a folder, for `learn`: those that are fit to be learned from.

A frame is refused when it is the same as the one before it (a driver that hangs; a sensor's noise makes no
two alike), when it is black, or when it is darker, brighter or more blurred than the frames taken so far by
the shares of [health]. What is taken lies in the folder at once, as a PNG without loss: whatever ends the
collecting, it is there.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from device.camera.camera import Camera
from device.config import HealthConfig
from device.errors import FrameError, StorageError
from device.health.frame_watch import BLACK_RATIO
from device.image.frame import FREE_RUN, BadFrame, Frame
from device.inspection.checks import Checks
from device.line.trigger import Trigger
from device.system import durable

MOST_REFUSED = 50  # in a row: then something is wrong that will not pass
USUAL_FROM = 5  # frames; before so many are taken there is nothing to compare light and focus with
LISTEN_S = 0.5  # between two looks at whether to stop


class Stop(Protocol):
    """Whoever can end the collection, as signals.StopSignal."""

    @property
    def requested(self) -> bool:
        """Whether to stop."""

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until it is time to stop. True when it is."""


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """How many frames to take, and how long after one the next at the earliest."""

    count: int
    interval_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """`taken` of `wanted` so far; `left_s`: at the pace so far, None before there is one."""

    taken: int
    wanted: int
    refused: int
    left_s: float | None

    def __str__(self) -> str:
        left = "" if self.left_s is None else f", about {_duration(self.left_s)} left"
        refused = f", {self.refused} refused" if self.refused else ""
        return f"{self.taken} of {self.wanted} good frames{refused}{left}"


@dataclass(slots=True)
class Fitness:
    """Whether frames may be learned from, compared with those that were taken."""

    config: HealthConfig
    _brightness: list[float] = field(default_factory=list)
    _focus: list[float] = field(default_factory=list)
    _last: Frame | None = None

    def refusal(self, frame: Frame, checks: Checks) -> str | None:
        """Why not this one; None where it is fit, and then it counts among those that were taken."""
        last, self._last = self._last, frame
        if last is not None and np.array_equal(last.image, frame.image):
            return "frozen: the same picture as before"
        reason = self._fault_of_light(checks)
        if reason is None:
            self._brightness.append(checks.brightness_ratio)
            self._focus.append(checks.focus)
        return reason

    def _fault_of_light(self, checks: Checks) -> str | None:
        brightness, focus = checks.brightness_ratio, checks.focus
        if brightness < BLACK_RATIO:
            return f"black: brightness {brightness:.3f}, limit {BLACK_RATIO}"
        if len(self._focus) < USUAL_FROM:
            return None
        usual, usual_focus = statistics.median(self._brightness), statistics.median(self._focus)
        if brightness < self.config.dark_ratio * usual:
            return f"too dark: brightness {brightness:.3f}, usual {usual:.3f}"
        if 1 - brightness < self.config.bright_ratio * (1 - usual):
            return f"too bright: brightness {brightness:.3f}, usual {usual:.3f}"
        if focus < self.config.focus_ratio * usual_focus:
            return f"blurred: focus {focus:.1f}, usual {usual_focus:.1f}"
        return None


@dataclass(slots=True)
class Collection:
    """Takes frames until there are enough, the source ends, or it is time to stop.

    `measure` says what a frame's light and focus are. `tell` hears of every frame that was taken.
    """

    plan: CollectionPlan
    fitness: Fitness
    folder: Path
    measure: Callable[[Frame], Checks]
    stop: Stop
    tell: Callable[[Progress], None]
    taken: list[Path] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    _in_a_row: int = 0

    def run(self, camera: Camera, trigger: Trigger, timeout_s: float) -> None:
        """Open the camera, take frames, close it. Raises FrameError, PinError, StorageError."""
        try:
            camera.open()
            trigger.open()
            begin_s = time.monotonic()
            while len(self.taken) < self.plan.count and not self.stop.requested:
                event = trigger.wait(LISTEN_S)
                if event is None:
                    continue
                if not self._take(camera, timeout_s, flush=camera.live or event.kind != FREE_RUN):
                    break
                self.tell(self._progress(time.monotonic() - begin_s))
                if len(self.taken) < self.plan.count:
                    self.stop.wait(self.plan.interval_s)
        finally:
            trigger.close()
            camera.close()

    def _take(self, camera: Camera, timeout_s: float, *, flush: bool) -> bool:
        """One frame, taken or refused. False at the end of the source."""
        try:
            frame = camera.read(timeout_s, flush=flush)
        except BadFrame as fault:
            self._refuse(camera, f"unreadable: {fault}")
            return True
        if frame is None:
            return False
        reason = self.fitness.refusal(frame, self.measure(frame))
        if reason is None:
            self._keep(frame)
        else:
            self._refuse(camera, reason)
        return True

    def _refuse(self, camera: Camera, reason: str) -> None:
        self.refused[reason.partition(":")[0]] += 1
        self._in_a_row += 1
        if self._in_a_row >= MOST_REFUSED:
            many = f"{MOST_REFUSED} frames in a row are not fit to learn from"
            raise FrameError(f"{camera.name}: {many}: {reason}")

    def _keep(self, frame: Frame) -> None:
        path = self.folder / f"{len(self.taken) + 1:05d}.png"
        encoded, content = cv2.imencode(".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
        if not encoded:
            raise StorageError(f"{path}: cannot be encoded")
        durable.write(path, content.tobytes())
        self._in_a_row = 0
        self.taken.append(path)

    def _progress(self, passed_s: float) -> Progress:
        taken = len(self.taken)
        left_s = passed_s / taken * (self.plan.count - taken) if taken else None
        return Progress(taken, self.plan.count, self.refused.total(), left_s)


def _duration(seconds: float) -> str:
    """In the unit that a person would say it in."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
