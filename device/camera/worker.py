"""A thread for calls that may never return: a driver that hangs in the kernel cannot be interrupted."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from device.errors import FrameError

T = TypeVar("T")


class _Job:
    def __init__(self, call: Callable[[], Any], late: Callable[[Any], None] | None) -> None:
        self.call = call
        self.late = late
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.abandoned = False
        self.result: Any = None
        self.error: BaseException | None = None


class Worker:
    """Makes calls one after the other, in a thread of its own that does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._hangs_in: tuple[str, _Job] | None = None
        self._thread: threading.Thread | None = None

    def do(
        self, what: str, call: Callable[[], T], timeout_s: float, late: Callable[[T], None] | None = None
    ) -> T:
        """The result of the call, or what it raised.

        `late` gets a result that comes when nobody waits for it any more, in the worker's thread.
        Raises FrameError when there is none within timeout_s, and at once for as long as that call hangs.
        """
        if self._hangs_in is not None:
            hanging, job = self._hangs_in
            if not job.done.is_set():
                raise FrameError(f"{self._name}: {what}: still hangs in {hanging}")
            self._hangs_in = None
        job = _Job(call, late)
        self._start()
        self._jobs.put(job)
        job.done.wait(max(0.0, timeout_s))
        with job.lock:
            if not job.done.is_set():
                job.abandoned = True
                self._hangs_in = (what, job)
                raise FrameError(f"{self._name}: {what}: hangs, no answer within {timeout_s:g} s")
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def stop(self) -> None:
        """The thread ends after its last call; nobody waits for it."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _run(job)


def _run(job: _Job) -> None:
    try:
        job.result = job.call()
    except BaseException as error:  # noqa: BLE001 - it is raised where the call was asked for
        job.error = error
    with job.lock:
        job.done.set()
        if job.abandoned and job.late is not None and job.error is None:
            job.late(job.result)
