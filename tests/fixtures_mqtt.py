"""The configuration of a connection to a broker of the tests."""

from __future__ import annotations

from device.config import MqttConfig


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
