"""How the station is, in roles, each with a state, a reason and a sentence; and its message to MQTT.

    ok      nothing to do
    warn    inspection goes on as it should; somebody should look at it today
    alert   what the station says may be wrong, or will soon be lost; somebody should look at it now

A reason (`REASONS`) rises when so many observations in a row reached it, and falls when so many in a row
stayed below it and it has stood for a while: a value that wavers about a threshold does not flap. Thresholds
are [health] in default.toml; docs/health.md has them all, with what to do.

Health judges and never acts: no reason stops the inspection, and none turns a verdict into another.
observe() belongs to the thread that inspects, poll() to the reporter's; a lock lies between them.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from device.bundle.calibration import DriftReference, Reference
from device.config import HealthConfig
from device.image.frame import Frame
from device.inspection.verdict import Verdict
from device.system.clock import rfc3339
from device.telemetry.board import MIB, Reading, Throttled
from device.telemetry.camera_shift import View
from device.telemetry.drift import Cusum, Target

SCHEMA_VERSION = 1

State = Literal["ok", "warn", "alert"]
Total = Literal["init", "ready", "degraded", "alert"]
STATES: tuple[State, ...] = get_args(State)
OK, WARN, ALERT = range(3)

POLLS = 3  # polls in a row that a reading of the board must hold, up or down
RECENT_S = 600.0  # what happened once (under-voltage, a lost event) stays visible so long
VIEW_EVERY_S = 1.0  # the camera's view is compared so often at most
DRIFT_EVERY_S = 1.0  # frames that follow each other closely are not independent: one in a second counts
BLACK_RATIO = 0.02  # of white: a picture this dark is too dark whatever the calibration says
TEMPERATURE_SLACK_C = 3.0
_SD_FLOORS = {"brightness": 0.01, "focus": 0.0, "score": 0.01, "evidence": 0.05}
_SD_FLOOR_SHARES = {"brightness": 0.02, "focus": 0.05, "score": 0.0, "evidence": 0.0}  # of the mean


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
    "frames_skipped": Reason("camera", POLLS, POLLS, "lower [camera] rate_hz, or use a smaller model"),
    "triggers_dropped": Reason("camera", 1, 1, "parts come faster than they are inspected: slow the line"),
    "too_dark": Reason("image", 10, 10, "look at the lamp, the lens cap and the exposure"),
    "too_bright": Reason("image", 10, 10, "look at the lamp, stray light and the exposure"),
    "out_of_focus": Reason("image", 10, 10, "clean the lens; focus it and lock it"),
    "moved": Reason("image", 5, 5, "put the camera back, or delete view.npz and restart after a wanted move"),
    "brightness_drift": Reason("drift", 1, 1, "compare the light with that of the training images"),
    "focus_drift": Reason("drift", 1, 1, "clean the lens; compare a picture with a training image"),
    "score_drift": Reason("drift", 1, 1, "review recent pictures; new parts or light need new training"),
    "evidence_drift": Reason("drift", 1, 1, "review recent pictures; new parts or light need new training"),
    "model_rejected": Reason("model", 1, 1, "read why, mend the bundle and activate it again, or roll back"),
    "broker_away": Reason("broker", 1, 1, "look at the network, the broker and its password"),
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


@dataclass(frozen=True, slots=True)
class Links:
    """What the service knows of its own parts when health is polled.

    Counts only grow; what they were at the first poll is no news. `waiting_ratio`: how full the outbox is,
    0..1. `rejected_model`, `storage_fault`: why, or None.
    """

    connected: bool = True
    waiting_ratio: float = 0.0
    dropped_events: int = 0
    frames: int = 0
    skipped_frames: int = 0
    dropped_triggers: int = 0
    rejected_model: str | None = None
    storage_fault: str | None = None
    clock_synced: bool = True


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


class _Stretch:
    """How long something has held without a break."""

    def __init__(self) -> None:
        self._began_s: float | None = None

    def seconds(self, holds: bool, now_s: float) -> float:
        if not holds:
            self._began_s = None
            return 0.0
        self._began_s = now_s if self._began_s is None else self._began_s
        return now_s - self._began_s


class Health:
    """The station's reasons. `folder`: where the camera's view is remembered; None: nowhere."""

    def __init__(
        self,
        config: HealthConfig,
        reference: DriftReference,
        folder: Path | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._alarms = {code: Alarm(reason, clock) for code, reason in REASONS.items()}
        self._view = View(folder / "view.npz" if folder is not None else None)
        self._seen = False
        self._sample = b""
        self._identical = 0
        self._lost = 0
        self._view_due_s = self._drift_due_s = -math.inf
        self._away = _Stretch()
        self._unset = _Stretch()
        self._links: Links | None = None
        self._throttled: Throttled | None = None
        self._happened_s: dict[str, float] = {}
        self._acknowledged: dict[str, Acknowledgement] = {}  # by the reason's code
        self.calibrate(reference)

    def calibrate(self, reference: DriftReference) -> None:
        """A model has come, with what good images look like: what drifted from the old one is forgotten."""
        with self._lock:
            self._reference = reference
            self._cusums = {
                name: Cusum(target, self._config.drift_limit)
                for name, target in _targets(reference).items()
                if self._config.drift_limit
            }
            for code, reason in REASONS.items():
                if reason.role == "drift":
                    self._alarms[code] = Alarm(reason, self._clock)

    def observe(self, frame: Frame, verdict: Verdict) -> None:
        """Look at a frame that has been inspected: tens of microseconds, a millisecond once a second."""
        with self._lock:
            self._seen = True
            self._lost = 0
            self._alarms["frame_lost"].observe(OK, str)
            self._look_for_freezing(frame)
            self._look_at_light(verdict)
            now_s = self._clock()
            if now_s >= self._view_due_s and self._config.moved_ratio:
                self._view_due_s = now_s + VIEW_EVERY_S
                self._look_at_view(frame, verdict)
            if now_s >= self._drift_due_s:
                self._drift_due_s = now_s + DRIFT_EVERY_S
                self._look_for_drift(verdict)

    def unseen(self, why: str) -> None:
        """A frame was lost, or a trigger had none: an ERROR verdict."""
        with self._lock:
            self._lost += 1
            lost = self._lost
            level = ALERT if lost > 1 else WARN
            self._alarms["frame_lost"].observe(level, lambda: f"{lost} lost one after the other: {why}")

    def poll(self, reading: Reading, links: Links) -> None:
        """Look at the board and at what the service says of its parts: every few seconds, by the reporter."""
        with self._lock:
            self._look_at_links(links)
            self._look_at_clock(links.clock_synced)
            self._look_at_disk(reading, links)
            self._look_at_heat(reading)
            self._look_at_supply(reading)
            self._look_at_memory(reading)
            self._links = links

    def acknowledge(self, role: str, reason: str, by: str | None) -> bool:
        """Somebody has seen this reason. False where it does not stand.

        It holds until the reason falls or becomes worse; it changes no state.
        """
        with self._lock:
            known = REASONS.get(reason)
            alarm = self._alarms.get(reason)
            if known is None or known.role != role or alarm is None or not alarm.level:
                return False
            self._acknowledged[reason] = Acknowledgement(by, time.time_ns(), alarm.level)
            return True

    def roles(self) -> dict[str, Role]:
        """Every role, with its worst reason."""
        with self._lock:
            return {name: self._role(name) for name in ROLES}

    @property
    def total(self) -> Total:
        """`init` until the first frame was inspected, then by the worst role; an alert even before that."""
        with self._lock:
            worst = max(alarm.level for alarm in self._alarms.values())
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

    # -- of a frame

    def _look_for_freezing(self, frame: Frame) -> None:
        """A sensor's noise makes no two frames alike; a driver that hangs gives the same one again."""
        limit = self._config.frozen_frames
        sample = _sample(frame)
        self._identical = self._identical + 1 if sample == self._sample else 1
        self._sample = sample
        count = self._identical
        level = ALERT if limit and count >= limit else OK
        self._alarms["frozen"].observe(level, lambda: f"{count} frames are identical")

    def _look_at_light(self, verdict: Verdict) -> None:
        checks = verdict.checks
        if checks is None:
            return
        brightness, focus = checks.brightness_ratio, checks.focus
        usual, usual_focus = self._reference.brightness_ratio.mean, self._reference.focus.mean
        config = self._config
        dark = max(BLACK_RATIO, config.dark_ratio * usual)
        level = _below(brightness, dark, max(BLACK_RATIO, dark / 2))
        self._alarms["too_dark"].observe(
            level, lambda: f"brightness {brightness:.3f}, limit {dark:.3f}, calibrated {usual:.3f}"
        )
        room = config.bright_ratio * (1 - usual)  # up to white
        level = _below(1 - brightness, room, room / 2)
        self._alarms["too_bright"].observe(
            level, lambda: f"brightness {brightness:.3f}, limit {1 - room:.3f}, calibrated {usual:.3f}"
        )
        blurred = config.focus_ratio * usual_focus
        level = _below(focus, blurred, blurred / 2)
        self._alarms["out_of_focus"].observe(
            level, lambda: f"focus {focus:.1f}, limit {blurred:.1f}, calibrated {usual_focus:.1f}"
        )

    def _look_at_view(self, frame: Frame, verdict: Verdict) -> None:
        limit = self._config.moved_ratio
        if not self._view.learned and verdict.verdict == "OK":
            self._view.learn(frame.image)
            return
        shift = self._view.shift_ratio(frame.image)
        if shift is None:
            return
        level = _above(shift, limit, 4 * limit)
        found = "another scene" if math.isinf(shift) else f"shifted by {shift:.1%} of the picture"
        self._alarms["moved"].observe(level, lambda: f"{found}, limit {limit:.1%}")

    def _look_for_drift(self, verdict: Verdict) -> None:
        checks = verdict.checks
        if checks is None or verdict.score is None:
            return
        values = {
            "brightness": checks.brightness_ratio,
            "focus": checks.focus,
            "score": verdict.score,
            "evidence": checks.evidence,
        }
        for name, cusum in self._cusums.items():
            value = values[name]
            if value is not None:
                self._observe_drift(name, cusum, value)

    def _observe_drift(self, name: str, cusum: Cusum, value: float) -> None:
        level = WARN if cusum.add(value) else OK
        self._alarms[f"{name}_drift"].observe(
            level,
            lambda: f"{name} has left the calibration's: {abs(cusum.recent_sd):.1f} sd {cusum.direction}",
        )

    # -- of a poll

    def _look_at_links(self, links: Links) -> None:
        before, config = self._links or links, self._config
        away_s = self._away.seconds(not links.connected, self._clock())
        level = _above(away_s, config.broker_warn_s, config.broker_alert_s)
        self._alarms["broker_away"].observe(level, lambda: f"no connection for {away_s:.0f} s")
        level = _above(links.waiting_ratio, 0.5, 0.9)
        self._alarms["outbox_filling"].observe(level, lambda: f"{links.waiting_ratio:.0%} full")
        lost = self._happened("events_dropped", links.dropped_events > before.dropped_events)
        self._alarms["events_dropped"].observe(
            ALERT if lost else OK, lambda: f"{links.dropped_events} events were dropped in all"
        )
        missed = self._happened("triggers_dropped", links.dropped_triggers > before.dropped_triggers)
        self._alarms["triggers_dropped"].observe(
            ALERT if missed else OK, lambda: f"{links.dropped_triggers} triggers had no verdict in all"
        )
        self._look_at_skipping(before, links)
        rejected = links.rejected_model
        self._alarms["model_rejected"].observe(WARN if rejected else OK, lambda: str(rejected))

    def _look_at_skipping(self, before: Links, links: Links) -> None:
        """Free-running, the newest frame wins and skipping is normal, up to a share."""
        skipped = links.skipped_frames - before.skipped_frames
        frames = links.frames - before.frames + skipped
        if not frames:
            return
        ratio, limit = skipped / frames, self._config.skipped_ratio
        level = WARN if limit and ratio > limit else OK
        self._alarms["frames_skipped"].observe(level, lambda: f"{ratio:.0%} of the frames, limit {limit:.0%}")

    def _look_at_clock(self, synced: bool) -> None:
        unset_s = self._unset.seconds(not synced, self._clock())
        level = WARN if unset_s > self._config.clock_warn_s else OK
        self._alarms["clock_unset"].observe(level, lambda: f"not synchronized for {unset_s:.0f} s")

    def _look_at_disk(self, reading: Reading, links: Links) -> None:
        fault = links.storage_fault
        self._alarms["storage_failing"].observe(WARN if fault else OK, lambda: str(fault))
        disk, config = reading.disk, self._config
        if disk is None:
            return
        limits = (config.disk_warn_ratio, config.disk_alert_ratio)
        level = _below(disk.free_ratio, *limits)
        self._alarms["disk_low"].observe(
            level, lambda: f"{disk.free_bytes // MIB} MiB free, {disk.free_ratio:.1%}"
        )
        level = _below(disk.free_inodes_ratio, *limits)
        self._alarms["inodes_low"].observe(level, lambda: f"{disk.free_inodes} inodes free")
        self._alarms["disk_read_only"].observe(
            ALERT if disk.read_only else OK, lambda: "the state's file system is read-only"
        )

    def _look_at_heat(self, reading: Reading) -> None:
        heat, config = reading.temperature_c, self._config
        if heat is None:
            return
        slack = TEMPERATURE_SLACK_C if self._alarms["too_hot"].level else 0.0
        level = _above(heat, config.temperature_warn_c - slack, config.temperature_alert_c - slack)
        self._alarms["too_hot"].observe(level, lambda: f"{heat:.0f} °C, limit {config.temperature_warn_c:g}")

    def _look_at_supply(self, reading: Reading) -> None:
        """Now, or since the last poll: the firmware remembers a dip that fell between two polls.

        What it remembers from before the first poll is told by `device check`, and is no reason here.
        """
        now, before = reading.throttled, self._throttled
        if now is None:
            return
        self._throttled = now
        self._alarms["slowed"].observe(WARN if now.slowed else OK, lambda: "the processor is slowed down")
        news = before is not None and now.had_under_voltage and not before.had_under_voltage
        dipped = self._happened("under_voltage", now.under_voltage or news)
        level = ALERT if now.under_voltage else WARN if dipped else OK
        when = "now" if now.under_voltage else f"within the last {RECENT_S / 60:.0f} minutes"
        self._alarms["under_voltage"].observe(level, lambda: f"the supply was too low {when}")

    def _look_at_memory(self, reading: Reading) -> None:
        memory, config = reading.memory, self._config
        if memory is None:
            return
        available, resident = memory.available_bytes / MIB, memory.resident_bytes / MIB
        level = _below(available, config.memory_warn_mib, config.memory_warn_mib / 2)
        self._alarms["memory_low"].observe(level, lambda: f"{available:.0f} MiB available")
        limit = config.resident_warn_mib
        self._alarms["memory_grown"].observe(
            WARN if limit and resident > limit else OK, lambda: f"{resident:.0f} MiB, limit {limit:g}"
        )

    def _happened(self, code: str, again: bool) -> bool:
        """Whether something has happened within RECENT_S."""
        if again:
            self._happened_s[code] = self._clock()
        return self._clock() - self._happened_s.get(code, -math.inf) < RECENT_S

    def _role(self, name: str) -> Role:
        standing = [(code, a) for code, a in self._alarms.items() if REASONS[code].role == name and a.level]
        if not standing:
            return Role("ok", None, "", 0, ())
        standing.sort(key=lambda pair: -pair[1].level)
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


def _sample(frame: Frame) -> bytes:
    """Some thousand bytes from all over the picture."""
    image = frame.image
    height, width = image.shape[:2]
    return image[:: max(1, height // 8), :: max(1, width // 128)].tobytes()


def _above(value: float, warn: float, alert: float) -> int:
    return ALERT if value > alert else WARN if value > warn else OK


def _below(value: float, warn: float, alert: float) -> int:
    return ALERT if value < alert else WARN if value < warn else OK


def _targets(reference: DriftReference) -> dict[str, Target]:
    """What is watched for drift; a spread that is next to nothing is widened, for no light is that steady."""
    known: dict[str, Reference | None] = {
        "brightness": reference.brightness_ratio,
        "focus": reference.focus,
        "score": reference.score,
        "evidence": reference.evidence,
    }
    targets = {}
    for name, found in known.items():
        if found is None:
            continue
        floor = max(_SD_FLOORS[name], _SD_FLOOR_SHARES[name] * abs(found.mean))
        if max(found.sd, floor) > 0:
            targets[name] = Target(found.mean, max(found.sd, floor))
    return targets
