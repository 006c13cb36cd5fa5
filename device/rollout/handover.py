"""From the one who calls /opt/edgevision/receive to a process of its own under the unit's closures.

    /opt/edgevision/receive install NAME
        `hand_over`: it reads no bundle. It gives its arguments, who called, and its own output and error to
        systemd's socket, and waits.
    edgevision-receive@.service
        `serve`, a fresh process for each call: closed as the service is, with no network and no devices, and
        a limit of memory. It goes on to its end when the caller is gone.

The socket is the service's user's alone: sudo says who becomes that user, and for which program.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable

SOCKET = "/run/edgevision-receive.socket"
PASSED_ON = ("SUDO_USER", "EDGEVISION_INCOMING")  # of the caller's environment: who it is; root's own folder
FAILED = 1
_MOST_BYTES = 8192


def hand_over(arguments: list[str], path: str = SOCKET) -> int:
    """Have `receive ARGUMENTS` done on the other end of the socket. Returns its exit code, or FAILED."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    message = json.dumps({"arguments": arguments, "environment": environment}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        try:
            server.connect(path)
            socket.send_fds(server, [message], [sys.stdout.fileno(), sys.stderr.fileno()])
            answer = server.recv(1)
        except OSError as error:
            problem = f"{path}: {error.strerror} (systemctl status edgevision-receive.socket)"
            print(f"error: {problem}", file=sys.stderr)
            return FAILED
    if not answer:
        print("error: receive was ended (journalctl -u 'edgevision-receive@*')", file=sys.stderr)
        return FAILED
    return answer[0]


def serve(receive: Callable[[list[str]], int]) -> None:
    """Do what the caller on standard input hands over, with its output and error for our own."""
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as caller:
        message, files, _, _ = socket.recv_fds(caller, _MOST_BYTES, 2)
        for file, own in zip(files, (sys.stdout, sys.stderr), strict=True):
            os.dup2(file, own.fileno())
            os.close(file)
        asked = json.loads(message)
        os.environ.update(asked["environment"])
        code = FAILED
        try:
            code = receive(asked["arguments"])
        except SystemExit as end:  # argparse's
            code = end.code if isinstance(end.code, int) else FAILED
        finally:
            with contextlib.suppress(OSError):
                caller.sendall(bytes([code]))


if __name__ == "__main__":
    sys.exit(hand_over(sys.argv[1:]))
