"""Mutated bundles, arrays, images, settings, messages and answers, for whoever reads what others have made.

    python benchmarks/fuzz.py [--kind NAME...] [--cases N] [--seed N] [--bundle DIR]

A case is a kind and a seed: something good with a few changes drawn from the seed (benchmarks/mutations.py),
read by the program's own reader. It must be taken, or refused with the reader's own error, within LIMIT_S and
within the memory that `receive` has. A traceback, a line in the log with one, a hang, a killed process: a
fault, named with its kind and seed. After a fault the next seed follows. To see one case again, or to go on
where a run has ended: --kind NAME --seed N.

    upload      a bundle as somebody may push it, through `receive`, into a station that must stay whole
    model       a .tflite with its golden images, as a trial opens it: here alone may the process die
    memory, reference, view     .npz files                 png, jpeg, bmp, tiff, webp     images
    manifest, calibration       of a bundle                state      what a card may have damaged at home
    command     on cmd/# of a station                      bridge     what stations say to the bridge
    answer      what a station answers to push.sh          station    commands, to a whole service at a broker

--cases is for each kind (default 2000); 0 goes on until it is interrupted. The cheap kinds need about a
millisecond a case, `answer`, `upload` and `model` about ten.

Exit codes: 0 no fault, 1 faults (each is printed), 2 wrong command line, 4 no such bundle.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import logging
import multiprocessing
import os
import random
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find device

import mutations
from mosquitto import MORTAL, mosquitto
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from deploy import push
from deploy.bridge.plant import Plant
from device import config
from device.archive.review import reviews
from device.bundle import bundle as bundles
from device.bundle import learned_here, manifest, store, trial
from device.bundle.accepted import AcceptedList
from device.bundle.bundle import Bundle
from device.bundle.calibration import Calibration
from device.bundle.memory import DTYPES, GoodFeatures
from device.bundle.reference import GoldenReference
from device.errors import BundleError, EdgeVisionError, FrameError, StorageError
from device.health.camera_shift import SIDE, ReferenceView
from device.image.decode import decoded
from device.inspection.pipeline import Pipeline
from device.inspection.reach import ScoreRange
from device.inspection.verdict import Model
from device.mqtt.audit import AuditLog
from device.mqtt.commands import NAMES, Change, Commands, Request
from device.rollout.push_log import PushLog
from device.rollout.receiver import MOST_BYTES, Gate, Receiver
from device.schemas import strict_json
from device.station.history import History
from device.station.threshold_override import ThresholdOverride
from device.telemetry.counters import Counters

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 60.0  # for one case, on a machine that others load
HEADROOM_BYTES = 256 << 20  # of the worker's own: TensorFlow Lite, OpenCV and what makes the cases
SERVICE_BYTES = 400 << 20  # of a whole service with a small model
START_S = 40.0  # for a service to start, or to answer
ENDLESS = 500  # cases of each kind in turn

Chance = random.Random
Case = Callable[[Chance], bool]
"""One case; whether what it made was taken. Refused is False; anything raised is a fault."""


# ---- arrays and images


def _file(
    folder: Path, change: Callable[[Chance, bytes], bytes], good: bytes, read: Callable[[Path], object]
) -> Case:
    """Cases of a file that is read by its path; BundleError refuses it."""

    def case(chance: Chance) -> bool:
        (folder / "file").write_bytes(change(chance, good))
        try:
            read(folder / "file")
        except BundleError:
            return False
        return True

    return case


def _packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _of_memory(folder: Path, good: Bundle) -> Case:
    shapes = {"items": (50, 24), "image_mean": (48,), "image_whitening": (48, 48)}
    arrays = {name: np.zeros(shapes.get(name, (0,)), dtype) for name, dtype in DTYPES.items()}
    return _file(folder, mutations.npz, _packed(**arrays), GoodFeatures.from_file)


def _of_reference(folder: Path, good: Bundle) -> Case:
    arrays = {"mean": np.full((60, 80), 90, np.uint8), "sd": np.full((60, 80), 4, np.float16)}
    return _file(folder, mutations.npz, _packed(**arrays), GoldenReference.from_file)


def _of_view(folder: Path, good: Bundle) -> Case:
    luma = np.random.default_rng(1).normal(90, 30, (SIDE, SIDE)).astype(np.float32)
    stored = _packed(reference=luma, response=np.float64(0.9))
    frame = np.full((100, 120, 3), 90, np.uint8)

    def look(path: Path) -> None:
        ReferenceView(path).shift_ratio(frame)

    return _file(folder, mutations.npz, stored, look)


def _images(change: Callable[[Chance, bytes], bytes], *files: tuple[str, np.ndarray, Sequence[int]]) -> Case:
    good = [cv2.imencode(suffix, image, options)[1].tobytes() for suffix, image, options in files]

    def case(chance: Chance) -> bool:
        try:
            decoded(change(chance, chance.choice(good)), "case")
        except FrameError:
            return False
        return True

    return case


def _photo(channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (61, 83, channels), dtype=dtype)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def _of_png(folder: Path, good: Bundle) -> Case:
    files = [(".png", _photo(channels), ()) for channels in (1, 3, 4)]
    return _images(mutations.png, *files, (".png", _photo(3, np.uint16), ()))


def _of_jpeg(folder: Path, good: Bundle) -> Case:
    options = ((), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4))
    return _images(mutations.content, *[(".jpg", _photo(n), one) for n in (1, 3) for one in options])


def _of_bmp(folder: Path, good: Bundle) -> Case:
    return _images(mutations.content, (".bmp", _photo(), ()), (".bmp", _photo(1), ()))


def _of_tiff(folder: Path, good: Bundle) -> Case:
    packed = [(".tiff", _photo(), (cv2.IMWRITE_TIFF_COMPRESSION, kind)) for kind in (1, 5, 7, 8, 32773)]
    return _images(mutations.content, *packed, (".tiff", _photo(4, np.uint16), ()))


def _of_webp(folder: Path, good: Bundle) -> Case:
    files = [(".webp", _photo(n), (cv2.IMWRITE_WEBP_QUALITY, q)) for n in (3, 4) for q in (80, 101)]
    return _images(mutations.content, *files)


# ---- bundles


def _json_file(folder: Path, path: Path, read: Callable[[Path], object]) -> Case:
    value = json.loads(path.read_bytes())

    def change(chance: Chance, good: bytes) -> bytes:
        return (
            mutations.content(chance, good) if chance.random() < 0.3 else mutations.json_text(chance, value)
        )

    return _file(folder, change, path.read_bytes(), read)


def _of_manifest(folder: Path, good: Bundle) -> Case:
    return _json_file(folder, good.path / manifest.FILE, manifest.read)


def _of_calibration(folder: Path, good: Bundle) -> Case:
    def read(path: Path) -> None:
        Calibration.from_json(path.read_bytes(), "case")

    return _json_file(folder, good.path / "calibration.json", read)


def _of_model(folder: Path, good: Bundle) -> Case:
    content = good.model_path.read_bytes()
    copy = folder / good.name
    shutil.copytree(good.path, copy)

    def case(chance: Chance) -> bool:
        (copy / bundles.MODEL_FILE).write_bytes(mutations.content(chance, content))
        try:
            Pipeline(Bundle(copy, good.calibration, good.name), "fuzz", "fuzz", 1)
        except EdgeVisionError:
            return False
        return True

    return case


def _of_upload(folder: Path, good: Bundle) -> Case:
    """A station with a bundle in use, and an upload that is changed anew each time."""
    path = folder / "config.toml"
    path.write_text('[station]\nstate = "state"\nruntime = "run"\n[bundle]\npath = "models"\n')
    station = config.load(path)
    models, incoming = folder / "models", folder / "incoming"
    for made in (station.state, models, incoming):
        made.mkdir()
    shutil.copytree(good.path, models / good.name)
    store.activate(models, good.name)
    receiver = Receiver(station, incoming, "fuzz")

    def case(chance: Chance) -> bool:
        shutil.rmtree(incoming / good.name, ignore_errors=True)
        shutil.copytree(good.path, incoming / good.name)
        _change_upload(chance, incoming / good.name)
        try:
            receiver.install(good.name, Gate())
        except EdgeVisionError:
            return False
        finally:
            if bundles.load(models).name != good.name or list(models.glob(".*.draft")):
                raise AssertionError("the station is not as it was")
        return True

    return case


def _change_upload(chance: Chance, upload: Path) -> None:
    """A file's content, mostly with a manifest made anew so that it is reached; or what is no file."""
    victim = chance.choice([path for path in sorted(upload.rglob("*")) if path.is_file()])
    kind = chance.randrange(8)
    if kind < 5 and victim.name != bundles.MODEL_FILE:
        text = json.loads(victim.read_bytes()) if victim.suffix == ".json" else None
        change = mutations.png if victim.suffix == ".png" else mutations.content
        victim.write_bytes(
            change(chance, victim.read_bytes()) if text is None else mutations.json_text(chance, text)
        )
        if victim.name != manifest.FILE and chance.random() < 0.8:
            _list_anew(upload)
        return
    victim.unlink()
    match kind:
        case 5:
            victim.symlink_to(chance.choice(("/etc/passwd", "/dev/zero", "..", "manifest.json")))
        case 6:
            os.mkfifo(victim)
        case 7:
            victim.mkdir()


