"""Publishers of the tests, and what a subscriber has had of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_broker import Subscriber
from fixtures_verdict import SESSION
from paho.mqtt.client import MQTTMessage

from device.config import MqttConfig, OutboxConfig
from device.mqtt.publisher import Publisher

ROOT = "edgevision/press-4"


def mqtt_config(port: int, **changes: object) -> MqttConfig:
    values = {
        "host": "127.0.0.1",
        "port": port,
        "prefix": "edgevision",
        "client_id": "edgevision-press-4",
        "protocol": "auto",
        "keepalive_s": 5,
        "username": None,
        "password": None,
        "tls": None,
        "message_expiry_s": 0,
    }
    return MqttConfig(**(values | changes))


@pytest.fixture
def make_publisher(tmp_path: Path) -> Iterator[Callable[..., Publisher]]:
    """Publishers that have been started, on one outbox; those that a test leaves running are stopped."""
    made: list[Publisher] = []

    def make(port: int, session: str = SESSION, **changes: object) -> Publisher:
        config = mqtt_config(port, **changes)
        limits = OutboxConfig(max_bytes=1_000_000_000, max_days=14)
        made.append(Publisher(config, "press-4", session, birth, limits, tmp_path / "state"))
        made[-1].start()
        return made[-1]

    yield make
    for publisher in made:
        publisher.stop("stopped")


def birth(protocol: str) -> str:
    return f'{{"schema":1,"protocol":"{protocol}"}}'


def seqs(subscriber: Subscriber, topic: str) -> list[int]:
    return [json.loads(payload)["seq"] for payload in subscriber.payloads(f"{ROOT}/{topic}")]


def retained(port: int) -> dict[str, str]:
    """What a newcomer is told at once."""
    newcomer = Subscriber(port)
    newcomer.catch_up()
    newcomer.close()
    return {m.topic: m.payload.decode() for m in newcomer.messages if m.retain}


def user_properties(message: MQTTMessage) -> list[tuple[str, str]]:
    return getattr(message.properties, "UserProperty", [])


def events(subscriber: Subscriber, topic: str = "inspection") -> list[dict]:
    return [json.loads(payload) for payload in subscriber.payloads(f"{ROOT}/{topic}")]
