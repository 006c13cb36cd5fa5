"""Verdicts and the station's state to the MQTT broker, which may be away.

    <prefix>/<station>/status           online | offline | stopped, retained; offline is also the last will
    <prefix>/<station>/birth            what this station is and runs, retained
    <prefix>/<station>/inspection       every verdict
    <prefix>/<station>/inspection/last  the latest one, retained
    <prefix>/<station>/defect           NG and MARGINAL only
    and whatever set_state() and send() are given

A verdict is stored first (outbox.py) and deleted when the broker has acknowledged all of it (delivery.py).
State is remembered, and published again on every connect (retained.py). What goes out, and what the broker
answers: exchange.py. How often and how loudly it is tried again: reconnect.py. A subscriber may see a verdict
twice, never in another order, and `event_id` tells.

Threads: the callers'; the outbox's, which stores; ours ("publisher"), which alone touches the connection and
survives whatever goes wrong there; and that of the handlers (handlers.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from device.config import MqttConfig, OutboxConfig
from device.errors import BrokerError
from device.inspection.verdict import Verdict
from device.mqtt.connection import (
    Bell,
    Connection,
    IncomingMessage,
    ProtocolRefused,
    Unanswered,
    Will,
    own_client_id,
)
from device.mqtt.delivery import Delivery, DeliveryCounts
from device.mqtt.exchange import TICK_S, Exchange
from device.mqtt.handlers import Handler, Handlers
from device.mqtt.message import Message, as_bytes
from device.mqtt.reconnect import Outages, Pauses, Protocol, Versions
from device.mqtt.retained import OwnTopics, Retained
from device.mqtt.tls import tls_context
from device.outbox.database import OutboxRow
from device.outbox.outbox import Outbox
from device.system import process

log = logging.getLogger(__name__)

FLUSH_S = 5.0  # how long stop() waits for what is stored, and again for its last word


class Publisher:
    """The station's voice: start(), publish() for every verdict, stop(). Only stop() waits for the broker."""

    def __init__(
        self,
        config: MqttConfig,
        station: str,
        session_id: str,
        birth: Callable[[str], str],
        outbox: OutboxConfig,
        state: Path,
    ) -> None:
        """`birth` gives the JSON that introduces the station, told the protocol that is spoken.

        `state` is the folder of the outbox. Every retained message carries `session_id`.
        Raises ConfigError: the TLS files.
        """
        if config.tls is not None:
            tls_context(config.tls)
        self._config = config
        self.client_id = config.client_id or own_client_id(state, station)
        self._root = f"{config.prefix}/{station}"
        self._outbox = Outbox(state, outbox.max_bytes, outbox.max_days * 86400, self._on_stored)
        self._delivery = Delivery(self._outbox, self._root, session_id, config.message_expiry_s)
        self._retained = Retained(self._root, session_id, birth)
        self._handlers = Handlers()
        self._own = OwnTopics(self._root, session_id, self._retained)
        for topic in self._own.filters:
            self._handlers.add(topic, self._look_at_own, no_local=True)
        will = Will(f"{self._root}/status", "offline", session_id)
        self._link = BrokerLink(
            config, self.client_id, will, self._outbox, self._delivery, self._retained, self._handlers
        )
        self._stored = 0  # the storing thread's

    @property
    def address(self) -> str:
        return self._link.address

    @property
    def connected(self) -> bool:
        return self._link.protocol is not None

    @property
    def protocol(self) -> str | None:
        """The version of MQTT that is spoken now, "5" or "3.1.1"; None while there is no connection."""
        return self._link.protocol

    @property
    def flapping(self) -> str | None:
        """Why connections are lost again and again, or who else bears our name; None where all is well."""
        return self._own.rival or self._link.flapping

    @property
    def refused_pictures(self) -> int:
        """How often something large and optional was too large for the broker."""
        return self._link.exchange.refused_large

    @property
    def stored(self) -> int:
        """How many verdicts of this session are safe: with the disk, or in memory where it fails."""
        return self._stored

    @property
    def unstored(self) -> int:
        """How many verdicts are on their way to the outbox."""
        return self._outbox.unstored

    def start(self) -> None:
        """Open the outbox and begin to connect; a broker that is away is no error.

        Raises StorageError: another process has the outbox open.
        """
        if self._config.tls is not None and self._config.tls.insecure:
            log.warning("broker %s: its certificate is not verified ([mqtt] insecure)", self.address)
        self._outbox.start()
        self._link.start()
        self._handlers.start()

    def publish(self, verdict: Verdict) -> None:
        """Store a verdict and deliver it. Waits for neither."""
        self._outbox.put(verdict)

    def set_state(self, topic: str, payload: str | bytes, *, absolute: bool = False) -> None:
        """Publish retained state now and on every connect. The same payload once more is not published.

        `topic` is what follows <prefix>/<station>/, or the whole topic where it is `absolute`.
        """
        self._retained.set(self._whole(topic, absolute=absolute), as_bytes(payload))
        self._link.ring()

    def renew_birth(self) -> None:
        """Publish the birth message anew: another model is at work."""
        self._retained.renew_birth()
        self._link.ring()

    def repeat(self, topic: str) -> None:
        """Publish the state of one whole topic once more."""
        self._retained.renew(topic)
        self._link.ring()

    def repeat_state(self) -> None:
        """Publish status, birth and all state once more, as on a connect."""
        self._retained.repeat()
        self._link.ring()

    def send(
        self,
        topic: str,
        payload: str | bytes,
        qos: int = 0,
        properties: Mapping[str, Any] | None = None,
        *,
        absolute: bool = False,
    ) -> None:
        """Publish once, if the broker is there: dropped while it is away. `properties` by paho's names."""
        if self.connected:
            whole = self._whole(topic, absolute=absolute)
            self._link.exchange.send(Message(whole, as_bytes(payload), qos, properties=properties))
        self._link.ring()

    def subscribe(
        self, topic_filter: str, handler: Handler, *, absolute: bool = False, as_published: bool = False
    ) -> None:
        """Let `handler` have what arrives, one after the other, in a thread that may take its time.

        `as_published`: see Connection.subscribe().
        """
        self._handlers.add(self._whole(topic_filter, absolute=absolute), handler, as_published=as_published)
        self._link.ring()

    def delivery(self) -> DeliveryCounts:
        """What became of the verdicts so far."""
        return self._delivery.counts(self._link.exchange.refused_messages, self._link.protocol)

    def stop(self, last_word: str) -> None:
        """Deliver what is stored, publish `last_word` ("stopped" or "offline") as the status, and disconnect.

        Waits at most FLUSH_S for the acknowledgements, and as long for the last word; not at all where the
        broker is away. What is left stays in the outbox for the next start. A second call does nothing.
        """
        if not self._link.is_running:  # the second call, or start() failed
            return
        self._handlers.stop()
        self._link.stop(last_word)
        self._outbox.stop()
        if waiting := self._outbox.stock().waiting:
            log.warning("broker %s: %d verdicts wait in the outbox for the next start", self.address, waiting)

    def _look_at_own(self, incoming: IncomingMessage) -> None:
        """What somebody writes on a topic of ours, in the handlers' thread.

        What the broker kept from before is replaced on every connect anyway.
        """
        if not incoming.retained and self._own.look(incoming.topic, incoming.payload, self._link.protocol):
            self._link.ring()

    def _on_stored(self, rows: list[OutboxRow]) -> None:
        """The outbox has committed rows."""
        self._stored += len(rows)
        if rows:
            self._retained.set(self._retained.last_topic, rows[-1].payload.encode())
        self._link.ring()

    def _whole(self, topic: str, *, absolute: bool) -> str:
        return topic if absolute else f"{self._root}/{topic}"


