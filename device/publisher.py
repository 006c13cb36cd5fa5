"""Verdicts to the MQTT broker, which may be away.

    <prefix>/<station>/status           online | offline | stopped, retained; offline is also the last will
    <prefix>/<station>/birth            what this station is and runs, retained
    <prefix>/<station>/inspection       every verdict
    <prefix>/<station>/inspection/last  the latest one, retained
    <prefix>/<station>/defect           NG and MARGINAL only

Everything is QoS 1. Status, birth and the latest verdict are published again on every connect.

Events wait here, in memory, and only a few at a time are handed to paho. Its own queue would refuse the
newest message when full, the birth among them, and would send the whole backlog at once when the broker is
back. Loss rule: when `queue_limit` events wait, the oldest is dropped and counted. What waits is lost
with the process.

Threads: the caller's (publish, stop), paho's (the callbacks) and the sender's. paho runs a callback while it
holds its own locks, so ours is never held while paho is called.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from device.broker import make_client
from device.config import MqttConfig
from device.verdict import Verdict

log = logging.getLogger(__name__)

FLUSH_S = 5.0  # how long stop() waits for what is queued, and again for its last word
RECONNECT_MAX_S = 30  # the pauses between attempts double from 1 s up to this
WILL_DELAY_S = 5  # a connection that is back within this was never reported offline
_WINDOW = 16  # events that paho holds without their acknowledgement
_STATE_ROOM = 4  # messages beside them: status, birth and the latest verdict


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of the messages of this session."""

    acknowledged: int
    waiting: int
    dropped: int
    refused: int

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.waiting} waiting, "
            f"{self.dropped} dropped, {self.refused} refused"
        )


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: str
    retain: bool = False


P = ParamSpec("P")


def _never_raises(callback: Callable[P, None]) -> Callable[P, None]:
    """For paho's callbacks: an exception in one would end paho's thread, and with it all delivery."""

    @functools.wraps(callback)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:
            log.exception("fault in %s; delivery goes on", callback.__name__)

    return guarded


