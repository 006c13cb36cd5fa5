"""What the device costs beside its model: speed, delay, memory, start, growth.

    python benchmarks/device.py --bundle DIR [--bundle DIR] --images DIR [--threads N] [--growth N]

For each bundle, in one run:

    speed   The whole service in this process (capture thread, inspection, outbox on the disk, a Mosquitto on
            this machine), fed from memory as fast as it takes frames, against a loop that only calls the
            interpreter's invoke() with the same threads. The camera stops for the loop every so often, for
            machines change their speed from second to second: each round of frames is compared with the
            loops right before and right after it.
    delay   From a frame to its verdict, with a live camera at 80 % of that speed, in such rounds. (At full
            speed a frame waits for the one before it, by construction.)
            A stage's share is of the time from one verdict to the next; they overlap. `health` is what each
            verdict costs health.py, beside the stage `checks`.
    tiles   A 12-megapixel frame in 4 x 4 tiles against 16 invocations: inspected by itself, and in the whole
            service, where the capture thread prepares the next frame meanwhile: without the archive, and with
            it, which makes a JPEG of such a frame for each NG that it has time for.
    daemon  `python -m device run` as its own process, compiled as install.sh leaves it, on the images in DIR:
            from its start to READY=1, which is the first verdict, and its peak resident memory; and that of
            numpy, OpenCV, the interpreter and the same model without any service.
    growth  With --growth N: the daemon over N frames of the last bundle; the slope of its resident memory
            after the first fifth, with twice its standard error (from the means of 40 blocks).

Images are read before anything is timed. Run it on a quiet machine. Exit codes: 0 done, 2 wrong command line,
4 no such bundle, 5 no images, 7 no mosquitto.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find device

from device import config, service
from device.bundle import bundle as bundles
from device.bundle import store
from device.bundle.bundle import Bundle, Contents, GoldenSpec, GoldenVector
from device.camera.replay import image_files
from device.config import Config
from device.errors import BrokerError, EdgeVisionError
from device.image.frame import Frame, Pixels, frame_from_file, read_image
from device.image.geometry import Size
from device.inspection.detector import Detector
from device.inspection.pipeline import Pipeline
from device.inspection.preprocess import Preprocessor
from device.inspection.verdict import Verdict
from device.line.trigger import FreeRun
from device.system import process
from device.system.signals import StopSignal

REPOSITORY = Path(__file__).resolve().parent.parent
WARM_UP = 10  # frames of a round that are not counted
SETTLE_S = 0.2  # after a round: what waits gets its verdict, and the archive its pictures
LARGE = Size(4000, 3000)
BLOCKS = 40
BARE = """
import sys
from pathlib import Path
import cv2
from device.inspection.interpreter import Interpreter
Interpreter(Path(sys.argv[1]), int(sys.argv[2])).invoke()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
SERVED = 20  # large frames of a session
SERVED_S = 8.0  # of the daemon whose memory is looked at


@dataclass(frozen=True, slots=True)
class Speed:
    """Of a bundle; medians over rounds. `ratio`: invoke / frame, with its standard error. Times in ms."""

    invoke_ms: float
    frame_ms: float
    ratio: float
    ratio_error: float
    ratios: tuple[float, ...]
    stages_ms: dict[str, float]
    live: Delay


@dataclass(frozen=True, slots=True)
class Delay:
    """From a frame of a live camera to its verdict, and of invoke() alone in the same seconds; ms."""

    frames: int
    skipped: int
    p50_ms: float
    p99_ms: float
    invoke_p50_ms: float
    invoke_p99_ms: float


class MemoryCamera:
    """The same images again and again: as fast as they are taken, or live at a steady pace."""

    name = "memory"
    dropped = 0

    def __init__(
        self,
        images: Sequence[Pixels],
        frames: int,
        period_s: float = 0.0,
        between: Callable[[], None] | None = None,
        every: int = sys.maxsize,
    ) -> None:
        """`between`: what is done before the first frame, before each `every` frames and after the last."""
        self._images = images
        self._frames = frames
        self._period_s = period_s
        self._between = between
        self._every = every
        self._seq = 0
        self.given_ns: list[int] = []

    @property
    def live(self) -> bool:
        return self._period_s > 0

    def open(self) -> None:
        self._due_s = time.monotonic() + self._period_s

    def read(self, timeout_s: float, *, flush: bool = False) -> Frame | None:
        if self._between is not None and (self._seq % self._every == 0 or self._seq == self._frames):
            self._between()
            self._due_s = time.monotonic() + self._period_s
        if self._seq == self._frames:
            return None
        if self._period_s:
            time.sleep(max(0.0, self._due_s - time.monotonic()))
            self._due_s += self._period_s
        seq, self._seq = self._seq, self._seq + 1
        now_ns = time.monotonic_ns()
        self.given_ns.append(now_ns)
        image = self._images[seq % len(self._images)]
        return Frame(image, seq, time.time_ns(), now_ns, self.name, f"{seq}.png", None)

    def close(self) -> None:
        pass