class BrokerLink:
    """The way to the broker: one connection after the other, in a thread of its own, and what goes over it.

    Of what is public, `protocol`, `flapping`, `ring()` and `exchange.send()` are for any thread.
    """

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        will: Will,
        outbox: Outbox,
        delivery: Delivery,
        retained: Retained,
        handlers: Handlers,
    ) -> None:
        self.address = f"{config.host}:{config.port}"
        self.protocol: Protocol | None = None  # what is spoken now; None while there is no connection
        self._config = config
        self._client_id = client_id
        self._will = will
        self._outbox = outbox
        self._delivery = delivery
        self._retained = retained
        self._handlers = handlers
        self._versions = Versions(config.protocol)
        self._pauses = Pauses()
        self._outages = Outages(self.address, client_id)
        self.exchange = Exchange(self.address, delivery, retained, self._pauses, self._outages.tell)
        self._bell = Bell()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._stop_at_s: float | None = None
        self._last_word = ""

    @property
    def flapping(self) -> str | None:
        """Why connections are lost again and again; None where they are not."""
        return self._outages.flapping

    @property
    def is_running(self) -> bool:
        """Whether it was started and not told to stop."""
        return self._stop_at_s is None and self._thread.ident is not None

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def ring(self) -> None:
        """There is something to be sent."""
        self._bell.ring()

    def stop(self, last_word: str) -> None:
        """Deliver what is stored, publish the last word, and disconnect; each takes FLUSH_S at most."""
        self._last_word = last_word
        self._stop_at_s = time.monotonic() + FLUSH_S
        self._bell.ring()
        self._thread.join(2 * FLUSH_S + 1)

    # -- its thread

    def _run(self) -> None:
        """One connection after the other until stop(), whatever happens to each."""
        process.step_back()
        while self._stop_at_s is None or time.monotonic() < self._stop_at_s:
            try:
                connection = self._connect()
            except BrokerError as error:
                self._outages.tell(str(error))
            except Exception:
                log.exception("fault while connecting; trying on")
            else:
                self._attend(connection)
            pause_s = self._outages.pause_s(self._pauses.next_s())
            if self._stop_at_s is not None or self._rest(pause_s):
                break

    def _connect(self) -> Connection:
        """A connection that the broker has accepted. Raises BrokerError."""
        connection = Connection(self._config, self._client_id, self._versions.wanted, self._will)
        try:
            connection.open()
        except ProtocolRefused:
            self._versions.refused()
            raise
        except Unanswered:
            self._versions.unanswered()
            raise
        return connection

    def _attend(self, connection: Connection) -> None:
        """Serve a connection to its end."""
        try:
            self._welcome(connection)
            self._serve(connection)
            self._part(connection)
        except BrokerError as error:
            if self._stop_at_s is None:
                self._outages.lost(str(error))
                self.exchange.lost()
        except Exception:
            log.exception("fault in the delivery; it goes on with a new connection")
        finally:
            connection.abandon()
            self._versions.lost()
            self.protocol = None
            self._outages.begins()
            self.exchange.forget()

    def _welcome(self, connection: Connection) -> None:
        self.protocol = connection.protocol
        self._handlers.all_unsubscribed()
        self._retained.repeat()
        self._delivery.connected()
        self._outages.over(self._outbox.stock().waiting, connection.protocol)
        if self._versions.fell_back:
            log.warning("broker %s: does not speak MQTT 5; MQTT 3.1.1 is used", self.address)

    def _serve(self, connection: Connection) -> None:
        """Deliver until stop(), and then until all is delivered or the time is up. Raises BrokerError."""
        while True:
            self._handlers.subscribe(connection)
            self._delivery.offer_refused()
            self.exchange.hand_over(connection)
            if self._stop_at_s is not None and (self._is_idle() or time.monotonic() >= self._stop_at_s):
                return
            connection.turn(self.exchange.patience_s, self._bell)
            self.exchange.settle(connection)
            if connection.incoming:
                self._handlers.pass_on(connection.incoming)
                connection.incoming = []

    def _part(self, connection: Connection) -> None:
        """The last word, acknowledged within FLUSH_S, and goodbye."""
        end = time.monotonic() + FLUSH_S
        while connection.room <= 0 and time.monotonic() < end:
            connection.turn(TICK_S)
        number = self.exchange.publish(connection, self._retained.last_word(self._last_word))
        while self.exchange.is_under_way(number) and time.monotonic() < end:
            connection.turn(TICK_S)
            self.exchange.settle(connection)
        connection.close()

    def _is_idle(self) -> bool:
        return self.exchange.is_idle and self._outbox.stock().waiting == 0

    def _rest(self, seconds: float) -> bool:
        """Pause between two attempts. True when stop() ended the pause."""
        end = time.monotonic() + seconds
        while self._stop_at_s is None and (left_s := end - time.monotonic()) > 0:
            self._bell.wait(left_s)
        return self._stop_at_s is not None
