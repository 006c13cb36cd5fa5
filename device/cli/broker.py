"""The MQTT broker as the check meets it: connect once, and part again."""

from __future__ import annotations

from device.config import MqttConfig
from device.errors import BrokerError
from device.mqtt.connection import CONNECT_S, Connection, ProtocolRefused, Unanswered
from device.mqtt.reconnect import Versions


def try_broker(config: MqttConfig, timeout_s: float = CONNECT_S) -> str:
    """Connect under a client id of its own, so that a running service is not thrown out.

    Returns the version of MQTT that is spoken.
    Raises BrokerError: nobody answers in time, or the broker refuses; ConfigError: the TLS files.
    """
    versions = Versions(config.protocol)
    while True:
        wanted = versions.wanted
        connection = Connection(config, f"{config.client_id}-check", wanted)
        try:
            connection.open(timeout_s)
        except BrokerError as error:
            if isinstance(error, ProtocolRefused):
                versions.refused()
            elif isinstance(error, Unanswered):
                versions.unanswered()
            if versions.wanted == wanted and not (isinstance(error, Unanswered) and versions.may_fall_back):
                raise BrokerError(f"broker {config.host}:{config.port}: {error}") from None
        else:
            connection.close()
            return wanted
