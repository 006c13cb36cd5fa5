"""The connection to the broker: paho in the event loop's thread, connected again whenever it is lost.

paho does the protocol and nothing else: no thread, no reconnecting, no queue. A message is handled while it
is read, and only then acknowledged; where `acknowledge_later` it is acknowledged when the handler's owner
says so, and comes again, from the broker, when that never happened (`session_s`: how long the broker keeps
it).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from deploy.bridge.config import BrokerConfig, BrokerTlsConfig
from device.errors import BrokerError, ConfigError
from device.mqtt.reconnect import Pauses

log = logging.getLogger(__name__)

CONNECT_S = 10.0
MAX_INCOMING_BYTES = 2_000_000  # of a packet: a picture of 1 MB and more
_TICK_S = 1.0
_REFUSED = 0x80

Handler = Callable[[MQTTMessage], None]
ConnectionListener = Callable[[bool], None]


class _Pump:
    """Reads, writes and looks at the clock for a client of paho's, on the event loop of who starts it."""

    def __init__(self, client: Client, ended: Callable[[str], None]) -> None:
        """`client`: not connected yet. `ended` is told why the connection is over."""
        self.client = client
        self._ended = ended
        self._stopped = False
        client.on_socket_close = self._on_socket_close

    def start(self) -> None:
        """Once it is connected. Raises BrokerError."""
        channel = self.client.socket()
        if channel is None:
            raise BrokerError("closed the connection instead of answering")
        if isinstance(channel, socket.socket):
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        loop.add_reader(channel.fileno(), self._readable)
        loop.call_later(_TICK_S, self._tick)
        self.flush()

    def flush(self) -> None:
        """What paho could not send at once goes when the socket takes it."""
        channel = self.client.socket()
        if channel is not None and self.client.want_write():
            asyncio.get_running_loop().add_writer(channel.fileno(), self._writable)

    def stop(self) -> None:
        """Say good-bye, and close."""
        self._stopped = True
        with contextlib.suppress(OSError, ValueError):
            self.client.disconnect()
        if (channel := self.client.socket()) is not None:
            self._forget(channel)
            channel.close()

    def _readable(self) -> None:
        channel = self.client.socket()
        self._guarded(self.client.loop_read)
        while isinstance(channel, ssl.SSLSocket) and self.client.socket() is not None and channel.pending():
            self._guarded(self.client.loop_read)
        self.flush()

    def _writable(self) -> None:
        self._guarded(self.client.loop_write)
        channel = self.client.socket()
        if channel is not None and not self.client.want_write():
            asyncio.get_running_loop().remove_writer(channel.fileno())

    def _tick(self) -> None:
        if self._stopped:
            return
        self._guarded(self.client.loop_misc)
        self.flush()
        asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _guarded(self, step: Callable[[], Any]) -> None:
        """A step of paho's: what it raises ends the connection, and nothing else."""
        try:
            step()
        except Exception as problem:  # noqa: BLE001 - whatever a peer can make paho raise
            self._ended(f"{type(problem).__name__}: {problem}")

    def _on_socket_close(self, client: Client, userdata: Any, channel: Any) -> None:
        with contextlib.suppress(
            RuntimeError, ValueError
        ):  # no loop in the thread that connects; closed already
            self._forget(channel)

    def _forget(self, channel: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(channel.fileno())
        loop.remove_writer(channel.fileno())


class Broker:
    """run() until it is cancelled; publish() and acknowledge() while it is connected."""

    def __init__(
        self,
        config: BrokerConfig,
        client_id: str,
        topics: tuple[str, ...],
        handler: Handler,
        told: ConnectionListener | None = None,
        *,
        session_s: int = 0,
        acknowledge_later: bool = False,
    ) -> None:
        """`told`: of every connection and its loss. Raises ConfigError: the TLS files."""
        self._config = config
        self._client_id = client_id
        self._topics = topics
        self._handler = handler
        self._told = told or (lambda connected: None)  # noqa: ARG005 - nobody wants to know
        self._session_s = session_s
        self._acknowledge_later = acknowledge_later
        self._tls = None if config.tls is None else tls_context(config.tls)
        self._pauses = Pauses()
        self._pump: _Pump | None = None
        self._lost: asyncio.Future[str] | None = None
        self._connected: asyncio.Future[ReasonCode] | None = None
        self._subscribed: asyncio.Future[list[ReasonCode]] | None = None
        self.connections = 0

    @property
    def address(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    async def run(self) -> None:
        """Be connected, as far as the broker lets us."""
        away_since_s: float | None = None
        while True:
            try:
                await self._connect()
                away_s = 0.0 if away_since_s is None else time.monotonic() - away_since_s
                log.info("broker %s as %s: connected, after %.1f s", self.address, self._client_id, away_s)
                away_since_s = None
                self._pauses.reset()
                self.connections += 1
                self._told(True)
                await self._until_lost()
            except BrokerError as problem:
                level = logging.DEBUG if away_since_s is not None else logging.WARNING
                log.log(level, "broker %s: %s", self.address, problem)
                away_since_s = away_since_s or time.monotonic()
            finally:
                self._drop()
            await asyncio.sleep(self._pauses.next_s())

    async def _until_lost(self) -> None:
        """Raises BrokerError."""
        reason = "closed" if self._lost is None else await self._lost
        raise BrokerError(f"connection lost: {reason}")

    def publish(
        self, topic: str, payload: bytes, qos: int = 0, properties: Mapping[str, Any] | None = None
    ) -> None:
        """Hand a message to the broker. Raises BrokerError when there is no connection."""
        if self._pump is None or not self._pump.client.is_connected():
            raise BrokerError("the broker is away")
        packed = _pack(PacketTypes.PUBLISH, properties or {})
        self._pump.client.publish(topic, payload, qos, retain=False, properties=packed)
        self._pump.flush()

    def acknowledge(self, connection: int, messages: list[MQTTMessage]) -> None:
        """What the handler took on that connection is done with; another connection will bring it again."""
        if self._pump is None or connection != self.connections:
            return
        for message in messages:
            self._pump.client.ack(message.mid, message.qos)
        self._pump.flush()

    # -- one connection

    async def _connect(self) -> None:
        """Connect and subscribe. Raises BrokerError."""
        loop = asyncio.get_running_loop()
        self._lost, self._connected = loop.create_future(), loop.create_future()
        self._subscribed = loop.create_future()
        pump = _Pump(self._make_client(), self._end)
        try:
            await asyncio.to_thread(self._open, pump.client)
        except ssl.SSLCertVerificationError as error:
            raise BrokerError(f"is not to be trusted: {error.verify_message}") from None
        except (OSError, ValueError) as error:
            raise BrokerError(f"cannot be reached: {getattr(error, 'strerror', None) or error}") from None
        self._pump = pump
        pump.start()
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._introduce(pump, self._connected, self._subscribed)
        except TimeoutError:
            raise BrokerError(f"does not answer MQTT 5 within {CONNECT_S:g} s") from None

    async def _introduce(
        self,
        pump: _Pump,
        connected: asyncio.Future[ReasonCode],
        subscribed: asyncio.Future[list[ReasonCode]],
    ) -> None:
        """Be let in, and subscribe. Raises BrokerError."""
        code = await connected
        if code.is_failure:
            raise BrokerError(f"refuses the connection: {code}")
        pump.client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._topics])
        pump.flush()
        for topic, answer in zip(self._topics, await subscribed, strict=True):
            if answer.value >= _REFUSED:
                raise BrokerError(f"refuses the subscription to {topic}: {answer}")

    def _open(self, client: Client) -> None:
        """In a thread: names and TCP and TLS may take their time."""
        properties = {"SessionExpiryInterval": self._session_s, "MaximumPacketSize": MAX_INCOMING_BYTES}
        client.connect_timeout = CONNECT_S
        client.connect(
            self._config.host,
            self._config.port,
            self._config.keepalive_s,
            clean_start=not self._session_s,
            properties=_pack(PacketTypes.CONNECT, properties),
        )

    def _drop(self) -> None:
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.stop()
            self._told(False)

    def _end(self, reason: str) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)
        for waited in (self._connected, self._subscribed):  # the first is the one that is waited for
            if waited is not None and not waited.done():
                waited.set_exception(BrokerError(f"closed the connection: {reason}"))
                return

    # -- paho calls these while it reads

    def _make_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=self._acknowledge_later,
        )
        if self._config.username is not None:
            client.username_pw_set(self._config.username, self._config.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _on_connect(
        self, client: Client, userdata: Any, flags: Any, code: ReasonCode, properties: Any
    ) -> None:
        if self._connected is not None and not self._connected.done():
            self._connected.set_result(code)

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, codes: list[ReasonCode], properties: Any
    ) -> None:
        if self._subscribed is not None and not self._subscribed.done():
            self._subscribed.set_result(codes)

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: Any, code: ReasonCode, properties: Any
    ) -> None:
        if self._pump is not None and client is self._pump.client:
            self._end(str(code))

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        self._handler(message)


def tls_context(tls: BrokerTlsConfig) -> ssl.SSLContext:
    """TLS 1.2 or newer; the broker's certificate and name are verified. Raises ConfigError: a file."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"[mqtt] ca_file: {tls.ca_file}: no certificates in PEM: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file is not None:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"[mqtt] cert_file, key_file: {tls.cert_file}, {tls.key_file}: must be a certificate and its "
                f"key in PEM, without a passphrase: {error}"
            ) from None
    return context


def _pack(packet: int, values: Mapping[str, Any]) -> Properties:
    """MQTT 5 properties of a packet, by the names that paho has for them."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