def _list_anew(upload: Path) -> None:
    files = {
        path.relative_to(upload).as_posix(): path.read_bytes()
        for path in upload.rglob("*")
        if path.is_file() and path.name not in (manifest.FILE, manifest.SIGNATURE_FILE)
    }
    (upload / manifest.FILE).write_text(manifest.of_contents(files))


# ---- a station's own files


def _of_state(folder: Path, good: Bundle) -> Case:
    """Files that a station reads at its start, each damaged; what they say may be lost, and no more."""
    text = {
        "accepted.json": {
            "schema": 1,
            "bundles": [
                {
                    "bundle": good.name,
                    "manifest_sha256": "0" * 64,
                    "created": "2026-03-04T05:06:07Z",
                    "signer": None,
                    "accepted": "2026-03-04T06:00:00Z",
                }
            ],
        },
        "learned.jsonl": {"ts": "2026-03-04T06:00:00Z", "bundle": good.name, "manifest_sha256": "0" * 64},
        trial.FILE: {"bundle": "b", "before": "a", "older": "", "begun": True, "gate_s": 60.0},
        "push.log": {"ts": "2026", "by": "a", "action": "install", "bundle": "b", "result": "begun"},
        "threshold.json": {"schema": 1, "version": "v", "sha256": "s", "ng": 0.5, "marginal": 0.4},
        "counters.json": {
            "schema": 1,
            "ok": 1,
            "ng": 2,
            "marginal": 3,
            "error": 4,
            "since": "2026-03-04T06:00:00Z",
        },
        "history.json": {"schema": 1, "step_s": 300, "trend": [], "defects": []},
        "reviews.jsonl": {"event_id": "a-1", "label": "ok", "by": "", "note": "", "ts": "2026"},
    }

    def case(chance: Chance) -> bool:
        name = chance.choice(list(text))
        (folder / name).write_bytes(mutations.json_text(chance, text[name]) + b"\n")
        AcceptedList(folder).newest()
        learned_here.learned_here(folder, good.path)
        trial.read(folder)
        PushLog(folder).close()
        own = good.calibration.thresholds
        ThresholdOverride(folder).apply(Model("m", "v", "s"), own, ScoreRange(0.0, 0.9))
        Counters(folder)
        History(folder, _Deaf())
        with contextlib.suppress(StorageError):
            reviews(folder)
        return True

    return case


