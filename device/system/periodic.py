"""A thread that does something every so often, and once more at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Periodic:
    """start() and stop(); `turn` is told whether it is the last."""

    def __init__(self, name: str, every_s: float, turn: Callable[[bool], None]) -> None:
        self._every_s = every_s
        self._turn = turn
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """The first turn is after `every_s`."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the last turn. A second call does nothing, nor does one without start()."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._turn(False)
        self._turn(True)
