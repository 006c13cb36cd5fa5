"""The notifications example: a real broker, and a webhook that fails first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fixtures_broker import DEADLINE_S, Broker
from fixtures_camera import wait_until
from fixtures_daemon import REPOSITORY
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.simulated import SimulatedStation, compact

PROGRAM = REPOSITORY / "deploy" / "examples" / "notify" / "notify.py"


class Hook(ThreadingHTTPServer):
    """Takes sentences; the first request of all is refused, as by a service that restarts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = 0
        self.told: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        if self.server.asked > 1:
            self.server.told.append(content["text"])
        self.send_response(503 if self.server.asked == 1 else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def station(broker: Broker, hook: Hook) -> Iterator[Any]:
    """say(topic, payload): a station that is online, on a broker to which the program is subscribed."""
    name = SimulatedStation("press-4")
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()

    def say(topic: str, payload: bytes | str) -> None:
        client.publish(name.topic(topic), payload, 1, retain=topic != "inspection").wait_for_publish(
            DEADLINE_S
        )

    say("status", "online")
    address = f"http://127.0.0.1:{hook.server_address[1]}/"
    process = subprocess.Popen(
        (sys.executable, str(PROGRAM), "--host", "127.0.0.1", "--port", str(broker.port)),
        env={**os.environ, "WEBHOOK_URL": address},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "connected" in process.stderr.readline()
    yield say
    process.terminate()
    process.wait(DEADLINE_S)
    process.stderr.close()
    client.disconnect()
    client.loop_stop()


def test_people_are_told_once_of_what_needs_them(station: Any, hook: Hook) -> None:
    simulated = SimulatedStation("press-4")
    disk = {"state": "warn", "reason": "disk_low", "text": "1 GB free", "mend": "Make room"}
    worry = {"schema": 1, "state": "degraded", "roles": {"disk": disk}}
    well = {"schema": 1, "state": "ready", "roles": {}}
    station("health", compact(worry))
    station("health", compact(worry))
    station("health", compact(worry | {"roles": {"disk": disk | {"acknowledged": {"by": "a", "ts": "t"}}}}))
    station("health", compact(well))
    for word in ("NG", "NG", "OK", "NG", "NG"):
        station("inspection", compact(simulated.verdict(word)))
    last = compact(simulated.verdict("NG", part_id="B-7"))
    for _ in range(2):  # QoS 1 may deliver twice
        station("inspection", last)
    station("inspection", compact(simulated.verdict("NG")))
    station("inspection", "no verdict")
    station("status", "offline")
    station("status", "online")
    expected = [
        "press-4: degraded. disk: 1 GB free. Make room",
        "press-4: ready again",
        "press-4: 3 NG in a row, the last is part B-7",
        "press-4: offline (fault, power or network)",
        "press-4: online again",
    ]
    wait_until(lambda: len(hook.told) >= len(expected))
    assert hook.told == expected
    station("status", "offline")
    station("health", compact(worry | {"state": "alert"}))
    wait_until(lambda: len(hook.told) > len(expected))
    assert hook.told[-1] == "press-4: alert. disk: 1 GB free. Make room", "offline was told a moment ago"


def test_without_an_address_it_says_so() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "WEBHOOK_URL"}
    done = subprocess.run(
        (sys.executable, str(PROGRAM), "--host", "127.0.0.1"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "WEBHOOK_URL: must be the address of the webhook" in done.stderr