class _Deaf:
    """Hears nothing, says nothing."""

    def set_state(self, topic: str, payload: str | bytes) -> None:
        pass


# ---- messages and answers

COMMANDS: dict[str, dict[str, Any]] = {
    "trigger": {"part_id": "P-17/3", "wait": True},
    "rebirth": {"request_id": "r1"},
    "reload": {},
    "threshold": {"ng": 0.7, "marginal": 0.4},
    "model": {"version": "20260304T050607Z-0a1b2c3d"},
    "rollback": {},
    "review": {"event_id": "5e55104-00000001", "label": "ok"},
    "picture": {"event_id": "5e55104-00000001"},
    "acknowledge": {"role": "disk", "reason": "disk_low"},
}


class _Obedient:
    """Does everything that it is asked."""

    def trigger(self, part_id: str | None, told: Callable[[int, str | None], None], *, wait: bool) -> None:
        told(1, '{"verdict": "OK"}' if wait else None)

    def __getattr__(self, name: str) -> Callable[..., Change]:
        return lambda *_: Change("old", "new")


def _of_command(folder: Path, good: Bundle) -> Case:
    answered: list[str] = []
    answer = strict_json.schema("answer")

    def reply(topic: str, payload: str, correlation: bytes | None) -> None:
        strict_json.check(json.loads(payload), answer)
        payload.encode()
        answered.append(topic)

    audit = AuditLog(folder)
    actions: Any = _Obedient()

    def case(chance: Chance) -> bool:
        desk = Commands(actions, reply, audit, "5e55104", allow=NAMES, rate_hz=1000.0)
        name, payload = _command(chance)
        topic = chance.choice((None, "response/a", "/etc", "response/#", "x" * 70000, "response/\x00"))
        correlation = chance.choice((None, b"", chance.randbytes(200)))
        desk.handle(Request(name, payload, topic, correlation, chance.choice((None, "ann", "\x1b[2J\n"))))
        return True

    return case


