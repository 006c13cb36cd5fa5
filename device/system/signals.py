"""Signals as requests that the loop looks at between two frames: SIGTERM, SIGINT: stop; SIGHUP: reload.

A signal handler must not touch locks that the interrupted code may hold (an Event's, for one). So the handler
only sets a flag, and writes a byte to a socket pair, which cuts short whatever waits on it.
"""

from __future__ import annotations

import select
import signal
import socket
from types import FrameType
from typing import Self


class StopSignal:
    """`with StopSignal() as stop:` in the main thread; the handlers before it come back at the end."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._reload = False

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self.received is not None

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until it is time to stop; from any thread. True when it is."""
        select.select([self._reader], [], [], max(0.0, seconds))
        return self.requested

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._reload = self._reload, False
        return asked

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        handlers = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: self._on_reload,
        }
        self._previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self._writer.send(b"\0")  # never read: it ends this wait and every later one
        self.received = signal.Signals(number)

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self._reload = True
