"""SIGTERM and SIGINT as a request that the loop looks at between two frames.

A signal handler must not touch locks that the interrupted code may hold (an Event's, for one). So the handler
only sets a flag, and the interpreter writes a byte to a socket pair, which cuts short whatever waits on it.
"""

from __future__ import annotations

import select
import signal
import socket
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """`with StopSignal() as stop:` in the main thread; the handlers before it come back at the end."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @property
    def requested(self) -> bool:
        return self.received is not None

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until a signal comes. True when one has come."""
        select.select([self._reader], [], [], max(0.0, seconds))
        return self.requested

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        self._reader.close()
        self._writer.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