def _command(chance: Chance) -> tuple[str, bytes]:
    name = chance.choice(list(COMMANDS))
    payload = mutations.json_text(chance, COMMANDS[name])
    return (name if chance.random() < 0.9 else chance.choice(("x", "a/b", "\x1b[2J", "threshold "))), payload


def _of_bridge(folder: Path, good: Bundle) -> Case:
    plant = Plant("edgevision", recent_events=10, pictures_bytes=10_000)
    samples = {
        "inspection": "verdict-ng",
        "inspection/last": "verdict-ok",
        **{name: name for name in ("birth", "health", "stats", "counters")},
        "model": "model-active",
    }
    said = {
        topic: json.loads((ROOT / "tests" / "golden" / f"{file}.json").read_bytes())
        for topic, file in samples.items()
    }

    def case(chance: Chance) -> bool:
        below = chance.choice((*said, "status", "image/x"))
        payload = mutations.json_text(chance, said.get(below, "online"))
        station = chance.choice(("press-4", "", "x" * 100, "\x1b[2J", "a/b"))
        before = plant.refused
        plant.hear(f"edgevision/{station}/{below}", payload, retained=chance.random() < 0.5)
        return plant.refused == before

    return case


def _of_answer(folder: Path, good: Bundle) -> Case:
    """Each case is a push to a station that says something else at every step, over what ssh would give."""
    archive = folder / "bundle.tar"
    archive.write_bytes(b"x" * 5000)
    package = push.Package(good.name, archive, 5000, "0" * 64)
    options = push.parse(["push", "bundle", "station"])
    ssh = folder / "ssh"
    ssh.write_text(
        '#!/bin/sh\nn=$(cat "$0.n"); echo $((n + 1)) >"$0.n"\n'
        'cat "$0.out$n"; cat "$0.err" >&2\nexit "$(cat "$0.code")"\n'
    )
    ssh.chmod(stat.S_IRWXU)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    honest = [b"0\n", b"", b"0" * 64 + b"\n", b'{"text": "done", "previous": null, "bundle": "b"}', b"", b""]

    def case(chance: Chance) -> bool:
        begin = chance.choice((0, 0, 3))
        hostile = chance.randrange(begin, len(honest))
        for at, said in enumerate(honest[begin:], begin):
            changed = mutations.content(chance, said) if at == hostile else said
            if at == hostile == 3 and chance.random() < 0.7:
                changed = mutations.json_text(chance, json.loads(said))
            (folder / f"ssh.out{at - begin}").write_bytes(changed)
        (folder / "ssh.n").write_text("0")
        (folder / "ssh.err").write_bytes(mutations.content(chance, b"error: not today\n\x1b[31m\xff"))
        (folder / "ssh.code").write_text(str(chance.choice((0, 0, 0, 1, 4, 77, 255))))
        shown = io.StringIO()
        with contextlib.redirect_stderr(shown):
            result = push.on_host(options, package if begin == 0 else None, "station")
        json.loads(json.dumps(result.content(), allow_nan=False))
        if not all(char.isprintable() or char == "\n" for char in shown.getvalue()):
            raise AssertionError("it says what a terminal would act on")
        return result.ok

    return case


