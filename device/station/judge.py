"""A frame to its verdict while the service runs: by the model, the thresholds, the votes and the mode of now.

A frame that cannot be judged gets an ERROR verdict; too many unreadable ones in a row end the service. Where
the model itself fails, the ERROR verdict on its frame is the last word.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Protocol

from device.config import Config
from device.errors import BundleError, ConfigError, FrameError
from device.image.frame import BadFrame, Frame
from device.inspection.pipeline import Detection, Pipeline
from device.inspection.verdict import Verdict
from device.station.camera_mode import CameraMode
from device.station.capture import not_inspected
from device.station.inference import FailedFrame, InferenceResult
from device.station.threshold_override import ThresholdOverride
from device.station.voting import Jury
from device.system.loudness import Loudness

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who hears of what was seen, beside the verdict."""

    def inspected(self, frame: Frame, verdict: Verdict, mode_change: str | None) -> None:
        """A frame has its verdict."""

    def unseen(self, fault: BadFrame) -> None:
        """There was no frame to judge."""

    def publish(self, verdict: Verdict) -> None:
        """The last word, before what judge() raises."""


class Judge:
    """judge() each result of the inference; exchange() the model between two of them."""

    def __init__(
        self,
        config: Config,
        pipeline: Pipeline,
        override: ThresholdOverride,
        mode: CameraMode | None,
        listener: Listener,
    ) -> None:
        """`mode`: of a live camera."""
        self._config = config
        self._override = override
        self._mode = mode
        self._listener = listener
        self._jury = Jury(config.verdict)
        self._failures = 0
        self._loudness = Loudness()
        self.newest: Frame | None = None
        self.exchange(pipeline)

    def exchange(self, pipeline: Pipeline) -> None:
        """Another model decides from now on."""
        self.pipeline = pipeline
        self.reread_thresholds()

    def reread_thresholds(self) -> None:
        """They may have been set by a command."""
        pipeline = self.pipeline
        self.thresholds = self._override.apply(pipeline.model, pipeline.thresholds, pipeline.scores)
        self._jury.forget()

    def judge(self, seen: InferenceResult) -> Verdict:
        """The verdict. Raises what the model or the frame failed with, after the ERROR verdict on it."""
        if isinstance(seen, BadFrame):
            return self._unseen(seen)
        if isinstance(seen, FailedFrame):
            return self._unjudged(seen.frame, seen.fault)
        return self._seen(seen)

    def error(self, fault: BadFrame) -> Verdict:
        """The ERROR verdict where there is no frame to judge."""
        return self.pipeline.unseen(fault, self._jury.thresholds(self.thresholds, fault.trigger))

    def require_frames(self, camera: str) -> None:
        """Raises FrameError after too many unreadable frames in a row."""
        if self._failures >= self._config.camera.max_failures:
            raise FrameError(f"{camera}: {self._failures} unreadable frames one after the other")

    def _seen(self, detected: Detection) -> Verdict:
        frame = detected.frame
        try:
            verdict = self._jury.vote(self._word(detected))
        except Exception as fault:  # noqa: BLE001 - raised again unless only this frame is meant
            return self._unjudged(frame, fault)
        change = self._change_of_mode(detected)
        if change is not None and verdict.verdict != "NG":
            self._failures = 0
            if self._config.camera.mode_change == "ERROR":
                return self._unseen(not_inspected(frame, change, cause="mode"))
            verdict = replace(verdict, verdict="MARGINAL", reason=change)
        self._listener.inspected(frame, verdict, change)
        self._failures = 0
        self.newest = frame
        return verdict

    def _word(self, detected: Detection) -> Verdict:
        thresholds = self._jury.thresholds(self.thresholds, detected.frame.trigger)
        if detected.of is self.pipeline:
            return self.pipeline.judge(detected, thresholds)
        return self.pipeline.inspect(detected.frame, thresholds)  # the model before this one has seen it

    def _change_of_mode(self, detected: Detection) -> str | None:
        """How the camera's mode is another than before, where there is a camera."""
        if self._mode is None:
            return None
        brightness_ratio = detected.checks.brightness_ratio
        return self._mode.change(detected.frame, self.pipeline.model.sha256, brightness_ratio)

    def _unjudged(self, frame: Frame, fault: Exception) -> Verdict:
        """The ERROR verdict on a frame that is of another size than the region; else it is the last word."""
        resized = self._mode is not None and self.newest is not None and frame.size != self.newest.size
        reason = str(fault) or type(fault).__name__
        unseen = not_inspected(frame, reason, cause="mode" if resized else "unreadable")
        if self.newest is not None and isinstance(fault, ConfigError | BundleError):
            return self._unseen(unseen)
        self._listener.publish(self.error(unseen))
        raise fault

    def _unseen(self, fault: BadFrame) -> Verdict:
        """The ERROR verdict where there is no frame to judge. Only unreadable ones may end the service."""
        self._failures += fault.cause == "unreadable"
        self._listener.unseen(fault)
        log.log(self._loudness.level(fault.cause), "%s", fault)
        return self.error(fault)
