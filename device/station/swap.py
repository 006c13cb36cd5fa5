"""Another model while the station runs: built beside the one at work, tried, exchanged between two frames.

The thread `model` does what takes long: switch the links where a command asks for it, load the bundle that
`current` leads to (digests, schema), open its model, score the golden images, and time it on the newest frame
that the camera gave, or on a golden image. The loop then takes the finished pipeline between two frames, so
no frame is missed and each has the verdict of one model alone. Whatever fails, the old model stays at work,
the reason is named in the log and in SwapState, and `current` leads to the old one again: a restart does not
meet a bundle that was rejected. From before it is opened until it is at work a bundle is on trial
(device/bundle/trial.py): neither a power cut nor a model that crashes the interpreter leaves it in use. Where
somebody else gives the verdict (`receive`, after live frames) and is gone by then, it counts as failed.

The two models share the processor while the new one is timed; so the fastest of LATENCY_RUNS counts.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from device.bundle import bundle, store, trial
from device.bundle.trial import Trial
from device.errors import BundleError, EdgeVisionError, StorageError
from device.image.frame import Frame, frame_from_file
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Model

log = logging.getLogger(__name__)

LATENCY_RUNS = 10
OVERDUE_S = 15.0  # beyond the time of whoever gives the verdict on a trial: then nobody will

Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class SwapState:
    """What became of the latest change of the model.

    `state`: loading (a change has begun), active (it is done, or there was none), rejected (what was wanted
    is not at work, for `reason`). `bundle`, `model`: what is at work, whatever `state` says. `previous`: the
    bundle before it. `latency_ms`: of one inspection as measured at the change; None before one. `since_ns`:
    when this state began, UTC.
    """

    state: Literal["loading", "active", "rejected"]
    bundle: str
    model: Model
    previous: str | None
    reason: str | None
    latency_ms: float | None
    since_ns: int


class Job:
    """A change that was asked for: wait() for its end."""

    def __init__(self, step: Step | None) -> None:
        self.step = step
        self.wanted = ""  # the name of the bundle that `current` led to when it began
        self._done = threading.Event()
        self._fault: Exception | None = None

    def end(self, fault: Exception | None = None) -> None:
        """The change is done, or could not be."""
        self._fault = fault
        self._done.set()

    def wait_for_end(self) -> None:
        """Until the change is done or has failed."""
        self._done.wait()

    def wait(self, timeout_s: float) -> None:
        """Until the change is done. Raises what it failed with; BundleError also when it takes too long."""
        if not self._done.wait(timeout_s):
            raise BundleError(f"the model was not changed within {timeout_s:g} s")
        if self._fault is not None:
            raise self._fault


class ModelSwap:
    """start(), then request() from any thread; take() in the loop, between two frames."""

    def __init__(
        self,
        models: Path,
        build: Callable[[bundle.Bundle], Pipeline],
        running: Pipeline,
        newest_frame: Callable[[], Frame | None],
        latency_budget_ms: float = 0.0,
    ) -> None:
        """`models`: [bundle] path. `build` opens a bundle. `latency_budget_ms`: 0 for any latency."""
        self._models = models
        self._build = build
        self._running = running
        self._newest_frame = newest_frame
        self._budget_ms = latency_budget_ms
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[tuple[Job, Pipeline, float]] = queue.SimpleQueue()
        self._overdue_s = math.inf  # when the trial of what is at work has failed without a verdict
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self.state = SwapState(
            "active",
            running.bundle.name,
            running.model,
            previous=store.previous_name(models) or None,
            reason=None,
            latency_ms=None,
            since_ns=time.time_ns(),
        )

    @property
    def running(self) -> Pipeline:
        """What is at work."""
        return self._running

    def start(self) -> None:
        """Serve requests from now on."""
        self._thread.start()

    def request(self, step: Step | None = None) -> Job:
        """Ask for a change to the bundle that `current` leads to, once `step` has switched the links."""
        job = Job(step)
        self._jobs.put(job)
        return job

    def take(self) -> Pipeline | None:
        """The new pipeline, once, when there is one; from now on it is the one at work."""
        if time.monotonic() > self._overdue_s:
            self._overdue_s = math.inf
            self.request(self._give_up)
        if self._ready.empty():
            return None
        job, fresh, latency_ms = self._ready.get()
        before, self._running = self._running, fresh
        self.state = SwapState(
            "active",
            fresh.bundle.name,
            fresh.model,
            previous=before.bundle.name,
            reason=None,
            latency_ms=latency_ms,
            since_ns=time.time_ns(),
        )
        names = fresh.bundle.name, before.bundle.name
        log.info("model: %s is at work in place of %s, %.1f ms a frame", *names, latency_ms)
        job.end()
        return fresh

    # -- the thread `model`

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                self._change(job)
            except Exception as fault:
                if not isinstance(fault, EdgeVisionError):
                    log.exception("fault while the model was changed")
                self._reject(job, fault)

    def _change(self, job: Job) -> None:
        if job.step is not None:
            job.step()
        job.wanted = store.current_name(self._models)
        loaded = bundle.load(self._models)
        if loaded.path == self._running.bundle.path:
            log.info("model: %s is at work already", loaded.name)
            self._become("active", None)
            job.end()
            return
        self._become("loading", None)
        tried = self._on_trial(job.wanted)
        fresh = self._build(loaded)
        latency_ms = self._latency_ms(fresh)
        if 0 < self._budget_ms < latency_ms:
            raise BundleError(
                f"{loaded.name}: a frame must take at most {self._budget_ms:g} ms "
                f"([model] latency_budget_ms), takes {latency_ms:.1f} ms"
            )
        self._ready.put((job, fresh, latency_ms))
        job.wait_for_end()  # what is at work is known before the next change is begun
        self._at_work(tried)

    def _on_trial(self, wanted: str) -> Trial | None:
        """The record of what is tried now, on the disk; made here where a link was switched by hand.

        None where it is the one that was at work before this one, and has nothing to prove.
        """
        found = trial.read(self._models)
        if found is None or found.bundle != wanted:
            if wanted == self.state.previous:
                return None
            older = store.previous_name(self._models)
            found = Trial(wanted, self._running.bundle.name, older, begun=False)
        if not found.begun:
            found = replace(found, begun=True)
            trial.note(self._models, found)
        return found

    def _at_work(self, tried: Trial | None) -> None:
        """Its trial has ended well; or begins, where somebody else wants to see it at work first."""
        self._overdue_s = math.inf
        if tried is None:
            return
        if tried.gate_s is not None:
            self._overdue_s = time.monotonic() + tried.gate_s + OVERDUE_S
            return
        try:
            trial.end(self._models, tried.bundle)
        except StorageError as problem:
            log.error("model: the next start will go back to %s: %s", tried.before, problem)  # noqa: TRY400

    def _give_up(self) -> None:
        """The verdict on what is at work has not come."""
        if (found := trial.read(self._models)) is not None and found.bundle == self._running.bundle.name:
            log.error("model: nobody gave a verdict on %s: %s is used again", found.bundle, found.before)
            store.go_back(self._models)

    def _latency_ms(self, fresh: Pipeline) -> float:
        """Of one inspection: the fastest of a few, the least disturbed by the model that is at work."""
        frame = self._newest_frame() or _golden_frame(fresh.bundle)
        return min(fresh.inspect(frame).timing_ms["total"] for _ in range(LATENCY_RUNS))

    def _reject(self, job: Job, fault: Exception) -> None:
        reason = str(fault) if isinstance(fault, EdgeVisionError) else f"{type(fault).__name__}: {fault}"
        kept = self._running.bundle.name
        log.error("model: rejected, %s stays at work: %s", kept, reason)
        try:
            store.keep(self._models, kept, job.wanted)
        except StorageError as problem:
            log.error("model: `current` still leads to what was rejected: %s", problem)  # noqa: TRY400
        self._become("rejected", reason)
        job.end(fault)

    def _become(self, state: Literal["loading", "active", "rejected"], reason: str | None) -> None:
        self.state = replace(self.state, state=state, reason=reason, since_ns=time.time_ns())


def _golden_frame(loaded: bundle.Bundle) -> Frame:
    return frame_from_file(loaded.golden_path(loaded.calibration.golden.vectors[0]), seq=0)
