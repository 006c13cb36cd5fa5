"""`bench`: how fast this machine is with a bundle, for the technician beside it.

    python -m device bench --bundle DIR [--threads N] [--frames N] [--json]

The bundle's own golden images are inspected in turn, one frame at a time and without a camera or a broker.
The interpreter alone, invoked as often right before and right after, is what the rest is compared with.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from device.bundle import bundle
from device.errors import BundleError
from device.image.frame import frame_from_file
from device.inspection.interpreter import default_threads
from device.inspection.pipeline import Pipeline

QUANTILES = (50, 95, 99)
WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Figures:
    """`stages_ms`: of each stage p50, p95, p99. `invoke_ms`: of the interpreter alone, the median.

    `ratio`: the share of a frame's time that is the interpreter's, 0..1.
    """

    bundle: str
    runtime: str
    machine: str
    threads: int
    frames: int
    invoke_ms: float
    frames_per_s: float
    ratio: float
    stages_ms: dict[str, tuple[float, ...]]


def bench(path: Path, threads: int | None, frames: int, *, as_json: bool) -> int:
    """Print the figures. Returns the exit code, 0. Raises BundleError, InterpreterError."""
    if frames < 1:
        raise BundleError(f"--frames: must be 1 or more, got {frames}")
    figures = measure(path, threads, frames)
    print(json.dumps(asdict(figures)) if as_json else _table(figures))
    return 0


def measure(path: Path, threads: int | None, frames: int) -> Figures:
    """Open the bundle and time it. Raises BundleError, InterpreterError."""
    pipeline = Pipeline(bundle.load(path), station="bench", session_id=uuid.uuid4().hex, threads=threads)
    golden = [pipeline.bundle.golden_path(vector) for vector in pipeline.bundle.calibration.golden.vectors]
    shots = [frame_from_file(image, seq) for seq, image in enumerate(golden)]
    for _ in range(WARM_UP):
        pipeline.inspect(shots[0])
    invoke_ms = _durations_ms(pipeline.invoke, frames // 2 + 1)
    begin_s = time.perf_counter()
    timings = [pipeline.inspect(shots[at % len(shots)]).timing_ms for at in range(frames)]
    frame_ms = (time.perf_counter() - begin_s) * 1000 / frames
    invoke_ms += _durations_ms(pipeline.invoke, frames // 2 + 1)
    return Figures(
        bundle=pipeline.bundle.name,
        runtime=pipeline.runtime,
        machine=_machine(),
        threads=threads or default_threads(),
        frames=frames,
        invoke_ms=round(statistics.median(invoke_ms), 3),
        frames_per_s=round(1000 / frame_ms, 2),
        ratio=round(statistics.fmean(invoke_ms) / frame_ms, 4),
        stages_ms={stage: _quantiles([timing[stage] for timing in timings]) for stage in timings[0]},
    )


def _durations_ms(call: Callable[[], object], times: int) -> list[float]:
    durations = []
    for _ in range(times):
        begin_ns = time.perf_counter_ns()
        call()
        durations.append((time.perf_counter_ns() - begin_ns) / 1e6)
    return durations


def _quantiles(values: list[float]) -> tuple[float, ...]:
    """By the nearest rank."""
    ordered = sorted(values)
    return tuple(round(ordered[max(0, -(-len(ordered) * q // 100) - 1)], 3) for q in QUANTILES)


def _machine() -> str:
    """The board's own name where it has one, as "Raspberry Pi 5 Model B Rev 1.0"."""
    try:
        name = Path("/proc/device-tree/model").read_text("utf-8", "replace").rstrip("\0")
    except OSError:
        name = platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def _table(figures: Figures) -> str:
    lines = [
        f"{figures.bundle} on {figures.runtime}, {figures.threads} threads, {figures.machine}",
        f"{figures.frames} frames: {figures.frames_per_s:.1f} a second",
        f"the interpreter alone: {figures.invoke_ms:.2f} ms, {figures.ratio:.0%} of a frame's time",
        f"{'ms':<14}" + "".join(f"{f'p{q}':>9}" for q in QUANTILES),
    ]
    lines += [
        f"{stage:<14}" + "".join(f"{value:>9.2f}" for value in values)
        for stage, values in figures.stages_ms.items()
    ]
    return "\n".join(lines)
