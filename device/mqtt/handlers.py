"""What has arrived from the broker, one after the other, in a thread that may take its time."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable

from paho.mqtt.client import topic_matches_sub

from device.mqtt.connection import Connection, IncomingMessage
from device.system.loudness import Loudness

log = logging.getLogger(__name__)

_INCOMING_LIMIT = 64  # messages that wait for their handler

Handler = Callable[[IncomingMessage], None]


class Handlers:
    """start(), add() for each subscription, stop(). The publisher's thread subscribes and passes on."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="mqtt-handlers", daemon=True)
        self._changed = threading.Condition()  # guards all that follows
        self._handlers: dict[str, Handler] = {}
        self._as_published: set[str] = set()  # of these, what is retained is marked though it is news
        self._no_local: set[str] = set()  # of these, what we have published ourselves does not come back
        self._unsubscribed: list[str] = []
        self._incoming: deque[IncomingMessage] = deque()
        self._ending = False
        self._loudness = Loudness()

    def start(self) -> None:
        """Handle from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Handle nothing more; what is being handled goes on to its end."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def add(
        self, topic_filter: str, handler: Handler, *, as_published: bool = False, no_local: bool = False
    ) -> None:
        """Let `handler` have what arrives on a whole topic filter; see Connection.subscribe()."""
        with self._changed:
            self._handlers[topic_filter] = handler
            if as_published:
                self._as_published.add(topic_filter)
            if no_local:
                self._no_local.add(topic_filter)
            self._unsubscribed.append(topic_filter)

    def all_unsubscribed(self) -> None:
        """The connection is new."""
        with self._changed:
            self._unsubscribed = list(self._handlers)

    def subscribe(self, connection: Connection) -> None:
        """What is not subscribed yet on this connection."""
        with self._changed:
            unsubscribed, self._unsubscribed = self._unsubscribed, []
        for topic_filter in unsubscribed:
            connection.subscribe(
                topic_filter,
                as_published=topic_filter in self._as_published,
                no_local=topic_filter in self._no_local,
            )

    def pass_on(self, incoming: list[IncomingMessage]) -> None:
        """To the handlers' thread; what does not fit is dropped, and that is told."""
        with self._changed:
            room = _INCOMING_LIMIT - len(self._incoming)
            self._incoming.extend(incoming[:room])
            self._changed.notify_all()
        if len(incoming) > room:
            log.log(
                self._loudness.level(),
                "%d messages came faster than they are handled, and are dropped",
                len(incoming) - room,
            )

    def _run(self) -> None:
        while (message := self._next()) is not None:
            for handler in self._of(message):
                try:
                    handler(message)
                except Exception:
                    log.exception("fault in the handler of %s; delivery goes on", message.topic)

    def _next(self) -> IncomingMessage | None:
        with self._changed:
            self._changed.wait_for(lambda: self._incoming or self._ending)
            return None if self._ending else self._incoming.popleft()

    def _of(self, message: IncomingMessage) -> Iterable[Handler]:
        with self._changed:
            return [
                handler
                for topic_filter, handler in self._handlers.items()
                if topic_matches_sub(topic_filter, message.topic)
            ]
