"""Where the page of `aim` is, told to the broker while it is there, so that the dashboard can lead to it.

Retained on `aim` (aim.schema.json): the address alone; the code that lets somebody in stays in the terminal.
The broker takes it back when we are gone, however that happens. One that is away is tried again, and is no
reason not to aim.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable

from device.config import Config
from device.errors import BrokerError
from device.mqtt.connection import CONNECT_S, Connection, ProtocolRefused, Unanswered, Will
from device.mqtt.reconnect import Pauses, Protocol, Versions

SCHEMA = 1
TOPIC = "aim"
_TURN_S = 0.5


class Signpost:
    """start(), stop(); `say` is told, once, when the broker does not take it."""

    def __init__(self, config: Config, address: str, say: Callable[[str], None]) -> None:
        self._mqtt = config.mqtt
        self._topic = f"{config.mqtt.prefix}/{config.station}/{TOPIC}"
        self._client_id = f"edgevision-{config.station}-aim-{secrets.token_hex(4)}"
        self._payload = json.dumps({"schema": SCHEMA, "address": address}).encode()
        self._say: Callable[[str], None] | None = say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._stand, name="signpost", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(CONNECT_S)

    # -- the thread

    def _stand(self) -> None:
        versions, pauses = Versions(self._mqtt.protocol), Pauses()
        while not self._stop.is_set():
            try:
                self._point(versions.wanted)
            except ProtocolRefused:
                versions.refused()
            except Unanswered:
                versions.unanswered()
            except BrokerError as error:
                self._complain(str(error))
            self._stop.wait(pauses.next_s())

    def _point(self, protocol: Protocol) -> None:
        """Until it is time to stop. Raises BrokerError: the connection cannot be had, or is lost."""
        gone = Will(self._topic, "", "aim")
        connection = Connection(self._mqtt, self._client_id, protocol, gone)
        connection.open()
        try:
            self._publish(connection, self._payload)
            while not self._stop.is_set():
                connection.turn(_TURN_S)
            self._publish(connection, b"")
        finally:
            connection.close()

    def _publish(self, connection: Connection, payload: bytes) -> None:
        connection.publish(self._topic, payload, 1, retain=True, properties={})
        while not connection.answers and connection.waited_s < CONNECT_S:
            connection.turn(_TURN_S)
        for answer in connection.answers:
            if answer.code >= 128:
                self._complain(answer.reason)
        connection.answers.clear()

    def _complain(self, why: str) -> None:
        if self._say is not None:
            self._say(f"the dashboard has no link to this page: {self._mqtt.host}: {why}")
            self._say = None
