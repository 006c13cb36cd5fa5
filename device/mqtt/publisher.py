"""Verdicts and the station's state to the MQTT broker, which may be away.

    <prefix>/<station>/status           online | offline | stopped, retained; offline is also the last will
    <prefix>/<station>/birth            what this station is and runs, retained
    <prefix>/<station>/inspection       every verdict
    <prefix>/<station>/inspection/last  the latest one, retained
    <prefix>/<station>/defect           NG and MARGINAL only
    and whatever set_state() and send() are given

A verdict is stored first (outbox.py) and deleted when the broker has acknowledged all of it. Only as many are
handed to paho as the broker has room for; a lost connection is forgotten with all that was under way on it,
and what was not acknowledged is sent again, in order, on the next one. So a subscriber may see a verdict
twice, never in another order, and `event_id` tells.

A verdict is `historical` when it is of an earlier session, or is handed over more than LATE_S after it was
made. State is remembered, and published again on every connect: status and birth first.

What the broker answers: accepted, done. Quota exceeded: the same again after a pause. Anything else (not
authorized, too large...): that row is kept aside until the next start of the service, and counted. So is a
message at which the connection ends every time (some brokers answer so to what is too large): SUSPECT_AFTER
times among others, and then CONVICTED_AFTER times alone, on connections that worked until then. State that
was refused is not published again until it changes.

Threads: the callers'; the outbox's, which stores; ours ("publisher"), which alone touches the connection and
survives whatever goes wrong there; and one for the handlers of subscriptions, which may take their time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import topic_matches_sub

from device.config import MqttConfig, OutboxConfig
from device.errors import BrokerError
from device.inspection.verdict import Verdict, as_historical
from device.mqtt.connection import Answer, Bell, Connection, Incoming, ProtocolRefused, Unanswered, Will
from device.mqtt.reconnect import Pauses, Protocol, Versions
from device.mqtt.tls import tls_context
from device.outbox.database import DEFECT, INSPECTION, Refusal, Row
from device.outbox.outbox import Outbox
from device.system import process

log = logging.getLogger(__name__)

FLUSH_S = 5.0  # how long stop() waits for what is stored, and again for its last word
LATE_S = 2.0  # a verdict that is handed over later than this after it was made is historical
SUSPECT_AFTER, CONVICTED_AFTER = 2, 3
ANSWER_S = 20.0  # a broker that has not acknowledged a message for so long is given up
_LOUD_EVERY_S = 10.0  # connections that come and go are not worth more than a warning in this time
_LAST_EVERY_S = 0.25  # how often inspection/last is published while a backlog is sent
_LAST_LEAST_S = 0.05  # and else: nobody reads it more often
_TICK_S = 0.5
_SEND_LIMIT = 256  # best-effort messages that wait for their turn
_INCOMING_LIMIT = 64  # messages that wait for their handler
_ACCEPTED_BELOW = 0x80
_QUOTA_EXCEEDED = 0x97

Handler = Callable[[Incoming], None]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of the verdicts.

    In this session: `acknowledged`, `late` (handed over as historical), `repeated` (under way when a
    connection was lost, and so handed over once more), and `refused_messages` of whatever kind.
    As in outbox.Stock: `waiting`, `refused` (kept aside); since the outbox was begun, `dropped` and `lost`.
    """

    acknowledged: int
    late: int
    repeated: int
    waiting: int
    waiting_bytes: int
    dropped: int
    dropped_by_verdict: Mapping[str, int]
    refused: int
    refused_messages: int
    lost: int
    set_aside: int
    durable: bool
    protocol: str | None

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.waiting} waiting, "
            f"{self.dropped} dropped, {self.refused} refused, {self.lost} lost"
        )


