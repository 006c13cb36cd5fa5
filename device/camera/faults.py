"""What goes wrong in a replay, and when: a script for demonstrations, and for tests of what stands behind it.

A line is "WHEN:WHAT". WHEN is the number of a frame, counted from 0, or a share of all frames as "1.5%", and
then the same frames each time for the same seed. Of several lines that meet in a frame, the first acts.

    stall:SECONDS      No frame for so long; longer than the time limit, and the camera counts as dead.
    drop               The frame is lost in the camera: nobody sees it, and it is counted.
    fail               The frame cannot be read.
    die                The camera is gone, for good.
    slow:SECONDS       The frame arrives so late; it was exposed in time.
    black              The frame is black.
    size:WIDTHxHEIGHT  The frame has this size.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from device.config import FAULT, FAULT_EXPECTED
from device.errors import ConfigError
from device.image.geometry import Size


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one frame. `seconds` and `size` where the kind has them."""

    kind: str
    seconds: float = 0.0
    size: Size | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    frame: int | None
    share: float
    fault: Fault


class FaultScript:
    """The faults of a replay, asked for once for each frame, in order."""

    def __init__(self, lines: Sequence[str] = (), seed: int = 0) -> None:
        """Raises ConfigError for a line that is none."""
        self._lines = [_line(text) for text in lines]
        self._random = random.Random(seed)  # noqa: S311 - faults that can be repeated, no secret

    def at(self, frame: int) -> Fault | None:
        """What happens to the frame of this number."""
        hits = [line for line in self._lines if self._hits(line, frame)]
        return hits[0].fault if hits else None

    def _hits(self, line: _Line, frame: int) -> bool:
        """Each share draws its number for every frame, so that the lines do not shift one another."""
        return frame == line.frame if line.frame is not None else self._random.random() < line.share


def _line(text: str) -> _Line:
    if re.fullmatch(FAULT, text) is None:
        raise ConfigError(f"[camera] faults: every item must be {FAULT_EXPECTED}, got {text!r}")
    when, _, what = text.partition(":")
    kind, _, value = what.partition(":")
    fault = Fault(
        kind,
        seconds=float(value) if kind in ("stall", "slow") else 0.0,
        size=Size(*map(int, value.split("x"))) if kind == "size" else None,
    )
    if when.endswith("%"):
        return _Line(None, float(when[:-1]) / 100, fault)
    return _Line(int(when), 0.0, fault)
