"""What the service tells systemd (sd_notify): ready, alive, stopping. Without systemd, nothing happens.

The message goes straight to the socket in $NOTIFY_SOCKET, as sd_notify(3) describes. libsystemd's own
function, which systemd-python calls, waits for as long as the socket is full: a systemd that hangs, or reads
nothing while it is reloaded, would stop the line after ten meals.

The watchdog is fed by progress, never by a timer thread. Progress is a verdict that was stored: it has gone
the whole way from the camera to the outbox. A station whose trigger does not fire for an hour is healthy and
has no verdict to store. Then, and only then, an answer counts: nothing waits to be inspected or stored, the
capture thread comes back from its bounded wait for a trigger, and the thread that inspects is the one that
asks. A camera that hangs meanwhile is found at the next part, whose bounded wait for a frame ends in an ERROR
verdict and the end of the process. To try it between two parts would find it sooner, but a part that came
during the trial would have its picture taken too late.
A camera that runs freely never counts as waiting: no frame, no food.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_ALIVE = "WATCHDOG=1"
SEND_S = 1.0  # for a word that is said once
FEED_EVERY_S = 1.0  # more often says nothing more to systemd


def ready() -> None:
    """The first good frame has been inspected."""
    _send("READY=1")


def alive() -> None:
    """Feeds the watchdog. Called for progress, never by a timer: a loop that inspects nothing is dead."""
    _send(_ALIVE)


def stopping() -> None:
    """The service has begun to end."""
    _send("STOPPING=1")


class Watchdog:
    """Tells systemd that the service is alive when it is; see above. Belongs to the thread that inspects."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stored = 0
        self._fed_s: float | None = None

    def look(self, *, stored: int, waiting_for_part: bool) -> None:
        """Call it in every turn of the loop.

        `stored`: verdicts of this session that are safe. `waiting_for_part`: a trigger is awaited, its thread
        answers, and nothing is under way.
        """
        progress = stored > self._stored
        now_s = self._clock()
        due = self._fed_s is None or now_s - self._fed_s >= FEED_EVERY_S
        if (progress or waiting_for_part) and due:
            self._stored, self._fed_s = stored, now_s
            alive()


class _Told:
    """Whether the log already knows that systemd cannot be told."""

    failing = False


def _send(state: str) -> None:
    """A socket that is gone or full is a reason to be restarted by systemd, but none to stop the line."""
    try:
        if address := os.environ.get("NOTIFY_SOCKET"):
            _send_datagram(address, state)
    except OSError as error:
        level = logging.DEBUG if _Told.failing else logging.WARNING
        log.log(level, "systemd cannot be told %s: %s; inspection goes on", state, error.strerror or error)
        _Told.failing = True
    else:
        _Told.failing = False


def _send_datagram(address: str, state: str) -> None:
    """One datagram to a socket file, or to an abstract socket, whose name is written with a leading @."""
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(0.0 if state == _ALIVE else SEND_S)  # there will be another meal, but one READY
        sender.sendto(state.encode(), target)