@dataclass(frozen=True, slots=True)
class _Message:
    """One publish. Of a row (then `bit` says which of its two), of a state, or of nobody."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: Mapping[str, Any] | None = None
    row: Row | None = None
    bit: int = 0

    @property
    def key(self) -> str:
        """The same for the same message on another connection."""
        return f"message on {self.topic}" + (f", verdict {self.row.id}" if self.row is not None else "")


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
        self._root = f"{config.prefix}/{station}"
        self._last_topic = f"{self._root}/inspection/last"
        self._session_id = session_id
        self._birth = birth
        self._mark = {"UserProperty": ("session_id", session_id)}
        self._event_properties = (
            {"MessageExpiryInterval": config.message_expiry_s} if config.message_expiry_s else None
        )
        self._outbox = Outbox(state, outbox.max_bytes, outbox.max_days * 86400, self._on_stored)
        self._versions = Versions(config.protocol)
        self._pauses = Pauses()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._handling = threading.Thread(target=self._handle_all, name="mqtt-handlers", daemon=True)
        self._bell = Bell()
        # Ours alone: what is under way, and where we are in the outbox.
        self._under_way: dict[int, _Message] = {}
        self._ahead: deque[_Message] = deque()  # of rows that have been read
        self._bits_left: dict[int, int] = {}  # of rows that are not acknowledged, by their id
        self._refused_bits: dict[int, int] = {}
        self._reason = ""  # of the latest refusal
        self._cursor = 0
        self._generation = 0
        self._stored = 0  # the storing thread's
        self._not_before_s = 0.0  # a pause that the broker's quota asks for
        self._last_sent_s = 0.0
        self._suspect = _Suspect()
        self._has_answered = False  # the broker, on this connection
        self._complained = False
        self._loud_s = -_LOUD_EVERY_S
        self._away_since_s = time.monotonic()
        self._changed = threading.Condition()  # guards all that follows
        self._states: dict[str, bytes] = {}
        self._refused_states: dict[str, bytes] = {}  # by their topic, what the broker did not take
        self._due: dict[str, None] = {}  # states to be published, in order
        self._sends: deque[_Message] = deque()
        self._handlers: dict[str, Handler] = {}
        self._as_published: set[str] = set()  # of these, what is retained is marked though it is news
        self._unsubscribed: list[str] = []
        self._incoming: deque[Incoming] = deque()
        self._protocol: Protocol | None = None
        self._stop_at_s: float | None = None
        self._last_word = ""
        self._acknowledged = self._late = self._repeated = self._refused_messages = 0

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
        self._handling.start()

    def publish(self, verdict: Verdict) -> None:
        """Store a verdict and deliver it. Waits for neither."""
        self._outbox.put(verdict)

    def set_state(self, topic: str, payload: str | bytes, *, absolute: bool = False) -> None:
        """Publish retained state now and on every connect. The same payload once more is not published.

        `topic` is what follows <prefix>/<station>/, or the whole topic where it is `absolute`.
        """
        self._set_state(topic if absolute else f"{self._root}/{topic}", _as_bytes(payload))
        self._bell.ring()

    def repeat_state(self) -> None:
        """Publish status, birth and all state once more, as on a connect."""
        with self._changed:
            self._make_all_due()
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
        whole = topic if absolute else f"{self._root}/{topic}"
        with self._changed:
            if self.connected and len(self._sends) < _SEND_LIMIT:
                self._sends.append(_Message(whole, _as_bytes(payload), qos, properties=properties))
        self._bell.ring()

    def subscribe(
        self, topic_filter: str, handler: Handler, *, absolute: bool = False, as_published: bool = False
    ) -> None:
        """Let `handler` have what arrives, one after the other, in a thread that may take its time.

        `as_published`: see Connection.subscribe().
        """
        whole = topic_filter if absolute else f"{self._root}/{topic_filter}"
        with self._changed:
            self._handlers[whole] = handler
            if as_published:
                self._as_published.add(whole)
            self._unsubscribed.append(whole)
        self._bell.ring()

    def delivery(self) -> Delivery:
        """The counts so far."""
        stock = self._outbox.stock()
        with self._changed:
            return Delivery(
                acknowledged=self._acknowledged,
                late=self._late,
                repeated=self._repeated,
                waiting=stock.waiting,
                waiting_bytes=stock.waiting_bytes,
                dropped=sum(stock.dropped.values()),
                dropped_by_verdict=stock.dropped,
                refused=stock.refused,
                refused_messages=self._refused_messages,
                lost=stock.lost,
                set_aside=stock.set_aside,
                durable=stock.durable,
                protocol=self._protocol,
            )

    def stop(self, last_word: str) -> None:
        """Deliver what is stored, publish `last_word` ("stopped" or "offline") as the status, and disconnect.

        Waits at most FLUSH_S for the acknowledgements, and as long for the last word; not at all where the
        broker is away. What is left stays in the outbox for the next start. A second call does nothing.
        """
        with self._changed:
            if self._stop_at_s is not None:
                return
            if self._thread.ident is None:  # start() failed
                return
            self._last_word = last_word
            self._stop_at_s = time.monotonic() + FLUSH_S
            self._changed.notify_all()
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
            if self._stop_at_s is not None or self._rest(self._pauses.next_s()):
                break

    def _connect(self) -> Connection:
        """A connection that the broker has accepted. Raises BrokerError."""
        will = Will(f"{self._root}/status", "offline", self._session_id)
        connection = Connection(self._config, self._config.client_id, self._versions.wanted, will)
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
                self._complain(str(error))
                self._suspect_the_oldest()
        except Exception:
            log.exception("fault in the delivery; it goes on with a new connection")
        finally:
            connection.abandon()
            self._versions.lost()
            self._forget_connection()

    def _welcome(self, connection: Connection) -> None:
        with self._changed:
            self._protocol = connection.protocol
            self._unsubscribed = list(self._handlers)
            self._make_all_due()
        away_s = time.monotonic() - self._away_since_s
        waiting = self._outbox.stock().waiting
        log.info(
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
            self._hand_over(connection)
            if self._stop_at_s is not None and (self._is_idle() or time.monotonic() >= self._stop_at_s):
                return
            connection.turn(self._patience_s(), self._bell)
            self._settle(connection)

    def _part(self, connection: Connection) -> None:
        """The last word, acknowledged within FLUSH_S, and goodbye."""
        message = _Message(f"{self._root}/status", self._last_word.encode(), 1, True, self._mark)
        end = time.monotonic() + FLUSH_S
        while connection.room <= 0 and time.monotonic() < end:
            connection.turn(_TICK_S)
        mid = self._publish(connection, message)
        while mid in self._under_way and time.monotonic() < end:
            connection.turn(_TICK_S)
            self._settle(connection)
        connection.close()

    def _hand_over(self, connection: Connection) -> None:
        """As much as the broker has room for: best effort, state, then verdicts."""
        with self._changed:
            unsubscribed, self._unsubscribed = self._unsubscribed, []
        for topic_filter in unsubscribed:
            connection.subscribe(topic_filter, as_published=topic_filter in self._as_published)
        while self._has_room(connection):
            self._read_ahead()  # first: what is ahead holds inspection/last back
            message = self._next_of_state() or self._next_of_row()
            if message is None:
                return
            if not connection.fits(message.topic, message.payload):
                self._refused(message, "Packet too large")
            else:
                self._publish(connection, message)

    def _has_room(self, connection: Connection) -> bool:
        """While a message is suspect, one goes at a time."""
        return connection.room > 0 and not (self._suspect.exists and self._under_way)

    def _publish(self, connection: Connection, message: _Message) -> int:
        properties = message.properties or {}
        mid = connection.publish(
            message.topic, message.payload, message.qos, retain=message.retain, properties=properties
        )
        if message.qos:
            self._under_way[mid] = message
        return mid

    def _next_of_state(self) -> _Message | None:
        now_s = time.monotonic()
        with self._changed:
            if self._sends:
                return self._sends.popleft()
            if now_s < self._not_before_s:
                return None
            last = self._last_topic
            held = self._last_held_s(now_s) > 0
            for topic in list(self._due):
                if held and topic == last:
                    continue
                del self._due[topic]
                payload = self._state(topic)
                if self._refused_states.get(topic) == payload:
                    continue
                if topic == last:
                    self._last_sent_s = now_s
                return _Message(topic, payload, 1, True, self._mark)
            return None

    def _next_of_row(self) -> _Message | None:
        if time.monotonic() < self._not_before_s:
            return None
        return self._ahead.popleft() if self._ahead else None

    def _read_ahead(self) -> None:
        """The outbox's next rows, where all that were read are on their way and the broker's quota allows."""
        if self._outbox.generation != self._generation:
            self._generation = self._outbox.generation
            self._rewind()
        if self._ahead or time.monotonic() < self._not_before_s:
            return
        for row in self._outbox.next(self._cursor):
            self._cursor = row.id
            if row.id in self._bits_left:  # under way already
                continue
            late = row.session_id != self._session_id or time.monotonic() - row.stored_s > LATE_S
            self._late += late
            payload = (as_historical(row.payload) if late else row.payload).encode()
            self._bits_left[row.id] = row.due
            for bit, name in ((INSPECTION, "inspection"), (DEFECT, "defect")):
                if row.due & bit:
                    topic = f"{self._root}/{name}"
                    properties = self._event_properties
                    self._ahead.append(_Message(topic, payload, 1, False, properties, row, bit))

    def _settle(self, connection: Connection) -> None:
        """Act on what the broker has answered, pass on what has arrived. Raises BrokerError: it is silent."""
        answers, connection.answers = connection.answers, []
        for answer in answers:
            self._settle_one(answer)
        if answers:
            self._has_answered = True
            self._pauses.reset()
        if connection.incoming:
            self._pass_on(connection.incoming)
            connection.incoming = []
        if connection.waited_s > ANSWER_S:
            raise BrokerError(f"has acknowledged nothing for {ANSWER_S:g} s")

    def _settle_one(self, answer: Answer) -> None:
        message = self._under_way.pop(answer.mid, None)
        if message is None:
            return
        self._suspect.acquit(message.key)
        if answer.code < _ACCEPTED_BELOW:
            if message.row is not None:
                self._finish(message.row, message.bit)
        elif answer.code == _QUOTA_EXCEEDED:
            self._again(message)
        else:
            self._refused(message, answer.reason)

    def _finish(self, row: Row, bit: int) -> None:
        """One of a row's messages needs no more attention."""
        if row.id not in self._bits_left:  # it was rewound in between, and will be read again
            return
        self._bits_left[row.id] &= ~bit
        if self._bits_left[row.id]:
            return
        del self._bits_left[row.id]
        if refused := self._refused_bits.pop(row.id, 0):
            self._outbox.refuse(Refusal(row.id, refused, self._reason))
        else:
            self._outbox.done(row.id)
            with self._changed:
                self._acknowledged += 1

    def _again(self, message: _Message) -> None:
        """The broker's quota is used up: pause, and send the same before all else."""
        pause_s = self._pauses.next_s()
        self._not_before_s = time.monotonic() + pause_s
        self._complain(f"quota exceeded; next attempt in {pause_s:.1f} s")
        if message.row is not None:
            at = sum(1 for other in self._ahead if other.row is not None and other.row.id < message.row.id)
            self._ahead.insert(at, message)
        elif message.retain:
            with self._changed:
                self._due = {message.topic: None, **self._due}

    def _refused(self, message: _Message, reason: str) -> None:
        first = self._refused_messages == 0
        level = logging.WARNING if first else logging.DEBUG
        log.log(level, "broker %s: refuses a message on %s: %s", self.address, message.topic, reason)
        self._refuse(message, reason)

    def _refuse(self, message: _Message, reason: str) -> None:
        """Keep a row aside; leave state unpublished until it changes."""
        with self._changed:
            self._refused_messages += 1
            if message.retain:
                self._refused_states[message.topic] = message.payload
        if message.row is not None:
            self._reason = reason
            row_id = message.row.id
            self._refused_bits[row_id] = self._refused_bits.get(row_id, 0) | message.bit
            self._finish(message.row, message.bit)

    def _pass_on(self, incoming: list[Incoming]) -> None:
        """To the handlers' thread."""
        with self._changed:
            room = _INCOMING_LIMIT - len(self._incoming)
            self._incoming.extend(incoming[:room])
            self._changed.notify_all()
        if len(incoming) > room:
            log.warning(
                "%d messages came faster than they are handled, and are dropped", len(incoming) - room
            )

    def _suspect_the_oldest(self) -> None:
        """The connection was lost, though the broker had answered on it: for the message that was next?"""
        oldest = next(iter(self._under_way.values()), None)
        if oldest is None or not self._has_answered or not self._suspect.lost_with(oldest.key):
            return
        log.warning("broker %s: ends the connection whenever it is sent a %s", self.address, oldest.key)
        self._refuse(oldest, "the connection ends at it")

    def _forget_connection(self) -> None:
        with self._changed:
            self._protocol = None
            self._sends.clear()
            self._repeated += len({m.row.id for m in self._under_way.values() if m.row is not None})
        self._away_since_s = time.monotonic()
        self._has_answered = False
        self._under_way.clear()
        self._bits_left.clear()
        self._refused_bits.clear()
        self._not_before_s = 0.0
        self._rewind()

    def _rewind(self) -> None:
        """Begin with the outbox's oldest row again; what is under way is passed over."""
        for message in self._ahead:
            if message.row is not None:
                self._bits_left.pop(message.row.id, None)
        self._ahead.clear()
        self._cursor = 0
        self._outbox.rewind()

    def _is_idle(self) -> bool:
        with self._changed:
            if self._due or self._sends:
                return False
        return not self._under_way and not self._ahead and self._outbox.stock().waiting == 0

    def _last_held_s(self, now_s: float) -> float:
        """How long inspection/last has to wait yet, at most 0 where it may go."""
        return self._last_sent_s + (_LAST_EVERY_S if self._ahead else _LAST_LEAST_S) - now_s

    def _patience_s(self) -> float:
        """How long to wait for something to happen."""
        now_s = time.monotonic()
        waits_s = [self._not_before_s - now_s]
        if self._last_topic in self._due:
            waits_s.append(self._last_held_s(now_s))
        return min([_TICK_S, *(left_s for left_s in waits_s if left_s > 0)])

    def _rest(self, seconds: float) -> bool:
        """Pause between two attempts. True when stop() ended the pause."""
        end = time.monotonic() + seconds
        while self._stop_at_s is None and (left_s := end - time.monotonic()) > 0:
            self._bell.wait(left_s)
        return self._stop_at_s is not None

    def _complain(self, what: str) -> None:
        """The first failure of an outage aloud, the rest quietly."""
        now_s = time.monotonic()
        loud = not self._complained and now_s - self._loud_s >= _LOUD_EVERY_S
        if loud:
            self._loud_s = now_s
        level = logging.WARNING if loud else logging.DEBUG
        log.log(level, "broker %s: %s; trying on", self.address, what)
        self._complained = True

    # -- the handlers' thread

    def _handle_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._incoming or self._stop_at_s is not None)
                if self._stop_at_s is not None:
                    return
                message = self._incoming.popleft()
                handlers = [
                    handler
                    for topic_filter, handler in self._handlers.items()
                    if topic_matches_sub(topic_filter, message.topic)
                ]
            for handler in handlers:
                try:
                    handler(message)
                except Exception:
                    log.exception("fault in the handler of %s; delivery goes on", message.topic)

    # -- in any thread

    def _on_stored(self, rows: list[Row]) -> None:
        """The outbox has committed rows."""
        self._stored += len(rows)
        if rows:
            self._set_state(self._last_topic, rows[-1].payload.encode())
        self._bell.ring()

    def _set_state(self, topic: str, payload: bytes) -> None:
        with self._changed:
            if self._states.get(topic) != payload:
                self._states[topic] = payload
                self._due[topic] = None

    def _make_all_due(self) -> None:
        """Under self._changed."""
        self._due = dict.fromkeys((f"{self._root}/status", f"{self._root}/birth", *self._states))

    def _state(self, topic: str) -> bytes:
        """Under self._changed."""
        if topic == f"{self._root}/status":
            return b"online"
        if topic == f"{self._root}/birth":
            return self._birth(self._protocol or "").encode()
        return self._states[topic]


class _Suspect:
    """The message that was the next to be answered each time that a connection was lost."""

    def __init__(self) -> None:
        self._key = ""
        self._losses = 0

    @property
    def exists(self) -> bool:
        return self._losses >= SUSPECT_AFTER

    def lost_with(self, key: str) -> bool:
        """Note a loss. True when it was one too many for this message."""
        self._losses = self._losses + 1 if key == self._key else 1
        self._key = key
        if self._losses < SUSPECT_AFTER + CONVICTED_AFTER:
            return False
        self._losses = 0
        return True

    def acquit(self, key: str) -> None:
        """It has been answered."""
        if key == self._key:
            self._losses = 0


def _as_bytes(payload: str | bytes) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload
