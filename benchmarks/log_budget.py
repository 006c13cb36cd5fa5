"""Lines of the log in lasting faults: fewer than 60 in any hour, by hours of simulated time.

    python -m benchmarks.log_budget --bundle DIR [--hours N] [--speed N] [--fault NAME]...

The real service, a process of its own, whose clock and whose waits run --speed times as fast (120: an hour
takes 30 s, from its first line on), in each of the lasting faults of FAULTS, with a real broker, a real
network camera and real disks. When it ends it is started again six seconds later, as systemd would do it.
Each line on its stderr is counted, whoever wrote it. Prints the most lines in an hour, the restarts, and the
kinds of lines.

Needs mosquitto; `read-only` and `disk full` need root.
Exit codes: 0 fewer than 60 everywhere, 1 not so, 2 wrong command line.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find device

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 60
HOUR_S = 3600.0
RESTART_S = 6.0  # RestartSec of the unit
INTERVAL_S = 0.02  # of the camera, in real time
CHILD = "--child"


# ---- the process whose time is fast


def run_fast(speed: float, config: str) -> int:
    """`python -m device run`, `speed` times as fast; systemd's journal is stderr. Returns its exit code."""
    _hurry(speed)
    stderr = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{stderr.st_dev}:{stderr.st_ino}"
    from device import __main__ as device
    from device.telemetry import journal

    journal.journal = None  # plain lines, within the budget of a service of systemd's
    return device.main(["run", "--config", config])


def _hurry(speed: float) -> None:
    """Every monotonic clock, and every wait with a limit."""
    import queue
    import select

    clock, clock_ns, sleep, wait = time.monotonic, time.monotonic_ns, time.sleep, threading.Condition.wait
    poll, select_ = select.poll, select.select

    def short(timeout: float | None) -> float | None:
        return None if timeout is None else timeout / speed

    class Poll:
        def __init__(self) -> None:
            self._poll = poll()
            self.register, self.unregister = self._poll.register, self._poll.unregister

        def poll(self, timeout_ms: float | None = None) -> list[tuple[int, int]]:
            return self._poll.poll(short(timeout_ms))

    class SimpleQueue(queue.SimpleQueue):  # type: ignore[type-arg]
        def get(self, block: bool = True, timeout: float | None = None) -> object:
            return super().get(block, short(timeout))

    time.monotonic = lambda: clock() * speed
    time.monotonic_ns = lambda: int(clock_ns() * speed)
    time.sleep = lambda seconds: sleep(seconds / speed)
    threading._time = time.monotonic  # type: ignore[attr-defined]  # noqa: SLF001
    threading.Condition.wait = lambda self, timeout=None: wait(self, short(timeout))  # type: ignore[method-assign]
    select.poll = Poll  # type: ignore[assignment,misc]
    select.select = lambda r, w, x, timeout=None: select_(r, w, x, short(timeout))
    queue.SimpleQueue = SimpleQueue  # type: ignore[misc]


# ---- the faults


@dataclass
class Place:
    """Where a station stands, and what a fault has set up. `tick`: called all the time with simulated s."""

    folder: Path
    bundle: Path
    port: int
    sections: dict[str, str] = field(default_factory=dict)
    tick: Callable[[float], None] = lambda _: None
    process: subprocess.Popen[str] | None = None

    def reload(self) -> None:
        """SIGHUP to the service, where it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGHUP)

    def write(self) -> Path:
        """Its configuration."""
        said = {
            "station": f'name = "budget"\nstate = "{self.folder}/state"\nruntime = "{self.folder}/run"',
            "bundle": f'path = "{self.bundle}"',
            "camera": "",
            "mqtt": f'host = "127.0.0.1"\nport = {self.port}',
            "model": "threads = 1",
            "health": "frozen_frames = 0",
        }
        for name, text in self.sections.items():
            said[name] = (
                f"{said[name]}\n{text}"
                if name in said and not text.startswith("=")
                else text[text.startswith("=") :]
            )
        path = self.folder / "config.toml"
        path.write_text("".join(f"[{name}]\n{text}\n" for name, text in said.items()))
        return path


def _every(seconds: float, act: Callable[[int], None]) -> Callable[[float], None]:
    """act(0), act(1)... each so many simulated seconds."""
    done = -1

    def tick(now_s: float) -> None:
        nonlocal done
        while done < int(now_s / seconds):
            done += 1
            act(done)

    return tick


def _stream(place: Place, stack: ExitStack, act: Callable[[object, int], None], seconds: float) -> None:
    from benchmarks.network_camera import network_camera

    camera = stack.enter_context(network_camera(INTERVAL_S))
    place.sections |= {
        "camera": f'kind = "opencv"\nsource = "{camera.address}"\ntimeout_s = 60\nlatency_ms = 0',
        "trigger": 'kind = "interval"\ninterval_s = 20\ntimeout_s = 60',
    }
    place.tick = _every(seconds, lambda turn: act(camera, turn))


def modes(place: Place, stack: ExitStack) -> None:
    """F1: another size and no colours, in turn."""

    def act(camera: object, turn: int) -> None:
        camera.mode = ("usual", "large", "usual", "gray")[turn % 4]  # type: ignore[attr-defined]

    _stream(place, stack, act, 60)


def cut(place: Place, stack: ExitStack) -> None:
    """F1: each JPEG is cut; the service ends by that."""

    def act(camera: object, turn: int) -> None:
        camera.mode = "cut" if turn else "usual"  # type: ignore[attr-defined]

    _stream(place, stack, act, 120)


def hangs_up(place: Place, stack: ExitStack) -> None:
    """The stream is lost again and again."""

    def act(camera: object, turn: int) -> None:
        (camera.hung_up.set if turn % 3 == 2 else camera.hung_up.clear)()  # type: ignore[attr-defined]

    _stream(place, stack, act, 30)


def camera_away(place: Place, stack: ExitStack) -> None:
    """A device that is not there: the service ends at once, and is started again."""
    place.sections["camera"] = 'kind = "opencv"\nsource = "/dev/video99"'


def stream_away(place: Place, stack: ExitStack) -> None:
    """Nobody listens at the camera's address."""
    place.sections["camera"] = 'kind = "opencv"\nsource = "http://127.0.0.1:9/line"'


