"""Verdicts and the station's state to the MQTT broker, which may be away.

    <prefix>/<station>/status           online | offline | stopped, retained; offline is also the last will
    <prefix>/<station>/birth            what this station is and runs, retained
    <prefix>/<station>/inspection       every verdict
    <prefix>/<station>/inspection/last  the latest one, retained
    <prefix>/<station>/defect           NG and MARGINAL only
    and whatever set_state() and send() are given

A verdict is stored first (outbox.py) and deleted when the broker has acknowledged all of it (delivery.py).
State is remembered, and published again on every connect (retained.py). What goes out, and what the broker
answers: exchange.py. A subscriber may see a verdict twice, never in another order, and `event_id` tells.

Threads: the callers'; the outbox's, which stores; ours ("publisher"), which alone touches the connection and
survives whatever goes wrong there; and that of the handlers (handlers.py).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
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
from device.mqtt.reconnect import Pauses, Protocol, Versions
from device.mqtt.retained import WATCHED, Retained
from device.mqtt.tls import tls_context
from device.outbox.database import OutboxRow
from device.outbox.outbox import Outbox
from device.schemas import strict_json
from device.system import process
from device.system.loudness import Loudness

log = logging.getLogger(__name__)

FLAPS, FLAPPED_S = 6, 600.0  # so many connections lost within this time are no accident
QUIET_AFTER = 3  # of them, each is not worth a line
FLAP_PAUSE_S = 30.0
_TAKEN_OVER = "taken over"  # in MQTT 5's reason for a disconnection
FLUSH_S = 5.0  # how long stop() waits for what is stored, and again for its last word
_LOUD_EVERY_S = 10.0  # connections that come and go are not worth more than a warning in this time


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
        self._session_id = session_id
        self._outbox = Outbox(state, outbox.max_bytes, outbox.max_days * 86400, self._on_stored)
        self._delivery = Delivery(self._outbox, self._root, session_id, config.message_expiry_s)
        self._retained = Retained(self._root, session_id, birth)
        self._handlers = Handlers()
        self._versions = Versions(config.protocol)
        self._pauses = Pauses()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._bell = Bell()
        self._exchange = Exchange(self.address, self._delivery, self._retained, self._pauses, self._complain)
        self._complained = False
        self._loud_s = -_LOUD_EVERY_S
        self._losses: deque[tuple[float, str]] = deque(maxlen=FLAPS)  # when, why
        self._loudness = Loudness()
        self._rival_s = -FLAPPED_S  # when another station last bore our name
        for name in WATCHED:
            self._handlers.add(f"{self._root}/{name}", self._look_at_own, no_local=True)
        self._away_since_s = time.monotonic()
        self._stored = 0  # the storing thread's
        self._protocol: Protocol | None = None
        self._stop_at_s: float | None = None
        self._last_word = ""

    @property
    def address(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    @property
    def connected(self) -> bool:
        return self._protocol is not None

    @property
    def protocol(self) -> str | None:
        """The version of MQTT that is spoken now, "5" or "3.1.1"; None while there is no connection."""
        return self._protocol

    @property
    def flapping(self) -> str | None:
        """Why connections are lost again and again, or who else bears our name; None where all is well."""
        if time.monotonic() - self._rival_s < FLAPPED_S:
            return f"another station introduces itself as {self._root}: give one of the two another name"
        lost = self._lost_lately()
        if lost < FLAPS:
            return None
        why = self._losses[-1][1]
        return (
            f"{lost} connections or more were lost within {FLAPPED_S / 60:.0f} minutes, the last: {why}; is "
            f"there another client {self.client_id}?"
        )

    @property
    def refused_pictures(self) -> int:
        """How often something large and optional was too large for the broker."""
        return self._exchange.refused_large

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
        self._thread.start()
        self._handlers.start()

    def publish(self, verdict: Verdict) -> None:
        """Store a verdict and deliver it. Waits for neither."""
        self._outbox.put(verdict)

    def set_state(self, topic: str, payload: str | bytes, *, absolute: bool = False) -> None:
        """Publish retained state now and on every connect. The same payload once more is not published.

        `topic` is what follows <prefix>/<station>/, or the whole topic where it is `absolute`.
        """
        self._retained.set(self._whole(topic, absolute=absolute), as_bytes(payload))
        self._bell.ring()

    def renew_birth(self) -> None:
        """Publish the birth message anew: another model is at work."""
        self._retained.renew_birth()
        self._bell.ring()

    def repeat(self, topic: str) -> None:
        """Publish the state of one whole topic once more."""
        self._retained.renew(topic)
        self._bell.ring()

    def repeat_state(self) -> None:
        """Publish status, birth and all state once more, as on a connect."""
        self._retained.repeat()
        self._bell.ring()

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
            self._exchange.send(Message(whole, as_bytes(payload), qos, properties=properties))
        self._bell.ring()

    def subscribe(
        self, topic_filter: str, handler: Handler, *, absolute: bool = False, as_published: bool = False
    ) -> None:
        """Let `handler` have what arrives, one after the other, in a thread that may take its time.

        `as_published`: see Connection.subscribe().
        """
        self._handlers.add(self._whole(topic_filter, absolute=absolute), handler, as_published=as_published)
        self._bell.ring()

    def delivery(self) -> DeliveryCounts:
        """What became of the verdicts so far."""
        return self._delivery.counts(self._exchange.refused_messages, self._protocol)

    def stop(self, last_word: str) -> None:
        """Deliver what is stored, publish `last_word` ("stopped" or "offline") as the status, and disconnect.

        Waits at most FLUSH_S for the acknowledgements, and as long for the last word; not at all where the
        broker is away. What is left stays in the outbox for the next start. A second call does nothing.
        """
        if self._stop_at_s is not None or self._thread.ident is None:  # the second: start() failed
            return
        self._last_word = last_word
        self._stop_at_s = time.monotonic() + FLUSH_S
        self._handlers.stop()
        self._bell.ring()
        self._thread.join(2 * FLUSH_S + 1)
        self._outbox.stop()
        if waiting := self._outbox.stock().waiting:
            log.warning("broker %s: %d verdicts wait in the outbox for the next start", self.address, waiting)

    # -- the publisher's thread

    def _run(self) -> None:
        """One connection after the other until stop(), whatever happens to each."""
        process.step_back()
        while self._stop_at_s is None or time.monotonic() < self._stop_at_s:
            try:
                connection = self._connect()
            except BrokerError as error:
                self._complain(str(error))
            except Exception:
                log.exception("fault while connecting; trying on")
            else:
                self._attend(connection)
            pause_s = self._pauses.next_s()
            if (
                self._lost_lately() >= FLAPS and _TAKEN_OVER in self._losses[-1][1]
            ):  # each attempt throws the other out
                pause_s = max(pause_s, FLAP_PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            if self._stop_at_s is not None or self._rest(pause_s):
                break

    def _connect(self) -> Connection:
        """A connection that the broker has accepted. Raises BrokerError."""
        will = Will(f"{self._root}/status", "offline", self._session_id)
        connection = Connection(self._config, self.client_id, self._versions.wanted, will)
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
                self._losses.append((time.monotonic(), str(error)))
                self._complain(str(error))
                self._exchange.lost()
        except Exception:
            log.exception("fault in the delivery; it goes on with a new connection")
        finally:
            connection.abandon()
            self._versions.lost()
            self._protocol = None
            self._away_since_s = time.monotonic()
            self._exchange.forget()

    def _welcome(self, connection: Connection) -> None:
        self._protocol = connection.protocol
        self._handlers.all_unsubscribed()
        self._retained.repeat()
        self._delivery.connected()
        away_s = time.monotonic() - self._away_since_s
        waiting = self._outbox.stock().waiting
        often = self._lost_lately() >= QUIET_AFTER and self._loudness.level("connected") == logging.DEBUG
        log.log(
            logging.DEBUG if often else logging.INFO,
            "broker %s: connected after %.1f s, %d verdicts waiting; MQTT %s",
            self.address,
            away_s,
            waiting,
            connection.protocol,
        )
        if self._versions.fell_back:
            log.warning("broker %s: does not speak MQTT 5; MQTT 3.1.1 is used", self.address)
        self._complained = False

    def _serve(self, connection: Connection) -> None:
        """Deliver until stop(), and then until all is delivered or the time is up. Raises BrokerError."""
        while True:
            self._handlers.subscribe(connection)
            self._delivery.offer_refused()
            self._exchange.hand_over(connection)
            if self._stop_at_s is not None and (self._is_idle() or time.monotonic() >= self._stop_at_s):
                return
            connection.turn(self._exchange.patience_s, self._bell)
            self._exchange.settle(connection)
            if connection.incoming:
                self._handlers.pass_on(connection.incoming)
                connection.incoming = []

    def _part(self, connection: Connection) -> None:
        """The last word, acknowledged within FLUSH_S, and goodbye."""
        end = time.monotonic() + FLUSH_S
        while connection.room <= 0 and time.monotonic() < end:
            connection.turn(TICK_S)
        number = self._exchange.publish(connection, self._retained.last_word(self._last_word))
        while self._exchange.is_under_way(number) and time.monotonic() < end:
            connection.turn(TICK_S)
            self._exchange.settle(connection)
        connection.close()

    def _is_idle(self) -> bool:
        return self._exchange.is_idle and self._outbox.stock().waiting == 0

    def _rest(self, seconds: float) -> bool:
        """Pause between two attempts. True when stop() ended the pause."""
        end = time.monotonic() + seconds
        while self._stop_at_s is None and (left_s := end - time.monotonic()) > 0:
            self._bell.wait(left_s)
        return self._stop_at_s is not None

    def _complain(self, what: str) -> None:
        """The first failure of an outage aloud, the rest quietly."""
        now_s = time.monotonic()
        often = self._lost_lately() >= QUIET_AFTER and self._loudness.level("lost") == logging.DEBUG
        loud = not self._complained and not often and now_s - self._loud_s >= _LOUD_EVERY_S
        if loud:
            self._loud_s = now_s
        level = logging.WARNING if loud else logging.DEBUG
        log.log(level, "broker %s: %s; trying on", self.address, what)
        self._complained = True

    def _lost_lately(self) -> int:
        """Connections lost within FLAPPED_S; FLAPS at most are remembered."""
        now_s = time.monotonic()
        return sum(now_s - lost_s < FLAPPED_S for lost_s, _ in tuple(self._losses))

    # -- in any thread

    def _look_at_own(self, incoming: IncomingMessage) -> None:
        """What one of our topics holds: where somebody else wrote it, ours comes again."""
        protocol = self._protocol
        if not incoming.retained and self._is_of_another(incoming):
            self._rival_s = time.monotonic()
        if protocol is None or not self._retained.overwritten(incoming.topic, incoming.payload, protocol):
            return
        if protocol == "5":  # in 3.1.1 it may be our own, from a moment ago
            # what the broker kept from before may as well be of our own earlier session
            level = logging.DEBUG if incoming.retained else self._loudness.level(incoming.topic)
            log.log(level, "%s: another client has written it", incoming.topic)
        self._bell.ring()

    def _on_stored(self, rows: list[OutboxRow]) -> None:
        """The outbox has committed rows."""
        self._stored += len(rows)
        if rows:
            self._retained.set(self._retained.last_topic, rows[-1].payload.encode())
        self._bell.ring()

    def _is_of_another(self, incoming: IncomingMessage) -> bool:
        """Whether it is the birth of a session that is not ours."""
        if incoming.topic != f"{self._root}/birth":
            return False
        try:
            said = strict_json.parse(incoming.payload)
        except ValueError:
            return False
        session = said.get("session_id") if isinstance(said, dict) else None
        return session not in (None, self._session_id)

    def _whole(self, topic: str, *, absolute: bool) -> str:
        return topic if absolute else f"{self._root}/{topic}"
