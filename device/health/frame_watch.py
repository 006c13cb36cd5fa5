"""What frames and their verdicts say of the camera, the picture and drift; of the thread that inspects."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from device.bundle.calibration import DriftReference, Reference
from device.config import HealthConfig
from device.health.camera_shift import ReferenceView
from device.health.drift import Cusum, Target
from device.health.lens import WINDOW, Lens
from device.health.reasons import ALERT, OK, WARN, Alarms, above, below
from device.image.frame import Cause, Frame
from device.inspection.verdict import Verdict

VIEW_EVERY_S = 1.0  # the camera's view is compared so often at most
DIRT_RATIO, MUCH_DIRT_RATIO = 0.05, 0.3  # of the light that a place has lost
DRIFT_EVERY_S = 1.0  # frames that follow each other closely are not independent: one in a second counts
BLACK_RATIO = 0.02  # of white: a picture this dark is too dark whatever the calibration says
ENDS = (0.01, 0.99)  # thresholds from here on outwards: next to everything is NG, or nothing is
_SD_FLOORS = {"brightness": 0.01, "focus": 0.0, "score": 0.01, "evidence": 0.05}
_SD_FLOOR_SHARES = {"brightness": 0.02, "focus": 0.05, "score": 0.0, "evidence": 0.0}  # of the mean


class FrameWatch:
    """observe() and unseen(), frame by frame. `folder`: where the view is remembered; None: nowhere."""

    def __init__(
        self,
        config: HealthConfig,
        reference: DriftReference,
        folder: Path | None,
        alarms: Alarms,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._alarms = alarms
        self._clock = clock
        self._view = ReferenceView(folder / "view.npz" if folder is not None else None)
        self._lens = Lens(folder / "lens.npz" if folder is not None else None)
        self._sample = b""
        self._identical = 0
        self._lost = 0
        self._view_due_s = self._drift_due_s = -math.inf
        self.calibrate(reference)

    def calibrate(self, reference: DriftReference) -> None:
        """A model has come, with what good images look like: what drifted from the old one is forgotten."""
        self._reference = reference
        self._cusums = {
            name: Cusum(target, self._config.drift_limit)
            for name, target in _targets(reference).items()
            if self._config.drift_limit
        }
        self._alarms.forget("drift")

    def observe(self, frame: Frame, verdict: Verdict, mode_change: str | None) -> None:
        """Look at a frame that has been inspected: tens of microseconds, a millisecond once a second."""
        self._lost = 0
        self._alarms.observe("frame_lost", OK, str)
        self._alarms.observe("camera_away", OK, str)
        self._alarms.observe("mode_changed", ALERT if mode_change else OK, lambda: str(mode_change))
        self._look_for_freezing(frame)
        self._look_at_threshold(verdict.threshold)
        self._look_at_light(verdict)
        now_s = self._clock()
        if now_s >= self._view_due_s:
            self._view_due_s = now_s + VIEW_EVERY_S
            self._look_at_lens(frame, verdict)
            if self._config.moved_ratio:
                self._look_at_view(frame, verdict)
        if now_s >= self._drift_due_s:
            self._drift_due_s = now_s + DRIFT_EVERY_S
            self._look_for_drift(verdict)

    def unseen(self, why: str, cause: Cause) -> None:
        """There was no frame to judge: an ERROR verdict. Overload is no news of the camera's."""
        if cause == "away":
            self._alarms.observe("camera_away", ALERT, lambda: why)
        elif cause == "mode":
            self._alarms.observe("mode_changed", ALERT, lambda: why)
        elif cause == "unreadable":
            self._unreadable(why)

    def _unreadable(self, why: str) -> None:
        self._lost += 1
        lost = self._lost
        level = ALERT if lost > 1 else WARN
        self._alarms.observe("frame_lost", level, lambda: f"{lost} lost one after the other: {why}")

    def _look_for_freezing(self, frame: Frame) -> None:
        """A sensor's noise makes no two frames alike; a driver that hangs gives the same one again."""
        limit = self._config.frozen_frames
        sample = _sample(frame)
        self._identical = self._identical + 1 if sample == self._sample else 1
        self._sample = sample
        count = self._identical
        level = ALERT if limit and count >= limit else OK
        self._alarms.observe("frozen", level, lambda: f"{count} frames are identical")

    def _look_at_threshold(self, threshold: float) -> None:
        least, most = ENDS
        level = ALERT if threshold >= most else WARN if threshold <= least else OK
        what = "next to nothing is NG" if threshold >= most else "next to everything is NG"
        self._alarms.observe("threshold_at_end", level, lambda: f"{what}: the threshold is {threshold:.3f}")

    def _look_at_light(self, verdict: Verdict) -> None:
        checks = verdict.checks
        if checks is None:
            return
        brightness, focus = checks.brightness_ratio, checks.focus
        usual, usual_focus = self._reference.brightness_ratio.mean, self._reference.focus.mean
        config = self._config
        dark = max(BLACK_RATIO, config.dark_ratio * usual)
        level = below(brightness, dark, max(BLACK_RATIO, dark / 2))
        self._alarms.observe(
            "too_dark",
            level,
            lambda: f"brightness {brightness:.3f}, limit {dark:.3f}, calibrated {usual:.3f}",
        )
        room = config.bright_ratio * (1 - usual)  # up to white
        level = below(1 - brightness, room, room / 2)
        self._alarms.observe(
            "too_bright",
            level,
            lambda: f"brightness {brightness:.3f}, limit {1 - room:.3f}, calibrated {usual:.3f}",
        )
        blurred = config.focus_ratio * usual_focus
        level = below(focus, blurred, blurred / 2)
        self._alarms.observe(
            "out_of_focus",
            level,
            lambda: f"focus {focus:.1f}, limit {blurred:.1f}, calibrated {usual_focus:.1f}",
        )

    def _look_at_view(self, frame: Frame, verdict: Verdict) -> None:
        limit = self._config.moved_ratio
        if not self._view.learned and verdict.verdict == "OK":
            self._view.learn(frame.image)
            return
        shift = self._view.shift_ratio(frame.image)
        if shift is None:
            return
        level = above(shift, limit, 4 * limit)
        found = "another scene" if math.isinf(shift) else f"shifted by {shift:.1%} of the picture"
        self._alarms.observe("moved", level, lambda: f"{found}, limit {limit:.1%}")

    def _look_at_lens(self, frame: Frame, verdict: Verdict) -> None:
        if not self._lens.learned:
            if verdict.verdict == "OK":
                self._lens.learn(frame.image)
            return
        loss = self._lens.observe(frame.image)
        if loss is not None:
            level = above(loss, DIRT_RATIO, MUCH_DIRT_RATIO)
            self._alarms.observe(
                "lens_dirty", level, lambda: f"a place is {loss:.0%} darker in the last {WINDOW} pictures"
            )

    def _look_for_drift(self, verdict: Verdict) -> None:
        """Of what is not NG: a defect is no drift, nor are five in a row."""
        checks = verdict.checks
        if checks is None or verdict.score is None or verdict.verdict == "NG":
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
        self._alarms.observe(
            f"{name}_drift",
            level,
            lambda: f"{name} has left the calibration's: {abs(cusum.recent_sd):.1f} sd {cusum.direction}",
        )


def _sample(frame: Frame) -> bytes:
    """Some thousand bytes from all over the picture."""
    image = frame.image
    height, width = image.shape[:2]
    return image[:: max(1, height // 8), :: max(1, width // 128)].tobytes()


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