def _pictures(place: Place, spot: bool, rate: str = "rate_hz = 0.5") -> None:
    import cv2
    import numpy as np

    folder = place.folder / "images"
    folder.mkdir()
    for number in range(3):
        image = np.random.default_rng(number).integers(40, 60, (96, 128, 1), dtype=np.uint8).repeat(3, axis=2)
        if spot:
            image[30:54, 40:64] = 255
        cv2.imwrite(str(folder / f"{number}.png"), image)
    place.sections["camera"] = f'source = "{folder}"\nloop = true\n{rate}'


def all_ng(place: Place, stack: ExitStack) -> None:
    """Every part is rejected."""
    _pictures(place, spot=True)


def overload(place: Place, stack: ExitStack) -> None:
    """F2: triggers come ten times as fast as the model."""
    _pictures(place, spot=False, rate="")
    place.sections["trigger"] = 'kind = "interval"\ninterval_s = 0.05'


def broker_away(place: Place, stack: ExitStack) -> None:
    """Nobody listens at the broker's port."""
    _pictures(place, spot=False)
    place.sections["mqtt"] = '=host = "127.0.0.1"\nport = 9'


def _broker(place: Place, stack: ExitStack, *settings: str) -> None:
    from benchmarks.mosquitto import free_port, mosquitto

    folder = place.folder / "broker"
    folder.mkdir()
    port = free_port()
    stack.enter_context(mosquitto(folder, *settings, port=port))
    place.sections["mqtt"] = f'=host = "127.0.0.1"\nport = {port}'


def refused(place: Place, stack: ExitStack) -> None:
    """F3: the access rules allow the status alone."""
    _pictures(place, spot=True)
    rules = place.folder / "acl"
    rules.write_text("topic write edgevision/budget/status\ntopic read #\n")
    rules.chmod(0o644)
    _broker(place, stack, f"acl_file {rules}")


def too_large(place: Place, stack: ExitStack) -> None:
    """F4: pictures are larger than the broker takes."""
    _pictures(place, spot=True)
    _broker(place, stack, "max_packet_size 5000")
    place.sections["archive"] = "publish_image_max_bytes = 100000"
    place.sections["mqtt"] += '\nprotocol = "3.1.1"'


