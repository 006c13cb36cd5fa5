"""What systemd is told, over a real datagram socket."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from device.system import notify


@pytest.fixture(params=["file", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The receiving end of $NOTIFY_SOCKET."""
    address = str(tmp_path / "notify") if request.param == "file" else f"@edgevision-test-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address.replace("@", "\0", 1))
        receiver.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield receiver


def test_systemd_is_told(systemd: socket.socket) -> None:
    notify.ready()
    notify.alive()
    notify.stopping()
    assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_a_socket_that_is_gone_or_full_stops_nothing(
    systemd: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """Told once, until it works again."""
    with caplog.at_level(logging.WARNING):
        for _ in range(100):  # nobody reads: the queue of a datagram socket is short
            notify.alive()
    assert caplog.messages == [
        "systemd cannot be told WATCHDOG=1: Resource temporarily unavailable; inspection goes on"
    ]
    assert fed(systemd) > 5
    notify.ready()
    assert systemd.recv(100) == b"READY=1"
    systemd.close()
    with caplog.at_level(logging.WARNING):
        notify.alive()
        notify.stopping()
    assert caplog.messages[1:] == [
        "systemd cannot be told WATCHDOG=1: Connection refused; inspection goes on"
    ]


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready()


def fed(systemd: socket.socket) -> int:
    """How often the watchdog was fed so far."""
    systemd.setblocking(False)
    count = 0
    try:
        while True:
            assert systemd.recv(100) == b"WATCHDOG=1"
            count += 1
    except BlockingIOError:
        return count


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_stored_verdicts_feed_the_watchdog_once_a_second_at_most(systemd: socket.socket) -> None:
    clock = Clock()
    watchdog = notify.Watchdog(clock)
    meals = 0
    for stored in range(1, 101):
        clock.now_s += 0.1
        watchdog.look(stored=stored, waiting_for_part=False)
        meals += fed(systemd)  # at once: a socket holds ten datagrams, and the eleventh would block
    assert meals == pytest.approx(10, abs=1)


def test_without_progress_it_starves(systemd: socket.socket) -> None:
    clock = Clock()
    watchdog = notify.Watchdog(clock)
    watchdog.look(stored=0, waiting_for_part=False)
    assert fed(systemd) == 0
    watchdog.look(stored=7, waiting_for_part=False)
    for _ in range(100):
        clock.now_s += 1
        watchdog.look(stored=7, waiting_for_part=False)
    assert fed(systemd) == 1


def test_what_was_stored_since_the_last_meal_is_not_forgotten(systemd: socket.socket) -> None:
    clock = Clock()
    watchdog = notify.Watchdog(clock)
    watchdog.look(stored=1, waiting_for_part=False)
    watchdog.look(stored=2, waiting_for_part=False)  # too soon to be told
    clock.now_s += 60
    watchdog.look(stored=2, waiting_for_part=False)
    assert fed(systemd) == 2


def test_a_station_that_waits_for_a_part_for_an_hour_lives(systemd: socket.socket) -> None:
    clock = Clock()
    watchdog = notify.Watchdog(clock)
    for _ in range(60):
        clock.now_s += 60
        watchdog.look(stored=3, waiting_for_part=True)
        assert fed(systemd) == 1
