"""One connection to the broker, from the TCP handshake to its loss, driven by the thread that owns it.

paho does the protocol and nothing else: no thread of its own, no reconnecting, no queue. A lost connection is
thrown away with all that was under way on it, and the outbox knows what to send again, in order. Every wait
is bounded: CONNECT_S for TCP, TLS and CONNACK each; who waits for acknowledgements watches `oldest_s`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from device.config import MqttConfig
from device.errors import BrokerError
from device.mqtt.reconnect import Protocol
from device.mqtt.tls import tls_context
from device.system.drawn import drawn

log = logging.getLogger(__name__)

CONNECT_S = 10.0
WILL_DELAY_S = 5  # a connection that is back within this was never reported offline
MAX_INCOMING_BYTES = 65536  # of a packet that the broker may send us; MQTT 3.1.1 has no such limit
MAX_WINDOW = 64  # messages under way at a time, where the broker does not ask for fewer

CLIENT_ID_FILE = "client-id"
_PROTOCOL_REFUSED = 0x84  # MQTT 5's "unsupported protocol version"
_PROTOCOL_REFUSED_3 = 1  # the same in MQTT 3.1.1
_PACKET_OVERHEAD_BYTES = 64  # of a publish, beside topic and payload; more than it ever takes


class ProtocolRefused(BrokerError):
    """The broker says that it does not speak this version of MQTT."""


class Unanswered(BrokerError):
    """The broker closed the connection instead of answering, as old ones do to a version they do not know."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the connection is lost without a word."""

    topic: str
    payload: str
    session_id: str


@dataclass(frozen=True, slots=True)
class BrokerReply:
    """What the broker said to a message: `code` as in MQTT 5 (below 128: accepted), `reason` in words."""

    mid: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message that was subscribed to. `repeated`: it may have come before (DUP).

    `properties`: of MQTT 5, by paho's names (ResponseTopic, CorrelationData, UserProperty...).
    """

    topic: str
    payload: bytes
    retained: bool
    repeated: bool
    properties: Mapping[str, Any]


class Bell:
    """Wakes the owner of a connection from its waiting: any thread may ring it."""

    def __init__(self) -> None:
        self._number = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._number)

    def fileno(self) -> int:
        return self._number

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been rung more often than can be counted
            os.eventfd_write(self._number, 1)

    def wait(self, timeout_s: float) -> None:
        """Return when it rings, at once if it has since the last time."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        poll.poll(timeout_s * 1000)
        self.silence()

    def silence(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._number)


