"""Calls that may never return."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from device.camera.worker import Worker
from device.errors import FrameError

LIMIT_S = 20.0


def test_a_call_gives_its_result_in_a_thread_of_its_own() -> None:
    worker = Worker("camera")
    threads = [worker.do("look", threading.current_thread, LIMIT_S) for _ in range(2)]
    assert threads[0] is threads[1]
    assert threads[0] is not threading.current_thread()
    assert (threads[0].name, threads[0].daemon) == ("camera", True)
    worker.stop()
    threads[0].join(LIMIT_S)
    assert not threads[0].is_alive()


def test_what_a_call_raises_comes_back() -> None:
    worker = Worker("camera")
    with pytest.raises(ZeroDivisionError):
        worker.do("divide", lambda: 1 // 0, LIMIT_S)
    assert worker.do("divide", lambda: 4 // 2, LIMIT_S) == 2
    worker.stop()


def test_a_call_that_hangs_is_given_up_and_so_is_the_next_one_at_once() -> None:
    worker = Worker("camera")
    may_return = threading.Event()
    late: queue.SimpleQueue[str] = queue.SimpleQueue()
    with pytest.raises(FrameError, match=r"camera: read: hangs, no answer within 0.05 s"):
        worker.do("read", lambda: may_return.wait(LIMIT_S) and "a frame", 0.05, late.put)
    started_s = time.monotonic()
    with pytest.raises(FrameError, match="camera: close: still hangs in read"):
        worker.do("close", lambda: None, LIMIT_S)
    assert time.monotonic() - started_s < LIMIT_S / 2
    may_return.set()
    assert late.get(timeout=LIMIT_S) == "a frame"  # nobody waits for it, somebody has to give it back
    assert worker.do("read", lambda: "another", LIMIT_S) == "another"
    worker.stop()


def test_stopping_waits_for_nobody() -> None:
    worker = Worker("camera")
    worker.stop()
    may_return = threading.Event()
    with pytest.raises(FrameError):
        worker.do("read", lambda: may_return.wait(LIMIT_S), 0.01)
    started_s = time.monotonic()
    worker.stop()
    assert time.monotonic() - started_s < LIMIT_S / 2
    may_return.set()
