"""SIGTERM and SIGINT as a request."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from device.system.signals import StopSignal


def kill_soon(number: int) -> threading.Timer:
    timer = threading.Timer(0.1, os.kill, (os.getpid(), number))
    timer.start()
    return timer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cuts_a_wait_short(number: signal.Signals) -> None:
    with StopSignal() as stop:
        assert not stop.requested
        timer = kill_soon(number)
        begin = time.monotonic()
        assert stop.wait(30)
        assert time.monotonic() - begin < 10
        assert stop.received is number
        assert stop.wait(30)  # and every wait after it
        timer.join()


def test_without_a_signal_the_wait_is_as_long_as_asked() -> None:
    with StopSignal() as stop:
        begin = time.monotonic()
        assert not stop.wait(0.05)
        assert 0.05 <= time.monotonic() - begin < 5
        assert not stop.wait(-1)


def test_the_handlers_before_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignal():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_hang_up_asks_for_a_reload_and_cuts_no_wait_short() -> None:
    with StopSignal() as stop:
        assert not stop.take_reload()
        timer = kill_soon(signal.SIGHUP)
        begin = time.monotonic()
        assert not stop.wait(0.3)
        assert time.monotonic() - begin >= 0.3
        timer.join()
        assert stop.take_reload()
        assert not stop.take_reload()
        assert not stop.requested
