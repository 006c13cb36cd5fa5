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

A frame becomes a verdict in judge.py. Threads: capture (trigger and camera, see capture.py), inference (the
model, see inference.py), this one (the verdicts), and behind it delivery (see publisher.py) and the archive.
A thread that hangs in the kernel does not keep the process from ending.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from datetime import UTC, datetime

from device.archive.archive import Archive
from device.camera.camera import Camera, make_camera
from device.camera.reopening import reopened
from device.config import Config
from device.errors import EdgeVisionError, FrameError
from device.image.frame import FREE_RUN, BadFrame, Frame
from device.inspection.pipeline import PreparedFrame
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
from device.station.capture import Capture, CaptureResult, Losses
from device.station.history import History
from device.station.inference import Inference
from device.station.judge import Judge
from device.station.start import ModelLoader, first_pipeline
from device.station.swap import ModelSwap
from device.station.threshold_override import ThresholdOverride
from device.system import notify, process
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
        models = ModelLoader(config, self._session_id)
        pipeline = first_pipeline(config.bundle, models.first)
        mode = CameraMode(config.state, camera.name, config.health) if camera.live else None
        self._override = ThresholdOverride(config.state)
        self._judge = Judge(config, pipeline, self._override, mode, self)
        self._swap = ModelSwap(
            config.bundle,
            models.another,
            pipeline,
            lambda: self._judge.newest,
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
        self._inference = Inference(self._capture, pipeline, self._taken)
        started = datetime.now(UTC)
        pictures = config.archive.publish_image_max_bytes > 0
        self._publisher = Publisher(
            config.mqtt,
            config.station,
            self._session_id,
            lambda protocol: birth(
                self._judge.pipeline, started, config.offered, protocol, pictures=pictures
            ),
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
            pipeline,
            Parts(self._publisher, self._capture, self._swap, self._counters, self._archive),
        )

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
        model = self._judge.pipeline.model
        log.info("station %s, session %s", self._config.station, self._session_id)
        log.info("bundle %s, model %s, sha256 %s", self._judge.pipeline.bundle.path, model.id, model.sha256)
        log.info("runtime %s, camera %s", self._judge.pipeline.runtime, self._capture.name)
        log.info("broker %s as client %s", self._publisher.address, self._publisher.client_id)

    @property
    def white_level(self) -> int | None:
        """Of images of more than 8 bits, by the bundle at work."""
        return self._judge.pipeline.white_level

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
            self._judge.require_frames(self._capture.name)
            self._feed_watchdog()
            self._between_frames()
        if self._inference.ended and not self._counters.good:
            raise FrameError(f"{self._capture.name}: ended without a single readable frame")

    def turn(self, timeout_s: float) -> Verdict | None:
        """One frame to one verdict; None when none came in this time. Raises FrameError, InterpreterError."""
        seen = self._inference.take(timeout_s)
        return None if seen is None else self._judge.judge(seen)

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

    def inspected(self, frame: Frame, verdict: Verdict, mode_change: str | None) -> None:
        """Keep the picture where it is wanted, and watch what it says of the camera."""
        self._archive.keep(frame, verdict)
        self._report_of_self.inspected(frame, verdict, mode_change)

    def unseen(self, fault: BadFrame) -> None:
        """There was no frame to judge."""
        self._report_of_self.unseen(fault)

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
            self.publish(self._judge.error(part))
        self._outputs.close()
        self._announce(now=True)
        self._archive.stop()
        self._history.stop()
        self._publisher.stop(last_word)
        self._counters.stop()
        self._tell(f"all: {self._counters.total()}")

    def _prepare(self, frame: Frame) -> PreparedFrame:
        """In the capture thread."""
        return self._judge.pipeline.prepare(frame)

    def _taken(self, taken: CaptureResult) -> None:
        """In the inference thread."""
        if taken.trigger == FREE_RUN:
            exposed_ns = time.monotonic_ns() if isinstance(taken, BadFrame) else taken.monotonic_ns
            self._outputs.triggered(taken.seq, exposed_ns)

    def _feed_watchdog(self) -> None:
        nothing_left = self._inference.idle and not self._publisher.unstored
        waits = self._capture.waits_for_part and nothing_left
        self._watchdog.look(stored=self._publisher.stored, waiting_for_part=waits)

    def _between_frames(self) -> None:
        """What there is to do beside the frames."""
        if self._stop.take_reload():
            log.info("SIGHUP: loading the bundle that %s leads to", self._config.bundle)
            self._swap.request()
        if (fresh := self._swap.take()) is not None:
            self._inference.pipeline = fresh
            self._judge.exchange(fresh)
            self._report_of_self.model_changed(fresh)
            self._publisher.renew_birth()
            subscriptions.describe(self._config, self._publisher, fresh.model.id)
        if self._thresholds_changed:
            self._thresholds_changed = False
            self._judge.reread_thresholds()
        self._announce()
        self._report()

    def _announce(self, *, now: bool = False) -> None:
        self._announcement.tell(self._swap.state, self._judge.thresholds, self._counters.counts, now=now)

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
        subscriptions.introduce(self._config, self._publisher, self._judge.pipeline.model.id)

    def _show(self, topic: str, picture: bytes) -> None:
        """Publish the picture of a defect, or its heat; the picture is kept as the last one."""
        self._publisher.send(topic, picture, 1)
        if topic.startswith("image/"):
            self._publisher.set_state(LAST_PICTURE, picture)

    def _ask_for_thresholds(self) -> None:
        self._thresholds_changed = True

    def _report(self) -> None:
        if self._counters.report_is_due():
            self._tell(self._counters.recent())

    def _tell(self, verdicts: str) -> None:
        """What has become of everything; `verdicts`: in what time, and how many."""
        losses, delivery, images = self._capture.losses, self._publisher.delivery(), self._archive.state
        log.info(
            "verdicts in %s; frames without one: %s; messages: %s; images: %s",
            verdicts,
            losses,
            delivery,
            images,
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
