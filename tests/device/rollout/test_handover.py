"""The socket between who calls `receive` and the process that does it; under systemd: test_push.py."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY

from device.rollout import handover

CALLER = (
    "import sys; from device.rollout import handover; sys.exit(handover.hand_over(sys.argv[2:], sys.argv[1]))"
)
SERVER = """
import os, sys
from device.rollout import handover
def receive(arguments):
    print("out", *arguments, os.environ.get("SUDO_USER"), flush=True)
    print("err", file=sys.stderr, flush=True)
    {end}
handover.serve(receive)
"""


@contextmanager
def listening(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """As systemd does: one connection, given to `answer`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(path))
        server.listen()

        def accept() -> None:
            connection, _ = server.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield
        thread.join()


def call(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", CALLER, str(path), *arguments),
        cwd=REPOSITORY,
        env={**os.environ, "SUDO_USER": "anna", "PYTHONPATH": "elsewhere"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("end", "code"),
    [("return 13", 13), ("sys.exit(2)", 2), ("raise OSError('unforeseen')", 1), ("os.abort()", 1)],
)
def test_the_process_speaks_for_the_caller(tmp_path: Path, end: str, code: int) -> None:
    path = tmp_path / "socket"

    def serve(connection: socket.socket) -> None:
        subprocess.run(
            (sys.executable, "-c", SERVER.format(end=end)), cwd=REPOSITORY, stdin=connection, check=False
        )

    with listening(path, serve):
        done = call(path, "install", "--json")
    assert (done.returncode, done.stdout) == (code, "out install --json anna\n")
    assert done.stderr.startswith("err\n")
    assert ("receive was ended (journalctl" in done.stderr) == ("abort" in end)
    assert ("unforeseen" in done.stderr) == ("unforeseen" in end)


def test_nothing_but_what_it_is_for_is_passed_on(tmp_path: Path) -> None:
    path, asked = tmp_path / "socket", {}

    def note(connection: socket.socket) -> None:
        message, files, _, _ = socket.recv_fds(connection, 8192, 4)
        asked.update(json.loads(message), files=len(files))
        for file in files:
            os.close(file)
        connection.sendall(bytes([4]))

    with listening(path, note):
        assert call(path, "list").returncode == 4
    assert asked == {"arguments": ["list"], "environment": {"SUDO_USER": "anna"}, "files": 2}


def test_where_nobody_listens_it_says_so(tmp_path: Path) -> None:
    done = call(tmp_path / "none", "list")
    assert done.returncode == handover.FAILED
    assert "No such file or directory (systemctl status edgevision-receive.socket)" in done.stderr