class Publisher:
    """The station's voice: start(), publish() for every verdict, stop(). Only stop() waits for the broker."""

    def __init__(self, config: MqttConfig, station: str, session_id: str, birth: str) -> None:
        """`birth` is the JSON that introduces the station; every retained message carries `session_id`."""
        self._config = config
        self._root = f"{config.prefix}/{station}"
        self._session_id = session_id
        self._birth = birth
        self._client = self._make_client()
        self._sender = threading.Thread(target=self._send_all, name="publisher", daemon=True)
        self._changed = threading.Condition()  # guards all that follows
        self._waiting: deque[_Message] = deque()
        self._last: _Message | None = None
        self._last_is_due = False
        self._window = _WINDOW
        self._connected = False
        self._closing = False
        self._unacknowledged = 0
        self._acknowledged = 0
        self._dropped = 0
        self._refused = 0
        self._away_since = time.monotonic()
        self._complained = False

    @property
    def address(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    @property
    def connected(self) -> bool:
        return self._connected

    def start(self) -> None:
        """Begin to connect, and go on trying until stop(). A broker that is away is no error."""
        self._client.connect_async(
            self._config.host,
            self._config.port,
            self._config.keepalive_s,
            clean_start=False,  # a clean start would end the old session, and so set off its last will
            properties=_properties(PacketTypes.CONNECT, SessionExpiryInterval=2 * WILL_DELAY_S),
        )
        self._client.loop_start()
        self._sender.start()

    def publish(self, verdict: Verdict) -> None:
        """Queue a verdict. Never waits; drops the oldest event when the queue is full."""
        payload = verdict.to_json()
        with self._changed:
            self._enqueue(_Message(f"{self._root}/inspection", payload))
            if verdict.verdict in ("NG", "MARGINAL"):
                self._enqueue(_Message(f"{self._root}/defect", payload))
            self._last = _Message(f"{self._root}/inspection/last", payload, retain=True)
            self._last_is_due = True
            self._changed.notify_all()

    def delivery(self) -> Delivery:
        """The counts so far."""
        with self._changed:
            waiting = len(self._waiting) + self._unacknowledged
            return Delivery(self._acknowledged, waiting, self._dropped, self._refused)

    def stop(self, last_word: str) -> None:
        """Deliver what waits, publish `last_word` ("stopped" or "offline") as the status, and disconnect.

        Waits at most FLUSH_S for the acknowledgements, whether the broker is there or not. The last will is
        not sent. A second call does nothing.
        """
        if self._closing:
            return
        with self._changed:
            delivered = self._changed.wait_for(self._is_idle, FLUSH_S)
            lost = len(self._waiting) + self._unacknowledged
            self._closing = True
            self._changed.notify_all()
        self._sender.join()
        if not delivered:
            log.warning("broker %s: %d messages were not delivered and are lost", self.address, lost)
        if self._connected:
            self._part(last_word)
        else:  # a connection made at this very moment said "online": let the broker send the last will
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))

    def _part(self, last_word: str) -> None:
        self._say(self._status(last_word))
        with self._changed:
            self._changed.wait_for(lambda: self._unacknowledged == 0 or not self._connected, FLUSH_S)
        self._client.disconnect()
        self._client.loop_stop()

    # -- to paho, with none of our locks held

    def _make_client(self) -> Client:
        client = make_client(self._config, self._config.client_id)
        client.max_inflight_messages_set(_WINDOW + _STATE_ROOM)
        client.max_queued_messages_set(2 * (_WINDOW + _STATE_ROOM))
        client.reconnect_delay_set(min_delay=1, max_delay=RECONNECT_MAX_S)
        will = _properties(PacketTypes.WILLMESSAGE, UserProperty=self._mark(), WillDelayInterval=WILL_DELAY_S)
        client.will_set(f"{self._root}/status", "offline", qos=1, retain=True, properties=will)
        client.on_connect = _never_raises(self._on_connect)
        client.on_connect_fail = _never_raises(self._on_connect_fail)
        client.on_disconnect = _never_raises(self._on_disconnect)
        client.on_publish = _never_raises(self._on_publish)
        return client

    def _send_all(self) -> None:
        """The sender's thread: one message after the other, until stop()."""
        while (message := self._next()) is not None:
            self._hand_over(message)

    def _next(self) -> _Message | None:
        """Wait for a message that may be sent now. None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._may_send())
            if self._closing:
                return None
            self._unacknowledged += 1
            if self._waiting:
                return self._waiting.popleft()
            self._last_is_due = False
            return self._last

    def _say(self, message: _Message) -> None:
        """Send a message past the queue."""
        with self._changed:
            self._unacknowledged += 1
        self._hand_over(message)

    def _hand_over(self, message: _Message) -> None:
        """Give a message to paho, which keeps it until it is acknowledged, over any number of connections."""
        properties = _properties(PacketTypes.PUBLISH, UserProperty=self._mark()) if message.retain else None
        info = self._client.publish(message.topic, message.payload, 1, message.retain, properties)
        if (
            info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE
        ):  # only when connections break faster than they acknowledge
            with self._changed:
                self._unacknowledged -= 1
                self._dropped += 1

    def _status(self, word: str) -> _Message:
        return _Message(f"{self._root}/status", word, retain=True)

    def _mark(self) -> tuple[str, str]:
        return "session_id", self._session_id

    # -- under self._changed

    def _enqueue(self, message: _Message) -> None:
        if len(self._waiting) >= self._config.queue_limit:
            self._waiting.popleft()
            self._dropped += 1
            if self._dropped == 1:
                log.warning(
                    "more than %d events wait: the oldest are dropped from now on", self._config.queue_limit
                )
        self._waiting.append(message)

    def _may_send(self) -> bool:
        """Events as far as the window allows; the latest verdict only when nothing is under way.

        Else an older "latest" that paho sends again after a lost connection could arrive after a newer one,
        and stay.
        """
        if self._waiting:
            return self._connected and self._unacknowledged < self._window
        return self._connected and self._last_is_due and self._unacknowledged == 0

    def _is_idle(self) -> bool:
        return not self._waiting and not self._last_is_due and self._unacknowledged == 0

    # -- paho's callbacks, in paho's thread

    def _on_connect(
        self,
        client: Client,
        userdata: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._complain(f"refuses the connection: {reason}")
            return
        self._say(self._status("online"))
        self._say(_Message(f"{self._root}/birth", self._birth, retain=True))
        with self._changed:
            self._connected = True
            self._window = min(_WINDOW, max(1, getattr(properties, "ReceiveMaximum", 65535) - _STATE_ROOM))
            self._last_is_due = self._last is not None
            self._report_recovery()
            self._changed.notify_all()

    def _on_connect_fail(self, client: Client, userdata: Any) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles the OSError, and does not pass it on
        self._complain(f"cannot be reached: {getattr(error, 'strerror', None) or error}")

    def _on_disconnect(
        self,
        client: Client,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._changed:
            was_connected, self._connected = self._connected, False
            if was_connected:
                self._away_since = time.monotonic()
            self._changed.notify_all()
        if was_connected and not self._closing:
            self._complain(f"connection lost: {reason}")

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            self._unacknowledged -= 1
            if reason.is_failure:
                self._refused += 1
            else:
                self._acknowledged += 1
            self._changed.notify_all()
        if reason.is_failure:
            level = logging.WARNING if self._refused == 1 else logging.DEBUG
            log.log(level, "broker %s: refuses a message: %s", self.address, reason)

    def _complain(self, what: str) -> None:
        """The first failure of an outage aloud, the rest quietly."""
        log.log(
            logging.DEBUG if self._complained else logging.WARNING,
            "broker %s: %s; trying on",
            self.address,
            what,
        )
        self._complained = True

    def _report_recovery(self) -> None:
        away_s = time.monotonic() - self._away_since
        log.info(
            "broker %s: connected after %.1f s, %d events waiting", self.address, away_s, len(self._waiting)
        )
        self._complained = False


def _properties(packet: int, **values: object) -> Properties:
    """MQTT 5 properties of a packet, by the names that paho has for them."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
