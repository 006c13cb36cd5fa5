"""Inspect frames with faults injected at random, and account for every frame and every trigger.

    python benchmarks/faults.py --bundle DIR [--frames N] [--seed N]

The whole service runs in this process, without a broker: its capture thread, the model, voting, counters. A
camera of this script gives frames from memory, and now and then one that is torn, late, black, of another
size or lost in the camera; or the camera is gone, has a bug, or does not come back from a call; the model
fails; SIGTERM comes. A session that has ended is followed by the next, as systemd would do it, in turn with a
recorded source, a live camera, and triggers with part ids from another thread.

It must hold that every frame and every trigger has exactly one verdict or one counted drop, that no verdict
but ERROR is on a frame that was not given, that every sequence number is said once, and that the counters on
the disk agree. 10,000 frames take about a minute on two cores.

Exit codes: 0 all of it holds, 1 something does not (each is printed), 2 wrong command line, 4 no such bundle.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find device

from device import config, service
from device.bundle import bundle
from device.config import Config
from device.errors import EdgeVisionError, FrameError, InterpreterError
from device.image.frame import BadFrame, Frame
from device.inspection.pipeline import Detection, Pipeline, PreparedFrame
from device.inspection.verdict import Verdict
from device.line.trigger import CommandTrigger, FreeRun, Trigger
from device.mqtt import publisher
from device.station import capture
from device.system.signals import StopSignal

MODES = ("recorded", "live", "triggered")
A_SESSION = 400  # frames, where nothing ends it before
TIMEOUT_S = 0.1
FAULTS = {  # kind: in so many of 100,000 frames
    "torn": 2000,
    "late": 1500,
    "black": 1000,
    "size": 1000,
    "lost": 300,
    "gone": 60,
    "bug": 30,
    "hang": 30,
    "stop": 60,
}
MODEL_FAULT = 0.0004  # of the inspections


@dataclass
class Ledger:
    """What really happened in a session."""

    given: set[str] = field(default_factory=set)  # frames, by their path
    torn: set[str] = field(default_factory=set)
    lost_in_camera: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    accepted: list[str] = field(default_factory=list)  # parts
    refused: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return len(self.given) + len(self.torn)


class FaultyCamera:
    """Frames from memory, and what can go wrong with them."""

    name = "faulty"
    dropped = 0

    def __init__(
        self, dice: random.Random, ledger: Ledger, images: Sequence[np.ndarray], *, live: bool
    ) -> None:
        self.live = live
        self._dice = dice
        self._ledger = ledger
        self._images = images
        self._seq = -1
        self.released = threading.Event()

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def read(self, timeout_s: float, *, flush: bool = False) -> Frame | None:
        if self._ledger.frames >= A_SESSION:
            return None
        fault = self._fault()
        if fault:
            self._ledger.faults[fault] += 1
        self._seq += 1
        path = f"frame-{self._seq}"
        if fault == "gone":
            raise FrameError("faulty: is gone")
        if fault == "bug":
            raise ZeroDivisionError("a bug of the camera")
        if fault == "hang":
            self.released.wait(60)
            raise FrameError("faulty: came back at last")
        if fault == "late":
            time.sleep(self._dice.uniform(0, 0.004))
        if fault == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
        if fault == "lost" and not flush:
            self._ledger.lost_in_camera += 1
            self._seq += 1
            path = f"frame-{self._seq}"
        if fault == "torn":
            self._ledger.torn.add(path)
            raise BadFrame("torn", seq=self._seq, path=path, captured_ns=time.time_ns(), camera=self.name)
        self._ledger.given.add(path)
        return self._frame(path, fault)

    def _fault(self) -> str | None:
        at = self._dice.randrange(100_000)
        for kind, share in FAULTS.items():
            at -= share
            if at < 0:
                return kind
        return None

    def _frame(self, path: str, fault: str | None) -> Frame:
        image = self._dice.choice(self._images)
        if fault == "black":
            image = np.zeros_like(image)
        if fault == "size":
            image = image[
                : self._dice.randrange(1, image.shape[0]), : self._dice.randrange(1, image.shape[1])
            ]
        return Frame(image, self._seq, time.time_ns(), time.monotonic_ns(), self.name, path, None)


class FailingPipeline(Pipeline):
    """The real one, which fails now and then."""

    dice: random.Random
    ledger: Ledger

    def detect(self, prepared: PreparedFrame) -> Detection:
        if self.dice.random() < MODEL_FAULT:
            self.ledger.faults["model"] += 1
            raise InterpreterError("the model fails")
        return super().detect(prepared)


class RecordedService(service.Service):
    """The real one, whose verdicts are noted as they are published."""

    ledger: Ledger

    def publish(self, verdict: Verdict) -> None:
        self.ledger.verdicts.append(verdict)
        super().publish(verdict)


def run_session(
    settings: Config, mode: str, dice: random.Random, images: Sequence[np.ndarray]
) -> tuple[Ledger, capture.Losses, list[str]]:
    """One session to its end, and what does not hold of it."""
    ledger = Ledger()
    camera = FaultyCamera(dice, ledger, images, live=mode != "recorded")
    trigger: Trigger = CommandTrigger(queue_limit=8) if mode == "triggered" else FreeRun()
    FailingPipeline.dice, FailingPipeline.ledger = random.Random(dice.random()), ledger  # noqa: S311
    RecordedService.ledger = ledger
    with StopSignal() as stop:
        station = RecordedService(settings, stop, camera, trigger)
        station.start()
        line = _Line(trigger, ledger, random.Random(dice.random())) if mode == "triggered" else None  # noqa: S311
        try:
            station.inspect_all()
            station.finish()
        except (EdgeVisionError, ZeroDivisionError):
            pass
        finally:
            station.end("stopped")
        if line:
            line.stop()
    camera.released.set()
    return ledger, station.losses, problems(mode, ledger, station.losses, trigger)


class _Line(threading.Thread):
    """Parts that come by in bursts, each with its id."""

    def __init__(self, trigger: Trigger, ledger: Ledger, dice: random.Random) -> None:
        super().__init__(name="line", daemon=True)
        self._trigger = trigger
        self._ledger = ledger
        self._dice = dice
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        part = 0
        while not self._ended.wait(self._dice.expovariate(1 / 0.002)):
            for _ in range(self._dice.choice((1, 1, 1, 2, 12))):
                name = f"part-{part}"
                part += 1
                (self._ledger.accepted if self._trigger.fire(name) else self._ledger.refused).append(name)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def problems(mode: str, ledger: Ledger, losses: capture.Losses, trigger: Trigger) -> list[str]:
    """What does not hold of a session, a line each."""
    found = []
    numbers = [verdict.seq for verdict in ledger.verdicts]
    if len(set(numbers)) != len(numbers):
        found.append("a sequence number was said twice")
    judged = [verdict for verdict in ledger.verdicts if verdict.verdict != "ERROR"]
    found += [
        f"{verdict.verdict} on {verdict.image_path}, which was not given"
        for verdict in judged
        if verdict.image_path not in ledger.given
    ]
    shown = Counter(verdict.image_path for verdict in ledger.verdicts if verdict.image_path)
    found += [f"{path} has {count} verdicts" for path, count in shown.items() if count > 1]
    if mode == "triggered":
        return found + _parts_without_a_word(ledger, losses, trigger)
    silent = ledger.frames - len(shown)
    counted = losses.skipped - ledger.lost_in_camera + losses.dropped
    if silent != counted:
        found.append(f"{silent} frames have no verdict, {counted} are counted: {losses}")
    if mode == "recorded" and losses.skipped != ledger.lost_in_camera:
        found.append(
            f"of a recording {losses.skipped} were skipped, {ledger.lost_in_camera} lost in the camera"
        )
    return found


def _parts_without_a_word(ledger: Ledger, losses: capture.Losses, trigger: Trigger) -> list[str]:
    """A part that was accepted, or found the queue full, has one verdict or is counted as dropped.

    A closed station took none.
    """
    said = Counter(verdict.part_id for verdict in ledger.verdicts)
    found = [f"{part} has {count} verdicts" for part, count in said.items() if count > 1]
    silent = [part for part in ledger.accepted if part not in said]
    spoken = sum(part in said for part in ledger.refused)
    silent_too = trigger.dropped - spoken  # the station had so many parts waiting that it let them go
    if silent_too < 0:
        found.append(f"{trigger.dropped} parts found the queue full, {spoken} such have a verdict")
    if len(silent) + silent_too != losses.dropped:
        found.append(
            f"{len(silent)} parts and {silent_too} that found the queue full have no verdict, "
            f"{losses.dropped} are counted: {silent[:5]}"
        )
    return found


def run(bundle_path: Path, frames: int, seed: int) -> int:
    """Sessions until so many frames were taken; prints what happened. Returns the exit code."""
    dice = random.Random(seed)  # noqa: S311 - faults that can be repeated
    size = bundle.load(bundle_path).calibration.preprocess.size
    pixels = np.random.default_rng(seed)
    images = [
        pixels.integers(40, white, (size.height, size.width, 3), dtype=np.uint8)
        for white in (60, 60, 60, 255)
    ]
    service.Pipeline = FailingPipeline  # type: ignore[misc]
    capture.HUNG_S = capture.STOP_S = 0.1
    publisher.FLUSH_S = 0.0
    taken = sessions = 0
    words: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    parts = skipped = dropped = 0
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="edgevision-faults-") as folder:
        settings = _settings(Path(folder), bundle_path)
        while taken < frames:
            mode = MODES[sessions % len(MODES)]
            ledger, losses, wrong = run_session(settings, mode, dice, images)
            found += [f"session {sessions} ({mode}): {problem}" for problem in wrong]
            sessions += 1
            taken += ledger.frames
            words.update(verdict.verdict for verdict in ledger.verdicts)
            faults.update(ledger.faults)
            parts += len(ledger.accepted)
            skipped += losses.skipped
            dropped += losses.dropped
        found += _disagreement(settings, words)
    print(f"{taken} frames and {parts} triggers in {sessions} sessions, seed {seed}")
    print(f"faults: {', '.join(f'{count} {kind}' for kind, count in sorted(faults.items()))}")
    print(f"verdicts: {', '.join(f'{words[w]} {w}' for w in ('OK', 'NG', 'MARGINAL', 'ERROR'))}")
    print(f"without one: {skipped} skipped or lost in the camera, {dropped} dropped at a fault, all counted")
    for problem in found:
        print(f"FAIL {problem}")
    print(
        "each frame and trigger has one verdict or one counted drop"
        if not found
        else f"{len(found)} problems"
    )
    return 1 if found else 0


def _settings(folder: Path, bundle_path: Path) -> Config:
    path = folder / "config.toml"
    path.write_text(
        f'[station]\nname = "faults"\nstate = "state"\nruntime = "run"\n[bundle]\npath = "{bundle_path}"\n'
        f"[model]\nthreads = 1\n[camera]\ntimeout_s = {TIMEOUT_S}\nmax_failures = 1000\n"
        '[mqtt]\nhost = "127.0.0.1"\nport = 9\n[log]\nlevel = "error"\n'
    )
    return config.load(path)


def _disagreement(settings: Config, words: Counter[str]) -> list[str]:
    """Between the counters on the disk and the verdicts."""
    counts = service.Counters(settings.state).counts
    kept = {"OK": counts.ok, "NG": counts.ng, "MARGINAL": counts.marginal, "ERROR": counts.error}
    return [] if Counter(kept) == words else [f"counters.json says {kept}, the verdicts {dict(words)}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Account for every frame under faults.")
    parser.add_argument(
        "--bundle", type=Path, required=True, metavar="DIR", help="the bundle to inspect with"
    )
    parser.add_argument("--frames", type=int, default=10_000, metavar="N", help="default 10000")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    options = parser.parse_args(arguments)
    logging.disable(logging.ERROR)
    try:
        return run(options.bundle.resolve(), options.frames, options.seed)
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # cameras that hang are left behind
