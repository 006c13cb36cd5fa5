"""The service: one camera, one model, one voice, frame after frame.

Who is brittle and who is tolerant:

    configuration, bundle   Wrong: the service ends with exit code 3 or 4 before the first frame, and systemd
                            leaves it down. A person has to mend it.
    camera                  One unreadable frame: an ERROR verdict, and on. `max_failures` of them in a row,
                            or no frame in time: the service ends with 5, and systemd starts a fresh one.
    interpreter             Any fault ends the service with 6; systemd starts a fresh one.
    broker                  May be away at the start and for days. Events wait in memory, bounded: see
                            publisher.py.
    anything unexpected     In whatever thread: the process ends with 1 and a traceback. A service that has
                            lost a thread looks alive and is not.

There is never a default verdict: no frame, no OK. The watchdog is fed by verdicts alone.
SIGTERM and SIGINT finish the frame in hand; the status is `stopped` after them and after the end of a finite
source, `offline` after a fault.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from datetime import UTC, datetime

from device import bundle, notify
from device.birth import birth
from device.camera import BadFrame, make_camera
from device.config import Config
from device.counters import Counters
from device.errors import FrameError
from device.pipeline import Pipeline
from device.publisher import Publisher
from device.signals import StopSignal
from device.verdict import Verdict

log = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Inspect until a signal or the end of the source. Raises the EdgeVisionError that ended it otherwise."""
    end_process_on_thread_fault()
    with StopSignal() as stop:
        service = Service(config, stop)
        service.start()
        try:
            service.inspect_all()
        except BaseException:
            service.end("offline")
            raise
        service.end("stopped")


class Service:
    """The parts of a station, and their order."""

    def __init__(self, config: Config, stop: StopSignal) -> None:
        """Opens the bundle (checked to its golden images). Raises BundleError, InterpreterError."""
        self._config = config
        self._stop = stop
        self._pipeline = Pipeline(
            bundle.load(config.bundle),
            station=config.station,
            session_id=uuid.uuid4().hex,
            threads=config.model.threads,
            runtime=config.model.runtime,
            region=config.inspection.region,
        )
        self._camera = make_camera(config.camera, stop.wait)
        self._publisher = Publisher(
            config.mqtt, config.station, self._pipeline.session_id, birth(self._pipeline, datetime.now(UTC))
        )
        self._counters = Counters()
        self._failures = 0

    def start(self) -> None:
        """Open the camera, begin to connect, and name what is in use. Raises FrameError."""
        self._camera.open()
        self._publisher.start()
        model = self._pipeline.model
        log.info("station %s, session %s", self._config.station, self._pipeline.session_id)
        log.info("bundle %s, model %s, sha256 %s", self._pipeline.bundle.path, model.id, model.sha256)
        log.info("runtime %s, camera %s", self._pipeline.runtime, self._camera.name)
        log.info("broker %s as client %s", self._publisher.address, self._config.mqtt.client_id)

    def inspect_all(self) -> None:
        """Turn after turn. Raises FrameError, also when a whole source had no frame that could be seen."""
        while not self._stop.requested:
            verdict = self.turn()
            if verdict is None:
                if not self._counters.good:
                    raise FrameError(f"{self._camera.name}: ended without a single readable frame")
                return
            self.publish(verdict)
            if self._failures >= self._config.camera.max_failures:
                raise FrameError(
                    f"{self._camera.name}: {self._failures} unreadable frames one after the other"
                )

    def turn(self) -> Verdict | None:
        """One frame to one verdict; None at the end of the source. Raises FrameError, InterpreterError."""
        try:
            frame = self._camera.read(self._config.camera.timeout_s)
        except BadFrame as fault:
            return self._unseen(fault)
        if frame is None:
            log.info("the camera %s has come to its end", self._camera.name)
            return None
        verdict = self._pipeline.inspect(frame)
        self._failures = 0
        return verdict

    def publish(self, verdict: Verdict) -> None:
        """Tell MQTT, systemd and the counters."""
        self._publisher.publish(verdict)
        self._counters.add(verdict.verdict)
        log.debug("%s %s, score %s, %s", verdict.event_id, verdict.verdict, verdict.score, verdict.image_path)
        if self._counters.good == 1 and verdict.verdict != "ERROR":
            notify.ready()
        notify.alive()
        if self._counters.report_is_due():
            log.info("verdicts in %s; messages: %s", self._counters.recent(), self._publisher.delivery())

    def end(self, last_word: str) -> None:
        """Deliver what waits (bounded), leave `last_word` as the status, release the camera."""
        notify.stopping()
        if self._stop.received is not None:
            log.info("%s: stopping", self._stop.received.name)
        self._camera.close()
        self._publisher.stop(last_word)
        log.info("verdicts in all: %s; messages: %s", self._counters.total(), self._publisher.delivery())

    def _unseen(self, fault: BadFrame) -> Verdict:
        """The ERROR verdict on a frame that could not be read."""
        self._failures += 1
        log.log(logging.WARNING if self._failures == 1 else logging.DEBUG, "%s", fault)
        return self._pipeline.unseen(fault)


def end_process_on_thread_fault() -> None:
    """From now on an uncaught exception in any thread ends the process with 1, its traceback in the log."""
    threading.excepthook = _end_process


def _end_process(fault: threading.ExceptHookArgs) -> None:
    name = fault.thread.name if fault.thread is not None else "?"
    log.critical("fault in thread %s; the process ends", name, exc_info=fault.exc_value)
    logging.shutdown()
    os._exit(1)  # the main thread may hang in the camera or the interpreter; it is not asked
