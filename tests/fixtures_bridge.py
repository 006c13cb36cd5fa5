"""The bridge as its own process beside a real broker, and a station that exists only on MQTT."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fixtures_broker import DEADLINE_S, MOSQUITTO, Broker, free_port
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.simulated import SimulatedStation, compact, utc_now

REPOSITORY = Path(__file__).resolve().parent.parent
STATION = "press-4"


@dataclass
class BridgeProcess:
    """configure(), start(), stop() and start() again; every port is a free one."""

    folder: Path
    broker_port: int
    ports: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "bridge.toml"

    def configure(self, **sections: str) -> Path:
        """Write bridge.toml: each argument is a section that is enabled, and its further lines."""
        text = f"[mqtt]\nport = {self.broker_port}\n{sections.pop('mqtt', '')}\n"
        for name, lines in sections.items():
            text += f"[{name}]\n"
            if name in {"modbus", "http", "metrics"}:
                text += f"enabled = true\nport = {self.ports.setdefault(name, free_port())}\n"
            text += f"{lines}\n"
        self.config.write_text(text)
        return self.config

    def start(self) -> None:
        """Run it and wait until every port is listened on."""
        with (self.folder / "bridge.log").open("ab") as log:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "deploy.bridge", "--config", self.config),
                cwd=REPOSITORY,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        wait_until(self._is_up, f"the bridge to listen:\n{self.log()}")

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """End it; returns the exit code."""
        if self.process is None:
            return None
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        self.process = None
        return code

    def log(self) -> str:
        path = self.folder / "bridge.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the bridge ended:\n{self.log()}"
        return all(_listens(port) for port in self.ports.values())


def _listens(port: int) -> bool:
    """Whether somebody listens there, without a connection that he would notice."""
    wanted = f"{port:04X}"
    return any(
        fields[1].rpartition(":")[2] == wanted and fields[3] == "0A"
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
    )


def wait_until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_S) -> Any:
    """Poll what has no event to wait for: the first true value."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        pause.wait(0.01)
    return found


class StandIn:
    """A station without a camera: it says what it is told to, and answers triggers as `on_trigger` says.

    Its connection has a last will, so that cut() looks like a crash.
    """

    def __init__(self, port: int, name: str = STATION) -> None:
        self.voice = SimulatedStation(name, session=uuid.uuid4().hex)
        self.commands: list[dict[str, Any]] = []
        self.on_trigger: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda command: None
        self._subscribed = threading.Event()
        self._introduced = False
        self._cut = False
        self._client = Client(
            CallbackAPIVersion.VERSION2, f"stand-in-{name}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.will_set(self.voice.topic("status"), b"offline", qos=1, retain=True)
        self._client.on_message = self._on_message
        self._client.on_connect = self._on_connect
        self._client.reconnect_delay_set(1, 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(DEADLINE_S)

    def say(self, below: str, payload: bytes | str, *, retain: bool = False) -> None:
        """Publish, on the next connection where there is none, and wait until the broker has it."""
        wait_until(self._client.is_connected, "the stand-in's connection")
        self._client.publish(self.voice.topic(below), payload, qos=1, retain=retain).wait_for_publish(
            DEADLINE_S
        )

    def introduce(self) -> None:
        """All retained state, now and on every connect, `online` last."""
        self._introduced = True
        self._introduce()
        self.say("status", b"online", retain=True)

    def judge(self, word: str = "OK", **changes: Any) -> dict[str, Any]:
        """Publish a verdict."""
        verdict = self.voice.verdict(word, **changes)
        self.say("inspection", compact(verdict))
        return verdict

    def cut(self) -> None:
        """End without a word: the broker publishes the last will."""
        self._cut = True
        self._client.loop_stop()
        self._client.socket().close()

    def close(self) -> None:
        """End as a station does that is told to stop."""
        if self._cut:
            return
        if self._client.is_connected():
            self.say("status", b"stopped", retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Client, *_: Any) -> None:
        client.subscribe(self.voice.topic("cmd/+"), qos=1)
        if self._introduced:
            self._introduce()

    def _introduce(self) -> None:
        retained = self.voice.retained()
        status = {self.voice.topic("status"): retained.pop(self.voice.topic("status"))}
        for topic, payload in (retained | status).items():
            self._client.publish(topic, payload, qos=1, retain=not topic.endswith("/stats"))

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        command = json.loads(message.payload)
        self.commands.append(command)
        changes = self.on_trigger(command)
        if changes is None:
            return
        answer = {
            "schema": 1,
            "ts": utc_now(),
            "session_id": self.voice.session,
            "command": "trigger",
            "request_id": None,
            "ok": True,
            "reason": None,
            "change": None,
            "repeated": False,
        }
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = message.properties.CorrelationData
        client.publish(message.properties.ResponseTopic, compact(answer | changes), properties=properties)


def beside_a_broker(folder: Path, **sections: str) -> Iterator[BridgeProcess]:
    """A broker and a bridge that run, for a fixture that many tests share."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    broker = Broker(folder / "broker", free_port())
    broker.start()
    bridge = BridgeProcess(folder, broker.port)
    bridge.configure(**sections)
    try:
        bridge.start()
        yield bridge
    finally:
        bridge.stop(signal.SIGKILL)
        broker.stop(signal.SIGKILL)


@pytest.fixture
def make_bridge(tmp_path: Path) -> Iterator[Callable[[int], BridgeProcess]]:
    """Bridges for a broker's port; those that run at the end are killed."""
    bridges: list[BridgeProcess] = []

    def make(broker_port: int) -> BridgeProcess:
        folder = tmp_path / f"bridge{len(bridges)}"
        folder.mkdir()
        bridges.append(BridgeProcess(folder, broker_port))
        return bridges[-1]

    yield make
    for bridge in bridges:
        bridge.stop(signal.SIGKILL)


@pytest.fixture
def stand_in(broker: Broker) -> Iterator[StandIn]:
    """A station that has introduced itself to the broker."""
    station = StandIn(broker.port)
    station.introduce()
    yield station
    station.close()
