"""Inspect frames with faults injected at random, and account for every frame and every trigger.

    python benchmarks/faults.py --bundle DIR [--frames N] [--seed N]

The whole service runs in this process: its capture thread, the model, voting, counters, delivery to a real
broker that is killed and started again. A camera of this script gives frames from memory, and now and then
one that is torn, late, black, of another size or lost in the camera; or the camera is gone, has a bug, or
does not come back from a call; the model fails; SIGTERM comes. A session that has ended is followed by the
next, as systemd would do it, in turn with a recorded source, a live camera, triggers with part ids from
another thread, and both of these on a real stream (network_camera.py), which changes its size and colours,
cuts its JPEGs, sends one again, stalls, is held back by the network, and hangs up.

It must hold that every frame and every trigger has exactly one verdict or one counted drop; that no verdict
but ERROR is on a picture that the camera did not give: each is pixel for pixel one that was sent, no picture
has two, none of another size or colour is OK, and that of a part was made after its trigger; that every
sequence number is said once; that the counters on the disk agree; and that each verdict was acknowledged by
the broker or still waits. 10,000 frames take about two minutes on two quiet cores.

Exit codes: 0 all of it holds, 1 something does not (each is printed), 2 wrong command line, 4 no such bundle.
Needs mosquitto.
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
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find device

from benchmarks.mosquitto import free_port, mosquitto
from benchmarks.network_camera import NetworkCamera, Sent, network_camera, number_of
from device import config, service
from device.bundle import bundle
from device.camera import reopening
from device.camera.camera import Camera, make_camera
from device.config import Config
from device.errors import EdgeVisionError, FrameError, InterpreterError
from device.image.frame import BadFrame, Frame
from device.inspection.pipeline import Detection, Pipeline, PreparedFrame
from device.inspection.verdict import Verdict
from device.line.trigger import CommandTrigger, FreeRun, Trigger
from device.mqtt import publisher
from device.outbox.outbox import Outbox
from device.station import capture, start
from device.system.signals import StopSignal

MODES = ("recorded", "live", "triggered", "stream", "triggered stream")
A_SESSION = 400  # frames, where nothing ends it before
TIMEOUT_S = 0.1
STREAM_TIMEOUT_S = 0.5
INTERVAL_S = 0.005  # of a stream
LATENCY_MS = 100.0  # this process is camera and station in one, and either may wait for the other
STORMS = ("large", "small", "gray", "cut", "again", "stall", "hold", "hang up", "broker")
LONGEST_S = 0.2  # of one of them
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
    stream: NetworkCamera | None = None
    first: int = 0  # the stream's number when the session began
    fired_ns: dict[str, int] = field(default_factory=dict)  # by part
    shown: dict[int, int] = field(default_factory=dict)  # which of the stream's pictures a frame is
    strange: dict[int, str] = field(default_factory=dict)  # frames that are none of them
    numbers: int = 0  # frames and parts that were numbered
    acknowledged: int = 0

    @property
    def frames(self) -> int:
        if self.stream is not None:
            return self.stream.number - self.first
        return len(self.given) + len(self.torn)

    def look(self, frame: Frame) -> None:
        """Compare what is inspected with what was sent."""
        if self.stream is None:
            return
        number = self.shown[frame.seq] = number_of(frame.image)
        sent = self.stream.sent.get(number)
        if sent is None or sent.mode in ("cut", "again"):
            self.strange[frame.seq] = f"picture {number}, which was not sent whole"
        elif not np.array_equal(sent.shown(), frame.image):
            self.strange[frame.seq] = f"picture {number}, but not as it was sent"


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

    def prepare(self, frame: Frame) -> PreparedFrame:
        self.ledger.look(frame)
        return super().prepare(frame)

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

    @property
    def numbered(self) -> int:
        """Frames and parts that were given a number."""
        return self._capture._register._seq  # noqa: SLF001

    @property
    def acknowledged(self) -> int:
        """Verdicts that the broker has."""
        return self._publisher.delivery().acknowledged


class World:
    """What outlives a session: a network camera, a broker, images."""

    def __init__(self, folder: Path, images: Sequence[np.ndarray], stream: NetworkCamera) -> None:
        self.images = images
        self.stream = stream
        self.port = free_port()
        self._folder = folder
        self._broker = ExitStack()
        self.start_broker()

    def start_broker(self) -> None:
        """Where it was before."""
        self._broker.enter_context(mosquitto(self._folder, port=self.port))

    def stop_broker(self) -> None:
        """Until it is started again."""
        self._broker.close()

    def streaming(self, settings: Config) -> Config:
        """The settings with the network camera."""
        camera = replace(
            settings.camera,
            kind="opencv",
            source=self.stream.address,
            latency_ms=LATENCY_MS,
            timeout_s=STREAM_TIMEOUT_S,
        )
        return replace(settings, camera=camera)


class _Storm(threading.Thread):
    """What a camera, its network and the broker do to a station, one after the other."""

    def __init__(self, trigger: Trigger, ledger: Ledger, dice: random.Random, world: World) -> None:
        super().__init__(name="storm", daemon=True)
        self._ledger = ledger
        self._dice = dice
        self._world = world
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(self._dice.uniform(0, LONGEST_S)):
            kind = self._dice.choice(STORMS)
            self._ledger.faults[kind] += 1
            self._begin(kind)
            self._ended.wait(self._dice.uniform(0, LONGEST_S))
            self._end(kind)
            if self._ledger.frames >= A_SESSION:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _begin(self, kind: str) -> None:
        camera = self._world.stream
        if kind == "stall":
            camera.flowing.clear()
        elif kind == "hold":
            camera.holding.set()
        elif kind == "hang up":
            camera.hung_up.set()
        elif kind == "broker":
            self._world.stop_broker()
        else:
            camera.mode = kind

    def _end(self, kind: str) -> None:
        camera = self._world.stream
        camera.flowing.set()
        camera.holding.clear()
        camera.hung_up.clear()
        camera.mode = "usual"
        if kind == "broker":
            self._world.start_broker()


def run_session(
    settings: Config, mode: str, dice: random.Random, world: World
) -> tuple[Ledger, capture.Losses, list[str]]:
    """One session to its end, and what does not hold of it."""
    streams, triggered = "stream" in mode, "triggered" in mode
    ledger = Ledger(stream=world.stream if streams else None, first=world.stream.number)
    trigger: Trigger = CommandTrigger(queue_limit=8) if triggered else FreeRun()
    FailingPipeline.dice, FailingPipeline.ledger = random.Random(dice.random()), ledger  # noqa: S311
    RecordedService.ledger = ledger
    with StopSignal() as stop, ExitStack() as sources:
        if streams:
            settings = world.streaming(settings)
            camera: Camera = reopening.reopened(make_camera(settings.camera, stop.wait), settings.camera)
        else:
            camera = FaultyCamera(dice, ledger, world.images, live=mode != "recorded")
            sources.callback(camera.released.set)
        station = RecordedService(settings, stop, camera, trigger)
        station.start()
        for source in (_Line, _Storm)[not triggered : 1 + streams]:
            sources.callback(source(trigger, ledger, random.Random(dice.random()), world).stop)  # noqa: S311
        try:
            station.inspect_all()
            station.finish()
        except (EdgeVisionError, ZeroDivisionError):
            pass
        finally:
            station.end("stopped")
    ledger.numbers = station.numbered
    ledger.acknowledged = station.acknowledged
    return ledger, station.losses, problems(mode, ledger, station.losses, trigger)


class _Line(threading.Thread):
    """Parts that come by in bursts, each with its id."""

    def __init__(self, trigger: Trigger, ledger: Ledger, dice: random.Random, world: World) -> None:
        super().__init__(name="line", daemon=True)
        self._pause_s = 0.002 if ledger.stream is None else 0.03
        self._trigger = trigger
        self._ledger = ledger
        self._dice = dice
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        part = 0
        while not self._ended.wait(self._dice.expovariate(1 / self._pause_s)):
            for _ in range(self._dice.choice((1, 1, 1, 2, 12))):
                name = f"part-{part}"
                part += 1
                self._ledger.fired_ns[name] = time.monotonic_ns()
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
    if ledger.stream is not None:
        found += _not_given(ledger, ledger.stream, judged)
        if mode == "triggered stream":
            return found + _parts_without_a_word(ledger, losses, trigger)
        spoken = len(numbers) + losses.skipped + losses.dropped
        return found + [f"{ledger.numbers} frames, {spoken} verdicts and counts"] * (spoken != ledger.numbers)
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


def _not_given(ledger: Ledger, stream: NetworkCamera, judged: Sequence[Verdict]) -> list[str]:
    """Verdicts on a picture that the camera did not give, or not for that part."""
    found, spoken_of = [], set()
    sent: Sent | None
    for verdict in judged:
        what = f"{verdict.verdict} of {verdict.seq}"
        number = ledger.shown.get(verdict.seq, -1)
        sent = stream.sent.get(number)
        if verdict.seq in ledger.strange or sent is None:
            found.append(f"{what}: {ledger.strange.get(verdict.seq, 'no picture')}")
            continue
        if number in spoken_of:
            found.append(f"{what}: picture {number} for the second time")
        spoken_of.add(number)
        if sent.mode != "usual" and verdict.verdict == "OK":
            found.append(f"{what}: picture {number} is {sent.mode}")
        late_ms = (ledger.fired_ns.get(verdict.part_id or "", 0) - sent.made_ns) / 1e6
        if late_ms > 0:
            found.append(f"{what}: picture {number} was made {late_ms:.1f} ms before the trigger")
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


@dataclass
class Tally:
    """Over all sessions."""

    frames: int = 0
    sessions: int = 0
    parts: int = 0
    skipped: int = 0
    dropped: int = 0
    compared: int = 0
    acknowledged: int = 0
    words: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    def add(self, mode: str, ledger: Ledger, losses: capture.Losses, wrong: Sequence[str]) -> None:
        """A session that has ended."""
        self.found += [f"session {self.sessions} ({mode}): {problem}" for problem in wrong]
        self.sessions += 1
        self.frames += ledger.frames
        self.parts += len(ledger.accepted)
        self.skipped += losses.skipped
        self.dropped += losses.dropped
        self.compared += sum(v.verdict != "ERROR" for v in ledger.verdicts) if ledger.stream else 0
        self.acknowledged += ledger.acknowledged
        self.words.update(verdict.verdict for verdict in ledger.verdicts)
        self.faults.update(ledger.faults)

    def show(self, seed: int) -> None:
        """What happened, and what does not hold."""
        print(f"{self.frames} frames and {self.parts} triggers in {self.sessions} sessions, seed {seed}")
        print(f"faults: {', '.join(f'{count} {kind}' for kind, count in sorted(self.faults.items()))}")
        print(f"verdicts: {', '.join(f'{self.words[w]} {w}' for w in ('OK', 'NG', 'MARGINAL', 'ERROR'))}")
        print(f"compared with the picture that the stream sent: {self.compared}")
        print(
            f"without one: {self.skipped} skipped or lost in the camera, "
            f"{self.dropped} dropped at a fault, all counted"
        )
        for problem in self.found:
            print(f"FAIL {problem}")
        print(
            "each frame and trigger has one verdict or one counted drop, on the picture that was given for it"
            if not self.found
            else f"{len(self.found)} problems"
        )


def run(bundle_path: Path, frames: int, seed: int) -> int:
    """Sessions until so many frames were taken; prints what happened. Returns the exit code."""
    dice = random.Random(seed)  # noqa: S311 - faults that can be repeated
    size = bundle.load(bundle_path).calibration.preprocess.size
    pixels = np.random.default_rng(seed)
    images = [
        pixels.integers(40, white, (size.height, size.width, 3), dtype=np.uint8)
        for white in (60, 60, 60, 255)
    ]
    start.Pipeline = FailingPipeline  # type: ignore[misc]
    capture.HUNG_S = capture.STOP_S = 0.1
    publisher.FLUSH_S = 0.0
    reopening.FIRST_PAUSE_S = 0.05
    tally = Tally()
    with (
        tempfile.TemporaryDirectory(prefix="edgevision-faults-", ignore_cleanup_errors=True) as folder,
        network_camera(INTERVAL_S) as stream,
    ):
        world = World(Path(folder), images, stream)
        settings = _settings(Path(folder), bundle_path, world.port)
        while tally.frames < frames:
            mode = MODES[tally.sessions % len(MODES)]
            tally.add(mode, *run_session(settings, mode, dice, world))
        world.stop_broker()
        tally.found += _disagreement(settings, tally)
    tally.show(seed)
    return 1 if tally.found else 0


def _settings(folder: Path, bundle_path: Path, port: int) -> Config:
    path = folder / "config.toml"
    path.write_text(
        f'[station]\nname = "faults"\nstate = "state"\nruntime = "run"\n[bundle]\npath = "{bundle_path}"\n'
        f"[model]\nthreads = 1\n[camera]\ntimeout_s = {TIMEOUT_S}\nmax_failures = 1000\n"
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n[log]\nlevel = "error"\n'
    )
    return config.load(path)


def _disagreement(settings: Config, tally: Tally) -> list[str]:
    """Between the verdicts and the counters on the disk, and what became of them at the broker."""
    counts = service.Counters(settings.state).counts
    kept = {"OK": counts.ok, "NG": counts.ng, "MARGINAL": counts.marginal, "ERROR": counts.error}
    found = []
    if Counter(kept) != tally.words:
        found.append(f"counters.json says {kept}, the verdicts {dict(tally.words)}")
    outbox = Outbox(settings.state, settings.outbox.max_bytes, settings.outbox.max_days * 86_400)
    outbox.start()
    stock = outbox.stock()
    outbox.stop()
    known = tally.acknowledged + stock.waiting + stock.refused + sum(stock.dropped.values()) + stock.lost
    if known != tally.words.total():
        found.append(
            f"{tally.words.total()} verdicts, of which {known} are known to outbox or broker: {stock}"
        )
    return found


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
