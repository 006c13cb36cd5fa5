"""When to take a frame: always, at an interval, on an edge of a GPIO pin, or on command.

Triggers wait in a queue of their own, so that none is lost while a frame is being taken. It is bounded: what
does not fit goes to lost(), because a part that nobody has looked at is not a good part.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

from device.config import TriggerConfig
from device.errors import ConfigError
from device.image.frame import FREE_RUN
from device.line.asked import Asker
from device.line.pins import input_pin

Kind = Literal["free-run", "interval", "gpio", "mqtt"]

LONGEST_PART_ID = 128


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """One reason to take a frame. `monotonic_ns`: when it came, on the monotonic clock.

    `moves_line`: a part has come in front of the camera. A command to a station that has a sensor or a beat
    asks for one more look, and no part has moved for it. `asker`: who is told what becomes of it.
    """

    kind: Kind
    part_id: str | None
    monotonic_ns: int
    moves_line: bool = True
    asker: Asker | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind: must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.part_id is not None and not (
            0 < len(self.part_id) <= LONGEST_PART_ID and self.part_id.isprintable()
        ):
            raise ValueError(
                f"part_id: must be 1..{LONGEST_PART_ID} printable characters, got {self.part_id[:200]!r}"
            )


class Trigger(Protocol):
    """A source of triggers. One thread opens, waits and closes; fire() may be called from any."""

    @property
    def name(self) -> str:
        """The kind of trigger and its source, for the log."""

    @property
    def dropped(self) -> int:
        """Triggers that found the queue full, since the beginning."""

    def open(self) -> None:
        """Begin to listen. Raises PinError when that cannot be."""

    def wait(self, timeout_s: float) -> TriggerEvent | None:
        """The next trigger, in the order in which they came; None when there was none within timeout_s."""

    def fire(self, part_id: str | None, asker: Asker | None = None) -> bool:
        """Trigger by command. False when it is not accepted: free run, closed, or the queue is full.

        `asker` is told what becomes of it where it is accepted.
        Raises ValueError for a part id that is none.
        """

    def lost(self) -> list[TriggerEvent]:
        """The dropped triggers since the last call, and after close() those that still waited.

        Nobody has looked at their parts.
        """

    def close(self) -> None:
        """Stop listening; whoever waits gets None. May be called at any time, and twice."""


class FreeRun:
    """The camera's own pace: every frame is wanted, at once."""

    name = FREE_RUN
    dropped = 0

    def open(self) -> None:
        """Nothing is listened to."""

    def wait(self, timeout_s: float) -> TriggerEvent | None:
        return TriggerEvent(FREE_RUN, None, time.monotonic_ns())

    def fire(self, part_id: str | None, asker: Asker | None = None) -> bool:
        return False

    def lost(self) -> list[TriggerEvent]:
        return []

    def close(self) -> None:
        """Nothing is held."""


class CommandTrigger:
    """On command alone: fire(). The base of the triggers that have a source beside it."""

    _command_moves_line = True

    def __init__(self, queue_limit: int) -> None:
        self.dropped = 0
        self._queue_limit = queue_limit
        self._changed = threading.Condition()
        self._events: deque[TriggerEvent] = deque()
        self._lost: list[TriggerEvent] = []
        self._open = False

    @property
    def name(self) -> str:
        return "mqtt"

    def open(self) -> None:
        with self._changed:
            self._open = True

    def wait(self, timeout_s: float) -> TriggerEvent | None:
        with self._changed:
            self._changed.wait_for(lambda: self._events or not self._open, max(0.0, timeout_s))
            return self._events.popleft() if self._events and self._open else None

    def fire(self, part_id: str | None, asker: Asker | None = None) -> bool:
        now_ns = time.monotonic_ns()
        moves_line = self._command_moves_line
        return self._push(TriggerEvent("mqtt", part_id, now_ns, moves_line=moves_line, asker=asker))

    def lost(self) -> list[TriggerEvent]:
        with self._changed:
            events, self._lost = self._lost, []
        return events

    def close(self) -> None:
        with self._changed:
            self._open = False
            self._lost.extend(self._events)
            self._events.clear()
            self._changed.notify_all()

    def _push(self, event: TriggerEvent) -> bool:
        """Queue a trigger; one that does not fit is lost. From any thread.

        Commands beside a sensor have room of their own, and take none from the line's parts.
        """
        with self._changed:
            if not self._open:
                return False
            if sum(other.moves_line == event.moves_line for other in self._events) >= self._queue_limit:
                self.dropped += 1
                self._lost.append(replace(event, asker=None))  # he is told that it was not accepted
                return False
            self._events.append(event)
            self._changed.notify_all()
            return True