class Connection:
    """open(), then turn() as often as there is time, publish() as far as `room` goes, close().

    `answers` and `incoming` are filled by turn() and emptied by the owner.
    """

    def __init__(
        self, config: MqttConfig, client_id: str, protocol: Protocol, will: Will | None = None
    ) -> None:
        """Raises ConfigError: the TLS files."""
        self.protocol = protocol
        self.window = MAX_WINDOW
        self.answers: list[BrokerReply] = []
        self.incoming: list[IncomingMessage] = []
        self._config = config
        self._client = _make_client(config, client_id, protocol)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._connack: ReasonCode | None = None
        self._end: str | None = None
        self._under_way: dict[int, float] = {}  # when each was sent, by mid, in order
        self._max_packet_bytes = sys.maxsize
        self._poll = select.poll()
        if will is not None:
            self._set_will(will)

    # -- life

    def open(self, timeout_s: float = CONNECT_S) -> None:
        """Connect, and wait for the broker's answer. Raises BrokerError: what went wrong."""
        self._client.connect_timeout = timeout_s
        try:
            self._connect()
        except ssl.SSLCertVerificationError as error:
            raise BrokerError(f"is not to be trusted: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise BrokerError(f"TLS fails: {error.reason or error}") from None
        except ConnectionResetError:
            if self._config.tls is None:
                raise BrokerError("cannot be reached: Connection reset by peer") from None
            raise BrokerError("TLS fails: Connection reset by peer: is TLS spoken on this port?") from None
        except (OSError, ValueError) as error:
            raise BrokerError(f"cannot be reached: {getattr(error, 'strerror', None) or error}") from None
        self._await_answer(timeout_s)

    def turn(self, timeout_s: float, bell: Bell | None = None) -> None:
        """Read and write what can be, waiting at most `timeout_s` or until the bell rings.

        Raises BrokerError when the connection is lost.
        """
        channel = self._client.socket()
        if channel is None:
            raise BrokerError(f"connection lost: {self._end or 'closed'}")
        if isinstance(channel, ssl.SSLSocket) and channel.pending():
            timeout_s = 0
        number = channel.fileno()
        self._poll.register(number, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        if bell is not None:
            self._poll.register(bell, select.POLLIN)
        try:
            ready = dict(self._poll.poll(timeout_s * 1000))
        finally:
            self._poll.unregister(number)
            if bell is not None:
                self._poll.unregister(bell)
                bell.silence()
        self._work(ready.get(number, 0), pending=timeout_s == 0)

    def close(self, *, with_will: bool = False) -> None:
        """Say goodbye; the broker publishes the last will only if asked to (MQTT 5)."""
        if self._client.socket() is not None:
            reason = "Disconnect with will message" if with_will else "Normal disconnection"
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, reason) if self._is_5 else None)
            with contextlib.suppress(BrokerError):
                self.turn(0)
        self.abandon()

    def abandon(self) -> None:
        """Close the socket without a word."""
        channel = self._client.socket()
        if channel is not None:
            channel.close()

    # -- messages

    @property
    def room(self) -> int:
        """How many messages more the broker takes now."""
        return self.window - len(self._under_way)

    @property
    def waited_s(self) -> float:
        """How long the oldest message under way has waited for its answer; 0 without one."""
        sent_s = next(iter(self._under_way.values()), None)
        return 0.0 if sent_s is None else time.monotonic() - sent_s

    def fits(self, topic: str, payload: bytes) -> bool:
        """Whether the broker takes a message of this size at all."""
        return len(topic) + len(payload) + _PACKET_OVERHEAD_BYTES <= self._max_packet_bytes

    def publish(
        self, topic: str, payload: bytes, qos: int, *, retain: bool, properties: Mapping[str, Any]
    ) -> int:
        """Send a message. Its Answer bears the number that is returned; QoS 0 has no Answer.

        Raises ValueError: no topic to publish on.
        """
        packed = _pack(PacketTypes.PUBLISH, properties) if self._is_5 and properties else None
        info = self._client.publish(topic, payload, qos, retain, packed)
        if qos:
            self._under_way[info.mid] = time.monotonic()
        return info.mid

    def subscribe(self, topic_filter: str, *, as_published: bool = False, no_local: bool = False) -> None:
        """Ask for what matches, QoS 1.

        `as_published`: a message that was sent to be retained is `retained` even where it is news (MQTT 5;
        a broker of 3.1.1 does not tell). `no_local`: not what we publish ourselves (MQTT 5; a broker of 3.1.1
        sends it back).
        """
        if self._is_5:
            options = SubscribeOptions(qos=1, retainAsPublished=as_published, noLocal=no_local)
            self._client.subscribe(topic_filter, options=options)
        else:
            self._client.subscribe(topic_filter, qos=1)

    # -- inside

    @property
    def _is_5(self) -> bool:
        return self.protocol == "5"

    def _connect(self) -> None:
        config = self._config
        if not self._is_5:
            self._client.connect(config.host, config.port, config.keepalive_s)
            return
        self._client.connect(
            config.host,
            config.port,
            config.keepalive_s,
            clean_start=False,  # a clean start would end the old session, and so set off its last will
            properties=_pack(
                PacketTypes.CONNECT,
                {"SessionExpiryInterval": 2 * WILL_DELAY_S, "MaximumPacketSize": MAX_INCOMING_BYTES},
            ),
        )

    def _await_answer(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while self._connack is None:
            left_s = end - time.monotonic()
            if left_s <= 0:
                self.abandon()
                raise BrokerError(f"took the connection and did not answer MQTT within {timeout_s:g} s")
            if self._client.socket() is None:
                raise Unanswered(f"closed the connection instead of answering ({self._end or 'closed'})")
            self.turn(left_s)
        self._judge(self._connack)

    def _set_will(self, will: Will) -> None:
        packed = None
        if self._is_5:
            values = {"UserProperty": ("session_id", will.session_id), "WillDelayInterval": WILL_DELAY_S}
            packed = _pack(PacketTypes.WILLMESSAGE, values)
        self._client.will_set(will.topic, will.payload, qos=1, retain=True, properties=packed)

    def _work(self, events: int, *, pending: bool) -> None:
        if events or pending:
            self._client.loop_read()
        if events & select.POLLOUT and self._client.socket() is not None:
            self._client.loop_write()
        if self._client.socket() is not None:
            self._client.loop_misc()

    def _judge(self, answer: ReasonCode) -> None:
        if not answer.is_failure:
            return
        self.abandon()
        if answer.value in (_PROTOCOL_REFUSED, _PROTOCOL_REFUSED_3):
            raise ProtocolRefused(f"does not speak MQTT {self.protocol}")
        raise BrokerError(f"refuses the connection: {answer}")

    # paho calls these within turn(), publish() and close(), in our own thread. They only take notes.

    def _on_connect(
        self,
        client: Client,
        userdata: object,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._connack = reason
        self.window = min(MAX_WINDOW, max(1, getattr(properties, "ReceiveMaximum", 65535)))
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", sys.maxsize)

    def _on_disconnect(
        self,
        client: Client,
        userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._end = str(reason)

    def _on_publish(
        self, client: Client, userdata: object, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self._under_way.pop(mid, None) is not None:
            self.answers.append(BrokerReply(mid, reason.value, str(reason)))

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        topic = message.topic  # raises UnicodeDecodeError, which the owner survives
        self.incoming.append(
            IncomingMessage(
                topic, bytes(message.payload), message.retain, message.dup, _unpack(message.properties)
            )
        )


def own_client_id(state: Path, station: str) -> str:
    """edgevision-<station>-<part>; the part is kept in <state>/client-id.

    Who could guess it could connect with it, and throw the station out as often as it comes back.
    """
    return f"edgevision-{station}-{drawn(state / CLIENT_ID_FILE)}"


def _make_client(config: MqttConfig, client_id: str, protocol: Protocol) -> Client:
    """A client that never connects again by itself. Raises ConfigError (TLS)."""
    is_5 = protocol == "5"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
        clean_session=None if is_5 else True,
        reconnect_on_failure=False,
    )
    if config.username is not None:
        client.username_pw_set(config.username, config.password)
    if config.tls is not None:
        client.tls_set_context(tls_context(config.tls))
    client.max_inflight_messages = 0  # no limit of paho's: we hand over only what the broker has room for
    return client


def _pack(packet: int, values: Mapping[str, Any]) -> Properties:
    """MQTT 5 properties of a packet, by the names that paho has for them."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _unpack(properties: Properties | None) -> dict[str, Any]:
    if properties is None:
        return {}
    names = (name.replace(" ", "") for name in properties.names)
    return {name: getattr(properties, name) for name in names if hasattr(properties, name)}