@contextlib.contextmanager
def _service(folder: Path, good: Bundle) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A whole service at a broker of its own, which takes every command."""
    with mosquitto(folder) as broker:
        cv2.imwrite(str(folder / "part.png"), _photo())
        (folder / "config.toml").write_text(
            f'[station]\nname = "press-4"\nstate = "state"\nruntime = "run"\n'
            f'[bundle]\npath = "{good.path.parent}"\n'
            f'[camera]\nsource = "part.png"\nloop = true\nrate_hz = 5\n[mqtt]\nhost = "127.0.0.1"\n'
            f"port = {broker.port}\n[commands]\nenabled = true\nallow = {json.dumps(NAMES)}\nrate_hz = 1000\n"
        )
        line = (*MORTAL, sys.executable, "-m", "device", "run", "--config", str(folder / "config.toml"))
        with (folder / "log").open("wb") as log, subprocess.Popen(line, cwd=ROOT, stderr=log) as process:
            try:
                yield process, broker.port
            finally:
                process.terminate()
                process.wait(START_S)


class _OfStation:
    """Payloads to a service that goes on: after each it is alive, and it answers every hundredth time."""

    def __init__(self, folder: Path, good: Bundle) -> None:
        self._log = folder / "log"
        self._open = contextlib.ExitStack()
        self._process, port = self._open.enter_context(_service(folder, good))
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_message = lambda *_: setattr(self, "_heard", self._heard + 1)
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("edgevision/press-4/response/alive")
        self._heard = self._cases = 0
        self._client.loop_start()
        self._require_alive()

    def __call__(self, chance: Chance) -> bool:
        name, payload = _command(chance)
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = chance.choice(
            ("edgevision/press-4/response/a", "edgevision/press-4/status", "x")
        )
        properties.CorrelationData = chance.randbytes(chance.choice((0, 8, 200)))
        properties.UserProperty = [("by", chance.choice(("ann", "\u202e", "x" * 300)))]
        if name.isprintable():  # else the broker ends the connection
            self._client.publish(
                f"edgevision/press-4/cmd/{name}", payload, 1, chance.random() < 0.1, properties
            )
        self._cases += 1
        if self._cases % 100 == 0:
            self._require_alive()
        return True

    def _require_alive(self) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = "edgevision/press-4/response/alive"
        before, deadline = self._heard, time.monotonic() + START_S
        while self._heard == before:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the service is gone: {self._log.read_text()[-2000:]}")
            self._client.publish("edgevision/press-4/cmd/rebirth", b"{}", 1, properties=properties)
            time.sleep(0.2)
        if "Traceback" in self._log.read_text():
            raise AssertionError(self._log.read_text()[-5000:])

    def close(self) -> None:
        self._require_alive()
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        if (resident := pages * resource.getpagesize()) > SERVICE_BYTES:
            raise AssertionError(f"the service has grown to {resident >> 20} MiB")
        self._client.loop_stop()
        self._open.close()


KINDS: dict[str, Callable[[Path, Bundle], Case]] = {
    "upload": _of_upload,
    "model": _of_model,
    "memory": _of_memory,
    "reference": _of_reference,
    "view": _of_view,
    "png": _of_png,
    "jpeg": _of_jpeg,
    "bmp": _of_bmp,
    "tiff": _of_tiff,
    "webp": _of_webp,
    "manifest": _of_manifest,
    "calibration": _of_calibration,
    "state": _of_state,
    "command": _of_command,
    "bridge": _of_bridge,
    "answer": _of_answer,
    "station": _OfStation,
}
MAY_DIE = ("model",)


# ---- the processes that run the cases


class Told(logging.Handler):
    """Keeps the first record that has a traceback."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.fault = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None:
            self.fault = self.fault or "".join(traceback.format_exception(*record.exc_info))


@dataclass(frozen=True, slots=True)
class Job:
    """Cases of a kind, from the seed `first` on, before `end`."""

    kind: str
    first: int
    end: int


@dataclass
class Tally:
    """What became of the cases of a kind. `slowest_ms`: of those that ended."""

    taken: int = 0
    refused: int = 0
    died: int = 0
    slowest_ms: int = 0
    faults: list[int] = field(default_factory=list)  # their seeds

    def line(self, kind: str) -> str:
        cases = self.taken + self.refused + self.died + len(self.faults)
        died = f", {self.died} ended the process" if kind in MAY_DIE else ""
        faults = ", ".join(map(str, self.faults)) or "none"
        said = f"{self.taken} taken, {self.refused} refused{died}, the slowest {self.slowest_ms} ms"
        return f"{kind:12} {cases:6} cases: {said}; faults: {faults}"


