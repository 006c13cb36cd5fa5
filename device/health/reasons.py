"""Why a role of the station is not ok: the reasons, their mends, and when one rises and falls.

    ok      nothing to do
    warn    inspection goes on as it should; somebody should look at it today
    alert   what the station says may be wrong, or will soon be lost; somebody should look at it now

A reason (`REASONS`) rises when so many observations in a row reached it, and falls when so many in a row
stayed below it and it has stood for a while: a value that wavers about a threshold does not flap. Thresholds
are [health] in default.toml; docs/reference/health.md has them all, with what to do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

State = Literal["ok", "warn", "alert"]
STATES: tuple[State, ...] = get_args(State)
OK, WARN, ALERT = range(3)

POLLS = 3  # polls in a row that a reading of the board must hold, up or down


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a role is not ok. `rise`, `fall`: observations in a row. `mend`: what a technician does."""

    role: str
    rise: int
    fall: int
    mend: str
    hold_s: float = 10.0  # it stands at least so long


REASONS: dict[str, Reason] = {
    "frozen": Reason("camera", 1, 1, "restart the service; look at the camera's cable and supply"),
    "frame_lost": Reason("camera", 1, 10, "look at the camera's cable, and at the trigger's distance to it"),
    "camera_away": Reason(
        "camera", 1, 1, "look at the camera's supply, its cable, the switch and its address"
    ),
    "frames_skipped": Reason("camera", POLLS, POLLS, "lower [camera] rate_hz, or use a smaller model"),
    "triggers_dropped": Reason("camera", 1, 1, "parts come faster than they are inspected: slow the line"),
    "mode_changed": Reason(
        "image",
        1,
        3,
        "fix the camera's size, colours and exposure (no night mode); read why for a wanted change",
    ),
    "too_dark": Reason("image", 10, 10, "look at the lamp, the lens cap and the exposure"),
    "too_bright": Reason("image", 10, 10, "look at the lamp, stray light and the exposure"),
    "out_of_focus": Reason("image", 10, 10, "clean the lens; focus it and lock it"),
    "moved": Reason("image", 5, 5, "put the camera back, or delete view.npz and restart after a wanted move"),
    "lens_dirty": Reason(
        "image", 5, 5, "clean the lens and its window, or delete lens.npz and restart after a wanted change"
    ),
    "picture_darker": Reason("image", 3, 10, "look at the lamp and the exposure; clean the lens"),
    "picture_brighter": Reason("image", 3, 10, "look at the lamp, stray light and the exposure"),
    "picture_blurred": Reason("image", 3, 10, "clean the lens; focus it and lock it"),
    "picture_noisy": Reason("image", 3, 10, "more light and less gain; look at the camera's compression"),
    "picture_colour": Reason("image", 3, 10, "lock the camera's colour gains; look at the lamp"),
    "picture_uneven": Reason("image", 3, 10, "look where the lamp stands, and for stray light"),
    "picture_strange": Reason("image", 3, 10, "review recent pictures; a new lot needs `device adapt`"),
    "brightness_drift": Reason("drift", 1, 1, "compare the light with that of the training images"),
    "focus_drift": Reason("drift", 1, 1, "clean the lens; compare a picture with a training image"),
    "score_drift": Reason("drift", 1, 1, "review recent pictures; new parts or light need new training"),
    "evidence_drift": Reason("drift", 1, 1, "review recent pictures; new parts or light need new training"),
    "model_rejected": Reason("model", 1, 1, "read why, mend the bundle and activate it again, or roll back"),
    "threshold_at_end": Reason(
        "model", 3, 3, "set thresholds that images confirm (trainer.threshold), or those of the bundle"
    ),
    "broker_away": Reason("broker", 1, 1, "look at the network, the broker and its password"),
    "broker_flapping": Reason("broker", 1, 1, "give each station a name and client id of its own; read why"),
    "events_refused": Reason("broker", 1, 1, "mend the broker's access rules or size limit; read why"),
    "pictures_refused": Reason(
        "broker", 1, 1, "raise the broker's size limit, or lower [archive]'s publish_image"
    ),
    "outbox_filling": Reason("broker", POLLS, POLLS, "bring the broker back before events are dropped"),
    "events_dropped": Reason("broker", 1, 1, "bring the broker back; raise the outbox's limits"),
    "disk_low": Reason("disk", POLLS, POLLS, "make room on the disk; lower [archive]'s quotas"),
    "inodes_low": Reason("disk", POLLS, POLLS, "delete small files on the disk"),
    "disk_read_only": Reason("disk", 1, POLLS, "the card may be dying: copy the state, change the card"),
    "storage_failing": Reason("disk", 1, 1, "read why; look at the disk's rights and its free space"),
    "too_hot": Reason("board", POLLS, POLLS, "clean the fan and the heat sink; shade the box"),
    "slowed": Reason("board", POLLS, POLLS, "cool the board, or lower [model] threads"),
    "under_voltage": Reason("board", 1, 1, "use the board's own supply and a short, thick cable"),
    "memory_low": Reason("board", POLLS, POLLS, "end other programs on the board"),
    "memory_grown": Reason("board", POLLS, POLLS, "restart the service and report the growth"),
    "clock_unset": Reason("clock", 1, 1, "give the station a time server (systemd-timesyncd)"),
}
ROLES = tuple(dict.fromkeys(reason.role for reason in REASONS.values()))


