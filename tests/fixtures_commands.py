"""Someone who gives commands to a station and waits for the answers, over a real broker."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

from fixtures_broker import DEADLINE_S
from fixtures_daemon import ROOT
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


class Commander:
    """ask() for the answer to a command; MQTT 5 with a response topic, or 3.1.1 without."""

    def __init__(self, port: int, user: str | None = None, *, protocol: str = "5", root: str = ROOT) -> None:
        self.answers: list[tuple[str, dict[str, Any], bytes | None]] = []
        self._root = root
        self._is_5 = protocol == "5"
        self._arrived = threading.Condition()
        subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            f"commander-{uuid.uuid4().hex[:8]}",
            protocol=MQTTProtocolVersion.MQTTv5 if self._is_5 else MQTTProtocolVersion.MQTTv311,
        )
        if user is not None:
            self._client.username_pw_set(user, f"{user}-password")
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe([(f"{root}/response/me", 1), (f"{root}/cmd/+/response", 1)])
        assert subscribed.wait(DEADLINE_S)

    def send(self, name: str, payload: Any = None, **more: Any) -> bytes:
        """Publish a command; its correlation data, which are b"" with MQTT 3.1.1."""
        content = payload if isinstance(payload, bytes) else json.dumps(payload or {}).encode()
        correlation = more.pop("correlation", uuid.uuid4().bytes)
        properties = None
        if self._is_5:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = more.pop("response_topic", f"{self._root}/response/me")
            properties.CorrelationData = correlation
            properties.UserProperty = ("by", more.pop("by", "ann"))
        sent = self._client.publish(f"{self._root}/cmd/{name}", content, 1, properties=properties, **more)
        sent.wait_for_publish(DEADLINE_S)
        return correlation if self._is_5 else b""

    def ask(self, name: str, payload: Any = None, **more: Any) -> dict[str, Any]:
        """The answer to a command."""
        with self._arrived:
            before = len(self.answers)
        correlation = self.send(name, payload, **more)
        topic = f"{self._root}/response/me" if self._is_5 else f"{self._root}/cmd/{name}/response"
        with self._arrived:
            found = self._arrived.wait_for(lambda: self._find(topic, correlation, before), DEADLINE_S)
        assert found, f"no answer to {name} on {topic}; answers: {self.answers}"
        return found

    def _find(self, topic: str, correlation: bytes, before: int) -> dict[str, Any] | None:
        """The answer that came after the first `before`."""
        for where, answer, data in self.answers[before:]:
            if where == topic and (data or b"") == correlation:
                return answer
        return None

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        with self._arrived:
            self.answers.append((message.topic, json.loads(message.payload), correlation))
            self._arrived.notify_all()