class Progress:
    """What a worker has done, in memory that outlives it: where it is, and of each kind what became of it."""

    def __init__(self, spawn: Any) -> None:
        self._numbers = spawn.Array("q", 3 + 3 * len(KINDS), lock=False)

    def begin(self, job: int, seed: int) -> None:
        self._numbers[0:2] = [job, seed]

    def end(self, kind: str, duration_s: float, *, taken: bool) -> None:
        at = 3 + 3 * list(KINDS).index(kind)
        self._numbers[at + taken] += 1
        self._numbers[at + 2] = max(self._numbers[at + 2], int(1000 * duration_s))
        self._numbers[2] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @property
    def place(self) -> tuple[int, int]:
        """The number of the job, from 1, and the seed of the case that was begun last; zeros before."""
        return self._numbers[0], self._numbers[1]

    @property
    def peak_mib(self) -> int:
        return int(self._numbers[2]) >> 10

    def add_to(self, tallies: dict[str, Tally]) -> None:
        for number, kind in enumerate(KINDS):
            refused, taken, slowest_ms = self._numbers[3 + 3 * number : 6 + 3 * number]
            if tally := tallies.get(kind):
                tally.refused += refused
                tally.taken += taken
                tally.slowest_ms = max(tally.slowest_ms, slowest_ms)


def work(jobs: Sequence[Job], bundle: Path, progress: Progress) -> None:
    """Cases one after the other, in a process of their own."""
    faulthandler.enable()
    logs = Told()
    logging.basicConfig(level=logging.WARNING, handlers=[logs], force=True)
    limit = MOST_BYTES + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    good, parent = bundles.load(bundle), os.getppid()
    with tempfile.TemporaryDirectory(prefix="edgevision-fuzz-") as made:
        for number, job in enumerate(jobs, 1):
            folder = Path(made, job.kind)
            folder.mkdir()
            case = KINDS[job.kind](folder, good)
            for seed in range(job.first, job.end):
                if os.getppid() != parent:
                    return  # nobody waits for the figures any more
                progress.begin(number, seed)
                taken, duration_s = _try(case, random.Random(f"{job.kind} {seed}"))  # noqa: S311 - not secret
                if logs.fault:
                    raise AssertionError(logs.fault)
                progress.end(job.kind, duration_s, taken=taken)
            getattr(case, "close", lambda: None)()
            shutil.rmtree(folder)


def _try(case: Case, chance: Chance) -> tuple[bool, float]:
    """(whether what it made was taken, how long it took, seconds); it ends the process where it hangs."""
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    began_s = time.perf_counter()
    taken = case(chance)
    faulthandler.cancel_dump_traceback_later()
    return taken, time.perf_counter() - began_s


def run(jobs: Sequence[Job], bundle: Path, tallies: dict[str, Tally]) -> int:
    """All of them, in as many processes as it takes; the most memory that one of these had, MiB.

    Raises RuntimeError: a process that did not get to its first case.
    """
    spawn = multiprocessing.get_context("spawn")
    left, peak_mib = list(jobs), 0
    while left:
        progress = Progress(spawn)
        process = spawn.Process(target=work, args=(left, bundle, progress))
        process.start()
        process.join()
        progress.add_to(tallies)
        peak_mib = max(peak_mib, progress.peak_mib)
        if not process.exitcode:
            break
        number, seed = progress.place
        if not number:
            raise RuntimeError("the first case could not be made")
        job = left[number - 1]
        if process.exitcode < 0 and job.kind in MAY_DIE:
            tallies[job.kind].died += 1
        else:
            tallies[job.kind].faults.append(seed)
        left = [Job(job.kind, seed + 1, job.end), *left[number:]]
    return peak_mib


def main(arguments: Sequence[str]) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(description="Mutated files, messages and answers.")
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=list(KINDS), metavar="NAME")
    parser.add_argument("--cases", type=int, default=2000, help="of each kind; 0: without end")
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--bundle", type=Path, default=ROOT / "deploy" / "demo" / "bundle")
    options = parser.parse_args(arguments)
    try:
        bundle = bundles.load(options.bundle).path
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    tallies = {kind: Tally() for kind in options.kind}
    seed, count = options.seed, options.cases or ENDLESS
    with contextlib.suppress(KeyboardInterrupt):
        while seed == options.seed or not options.cases:
            peak_mib = run([Job(kind, seed, seed + count) for kind in tallies], bundle, tallies)
            seed += count
            for kind, tally in tallies.items():
                print(tally.line(kind))
            print(f"at most {peak_mib} MiB; the next seed is {seed}", flush=True)
    return int(any(tally.faults for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
