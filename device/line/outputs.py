"""What the line is told by wire: reject this part; busy; ready.

A part is thrown out when it is in front of the gate, which is a delay or a number of parts behind the camera.
What is not known to be good by then is thrown out too: a verdict that comes too late cannot call it back.
A thread drives the pins by the monotonic clock; telling it something never waits. At the end, and at a fault
that ends the process, every output goes back to rest.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from device.config import OutputsConfig
from device.line.pins import output_pin

log = logging.getLogger(__name__)

DRAIN_S = 5.0
SHORTEST_BUSY_NS = (
    5_000_000  # a verdict may be there before the pin is on, and a line waits for what it can see
)
_UNKNOWN = "ERROR"  # the word on a part that nobody has judged

_open_outputs: set[Outputs] = set()


@dataclass(slots=True)
class _Part:
    number: int
    at_ns: int  # when it was in front of the camera
    word: str | None = None
    due_ns: int | None = None  # when it is in front of the gate; None: not known yet


class Outputs:
    """open(), then triggered() and judged() for each part, in any thread; close().

    Each part that is triggered must be judged, sooner or later; that bounds what is kept here.
    """

    def __init__(self, config: OutputsConfig, pin_factory: Any = None) -> None:
        """`pin_factory`: one of gpiozero's in place of device.line.pins' own."""
        self._config = config
        self._pin_factory = pin_factory
        self._used = max(config.reject_pin, config.busy_pin, config.ready_pin) >= 0
        self._pins: list[_Pin] = []
        self._changed = threading.Condition()  # guards all that follows
        self._parts: dict[int, _Part] = {}  # on their way to the gate
        self._behind: deque[_Part] = deque()  # those whose gate is so many parts away
        self._unjudged: set[int] = set()
        self._pulse_ends_ns = 0
        self._announced = False  # a part since the last look at the pins
        self._busy_ends_ns = 0  # at the earliest
        self._ready = False
        self._running = False
        self._thread: threading.Thread | None = None
        self.rejected = 0  # parts, not pulses
        self.late = 0  # of these: the verdict was not there when it was needed

    def open(self) -> None:
        """Take the pins, at rest. Raises PinError."""
        if not self._used:
            return
        config = self._config
        try:
            self._reject = self._take(config.reject_pin, config.reject_active)
            self._busy = self._take(config.busy_pin, config.busy_active)
            self._ready_pin = self._take(config.ready_pin, config.ready_active)
        except BaseException:
            self.rest()
            raise
        _open_outputs.add(self)
        self._running = True
        self._thread = threading.Thread(target=self._run, name="outputs", daemon=True)
        self._thread.start()

    def ready(self, on: bool) -> None:
        """Whether parts can be inspected."""
        with self._changed:
            self._ready = on
            self._changed.notify_all()

    def triggered(self, number: int, at_ns: int) -> None:
        """A part is in front of the camera, at this time of the monotonic clock; its verdict will follow."""
        if not self._used:
            return
        config = self._config
        part = _Part(number, at_ns)
        with self._changed:
            self._unjudged.add(number)
            self._announced = True
            self._parts[number] = part
            if config.reject_after_parts:
                self._behind.append(part)
                if len(self._behind) > config.reject_after_parts:
                    self._behind.popleft().due_ns = at_ns + self._delay_ns
            elif self._delay_ns:
                part.due_ns = at_ns + self._delay_ns
            self._changed.notify_all()

    def judged(self, number: int, word: str) -> None:
        """The verdict on a part. One that comes when the part has passed the gate changes nothing."""
        if not self._used:
            return
        with self._changed:
            self._unjudged.discard(number)
            part = self._parts.get(number)
            if part is not None:
                part.word = word
                if not self._config.reject_after_parts and not self._delay_ns:
                    part.due_ns = time.monotonic_ns()
            self._changed.notify_all()

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Not ready any more; throw out what is known to be bad and on its way, within drain_s; then rest."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._changed:
            self._ready = False
            self._changed.notify_all()
            self._changed.wait_for(self._drained, drain_s)
            self._running = False
            self._changed.notify_all()
        thread.join(DRAIN_S)
        missed = sum(self._rejects(part.word) for part in self._parts.values())
        if missed:
            log.warning("outputs: stopped with %d rejected parts still on their way to the gate", missed)
        _open_outputs.discard(self)
        self.rest()

    def rest(self) -> None:
        """Every output off, and the pins given back."""
        self._running = False
        pins, self._pins = self._pins, []
        for pin in pins:
            pin.close()

    # -- in the thread

    def _run(self) -> None:
        with self._changed:
            while self._running:
                next_ns = self._turn(time.monotonic_ns())
                self._changed.notify_all()  # for close()
                if self._running:
                    self._changed.wait(self._seconds_to(next_ns))

    def _turn(self, now_ns: int) -> int | None:
        """Throw out what is due and set the pins. Returns when there is something to do again."""
        for part in [
            part for part in self._parts.values() if part.due_ns is not None and part.due_ns <= now_ns
        ]:
            del self._parts[part.number]
            self._pass_gate(part, now_ns)
        self._reject.set(now_ns < self._pulse_ends_ns)
        if self._announced:
            self._announced = False
            self._busy_ends_ns = now_ns + SHORTEST_BUSY_NS
        self._busy.set(bool(self._unjudged) or now_ns < self._busy_ends_ns)
        self._ready_pin.set(self._ready)
        dues = [part.due_ns for part in self._parts.values() if part.due_ns is not None]
        dues += [end_ns for end_ns in (self._pulse_ends_ns, self._busy_ends_ns) if now_ns < end_ns]
        return min(dues, default=None)

    def _pass_gate(self, part: _Part, now_ns: int) -> None:
        if part.word is None:
            self.late += 1
            level = logging.ERROR if self.late == 1 else logging.DEBUG
            log.log(
                level,
                "outputs: part %d passes the gate without a verdict (%d so far)",
                part.number,
                self.late,
            )
        if self._rejects(part.word):
            self.rejected += 1
            self._pulse_ends_ns = now_ns + round(self._config.reject_pulse_ms * 1e6)

    def _rejects(self, word: str | None) -> bool:
        return (word or _UNKNOWN) in self._config.reject_on

    def _drained(self) -> bool:
        """Nothing is on its way that a pulse is due for, and none is under way."""
        on_the_way = any(
            part.due_ns is not None and self._rejects(part.word) for part in self._parts.values()
        )
        return not on_the_way and time.monotonic_ns() >= self._pulse_ends_ns

    @property
    def _delay_ns(self) -> int:
        return round(self._config.reject_delay_ms * 1e6)

    def _take(self, number: int, active: str) -> _Pin:
        pin = _Pin(output_pin(number, active, self._pin_factory) if number >= 0 else None)
        self._pins.append(pin)
        return pin

    @staticmethod
    def _seconds_to(at_ns: int | None) -> float | None:
        return None if at_ns is None else max(0.0, (at_ns - time.monotonic_ns()) / 1e9)


class _Pin:
    """An output that is written to when it changes; or none."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._on = False

    def set(self, on: bool) -> None:
        if on != self._on and self._device is not None:
            (self._device.on if on else self._device.off)()
        self._on = on

    def close(self) -> None:
        if self._device is not None:
            self._device.off()
            self._device.close()


def rest_all() -> None:
    """Every output of this process at rest, at once: it ends, and nothing can be waited for."""
    for outputs in tuple(_open_outputs):
        try:
            outputs.rest()
        except Exception:
            log.exception("outputs: cannot be put at rest")
