"""The station's word about itself, once a second, in a thread of its own: health, stats, status.json.

What there is to tell, and of which parts of the service, is in self_report.py; this is when, and where to. So
it goes on while the thread that inspects waits for a part, or hangs. A file that cannot be written is told in
the log and tried again; anything else unexpected is a bug, and ends the process as in any thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from device.errors import StorageError
from device.health.board import Board, Reading
from device.health.health import Health, Role
from device.health.station_watch import Links
from device.telemetry.stats import Queues, Stats, board_content
from device.telemetry.status import StatusFile

log = logging.getLogger(__name__)

TURN_S = 1.0
POLL_S = 5.0  # the board changes slowly, and its sensors are files
STATS_S = 30.0
RETOLD_S = 60.0  # numbers in a reason's text may change all the time; they are told again so often

HEALTH_TOPIC = "health"
STATS_TOPIC = "stats"


class ReportVoice(Protocol):
    """What the reporter needs of the publisher."""

    def set_state(self, topic: str, payload: str) -> None:
        """Publish retained, and again on every connect."""

    def send(self, topic: str, payload: str) -> None:
        """Publish at QoS 0, and drop it where the broker is away."""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What the service knows of itself. `status` goes to status.json as it is."""

    links: Links
    queues: Queues
    status: Mapping[str, Any]


class Reporter:
    """start(), stop(); turn() is one turn, for tests and for what must be told at once."""

    def __init__(
        self,
        health: Health,
        stats: Stats,
        board: Board,
        status_file: StatusFile,
        voice: ReportVoice,
        facts: Callable[[], ServiceFacts],
    ) -> None:
        """`facts` is called in the reporter's thread."""
        self._health = health
        self._stats = stats
        self._board = board
        self._file = status_file
        self._voice = voice
        self._facts = facts
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._ending = threading.Event()
        self._reading: Reading | None = None
        self._poll_due_s = self._retell_due_s = 0.0
        self._stats_due_s = time.monotonic() + STATS_S
        self._told: dict[str, Role] = {}
        self._told_total = ""
        self._file_failed = False

    def start(self) -> None:
        """Report from now on."""
        self._open()
        self._thread.start()

    def stop(self) -> None:
        """End the thread, tell the last figures, take status.json away. May be called without start()."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._reading is not None:
            self._tell_stats(self._reading, self._facts())
        self._file.close()

    def turn(self) -> None:
        """Look at everything once, and tell what is due."""
        now_s = time.monotonic()
        facts = self._facts()
        if self._reading is None or now_s >= self._poll_due_s:
            self._poll_due_s = now_s + POLL_S
            self._reading = self._board.read()
            self._health.poll(self._reading, facts.links)
        self._tell_health(now_s)
        if now_s >= self._stats_due_s:
            self._stats_due_s = now_s + STATS_S
            self._tell_stats(self._reading, facts)
        self._write(facts, self._reading)

    def _run(self) -> None:
        self.turn()  # at once: who asks right after the start must not hear that nothing runs
        while not self._ending.wait(TURN_S):
            self.turn()

    def _tell_health(self, now_s: float) -> None:
        """When a state or a reason changed; else when the numbers in the texts are old."""
        roles, total = self._health.roles(), self._health.total
        changed = [name for name, role in roles.items() if _word(role) != _word(self._told.get(name))]
        texts_changed = roles != self._told and now_s >= self._retell_due_s
        if changed or total != self._told_total or texts_changed:
            self._log(changed, roles)
            self._told, self._told_total = roles, total
            self._retell_due_s = now_s + RETOLD_S
            self._voice.set_state(HEALTH_TOPIC, self._health.to_json())

    def _tell_stats(self, reading: Reading, facts: ServiceFacts) -> None:
        self._voice.send(STATS_TOPIC, self._stats.to_json(reading, facts.queues))

    def _log(self, changed: list[str], roles: Mapping[str, Role]) -> None:
        for name in changed:
            role = roles[name]
            if role.reason is not None:
                kind = {"kind": f"health {name} {role.state} {role.reason}"}
                log.warning("health: %s %s, %s: %s", name, role.state, role.reason, role.text, extra=kind)
            elif name in self._told:
                log.info("health: %s ok", name, extra={"kind": f"health {name} ok"})

    def _write(self, facts: ServiceFacts, reading: Reading) -> None:
        content = {**facts.status, "health": self._health.content(), "board": board_content(reading)}
        try:
            self._file.write(content)
        except StorageError as error:
            self._complain(error)
        else:
            self._file_failed = False

    def _open(self) -> None:
        try:
            self._file.open()
        except StorageError as error:
            self._complain(error)

    def _complain(self, error: StorageError) -> None:
        """The first failure aloud, the rest quietly."""
        log.log(logging.DEBUG if self._file_failed else logging.WARNING, "%s", error)
        self._file_failed = True


def _word(role: Role | None) -> tuple[object, ...] | None:
    """What is worth a message at once."""
    return None if role is None else (role.state, role.reason, role.others, role.acknowledged)
