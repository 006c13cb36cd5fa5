"""A real Mosquitto for the tests: its own process on a free loopback port, its files in the test's folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

DEADLINE_S = 30.0
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """A loopback TCP port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Broker:
    """start(), stop() and start() again: the port stays, and so does what is retained (it is persisted)."""

    folder: Path
    port: int
    settings: tuple[str, ...] = ("allow_anonymous true",)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run the broker and wait until it takes connections."""
        assert MOSQUITTO is not None
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self.folder}/",
        ]
        lines += ["autosave_on_changes true", "autosave_interval 1", *self.settings]
        if os.geteuid() == 0:
            lines += ["user root"]  # it would give up root and then not reach its own folder
        config.write_text("\n".join(lines) + "\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen((MOSQUITTO, "-v", "-c", str(config)), stdout=log, stderr=log)
        self._await_listening()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the broker: SIGTERM lets it save what it retains, SIGKILL does not."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(DEADLINE_S)
            self.process = None

    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text("utf-8", "replace")

    def _await_listening(self) -> None:
        """Until every listener takes connections."""
        others = (line.split()[1] for line in self.settings if line.startswith("listener "))
        for port in (self.port, *map(int, others)):
            self._await(port)

    def _await(self, port: int) -> None:
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, f"mosquitto ended at once:\n{self.log()}"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.02)  # there is no event to wait for; the deadline is above
            else:
                return
        raise AssertionError(f"mosquitto does not listen on port {port}:\n{self.log()}")


class Subscriber:
    """Everything that arrives under a topic filter, in order, and waits for what should arrive.

    Its session outlives a restart of the broker, which persists it: what a station sends before the
    subscriber is back waits for it.
    """

    def __init__(self, port: int, topics: str = "#") -> None:
        self.messages: list[MQTTMessage] = []
        self._arrived = threading.Condition()
        self._subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, f"test-{uuid.uuid4().hex[:12]}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.on_message = self._on_message
        self._client.on_connect = lambda *_: self._client.subscribe(topics, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.reconnect_delay_set(1, 1)
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=session)
        self._client.loop_start()
        assert self._subscribed.wait(DEADLINE_S), "the test's subscriber got no SUBACK"

    def wait(self, found: Callable[[list[MQTTMessage]], Any], what: str, seconds: float = DEADLINE_S) -> Any:
        """The first true value of found(messages so far)."""
        with self._arrived:
            result = self._arrived.wait_for(lambda: found(self.messages), seconds)
        seen = "\n".join(
            f"  {m.topic} {'retained ' if m.retain else ''}{m.payload[:80]!r}" for m in self.messages
        )
        assert result, f"{what} did not arrive within {seconds} s; arrived:\n{seen}"
        return result

    def wait_payload(self, topic: str, payload: str) -> MQTTMessage:
        """The first message with this topic and text."""
        found: MQTTMessage = self.wait(
            lambda messages: next(
                (m for m in messages if m.topic == topic and m.payload == payload.encode()), None
            ),
            f"{topic} {payload!r}",
        )
        return found

    def catch_up(self) -> None:
        """Wait until all has arrived that the broker had for us: a message of our own comes after it."""
        marker = f"catch-up/{id(self)}"
        self._client.publish(marker, "", qos=1)
        self.wait(lambda messages: any(m.topic == marker for m in messages), "our own message")
        with self._arrived:
            self.messages = [m for m in self.messages if m.topic != marker]

    def payloads(self, topic: str) -> list[str]:
        """The texts that have arrived on a topic."""
        with self._arrived:
            return [m.payload.decode() for m in self.messages if m.topic == topic]

    def forget(self) -> None:
        """Start afresh: only what arrives from now on counts."""
        with self._arrived:
            self.messages.clear()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Brokers that have not been started; those that run at the end are stopped."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    brokers: list[Broker] = []

    def make(*settings: str) -> Broker:
        folder = tmp_path / f"broker{len(brokers)}"
        brokers.append(Broker(folder, free_port(), settings or ("allow_anonymous true",)))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.stop(signal.SIGKILL)


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    """A broker that runs and lets everybody in."""
    running = make_broker()
    running.start()
    return running


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    """A subscriber to everything on that broker, there before any publisher."""
    client = Subscriber(broker.port)
    yield client
    client.close()
