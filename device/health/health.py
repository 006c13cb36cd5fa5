"""How the station is, in roles, each with a state, a reason and a sentence; and its message to MQTT.

Health judges and never acts: no reason stops the inspection, and none turns a verdict into another.
observe() belongs to the thread that inspects, poll() to the reporter's; a lock lies between them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from device.bundle.calibration import DriftReference, FamiliarRanges
from device.config import HealthConfig
from device.health.board import Reading
from device.health.frame_watch import FrameWatch
from device.health.picture_watch import PictureWatch
from device.health.reasons import ALERT, REASONS, ROLES, STATES, Alarms, State
from device.health.station_watch import Links, StationWatch
from device.image.frame import Cause, Frame
from device.inspection.verdict import Verdict
from device.system.clock import rfc3339

SCHEMA_VERSION = 1

Total = Literal["init", "ready", "degraded", "alert"]


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who has seen a reason (None: unnamed), when (UTC ns), and at which level it stood."""

    by: str | None
    at_ns: int
    level: int


@dataclass(frozen=True, slots=True)
class Role:
    """A role's worst reason; `others` are the codes of the rest that holds. `since`: UTC ns, 0 when ok.

    `acknowledged`: that somebody has seen this reason at this level; None: nobody, or it is ok.
    """

    state: State
    reason: str | None
    text: str
    since_ns: int
    others: tuple[str, ...]
    acknowledged: Acknowledgement | None = None


class Health:
    """The station's reasons. `folder`: where the camera's view is remembered; None: nowhere."""

    def __init__(
        self,
        config: HealthConfig,
        reference: DriftReference,
        folder: Path | None,
        clock: Callable[[], float] = time.monotonic,
        known: FamiliarRanges | None = None,
    ) -> None:
        """`known`: the pictures that the bundle can judge, where it says so."""
        self._lock = threading.Lock()
        self._alarms = Alarms(clock)
        self._frames = FrameWatch(config, reference, folder, self._alarms, clock)
        self._pictures = PictureWatch(known, self._alarms)
        self._station = StationWatch(config, self._alarms, clock)
        self._seen = False
        self._acknowledged: dict[str, Acknowledgement] = {}  # by the reason's code

    def calibrate(self, reference: DriftReference, known: FamiliarRanges | None = None) -> None:
        """A model has come, with what good images look like, and the pictures that it can judge."""
        with self._lock:
            self._frames.calibrate(reference)
            self._pictures.calibrate(known)

    def observe(self, frame: Frame, verdict: Verdict, mode_change: str | None = None) -> None:
        """Look at a frame that has been inspected: tens of microseconds, a millisecond once a second.

        `mode_change`: how the camera's mode is another than before.
        """
        with self._lock:
            self._seen = True
            self._frames.observe(frame, verdict, mode_change)
            self._pictures.observe(verdict)

    def unseen(self, why: str, cause: Cause = "unreadable") -> None:
        """There was no frame to judge: an ERROR verdict."""
        with self._lock:
            self._frames.unseen(why, cause)

    def poll(self, reading: Reading, links: Links) -> None:
        """Look at the board and at what the service says of its parts: every few seconds, by the reporter."""
        with self._lock:
            self._station.poll(reading, links)

    def acknowledge(self, role: str, reason: str, by: str | None) -> bool:
        """Somebody has seen this reason. False where it does not stand.

        It holds until the reason falls or becomes worse; it changes no state.
        """
        with self._lock:
            known = REASONS.get(reason)
            if known is None or known.role != role or not self._alarms.level(reason):
                return False
            self._acknowledged[reason] = Acknowledgement(by, time.time_ns(), self._alarms.level(reason))
            return True

    def roles(self) -> dict[str, Role]:
        """Every role, with its worst reason."""
        with self._lock:
            return {name: self._role(name) for name in ROLES}

    @property
    def total(self) -> Total:
        """`init` until the first frame was inspected, then by the worst role; an alert even before that."""
        with self._lock:
            worst = self._alarms.worst
        if worst == ALERT:
            return "alert"
        if not self._seen:
            return "init"
        return "degraded" if worst else "ready"

    def content(self) -> dict[str, Any]:
        """What health.schema.json describes."""
        roles = {name: _role_content(role) for name, role in self.roles().items()}
        return {"schema": SCHEMA_VERSION, "state": self.total, "roles": roles}

    def to_json(self) -> str:
        """The message for the retained topic `health`, compact."""
        return json.dumps(self.content(), separators=(",", ":"))

    def _role(self, name: str) -> Role:
        standing = self._alarms.standing(name)
        if not standing:
            return Role("ok", None, "", 0, ())
        (code, worst), *rest = standing
        seen = self._acknowledged.get(code)
        return Role(
            STATES[worst.level],
            code,
            worst.text,
            worst.since_ns,
            tuple(other for other, _ in rest),
            seen if seen is not None and seen.level >= worst.level and seen.at_ns >= worst.since_ns else None,
        )


def _role_content(role: Role) -> dict[str, Any]:
    seen = role.acknowledged
    acknowledged = {} if seen is None else {"acknowledged": {"by": seen.by, "ts": rfc3339(seen.at_ns)}}
    return {
        "state": role.state,
        "reason": role.reason,
        "text": role.text,
        "mend": REASONS[role.reason].mend if role.reason else "",
        "since": rfc3339(role.since_ns) if role.reason else None,
        "others": list(role.others),
        **acknowledged,
    }
