"""What the service tells systemd (sd_notify): ready, alive, stopping. Without systemd, nothing happens.

The package systemd-python does it where it is installed. Where it is not, the message goes straight to the
socket in $NOTIFY_SOCKET, as sd_notify(3) describes: a service of Type=notify that stays silent is killed.
"""

from __future__ import annotations

import os
import socket

try:
    from systemd import daemon
except ImportError:  # the project's own folder systemd/ is no package
    daemon = None


def ready() -> None:
    """The first good frame has been inspected."""
    _send("READY=1")


def alive() -> None:
    """Feeds the watchdog. Called for a verdict, never by a timer: a loop that inspects nothing is dead."""
    _send("WATCHDOG=1")


def stopping() -> None:
    """The service has begun to end."""
    _send("STOPPING=1")


def _send(state: str) -> None:
    if daemon is not None:
        daemon.notify(state)
    elif address := os.environ.get("NOTIFY_SOCKET"):
        _send_datagram(address, state)


def _send_datagram(address: str, state: str) -> None:
    """One datagram to a socket file, or to an abstract socket, whose name is written with a leading @."""
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), target)