class TimedService(service.Service):
    """The real one, which notes when each verdict was published."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.verdicts: list[tuple[int, Verdict]] = []
        self.health_ns = 0
        self._observe = self._report_of_self.inspected
        self._report_of_self.inspected = self._inspected  # type: ignore[method-assign]

    def _inspected(self, frame: Frame, verdict: Verdict, mode_change: str | None) -> None:
        begin_ns = time.perf_counter_ns()
        self._observe(frame, verdict, mode_change)
        self.health_ns += time.perf_counter_ns() - begin_ns

    def publish(self, verdict: Verdict, *more: object) -> None:
        super().publish(verdict, *more)  # type: ignore[call-arg]
        self.verdicts.append((time.monotonic_ns(), verdict))

    @property
    def pipeline(self) -> Pipeline:
        return self._judge.pipeline


def run_service(settings: Config, camera: MemoryCamera) -> TimedService:
    """A session from its start to the end of the camera.

    As service.run() does it, but in a thread of its own: there is no way back from step_back().
    """
    stations: list[TimedService] = []

    def session() -> None:
        station = TimedService(settings, stop, camera, FreeRun())
        station.start()
        process.step_back()
        station.inspect_all()
        station.finish()
        station.end("stopped")
        stations.append(station)

    with StopSignal() as stop:
        thread = threading.Thread(target=session, name="session")
        thread.start()
        thread.join()
    return stations[0]


def invoke_ms(pipeline: Pipeline, seconds: float) -> list[float]:
    """The interpreter alone, again and again for so long."""
    durations = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s or len(durations) < WARM_UP:
        begin_ns = time.perf_counter_ns()
        pipeline.invoke()
        durations.append((time.perf_counter_ns() - begin_ns) / 1e6)
    return durations


def speed(settings: Config, images: Sequence[Pixels], rounds: int, seconds: float) -> Speed:
    """Rounds of frames as fast as they are taken, invoke() between them; then with a live camera."""
    bare = Pipeline(bundles.load(settings.bundle), "bench", "bench", threads=settings.model.threads)
    bare.inspect(Frame(images[0], 0, 0, 0, "memory", None, None))
    alone_ms = statistics.median(invoke_ms(bare, 1.0))
    frames = WARM_UP + int(seconds * 1000 / alone_ms)
    station, loops, _ = _in_rounds(settings, bare, images, rounds, frames, seconds)
    found = []
    for at in range(rounds):
        verdicts = station.verdicts[at * frames + WARM_UP : (at + 1) * frames]
        frame_ms = (verdicts[-1][0] - verdicts[0][0]) / 1e6 / (len(verdicts) - 1)
        found.append((statistics.fmean(loops[at] + loops[at + 1]) / frame_ms, frame_ms))
    ratios = [ratio for ratio, _ in found]
    frame_ms = statistics.median(frame_ms for _, frame_ms in found)
    return Speed(
        invoke_ms=round(statistics.median(chain.from_iterable(loops)), 3),
        frame_ms=round(frame_ms, 3),
        ratio=round(statistics.median(ratios), 4),
        ratio_error=round(1.25 * statistics.stdev(ratios) / math.sqrt(rounds), 4),  # of a median
        ratios=tuple(round(one, 3) for one in ratios),
        stages_ms=_stages(station),
        live=_delays(settings, bare, images, rounds, frame_ms / 0.8 / 1000, seconds),
    )


def _in_rounds(
    settings: Config,
    bare: Pipeline,
    images: Sequence[Pixels],
    rounds: int,
    frames: int,
    seconds: float,
    period_s: float = 0.0,
) -> tuple[TimedService, list[list[float]], MemoryCamera]:
    """(the session; ms of the invocations before the first round, between them, after the last; camera)."""
    loops: list[list[float]] = []

    def between() -> None:
        time.sleep(SETTLE_S)
        loops.append(invoke_ms(bare, seconds / 2))

    camera = MemoryCamera(images, rounds * frames, period_s, between, frames)
    return run_service(settings, camera), loops, camera


def _stages(station: TimedService) -> dict[str, float]:
    """The mean of each stage."""
    timings = [verdict.timing_ms for _, verdict in station.verdicts[WARM_UP:]]
    stages = {stage: round(statistics.fmean(one[stage] for one in timings), 3) for stage in timings[0]}
    return {**stages, "health": round(station.health_ns / 1e6 / len(station.verdicts), 3)}


def _delays(
    settings: Config,
    bare: Pipeline,
    images: Sequence[Pixels],
    rounds: int,
    period_s: float,
    seconds: float,
) -> Delay:
    frames = WARM_UP + int(seconds / period_s)
    station, loops, camera = _in_rounds(settings, bare, images, rounds, frames, seconds, period_s)
    counted = [(at, verdict.seq) for at, verdict in station.verdicts if verdict.seq % frames >= WARM_UP]
    delays = [(at - camera.given_ns[seq]) / 1e6 for at, seq in counted]
    alone = list(chain.from_iterable(loops))
    return Delay(
        frames=len(delays),
        skipped=station.losses.skipped,
        p50_ms=round(statistics.median(delays), 3),
        p99_ms=round(_p99(delays), 3),
        invoke_p50_ms=round(statistics.median(alone), 3),
        invoke_p99_ms=round(_p99(alone), 3),
    )


def _p99(values: Sequence[float]) -> float:
    """By the nearest rank."""
    return sorted(values)[max(0, -(-len(values) * 99 // 100) - 1)]


def tiles(settings: Config, images: Sequence[Pixels], folder: Path) -> tuple[int, float, float, list[float]]:
    """(tiles, ms for a 12-megapixel frame, ms for an invocation, frame / invocation in the whole service).

    The first three are medians; the last without the archive, and with it.
    """
    path = _tiled(bundles.load(settings.bundle), folder)
    pipeline = Pipeline(bundles.load(path), "bench", "bench", settings.model.threads)
    repeats = (-(-LARGE.height // images[0].shape[0]), -(-LARGE.width // images[0].shape[1]), 1)
    large = np.tile(images[0], repeats)[: LARGE.height, : LARGE.width]
    frame = Frame(np.ascontiguousarray(large), 0, time.time_ns(), time.monotonic_ns(), "memory", None, None)
    count = len(pipeline.inspect(frame).tiles)
    ratios = []
    for _ in range(5):
        alone = invoke_ms(pipeline, 0.3)
        begin_ns = time.perf_counter_ns()
        pipeline.inspect(frame)
        taken_ms = (time.perf_counter_ns() - begin_ns) / 1e6
        alone_ms = statistics.fmean(alone + invoke_ms(pipeline, 0.3))
        ratios.append((taken_ms / alone_ms, taken_ms, alone_ms))
    _, taken_ms, alone_ms = sorted(ratios)[len(ratios) // 2]
    off = replace(settings, bundle=path, archive=replace(settings.archive, max_bytes=0))
    on = replace(settings, bundle=path)
    return count, taken_ms, alone_ms, [_served(one, frame.image, pipeline) for one in (off, on)]


def _served(settings: Config, image: Pixels, pipeline: Pipeline) -> float:
    """A verdict of the whole service on so large a frame, in invocations."""
    alone = invoke_ms(pipeline, 1.0)
    station = run_service(settings, MemoryCamera([image], SERVED))
    alone += invoke_ms(pipeline, 1.0)
    at_ns = [at for at, _ in station.verdicts[2:]]
    return (at_ns[-1] - at_ns[0]) / 1e6 / (len(at_ns) - 1) / statistics.fmean(alone)


def _tiled(loaded: Bundle, folder: Path) -> Path:
    """The bundle with tiles of a quarter of a large frame's sides, and golden scores to go with them."""
    calibration = loaded.calibration
    spec = replace(calibration.preprocess, tiles=Size(LARGE.width // 4, LARGE.height // 4), overlap=0.0)
    shown = calibration.golden.vectors[0]
    path = loaded.golden_path(shown)
    detector = Detector(replace(loaded, calibration=replace(calibration, preprocess=spec)))
    score = detector.detect(Preprocessor(spec).prepare(frame_from_file(path, 0))).score
    golden = GoldenSpec(calibration.golden.tolerance, (GoldenVector(shown.file, score),))
    changed = replace(calibration, preprocess=spec, golden=golden)
    extra = {"reference.npz": (loaded.path / "reference.npz").read_bytes()} if _has_reference(loaded) else {}
    content = loaded.model_path.read_bytes()
    contents = Contents(content, changed, {shown.file: path.read_bytes()}, extra)
    return store.lead_to(store.publish(folder, "tiled", contents))


def _has_reference(loaded: Bundle) -> bool:
    return (loaded.path / "reference.npz").exists()


class Daemon:
    """The service as its own process, and what systemd would hear of it."""

    def __init__(self, settings: Config, folder: Path) -> None:
        path = folder / f"notify-{time.monotonic_ns()}"
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._systemd.bind(str(path))
        self._systemd.settimeout(60)
        begin_s = time.monotonic()
        self.process = subprocess.Popen(
            (sys.executable, "-m", "device", "run", "--config", str(settings.path)),
            cwd=REPOSITORY,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(path),
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
            },
        )
        while "READY=1" not in self._systemd.recv(200).decode():
            pass
        self.start_s = time.monotonic() - begin_s
        self._systemd.settimeout(None)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """As systemd does: a socket that nobody reads is full after ten messages."""
        with suppress(OSError):  # it was closed
            while self._systemd.recv(200):
                pass

    def kib(self, name: str) -> int:
        """A line of /proc/PID/status: VmRSS, or VmHWM for the peak."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(f"{name}:")).split()[1])

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._systemd.shutdown(socket.SHUT_RDWR)
        self._systemd.close()


def daemon(settings: Config, folder: Path) -> tuple[list[float], float]:
    """(seconds from start to the first verdict, three times; peak resident MB)."""
    Daemon(settings, folder).end()  # the first one writes the bytecode
    starts = []
    for _ in range(3):
        one = Daemon(settings, folder)
        starts.append(round(one.start_s, 3))
        time.sleep(SERVED_S if len(starts) == 3 else 0.2)
        peak_mb = one.kib("VmHWM") * 1024 / 1e6
        one.end()
    return starts, round(peak_mb, 1)


def bare_mb(settings: Config) -> float:
    """Peak resident MB of numpy, OpenCV, the interpreter and the model by themselves."""
    model = bundles.load(settings.bundle).model_path
    command = (sys.executable, "-c", BARE, str(model), str(settings.model.threads))
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return round(int(done.stdout) * 1024 / 1e6, 1)


def growth(settings: Config, folder: Path, frames: int) -> tuple[int, float, float, float]:
    """(frames, MB at the end, bytes a frame, twice the standard error of that)."""
    samples: list[tuple[int, int]] = []
    one = Daemon(settings, folder)

    def note(client: Client, userdata: object, message: MQTTMessage) -> None:
        samples.append((json.loads(message.payload)["seq"], one.kib("VmRSS") * 1024))

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = note
    client.on_connect = lambda *_: client.subscribe(f"edgevision/{settings.station}/inspection/last")
    client.connect(settings.mqtt.host, settings.mqtt.port)
    client.loop_start()
    while not samples or samples[-1][0] < frames:
        time.sleep(1)
    client.loop_stop()
    one.end()
    steady = [sample for sample in samples if sample[0] >= frames / 5]
    slope, error = _slope(steady)
    return samples[-1][0], samples[-1][1] / 1e6, slope, 2 * error


def _slope(samples: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Least squares over the means of BLOCKS blocks, for neighbours are alike; and its standard error."""
    blocks = [np.mean(block, axis=0) for block in np.array_split(np.array(samples, dtype=float), BLOCKS)]
    x, y = np.array(blocks).T
    x = x - x.mean()
    slope = float((x * (y - y.mean())).sum() / (x * x).sum())
    rest = y - y.mean() - slope * x
    return slope, float(np.sqrt((rest * rest).sum() / (len(x) - 2) / (x * x).sum()))


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """A Mosquitto that keeps nothing; its port. Raises BrokerError where there is none."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise BrokerError("mosquitto: not found; apt install mosquitto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = folder / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen(
        (program, "-c", str(settings)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def settings_of(folder: Path, bundle: Path, images: Path, port: int, threads: int) -> Config:
    """A station of its own."""
    folder.mkdir()
    path = folder / "config.toml"
    path.write_text(
        f'[station]\nname = "bench"\nstate = "state"\nruntime = "run"\n[bundle]\npath = "{bundle}"\n'
        f'[model]\nthreads = {threads}\n[camera]\nsource = "{images}"\nloop = true\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n[log]\nlevel = "error"\n'
    )
    return config.load(path)


def report(found: Speed) -> None:
    """The table of a bundle's speed."""
    print(f"  invoke alone {found.invoke_ms:.2f} ms; a verdict every {found.frame_ms:.2f} ms")
    print(
        f"  ratio {found.ratio:.3f} +- {found.ratio_error:.3f} "
        f"(rounds {min(found.ratios)} to {max(found.ratios)})"
    )
    for stage, duration_ms in found.stages_ms.items():
        print(f"    {stage:<13} {duration_ms:7.3f} ms  {duration_ms / found.frame_ms:6.1%}")
    live = found.live
    print(
        f"  frame to verdict, live at 80 %: p50 {live.p50_ms:.2f}, p99 {live.p99_ms:.2f} ms; "
        f"invoke alone p50 {live.invoke_p50_ms:.2f}, p99 {live.invoke_p99_ms:.2f} ms; "
        f"p99 = invoke's median + {live.p99_ms - live.invoke_p50_ms:.2f} ms; "
        f"{live.skipped} of {live.frames + live.skipped} skipped"
    )


def measure(options: argparse.Namespace, folder: Path, port: int) -> dict[str, object]:
    """Everything, printed as it comes."""
    everything: dict[str, object] = {"threads": options.threads, "cores": len(os.sched_getaffinity(0))}
    files = image_files(options.images.resolve())[:64]
    images = [read_image(file)[0] for file in files]
    for at, path in enumerate(options.bundle):
        settings = settings_of(
            folder / str(at), path.resolve(), options.images.resolve(), port, options.threads
        )
        name = bundles.load(settings.bundle).name
        print(f"{name}, {options.threads} threads, {len(images)} images of {options.images}", flush=True)
        found = speed(settings, images, options.rounds, options.seconds)
        report(found)
        count, taken_ms, alone_ms, served = tiles(settings, images, folder / str(at) / "tiled")
        times = taken_ms / alone_ms
        print(
            f"  12 megapixels, {count} tiles: {taken_ms:.1f} ms = {times / count:.3f} invokes a tile; "
            f"in the service {served[0] / count:.3f}, with the archive {served[1] / count:.3f}"
        )
        starts, peak_mb = daemon(settings, folder)
        bare = bare_mb(settings)
        print(
            f"  daemon: first verdict after {starts} s; peak resident {peak_mb} MB, of which bare {bare} MB",
            flush=True,
        )
        tiled = {"tiles": count, "frame_ms": round(taken_ms, 2), "invoke_ms": round(alone_ms, 3)}
        tiled["served_invokes_a_tile"] = round(served[0] / count, 4)
        tiled["archived_invokes_a_tile"] = round(served[1] / count, 4)
        daemon_figures = {"start_s": starts, "peak_mb": peak_mb, "bare_mb": bare}
        everything[name] = {**asdict(found), "tiled": tiled, **daemon_figures}
    if options.growth:
        frames, end_mb, slope, error = growth(settings, folder, options.growth)
        print(f"growth over {frames} frames: {slope:+.1f} +- {error:.1f} bytes a frame, {end_mb:.1f} MB then")
        everything["growth"] = {"frames": frames, "bytes_a_frame": slope, "error": error, "end_mb": end_mb}
    return everything


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="What the device costs beside its model.")
    parser.add_argument(
        "--bundle", type=Path, required=True, action="append", metavar="DIR", help="may be repeated"
    )
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="images of the bundle's kind"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the interpreter, default 1")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="of frames, default 20")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of a round, default 1")
    parser.add_argument("--growth", type=int, default=0, metavar="N", help="frames to watch the memory over")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(arguments)
    logging.basicConfig(level="ERROR")
    process.prepare()
    try:
        with tempfile.TemporaryDirectory(prefix="edgevision-bench-") as name, broker(Path(name)) as port:
            figures = measure(options, Path(name), port)
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
