"""The service: one camera, one model, one voice, frame after frame.

Who is brittle and who is tolerant:

    configuration, bundle   Wrong: the service ends with exit code 3 or 4 before the first frame, and systemd
                            leaves it down. A person has to mend it.
    camera                  One unreadable frame: an ERROR verdict, and on. `max_failures` of them in a row,
                            no frame in time, or a call that does not come back: the service ends with 5, and
                            systemd starts a fresh one. A stream is opened again first: see reopening.py.
    camera's mode           Another size, no colours, sudden darkness: no OK, but ERROR verdicts, for as long
                            as it lasts: see camera_mode.py.
    overload                A part that nobody has time for: an ERROR verdict. It says nothing of the camera.
    interpreter             Any fault ends the service with 6; systemd starts a fresh one.
    broker                  May be away at the start and for days. Verdicts wait on the disk, bounded: see
                            outbox.py.
    disk                    Full or broken: verdicts wait in memory, bounded, and the disk is tried again. An
                            outbox that another process has open ends the service with 9.
    archive                 A full or read-only disk costs kept images, never a verdict: see archive.py.
    pins                    A fault of the input or an output ends the service with 10; at every end the
                            outputs go to rest, and `ready` with them.
    anything unexpected     In whatever thread: the process ends with 1 and a traceback. A service that has
                            lost a thread looks alive and is not.

There is never a default verdict: no frame, no OK. The watchdog is fed by stored verdicts, and by answers
while a trigger is awaited: see notify.py. What the station says of itself is in self_report.py.
SIGTERM and SIGINT finish what was taken; the status is `stopped` after them and after the end of a finite
source, `offline` after a fault.

Threads: capture (trigger and camera, see capture.py), inference (the model, see inference.py), this one (the
verdicts), and behind it delivery (see publisher.py) and the archive. A thread that hangs in the kernel does
not keep the process from ending.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime

from device.archive.archive import Archive
from device.bundle.accepted import Trust
from device.bundle.bundle import Bundle
from device.bundle.calibration import Thresholds
from device.camera.camera import Camera, make_camera
from device.camera.reopening import reopened
from device.config import Config
from device.errors import BundleError, ConfigError, EdgeVisionError, FrameError
from device.image.frame import FREE_RUN, BadFrame, Frame
from device.inspection.checks import Checks
from device.inspection.pipeline import Detection, Pipeline, PreparedFrame
from device.inspection.verdict import Verdict
from device.line import outputs
from device.line.asked import VerdictRequests
from device.line.outputs import Outputs
from device.line.trigger import Trigger, make_trigger
from device.mqtt import subscriptions
from device.mqtt.publisher import Publisher
from device.rollout.push_log import close_log
from device.station.actions import StationActions
from device.station.camera_mode import CameraMode
from device.station.capture import Capture, CaptureResult, Losses, not_inspected
from device.station.history import History
from device.station.inference import FailedFrame, Inference
from device.station.start import first_pipeline
from device.station.swap import ModelSwap
from device.station.threshold_override import ThresholdOverride
from device.station.voting import Jury
from device.system import notify, process
from device.system.loudness import Loudness
from device.system.signals import StopSignal
from device.telemetry.announcement import Announcement
from device.telemetry.birth import birth
from device.telemetry.counters import Counters
from device.telemetry.self_report import Parts, SelfReport

log = logging.getLogger(__name__)

LAST_PICTURE = "image/last"
POLL_S = 0.2  # how long the loop waits for a frame before it looks at what else there is to do


def run(config: Config) -> None:
    """Inspect until a signal or the end of the source. Raises the EdgeVisionError that ended it otherwise."""
    end_process_on_thread_fault()
    process.prepare()
    with StopSignal() as stop:
        camera = make_camera(config.camera, stop.wait, lambda: service.white_level)  # once it reads
        camera = reopened(camera, config.camera)
        service = Service(config, stop, camera, make_trigger(config.trigger))
        service.start()
        close_log(config.state, config.bundle)
        process.step_back()  # not before: a model's threads that this one starts must not be nice
        try:
            service.inspect_all()
            service.finish()
        except BaseException:
            service.end("offline")
            raise
        service.end("stopped")


class Service:
    """The parts of a station, and their order."""

    def __init__(self, config: Config, stop: StopSignal, camera: Camera, trigger: Trigger) -> None:
        """Opens the bundle (checked to its golden images). Raises BundleError, InterpreterError."""
        self._config = config
        self._stop = stop
        self._trigger = trigger
        self._asked = VerdictRequests()
        self._session_id = uuid.uuid4().hex
        self._trust = Trust(config.state, config.signers, config.allow_learned)
        self._pipeline = first_pipeline(config.bundle, self._open_first)
        self._override = ThresholdOverride(config.state)
        self._thresholds = self._thresholds_in_force()
        self._jury = Jury(config.verdict)
        self._mode = CameraMode(config.state, camera.name, config.health) if camera.live else None
        self._newest: Frame | None = None
        self._swap = ModelSwap(
            config.bundle,
            self._open_another,
            self._pipeline,
            lambda: self._newest,
            config.model.latency_budget_ms,
        )
        self._outputs = Outputs(config.outputs)
        self._triggered = config.trigger.kind != FREE_RUN
        self._capture = Capture(
            camera,
            trigger,
            config.trigger.timeout_s if self._triggered else config.camera.timeout_s,
            outputs=self._outputs,
            prepare=self._prepare,
            dropped=self._asked.dropped,
        )
        self._inference = Inference(self._capture, self._pipeline, self._taken)
        started = datetime.now(UTC)
        pictures = config.archive.publish_image_max_bytes > 0
        self._publisher = Publisher(
            config.mqtt,
            config.station,
            self._session_id,
            lambda protocol: birth(self._pipeline, started, config.offered, protocol, pictures=pictures),
            config.outbox,
            config.state,
        )
        self._announcement = Announcement(self._publisher, self._session_id)
        self._thresholds_changed = False
        self._archive = Archive(config.state, config.archive, self._show)
        self._counters = Counters(config.state)
        self._history = History(config.state, self._publisher)
        self._watchdog = notify.Watchdog()
        self._report_of_self = SelfReport(
            config,
            self._pipeline,
            Parts(self._publisher, self._capture, self._swap, self._counters, self._archive),
        )
        self._failures = 0
        self._loudness = Loudness()

    def start(self) -> None:
        """Open the camera, begin to connect, and name what is in use. Raises FrameError."""
        self._outputs.open()
        self._capture.open()
        if self._triggered:
            self._capture.prove()
        self._counters.start()
        self._history.start()
        self._announce()
        self._listen()
        if not self._config.archive.publish_image_max_bytes:
            self._publisher.set_state(LAST_PICTURE, b"")  # what an earlier configuration has left there
        process.settle()
        self._publisher.start()
        self._archive.start()
        self._capture.start()
        self._inference.start()
        self._swap.start()
        self._report_of_self.start()
        self._outputs.ready(True)
        if self._triggered:  # the first part may come in hours, and systemd does not wait so long
            notify.ready()
        model = self._pipeline.model
        log.info("station %s, session %s", self._config.station, self._session_id)
        log.info("bundle %s, model %s, sha256 %s", self._pipeline.bundle.path, model.id, model.sha256)
        log.info("runtime %s, camera %s", self._pipeline.runtime, self._capture.name)
        log.info("broker %s as client %s", self._publisher.address, self._publisher.client_id)

    @property
    def white_level(self) -> int | None:
        """Of images of more than 8 bits, by the bundle at work."""
        return self._pipeline.white_level

    @property
    def losses(self) -> Losses:
        """Frames and parts that have no verdict."""
        return self._capture.losses

    def inspect_all(self) -> None:
        """Turn after turn. Raises FrameError, also when a whole source had no frame that could be seen."""
        while not self._stop.requested and not self._inference.ended:
            verdict = self.turn(POLL_S)
            if verdict is not None:
                self.publish(verdict)
            self._require_frames()
            self._feed_watchdog()
            self._between_frames()
        if self._inference.ended and not self._counters.good:
            raise FrameError(f"{self._capture.name}: ended without a single readable frame")

    def turn(self, timeout_s: float) -> Verdict | None:
        """One frame to one verdict; None when none came in this time. Raises FrameError, InterpreterError."""
        seen = self._inference.take(timeout_s)
        if seen is None:
            return None
        if isinstance(seen, BadFrame):
            return self._unseen(seen)
        if isinstance(seen, FailedFrame):
            return self._unjudged(seen.frame, seen.fault)
        return self._judge(seen)

    def publish(self, verdict: Verdict) -> None:
        """Tell MQTT, systemd and the counters."""
        self._outputs.judged(verdict.seq, verdict.at_the_gate)  # first: the part is on its way
        self._publisher.publish(verdict)
        self._asked.judged(verdict)
        self._counters.add(verdict.verdict)
        self._history.add(verdict)
        self._report_of_self.published(verdict)
        if self._counters.good == 1 and verdict.verdict != "ERROR":
            notify.ready()

    def finish(self) -> None:
        """After a signal: no more frames, and a verdict on each that was taken. Raises InterpreterError."""
        self._outputs.ready(False)
        self._capture.stop()
        self._inference.finish()
        while not self._inference.over:
            if (verdict := self.turn(POLL_S)) is not None:
                self.publish(verdict)

    def end(self, last_word: str) -> None:
        """Deliver what waits (bounded), leave `last_word` as the status, release the camera."""
        notify.stopping()
        if self._stop.received is not None:
            log.info("%s: stopping", self._stop.received.name)
        self._report_of_self.stop()
        self._capture.stop()
        for part in self._capture.discard(self._inference.stop()):
            self.publish(self._error(part))
        self._outputs.close()
        self._announce(now=True)
        self._archive.stop()
        self._history.stop()
        self._publisher.stop(last_word)
        self._counters.stop()
        log.info(
            "verdicts in all: %s; frames without one: %s; messages: %s; images: %s",
            self._counters.total(),
            self._capture.losses,
            self._publisher.delivery(),
            self._archive.state,
        )

    def _prepare(self, frame: Frame) -> PreparedFrame:
        """In the capture thread."""
        return self._pipeline.prepare(frame)

    def _taken(self, taken: CaptureResult) -> None:
        """In the inference thread."""
        if taken.trigger == FREE_RUN:
            exposed_ns = time.monotonic_ns() if isinstance(taken, BadFrame) else taken.monotonic_ns
            self._outputs.triggered(taken.seq, exposed_ns)

    def _judge(self, detected: Detection) -> Verdict:
        """The verdict on a frame. When that cannot be, an ERROR verdict is the last; raises what it was."""
        frame = detected.frame
        thresholds = self._jury.thresholds(self._thresholds, frame.trigger)
        try:
            if detected.of is self._pipeline:
                verdict = self._pipeline.judge(detected, thresholds)
            else:  # the model before this one has seen it
                verdict = self._pipeline.inspect(frame, thresholds)
            verdict = self._jury.vote(verdict)
        except Exception as fault:  # noqa: BLE001 - raised again unless only this frame is meant
            return self._unjudged(frame, fault)
        change = self._change_of_mode(frame, detected.checks)
        if change is not None and verdict.verdict != "NG":
            self._failures = 0
            if self._config.camera.mode_change == "ERROR":
                return self._unseen(not_inspected(frame, change, cause="mode"))
            verdict = replace(verdict, verdict="MARGINAL", reason=change)
        self._archive.keep(frame, verdict)
        self._report_of_self.inspected(frame, verdict, change)
        self._failures = 0
        self._newest = frame
        return verdict

    def _change_of_mode(self, frame: Frame, checks: Checks) -> str | None:
        """How the camera's mode is another than before, where there is a camera."""
        if self._mode is None:
            return None
        return self._mode.change(frame, self._pipeline.model.sha256, checks.brightness_ratio)

    def _unjudged(self, frame: Frame, fault: Exception) -> Verdict:
        """The ERROR verdict on a frame that is of another size than the region; else it is the last word."""
        resized = self._mode is not None and self._newest is not None and frame.size != self._newest.size
        reason = str(fault) or type(fault).__name__
        unseen = not_inspected(frame, reason, cause="mode" if resized else "unreadable")
        if self._newest is not None and isinstance(fault, ConfigError | BundleError):
            return self._unseen(unseen)
        self.publish(self._error(unseen))
        raise fault

    def _unseen(self, fault: BadFrame) -> Verdict:
        """The ERROR verdict where there is no frame to judge. Only unreadable ones may end the service."""
        self._failures += fault.cause == "unreadable"
        self._report_of_self.unseen(fault)
        log.log(self._loudness.level(fault.cause), "%s", fault)
        return self._error(fault)

    def _error(self, fault: BadFrame) -> Verdict:
        return self._pipeline.unseen(fault, self._jury.thresholds(self._thresholds, fault.trigger))

    def _feed_watchdog(self) -> None:
        nothing_left = self._inference.idle and not self._publisher.unstored
        waits = self._capture.waits_for_part and nothing_left
        self._watchdog.look(stored=self._publisher.stored, waiting_for_part=waits)

    def _require_frames(self) -> None:
        if self._failures >= self._config.camera.max_failures:
            raise FrameError(f"{self._capture.name}: {self._failures} unreadable frames one after the other")

    def _open_first(self, loaded: Bundle) -> Pipeline:
        """Raises SignatureError as well."""
        self._trust.require_in_use(loaded)
        return self._open(loaded)

    def _open_another(self, loaded: Bundle) -> Pipeline:
        """In the thread `model`. Raises SignatureError as well."""
        self._trust.vouch_again(loaded)
        return self._open(loaded)

    def _open(self, loaded: Bundle) -> Pipeline:
        opened = Pipeline(
            loaded,
            station=self._config.station,
            session_id=self._session_id,
            threads=self._config.model.threads,
            runtime=self._config.model.runtime,
            region=self._config.inspection.region,
            doubts=self._config.verdict.doubts,
        )
        opened.require_judged()
        return opened

    def _between_frames(self) -> None:
        """What there is to do beside the frames."""
        if self._stop.take_reload():
            log.info("SIGHUP: loading the bundle that %s leads to", self._config.bundle)
            self._swap.request()
        if (fresh := self._swap.take()) is not None:
            self._pipeline = self._inference.pipeline = fresh
            self._report_of_self.model_changed(fresh)
            self._publisher.renew_birth()
            subscriptions.describe(self._config, self._publisher, fresh.model.id)
            self._reread_thresholds()
        if self._thresholds_changed:
            self._reread_thresholds()
        self._announce()
        self._report()

    def _reread_thresholds(self) -> None:
        self._thresholds_changed = False
        self._thresholds = self._thresholds_in_force()
        self._jury.forget()

    def _thresholds_in_force(self) -> Thresholds:
        running = self._pipeline
        return self._override.apply(running.model, running.thresholds, running.scores)

    def _announce(self, *, now: bool = False) -> None:
        self._announcement.tell(self._swap.state, self._thresholds, self._counters.counts, now=now)

    def _listen(self) -> None:
        """Take commands, and introduce the station, where enabled. Raises StorageError: the audit log."""
        actions = StationActions(
            self._trigger,
            self._asked,
            self._swap,
            self._override,
            (self._config.commands.threshold_min, self._config.commands.threshold_max),
            models=self._config.bundle,
            state=self._config.state,
            repeat_state=self._publisher.repeat_state,
            reread_thresholds=self._ask_for_thresholds,
            picture_bytes=self._config.archive.publish_image_max_bytes,
            most_pinned_bytes=self._config.archive.most_pinned_bytes,
            send=self._publisher.send,
            reviewed=self._history.reviewed,
            acknowledge=self._report_of_self.health.acknowledge,
        )
        subscriptions.take_commands(self._config, self._publisher, actions, self._session_id)
        subscriptions.introduce(self._config, self._publisher, self._pipeline.model.id)

    def _show(self, topic: str, picture: bytes) -> None:
        """Publish the picture of a defect, or its heat; the picture is kept as the last one."""
        self._publisher.send(topic, picture, 1)
        if topic.startswith("image/"):
            self._publisher.set_state(LAST_PICTURE, picture)

    def _ask_for_thresholds(self) -> None:
        self._thresholds_changed = True

    def _report(self) -> None:
        if self._counters.report_is_due():
            log.info(
                "verdicts in %s; frames without one: %s; messages: %s; images: %s",
                self._counters.recent(),
                self._capture.losses,
                self._publisher.delivery(),
                self._archive.state,
            )


def end_process_on_thread_fault() -> None:
    """From now on an uncaught exception in any thread ends the process, with the exit code of its class."""
    threading.excepthook = _end_process


def _end_process(fault: threading.ExceptHookArgs) -> None:
    name = fault.thread.name if fault.thread is not None else "?"
    log.critical("fault in thread %s; the process ends", name, exc_info=fault.exc_value)
    outputs.rest_all()
    logging.shutdown()
    code = fault.exc_value.exit_code if isinstance(fault.exc_value, EdgeVisionError) else 1
    os._exit(code)  # the main thread may hang in the interpreter; it is not asked
