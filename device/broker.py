"""The MQTT broker as both the service and the check meet it: one way to make a client, one way to try."""

from __future__ import annotations

import threading
from typing import Any

from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from device.config import MqttConfig
from device.errors import BrokerError


def make_client(config: MqttConfig, client_id: str) -> Client:
    """A client that speaks MQTT 5 and is not connected."""
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
    if config.username is not None:
        client.username_pw_set(config.username, config.password)
    return client


def try_broker(config: MqttConfig, timeout_s: float = 5.0) -> None:
    """Connect once and part again, under a client id of its own so that a running service is not thrown out.

    Raises BrokerError: nobody answers in time, or the broker refuses.
    """
    address = f"{config.host}:{config.port}"
    answered = threading.Event()
    answers: list[ReasonCode] = []

    def on_connect(
        client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        answers.append(reason)
        answered.set()

    client = make_client(config, f"{config.client_id}-check")
    client.on_connect = on_connect
    client.connect_timeout = timeout_s
    try:
        client.connect(config.host, config.port, config.keepalive_s)
    except OSError as error:
        raise BrokerError(f"broker {address}: {error.strerror or error}") from None
    client.loop_start()
    answered.wait(timeout_s)
    client.disconnect()
    client.loop_stop()
    if not answers:
        raise BrokerError(
            f"broker {address}: took the connection and did not answer MQTT within {timeout_s:g} s"
        )
    if answers[0].is_failure:
        raise BrokerError(f"broker {address}: refuses the connection: {answers[0]}")
