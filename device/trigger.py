"""What asks for a frame: nothing but the camera's own pace, a clock, a sensor's edge, a command."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, Protocol

from device.frame import FREE_RUN

Kind = Literal["free-run", "interval", "gpio", "mqtt"]


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """Somebody wants a frame. `monotonic_ns`: when, on the monotonic clock."""

    kind: Kind
    part_id: str | None
    monotonic_ns: int


class Trigger(Protocol):
    """Where the events come from. What waits is bounded, and what is dropped is counted."""

    @property
    def name(self) -> str:
        """The kind of trigger and its source, for the log."""

    @property
    def dropped(self) -> int:
        """Events that were lost since open(), because too many waited."""

    def open(self) -> None:
        """Begin to listen. Raises FrameError when that cannot be."""

    def wait(self, timeout_s: float) -> TriggerEvent | None:
        """The next event, or None when there was none within timeout_s."""

    def close(self) -> None:
        """Stop listening, and end a wait. May be called at any time, and twice."""


class FreeRun:
    """The camera's own pace: every frame is wanted, at once."""

    name = FREE_RUN
    dropped = 0

    def open(self) -> None:
        pass

    def wait(self, timeout_s: float) -> TriggerEvent | None:
        return TriggerEvent(FREE_RUN, None, time.monotonic_ns())

    def close(self) -> None:
        pass