class Interval(CommandTrigger):
    """Every `period_s` seconds of the monotonic clock; a beat that nobody waited for is not caught up."""

    _command_moves_line = False

    def __init__(self, period_s: float, queue_limit: int) -> None:
        super().__init__(queue_limit)
        self._period_s = period_s
        self._due_s = 0.0

    @property
    def name(self) -> str:
        return f"interval of {self._period_s:g} s"

    def open(self) -> None:
        super().open()
        self._due_s = time.monotonic()

    def wait(self, timeout_s: float) -> TriggerEvent | None:
        left_s = self._due_s - time.monotonic()
        event = super().wait(min(left_s, timeout_s))
        now_s = time.monotonic()
        if event is not None or not self._open or now_s < self._due_s:
            return event
        beats = (now_s - self._due_s) // self._period_s + 1
        self._due_s += beats * self._period_s
        return TriggerEvent("interval", None, time.monotonic_ns())


class GpioEdge(CommandTrigger):
    """An edge of an input pin.

    An edge counts when the input has been quiet for `debounce_s` before it: of a contact that bounces, the
    first edge counts and no other, and it counts at once. gpiozero's own bounce_time would report it only
    after that time, when the part has moved on.
    """

    _command_moves_line = False

    def __init__(self, config: TriggerConfig, pin_factory: Any = None) -> None:
        """`pin_factory`: one of gpiozero's in place of device.line.pins' own."""
        super().__init__(config.queue_limit)
        self._config = config
        self._pin_factory = pin_factory
        self._input: Any = None
        self._last_edge_ns = 0

    @property
    def name(self) -> str:
        return f"gpio, {self._config.edge} edge of pin {self._config.pin}"

    def open(self) -> None:
        """Listen to the pin. Raises PinError."""
        super().open()
        self._input = input_pin(self._config.pin, self._config.pull, self._pin_factory)
        self._last_edge_ns = time.monotonic_ns() - _ns(self._config.debounce_ms)
        rests_high = self._config.pull == "up"  # and is active when low
        activates = rests_high == (self._config.edge == "falling")
        self._input.when_activated = self._wanted_edge if activates else self._other_edge
        self._input.when_deactivated = self._other_edge if activates else self._wanted_edge

    def close(self) -> None:
        super().close()
        if self._input is not None:
            self._input.close()
            self._input = None

    def _wanted_edge(self) -> None:
        """In gpiozero's thread."""
        now_ns = time.monotonic_ns()
        quiet_ns = now_ns - self._last_edge_ns
        self._last_edge_ns = now_ns
        if quiet_ns >= _ns(self._config.debounce_ms):
            self._push(TriggerEvent("gpio", None, now_ns))

    def _other_edge(self) -> None:
        self._last_edge_ns = time.monotonic_ns()


def make_trigger(config: TriggerConfig) -> Trigger:
    """The trigger that is configured."""
    if config.kind == "free-run":
        return FreeRun()
    if config.kind == "interval":
        return Interval(config.interval_s, config.queue_limit)
    if config.kind == "gpio":
        return GpioEdge(config)
    if config.kind == "mqtt":
        return CommandTrigger(config.queue_limit)
    raise ConfigError(f"[trigger] kind: must be one of {', '.join(get_args(Kind))}, got {config.kind!r}")


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1_000_000)
