"""A Mosquitto of one's own for a benchmark: on free loopback ports, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_S = 10.0
MORTAL = ("setpriv", "--pdeathsig", "KILL")  # whoever starts it so takes it along, also when killed itself


@dataclass(frozen=True, slots=True)
class Mosquitto:
    """The ports it listens on, on 127.0.0.1, and its process id."""

    port: int
    websockets: int
    pid: int

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time so far, its own and the kernel's for it."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        """Memory in use."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def mosquitto(folder: Path, *settings: str, port: int = 0) -> Iterator[Mosquitto]:
    """Run one with a listener for MQTT and one for WebSockets. Raises SystemExit: it is not installed.

    `port`: of MQTT, for one that comes again; 0: any that is free.
    """
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise SystemExit("error: mosquitto is not on PATH; apt install mosquitto")
    port, websockets = port or free_port(), free_port()
    lines = [f"listener {port} 127.0.0.1", f"listener {websockets} 127.0.0.1", "protocol websockets"]
    lines += ["allow_anonymous true", "user root" if os.geteuid() == 0 else "", *settings]
    config = folder / "mosquitto.conf"
    config.write_text("\n".join(lines) + "\n")
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen((*MORTAL, program, "-c", str(config)), stdout=log, stderr=log)
    try:
        _await_listening(port)
        yield Mosquitto(port, websockets, process.pid)
    finally:
        process.terminate()
        process.wait()


def _await_listening(port: int) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise SystemExit(f"error: mosquitto does not listen on port {port}") from None
            time.sleep(0.02)
        else:
            return


def free_port() -> int:
    """One on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