def flapping(place: Place, stack: ExitStack) -> None:
    """F5: another client with the station's client id, every 20 s."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    _pictures(place, spot=False)
    _broker(place, stack)
    port = int(place.sections["mqtt"].rpartition(" ")[2])
    place.sections["mqtt"] += '\nclient_id = "rival"'

    def act(turn: int) -> None:
        rival = Client(CallbackAPIVersion.VERSION2, "rival")
        rival.connect("127.0.0.1", port)
        rival.loop(0.05)
        rival.disconnect()

    place.tick = _every(20, act)


@contextmanager
def _mounted(place: Place, *command: str) -> Iterator[Path]:
    folder = place.folder / "disk"
    folder.mkdir()
    subprocess.run(("mount", *command, str(folder)), check=True)
    place.sections["station"] = f'=name = "budget"\nstate = "{folder}/state"\nruntime = "{place.folder}/run"'
    try:
        yield folder
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)


def read_only(place: Place, stack: ExitStack) -> None:
    """F6: the kernel has stopped writing to the card."""
    _pictures(place, spot=True)
    image = place.folder / "card.img"
    with image.open("wb") as file:
        file.truncate(16_000_000)
    subprocess.run(("mkfs.ext4", "-q", str(image)), check=True)
    folder = stack.enter_context(_mounted(place, "-o", "loop", str(image)))
    stop = ("mount", "-o", "remount,abort", str(folder))
    place.tick = _every(120, lambda turn: turn == 1 and subprocess.run(stop, check=True))


def disk_full(place: Place, stack: ExitStack) -> None:
    """No room for anything."""
    _pictures(place, spot=True)
    folder = stack.enter_context(_mounted(place, "-t", "tmpfs", "-o", "size=64k", "tmpfs"))
    (folder / "other").write_bytes(bytes(60_000))


def model_rejected(place: Place, stack: ExitStack) -> None:
    """`current` leads to what is no bundle, and a reload is asked for every minute."""
    import shutil

    _pictures(place, spot=False)
    models = place.folder / "models"
    shutil.copytree(place.bundle, models, symlinks=True)
    place.bundle = models
    (models / "broken").mkdir()

    def act(turn: int) -> None:
        if turn == 2:
            (models / "current").unlink()
            (models / "current").symlink_to("broken")
        if turn >= 2:
            place.reload()

    place.tick = _every(60, act)


FAULTS: dict[str, Callable[[Place, ExitStack], None]] = {
    "modes": modes,
    "cut": cut,
    "hangs-up": hangs_up,
    "camera-away": camera_away,
    "stream-away": stream_away,
    "all-ng": all_ng,
    "overload": overload,
    "broker-away": broker_away,
    "refused": refused,
    "too-large": too_large,
    "flapping": flapping,
    "read-only": read_only,
    "disk-full": disk_full,
    "model-rejected": model_rejected,
}


# ---- counting


class Reader:
    """The lines of one process after the other, with their simulated time."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began_s: float | None = None  # with the first line: a busy machine takes long to start
        self.lines: list[tuple[float, str]] = []

    @property
    def now_s(self) -> float:
        """Simulated."""
        return 0.0 if self._began_s is None else (time.monotonic() - self._began_s) * self._speed

    def follow(self, process: subprocess.Popen[str]) -> threading.Thread:
        """Read it to its end."""
        thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        thread.start()
        return thread

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None  # noqa: S101
        for line in process.stderr:
            self._began_s = self._began_s or time.monotonic()
            self.lines.append((self.now_s, line.rstrip()))

    def worst(self) -> int:
        """The most lines in any hour."""
        times = [at_s for at_s, _ in self.lines]
        return max((sum(0 <= other - at_s < HOUR_S for other in times) for at_s in times), default=0)


def measure(name: str, bundle: Path, hours: float, speed: float) -> int:
    """One fault; prints its row. Returns the most lines in an hour."""
    with tempfile.TemporaryDirectory(prefix="edgevision-budget-") as folder, ExitStack() as stack:
        place = Place(Path(folder), bundle, 9)
        (Path(folder) / "run").mkdir()
        if name not in ("broker-away", "refused", "too-large", "flapping"):
            _broker(place, stack)
        FAULTS[name](place, stack)
        command = (sys.executable, "-m", "benchmarks.log_budget", CHILD, str(speed), str(place.write()))
        reader, starts = Reader(speed), 0
        while reader.now_s < hours * HOUR_S:
            process = place.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
            starts += 1
            thread = reader.follow(process)
            while process.poll() is None and reader.now_s < hours * HOUR_S:
                place.tick(reader.now_s)
                time.sleep(0.02)
            process.kill()
            process.wait()
            thread.join()
            time.sleep(RESTART_S / speed)
    kinds = Counter(re.sub(r"[0-9a-f]{8,}|[0-9.,:]+", "N", line)[:60] for _, line in reader.lines)
    worst = reader.worst()
    print(f"| {name} | {worst} | {len(reader.lines)} | {starts} |", flush=True)
    for kind, count in kinds.most_common(3):
        print(f"    {count:5} {kind}", file=sys.stderr)
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Lines of the log in lasting faults.")
    parser.add_argument(
        "--bundle", type=Path, required=True, metavar="DIR", help="the bundle to inspect with"
    )
    parser.add_argument("--hours", type=float, default=2.0, metavar="N", help="simulated, default 2")
    parser.add_argument("--speed", type=float, default=120.0, metavar="N", help="default 120")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="this one alone; default: all")
    options = parser.parse_args(arguments)
    print("| fault | most lines in an hour | in all | starts |\n|---|---|---|---|")
    worst = [
        measure(name, options.bundle.resolve(), options.hours, options.speed)
        for name in options.fault or FAULTS
    ]
    return 0 if max(worst) < LIMIT else 1


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        sys.exit(run_fast(float(sys.argv[2]), sys.argv[3]))
    sys.exit(main())
