"""The outbox's rows on their way to the broker: read in order, sent, and settled by its answers.

A verdict is deleted when the broker has acknowledged all of its messages. A lost connection is forgotten with
all that was under way on it, and what was not acknowledged is sent again, in order, on the next one. What the
broker refuses is kept aside, and offered again after OFFER_EVERY_S, where the broker has taken another
verdict since or the connection is new: access rules get mended. A verdict is `historical` when it is of an
earlier session, or is handed over more than LATE_S after it was made.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from device.inspection.verdict import as_historical
from device.mqtt.message import Message
from device.outbox.database import DEFECT, INSPECTION, OutboxRow, Refusal
from device.outbox.outbox import Outbox

OFFER_EVERY_S = 600.0
LATE_S = 2.0  # a verdict that is handed over later than this after it was made is historical


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """What became of the verdicts.

    In this session: `acknowledged`, `late` (handed over as historical), `repeated` (under way when a
    connection was lost, and so handed over once more), and `refused_messages` of whatever kind; `refusal` is
    the latest reason. As in outbox.Stock: `waiting`, `refused` (kept aside); since the outbox was begun,
    `dropped` and `lost`.
    """

    acknowledged: int
    late: int
    repeated: int
    waiting: int
    waiting_bytes: int
    dropped: int
    refused: int
    refused_messages: int
    refusal: str
    lost: int
    set_aside: int
    durable: bool
    protocol: str | None

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.waiting} waiting, "
            f"{self.dropped} dropped, {self.refused} refused, {self.lost} lost"
        )


class Delivery:
    """The publisher's thread alone reads ahead, takes and settles; counts() is for any thread."""

    def __init__(self, outbox: Outbox, root: str, session_id: str, expiry_s: int) -> None:
        """`root` is <prefix>/<station>; `expiry_s`: after how long the broker may drop an event, 0: never."""
        self._outbox = outbox
        self._topics = ((INSPECTION, f"{root}/inspection"), (DEFECT, f"{root}/defect"))
        self._session_id = session_id
        self._properties = {"MessageExpiryInterval": expiry_s} if expiry_s else None
        self._ahead: deque[Message] = deque()  # of rows that have been read
        self._bits_left: dict[int, int] = {}  # of rows that are not acknowledged, by their id
        self._refused_bits: dict[int, int] = {}
        self._reason = ""  # of the latest refusal
        self._cursor = 0
        self._generation = 0
        self._acknowledged = self._late = self._repeated = 0
        self._offered_s = -OFFER_EVERY_S
        self._may_offer = False

    @property
    def has_backlog(self) -> bool:
        """Whether more has been read than is on its way."""
        return bool(self._ahead)

    def read_ahead(self, *, paused: bool) -> None:
        """The outbox's next rows, where all that were read are on their way and no pause is asked for."""
        if self._outbox.generation != self._generation:
            self._generation = self._outbox.generation
            self.rewind()
        if self._ahead or paused:
            return
        for row in self._outbox.next(self._cursor):
            self._cursor = row.id
            if row.id not in self._bits_left:  # else it is under way already
                self._ahead.extend(self._messages(row))

    def next(self) -> Message | None:
        """The next message of a verdict."""
        return self._ahead.popleft() if self._ahead else None

    def accepted(self, row: OutboxRow, bit: int) -> None:
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
            self._acknowledged += 1
            self._may_offer = True

    def refused(self, row: OutboxRow, bit: int, reason: str) -> None:
        """The broker will not have this message of a row."""
        self._reason = reason
        self._may_offer = False
        self._refused_bits[row.id] = self._refused_bits.get(row.id, 0) | bit
        self.accepted(row, bit)

    def connected(self) -> None:
        """The connection is new, and may be to a broker that has other rules."""
        self._may_offer = True

    def offer_refused(self) -> None:
        """What was refused is due again, where there is a reason for it and it was not so lately."""
        if not self._may_offer or not self._outbox.stock().refused:
            return
        self._may_offer = False
        now_s = time.monotonic()
        if now_s - self._offered_s >= OFFER_EVERY_S:
            self._offered_s = now_s
            self._outbox.offer_again()

    def again(self, message: Message, row: OutboxRow) -> None:
        """It goes once more, in its place."""
        at = sum(1 for other in self._ahead if other.row is not None and other.row.id < row.id)
        self._ahead.insert(at, message)

    def forget(self, under_way: Iterable[Message]) -> None:
        """The connection is lost, and with it what was under way."""
        self._repeated += len({message.row.id for message in under_way if message.row is not None})
        self._bits_left.clear()
        self._refused_bits.clear()
        self.rewind()

    def rewind(self) -> None:
        """Begin with the outbox's oldest row again; what is under way is passed over."""
        for message in self._ahead:
            if message.row is not None:
                self._bits_left.pop(message.row.id, None)
        self._ahead.clear()
        self._cursor = 0
        self._outbox.rewind()

    def counts(self, refused_messages: int, protocol: str | None) -> DeliveryCounts:
        """The counts so far."""
        stock = self._outbox.stock()
        return DeliveryCounts(
            acknowledged=self._acknowledged,
            late=self._late,
            repeated=self._repeated,
            waiting=stock.waiting,
            waiting_bytes=stock.waiting_bytes,
            dropped=sum(stock.dropped.values()),
            refused=stock.refused,
            refused_messages=refused_messages,
            refusal=self._reason,
            lost=stock.lost,
            set_aside=stock.set_aside,
            durable=stock.durable,
            protocol=protocol,
        )

    def _messages(self, row: OutboxRow) -> Iterable[Message]:
        """A row's messages that the broker has not had."""
        late = row.session_id != self._session_id or time.monotonic() - row.stored_s > LATE_S
        self._late += late
        payload = (as_historical(row.payload) if late else row.payload).encode()
        self._bits_left[row.id] = row.due
        for bit, topic in self._topics:
            if row.due & bit:
                yield Message(topic, payload, 1, False, self._properties, row, bit)