class Alarm:
    """One reason's level over time."""

    def __init__(self, reason: Reason, clock: Callable[[], float]) -> None:
        self._reason = reason
        self._clock = clock
        self._streak = 0
        self._rising = False
        self._aim = OK
        self._changed_s = -math.inf
        self.level = OK
        self.text = ""
        self.since_ns = 0

    def observe(self, level: int, text: Callable[[], str]) -> None:
        """Take one observation. `text` is asked for when the alarm stands at this level or rises to it."""
        if level == self.level:
            self._streak = 0
            if level:
                self.text = text()
            return
        if not self._streak or self._rising != (level > self.level):
            self._streak, self._rising, self._aim = 0, level > self.level, level
        self._streak += 1
        self._aim = min(self._aim, level) if self._rising else max(self._aim, level)
        if self._may_change():
            self._change(text)

    def _may_change(self) -> bool:
        if self._rising:
            return self._streak >= self._reason.rise
        stood_s = self._clock() - self._changed_s
        return self._streak >= self._reason.fall and stood_s >= self._reason.hold_s

    def _change(self, text: Callable[[], str]) -> None:
        if self.level == OK:
            self.since_ns = time.time_ns()
        self.level, self._streak = self._aim, 0
        self._changed_s = self._clock()
        self.text = text() if self.level else ""


class Alarms:
    """The levels of all reasons, by their codes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of = {code: Alarm(reason, clock) for code, reason in REASONS.items()}

    def observe(self, code: str, level: int, text: Callable[[], str]) -> None:
        """One observation of a reason; see Alarm.observe."""
        self._of[code].observe(level, text)

    def level(self, code: str) -> int:
        """Where a reason stands."""
        return self._of[code].level

    def forget(self, role: str) -> None:
        """The reasons of a role begin anew."""
        for code, reason in REASONS.items():
            if reason.role == role:
                self.renew(code)

    def renew(self, code: str) -> None:
        """A reason begins anew."""
        self._of[code] = Alarm(REASONS[code], self._clock)

    @property
    def worst(self) -> int:
        """The greatest level of all."""
        return max(alarm.level for alarm in self._of.values())

    def standing(self, role: str) -> list[tuple[str, Alarm]]:
        """A role's reasons that hold, the worst first."""
        found = [(code, a) for code, a in self._of.items() if REASONS[code].role == role and a.level]
        return sorted(found, key=lambda pair: -pair[1].level)


def above(value: float, warn: float, alert: float) -> int:
    """The level of a value that should be small."""
    return ALERT if value > alert else WARN if value > warn else OK


def below(value: float, warn: float, alert: float) -> int:
    """The level of a value that should be great."""
    return ALERT if value < alert else WARN if value < warn else OK
