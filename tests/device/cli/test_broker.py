"""Trying a broker."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_broker import Broker, Subscriber, free_port
from fixtures_mqtt import mqtt_config

from device.cli.broker import try_broker
from device.errors import BrokerError


def test_a_broker_that_lets_us_in(broker: Broker, subscriber: Subscriber) -> None:
    try_broker(mqtt_config(broker.port))
    assert "as edgevision-press-4-check (" in broker.log()
    assert subscriber.messages == []


def test_nobody_there() -> None:
    port = free_port()
    with pytest.raises(BrokerError, match=f"broker 127.0.0.1:{port}: cannot be reached: Connection refused"):
        try_broker(mqtt_config(port))


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(BrokerError, match=r"broker nobody\.invalid:1883: "):
        try_broker(mqtt_config(1883, host="nobody.invalid"))


def test_somebody_who_does_not_speak_mqtt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(BrokerError, match=r"took the connection and did not answer MQTT within 0\.3 s"):
            try_broker(mqtt_config(port), timeout_s=0.3)


def test_user_and_password(make_broker: Callable[..., Broker], tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("press-4:right\n")
    try:
        subprocess.run(("mosquitto_passwd", "-U", str(passwords)), check=True)
    except FileNotFoundError:
        pytest.skip("mosquitto_passwd is not installed")
    closed = make_broker("allow_anonymous false", f"password_file {passwords}")
    closed.start()
    try_broker(mqtt_config(closed.port, username="press-4", password="right"))
    with pytest.raises(BrokerError, match="refuses the connection: Not authorized"):
        try_broker(mqtt_config(closed.port, username="press-4", password="wrong"))
