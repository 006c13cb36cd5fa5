"""Does every verdict arrive? On a real Mosquitto, with the real service.

    python benchmarks/delivery.py --kills 1000 --verdicts 20000 --seed 1    about 15 minutes
    python benchmarks/delivery.py --away 432000                             about 5 minutes
    python benchmarks/delivery.py --cost                                    about 1 minute
    python benchmarks/delivery.py --latency                                 about 1 minute

--kills: the service with the replay camera, a broker, and between them a TCP proxy. At seeded random moments
one of the three is struck: kill -9 of the service, kill -9 of the broker, the network cut (closed, or silent
and then closed); each comes back by itself. Expected: every verdict that the outbox ever stored (its row ids
count them, over all kills) has arrived, each session in order and no session after a later one, once those
that came twice are taken out by event_id. A broker that is killed forgets what it has acknowledged and not
yet passed on; that is kept out of the measurement: the subscriber is there before the station is let in, asks
for QoS 0, so that the broker writes to it before it acknowledges, and reads to the end what it wrote.

--away: so many verdicts are stored while no broker is there (432000 are 24 h of 5 a second), then delivered.
Expected: all in order, at 2000 a second or more.

--cost: the pipeline 30 times a second, with and without storing (every verdict an NG: FULL, each on the disk
before it is told) and delivering. Expected: storing costs at most 10 % of the 33 ms between two frames.

--latency: from the frame to the subscriber, without the inference. Expected: p99 at most 15 ms.

Exit codes: 0 as expected, 1 not. Prints a JSON object with all figures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import resource
import select
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paho.mqtt.client import Client, MQTTMessage  # noqa: E402 the program runs from anywhere
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion  # noqa: E402

from device.bundle import bundle as bundles  # noqa: E402
from device.config import MqttConfig, OutboxConfig  # noqa: E402
from device.image.frame import Frame, frame_from_file  # noqa: E402
from device.inspection.pipeline import Pipeline  # noqa: E402
from device.inspection.verdict import Verdict  # noqa: E402
from device.mqtt.publisher import Publisher  # noqa: E402

STATION = "bench"
TOPIC = f"edgevision/{STATION}"
KINDS = ("service", "broker", "network")
DEADLINE_S = 60.0


# -- the parts


@dataclass
class Broker:
    """Mosquitto with persistence on a loopback port."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise SystemExit("error: mosquitto is not installed")
        self.folder.mkdir(exist_ok=True)
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "max_queued_messages 0"]
        lines += ["persistence true", f"persistence_location {self.folder}/", "autosave_interval 60"]
        lines += [
            "max_inflight_messages 0",
            "set_tcp_nodelay true",
            *(["user root"] if os.geteuid() == 0 else []),
        ]
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen((program, "-c", str(config)), stdout=log, stderr=log)
        wait_for(lambda: answers(self.port), "mosquitto")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Subscriber:
    """Notes every message as it is, with its time; what they say is looked at in the end."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[float, str, bytes]] = []  # time, what follows the station's topic, payload
        self._port = port
        self._client: Client | None = None
        self._ended = threading.Event()

    def connect(self) -> None:
        """Connect, and return when the subscription stands."""
        client = Client(CallbackAPIVersion.VERSION2, "bench-reader", protocol=MQTTProtocolVersion.MQTTv5)
        subscribed = threading.Event()
        self._ended = ended = threading.Event()
        client.on_connect = lambda *_: client.subscribe(f"{TOPIC}/#", qos=0)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = self._note
        client.on_disconnect = lambda *_: ended.set()
        client.connect("127.0.0.1", self._port)
        client.loop_start()
        if not subscribed.wait(DEADLINE_S):
            raise SystemExit("error: the subscriber got no answer")
        self._client = client

    def read_to_the_end(self) -> None:
        """The broker was killed: take what it had written, and end."""
        if self._client is not None:
            if not self._ended.wait(DEADLINE_S):
                raise SystemExit("error: the subscriber does not notice that the broker is gone")
            self._client.disconnect()
            self._client.loop_stop()

    def events(self, kind: str) -> list[Verdict]:
        """The verdicts on a topic, in the order of arrival."""
        return [Verdict.from_json(payload) for _, name, payload in self.messages if name == kind]

    def latencies_ms(self) -> list[float]:
        """From frame to arrival of each inspection, without the inference."""
        found = []
        for arrived_s, name, payload in self.messages:
            if name == "inspection":
                verdict = Verdict.from_json(payload)
                inference_ms = verdict.timing_ms.get("inference", 0.0)
                found.append(arrived_s * 1000 - verdict.captured_ns / 1e6 - inference_ms)
        return found

    def _note(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        self.messages.append((time.time(), message.topic.removeprefix(f"{TOPIC}/"), message.payload))


class Proxy:
    """The network between the station and the broker: open, silent, or cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.open = threading.Event()
        self.silent = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close every connection, at both ends, without a word; what is in the buffers is lost."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                shut(end)

    def _accept(self) -> None:
        while True:
            station, _ = self._server.accept()
            try:
                if not self.open.is_set():
                    raise ConnectionError("the network is down")
                broker = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                station.close()
                continue
            for end in (station, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((station, broker))
            threading.Thread(target=self._forward, args=(station, broker), daemon=True).start()

    def _forward(self, station: socket.socket, broker: socket.socket) -> None:
        other = {station: broker, broker: station}
        try:
            while True:
                for source in select.select([station, broker], [], [], 0.5)[0]:
                    content = source.recv(65536)
                    if not content:
                        return
                    while self.silent:
                        time.sleep(0.005)
                    other[source].sendall(content)
        except (OSError, ValueError):
            pass
        finally:
            shut(station)
            shut(broker)


class Service:
    """The daemon, in a folder of its own."""

    def __init__(self, folder: Path, port: int, bundle: Path, images: Path, rate_hz: float) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.process: subprocess.Popen[bytes] | None = None
        self._log_before = 0  # characters
        self.config.write_text(
            f'[station]\nname = "{STATION}"\nstate = "state"\nruntime = "run"\n'
            f'[bundle]\npath = "{bundle}"\n[camera]\nsource = "{images}"\nloop = true\nrate_hz = {rate_hz}\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nkeepalive_s = 5\n[model]\nthreads = 1\n'
        )

    def start(self) -> None:
        self._log_before = len(self.log())
        with (self.folder / "service.log").open("ab") as log:
            command = (sys.executable, "-m", "device", "run", "--config", str(self.config))
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log)

    def end(self, number: int) -> int:
        """Send a signal, and wait for the end. The exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def require_running(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise SystemExit(
                f"error: the service ended by itself with {self.process.returncode}: {self.log()}"
            )

    def log(self) -> str:
        file = self.folder / "service.log"
        return file.read_text() if file.exists() else ""

    def is_connected(self) -> bool:
        """By what it has logged since it was started."""
        said = ("connected after", "connection lost")
        words = [line for line in self.log()[self._log_before :].splitlines() if any(w in line for w in said)]
        return bool(words) and said[0] in words[-1]

    def outbox(self) -> dict[str, int]:
        """What the outbox of the ended service says: rows ever stored, rows left, and its counts."""
        database = sqlite3.connect(self.folder / "state" / "outbox.sqlite")
        counts = dict(database.execute("SELECT name, value FROM counts"))
        [(left,)] = database.execute("SELECT COUNT(*) FROM verdict").fetchall()
        [(stored,)] = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'verdict'").fetchall()
        database.close()
        dropped = sum(value for name, value in counts.items() if name.startswith("dropped"))
        aside = len([*(self.folder / "state").glob("*.damaged-*Z")])
        lost = counts.get("lost", 0)
        return {"stored": stored, "left": left, "dropped": dropped, "missing": lost, "set_aside": aside}


# -- the measurements


class Chaos:
    """All the parts at once, and strikes at them."""

    def __init__(self, folder: Path, seed: int, bundle: Path, images: Path, rate_hz: float) -> None:
        self.chance = random.Random(seed)  # noqa: S311 seeded on purpose
        self.struck = dict.fromkeys(KINDS, 0)
        self.broker = Broker(folder / "broker", free_port())
        self.broker.start()
        self.subscriber = Subscriber(self.broker.port)
        self.proxy = Proxy(self.broker.port)
        self.service = Service(folder, self.proxy.port, bundle, images, rate_hz)

    def run(self, kills: int, verdicts: int) -> dict[str, Any]:
        """Strike so often, go on until so many messages have come, let the service end, and count."""
        begin = time.monotonic()
        try:
            self.subscriber.connect()
            self.proxy.open.set()
            self.service.start()
            wait_for(lambda: self.subscriber.messages, "the first message")
            for number in range(1, kills + 1):
                time.sleep(self.chance.uniform(0.0, 1.0))
                self.strike(self.chance.choice(KINDS))
                if number % 50 == 0:
                    seen = len(self.subscriber.messages)
                    tell(f"{number} kills, {seen} messages, {time.monotonic() - begin:.0f} s")
            while len(without_repeats(self.subscriber.events("inspection"))[0]) < verdicts:
                self.service.require_running()
                time.sleep(1.0)
            self.drain()
        finally:
            self.service.end(signal.SIGKILL)
            self.broker.kill()
            self.subscriber.read_to_the_end()
        return self.report(time.monotonic() - begin)

    def strike(self, kind: str) -> None:
        """Kill or cut one of the three, and let it come back."""
        self.struck[kind] += 1
        self.service.require_running()
        if kind == "service":
            self.service.end(signal.SIGKILL)
            self.service.start()
            return
        self.proxy.open.clear()
        if kind == "broker":
            self.broker.kill()
            self.proxy.cut()
            self.subscriber.read_to_the_end()
            self.broker.start()
            self.subscriber.connect()
        else:
            self.proxy.silent = self.chance.random() < 0.5
            time.sleep(self.chance.uniform(0.0, 0.3))
            self.proxy.cut()
            self.proxy.silent = False
        self.proxy.open.set()

    def drain(self) -> None:
        """Let the service end in peace, until nothing is left in its outbox."""
        for _ in range(20):
            wait_for(self.service.is_connected, "a connection", 2 * DEADLINE_S)
            code = self.service.end(signal.SIGTERM)
            if code != 0:
                raise SystemExit(f"error: the service ended with {code}, not with 0")
            if self.service.outbox()["left"] == 0:
                return
            self.service.start()
            time.sleep(5.0)
        raise SystemExit("error: the outbox is not delivered")

    def report(self, seconds: float) -> dict[str, Any]:
        """What was stored, and what of it has come."""
        outbox = self.service.outbox()
        inspections, repeats = without_repeats(self.subscriber.events("inspection"))
        defects, defect_repeats = without_repeats(self.subscriber.events("defect"))
        due = {verdict.event_id for verdict in inspections if verdict.verdict in ("NG", "MARGINAL")}
        found = {
            "kills": sum(self.struck.values()),
            "by_kind": self.struck,
            "seconds": round(seconds),
            "sessions": len({verdict.session_id for verdict in inspections}),
            "stored": outbox["stored"],
            "arrived": len(inspections),
            "defects": len(defects),
            "historical": sum(verdict.historical for verdict in inspections),
            "repeats": repeats,
            "defect_repeats": defect_repeats,
        }
        wrong = {
            "lost": outbox["stored"] - outbox["dropped"] - len(inspections),
            "lost_defects": len(due - {verdict.event_id for verdict in defects}),
            "out_of_order": disorder(inspections),
            "defects_out_of_order": disorder(defects),
            **{name: outbox[name] for name in ("dropped", "missing", "set_aside")},
        }
        return {**found, **wrong, "as_expected": not any(wrong.values())}


def away(folder: Path, number: int) -> dict[str, Any]:
    """Store while no broker is there, and deliver."""
    broker = Broker(folder / "broker", free_port())
    publisher = make_publisher(folder, broker.port)
    publisher.start()
    template = example(STATION)
    begin = time.monotonic()
    for seq in range(number):
        ng = seq % 20 == 0
        publisher.publish(replace(template, event_id=f"{template.session_id}-{seq:08d}", seq=seq,
                                  verdict="NG" if ng else "OK"))  # fmt: skip
        while seq % 500 == 0 and publisher.unstored > 5000:  # as fast as the disk goes
            time.sleep(0.001)
    stored_id = lambda: publisher._outbox.last_id  # noqa: SLF001, E731
    wait_for(lambda: stored_id() == number, "the last verdict on the disk", 600)
    stored_s = time.monotonic() - begin
    full_bytes = sum(path.stat().st_size for path in (folder / "state").iterdir())
    rss_stored = resident_bytes()
    broker.start()
    out = (folder / "received").open("wb")
    reader = subprocess.Popen(
        (sys.executable, __file__, "--read", str(broker.port)), stdout=out, stdin=subprocess.PIPE
    )
    wait_for(lambda: (folder / "received").stat().st_size > 0, "the subscriber")
    wait_for(lambda: publisher.connected, "the connection")
    begin = time.monotonic()
    waiting = publisher.delivery().waiting
    wait_for(lambda: publisher.delivery().waiting == 0, "the delivery", 3600)
    drained_s = time.monotonic() - begin
    rss_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # before the benchmark's own lists
    delivery = publisher.delivery()
    publisher.stop("stopped")
    reader.wait(600)  # it ends by itself at that word, which comes after all that was delivered
    broker.kill()
    lines = (folder / "received").read_text().split()[1:]
    seqs = list(dict.fromkeys(int(line.split(",")[0]) for line in lines))
    found = {
        "verdicts": number,
        "stored_per_s": round(number / stored_s),
        "outbox_bytes": full_bytes,
        "outbox_bytes_per_verdict": round(full_bytes / number),
        "outbox_bytes_afterwards": sum(path.stat().st_size for path in (folder / "state").iterdir()),
        "rss_bytes_stored": rss_stored,
        "rss_bytes_peak": rss_peak,
        "drained_per_s": round(waiting / drained_s),
        "drained_s": round(drained_s, 1),
        "arrived": len(seqs),
        "lost": number - len(seqs),
        "out_of_order": sum(a > b for a, b in pairwise(seqs)),
        "repeats": len(lines) - len(seqs),
        "not_historical": sum(line.endswith(",0") for line in lines),
        "dropped": delivery.dropped,
    }
    expected = not (found["lost"] or found["out_of_order"] or found["dropped"])
    return {**found, "as_expected": expected and found["drained_per_s"] >= 2000}


def cost(folder: Path, bundle: Path, images: Path, seconds: float) -> dict[str, Any]:
    """What storing takes of the inspection, frame by frame, at 30 a second."""
    broker = Broker(folder / "broker", free_port())
    broker.start()
    pipeline = Pipeline(bundles.load(bundle), STATION, "cost", threads=1)
    frames = [frame_from_file(path, 0) for path in sorted(images.glob("*.png"))[:8]]
    publisher = make_publisher(folder, broker.port, "cost")
    publisher.start()
    wait_for(lambda: publisher.connected, "the connection")
    plain = Paced(pipeline, frames, None)
    stored = Paced(pipeline, frames, publisher)
    for _ in range(4):  # turn by turn, since the machine is not always as busy
        plain.run(seconds / 8)
        stored.run(seconds / 8)
    wait_for(lambda: publisher.delivery().waiting == 0, "the delivery")
    delivery = publisher.delivery()
    publisher.stop("stopped")
    broker.kill()
    period_ms = 1000 / 30
    mean = {name: statistics.fmean(paced.busy_ms) for name, paced in (("plain", plain), ("stored", stored))}
    cpu_ms = stored.cpu_ms / len(stored.busy_ms) - plain.cpu_ms / len(plain.busy_ms)
    found = {
        "verdicts": len(stored.busy_ms),
        "inspection_ms_mean": round(mean["plain"], 3),
        "with_storing_ms_mean": round(mean["stored"], 3),
        "inspection_ms_p99": round(quantile(plain.busy_ms, 0.99), 3),
        "with_storing_ms_p99": round(quantile(stored.busy_ms, 0.99), 3),
        "publish_ms_p50": round(quantile(stored.publish_ms, 0.5), 3),
        "publish_ms_p99": round(quantile(stored.publish_ms, 0.99), 3),
        "publish_ms_max": round(max(stored.publish_ms), 3),
        "cpu_ms_of_storing_and_delivering": round(cpu_ms, 3),
        "cost_ratio_of_33_ms": round((mean["stored"] - mean["plain"]) / period_ms, 4),
        "cpu_ratio_of_33_ms": round(cpu_ms / period_ms, 4),
        "acknowledged": delivery.acknowledged,
    }
    return {**found, "as_expected": found["cost_ratio_of_33_ms"] <= 0.1}


class Paced:
    """The pipeline 30 times a second, and how long each frame took, with publish() where there is one."""

    def __init__(self, pipeline: Pipeline, frames: list[Frame], publisher: Publisher | None) -> None:
        self.busy_ms: list[float] = []
        self.publish_ms: list[float] = []
        self.cpu_ms = 0.0
        self._pipeline = pipeline
        self._frames = frames
        self._publisher = publisher
        self._seq = 0

    def run(self, seconds: float) -> None:
        cpu_s, end = time.process_time(), time.monotonic() + seconds
        due = time.monotonic()
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / 30
            frame = replace(self._frames[self._seq % len(self._frames)], seq=self._seq)
            self._seq += 1
            begin = time.perf_counter()
            verdict = self._pipeline.inspect(frame)
            inspected = time.perf_counter()
            if self._publisher is not None:
                self._publisher.publish(replace(verdict, verdict="NG"))
                self.publish_ms.append((time.perf_counter() - inspected) * 1000)
            self.busy_ms.append((time.perf_counter() - begin) * 1000)
        self.cpu_ms += (time.process_time() - cpu_s) * 1000


def latency(folder: Path, bundle: Path, images: Path, seconds: float) -> dict[str, Any]:
    """From the frame to the subscriber, without the inference."""
    broker = Broker(folder / "broker", free_port())
    broker.start()
    subscriber = Subscriber(broker.port)
    subscriber.connect()
    service = Service(folder, broker.port, bundle, images, 30)
    service.start()
    wait_for(lambda: subscriber.messages, "the first message")
    time.sleep(3.0)
    first = len(subscriber.events("inspection"))
    time.sleep(seconds)
    service.end(signal.SIGTERM)
    broker.kill()
    subscriber.read_to_the_end()
    values = subscriber.latencies_ms()[first:]
    found: dict[str, Any] = {"verdicts": len(values)}
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        found[f"beyond_inference_ms_{name}"] = round(quantile(values, share), 2)
    return {**found, "as_expected": found["beyond_inference_ms_p99"] <= 15}


def read(port: int) -> None:
    """A subscriber in a process of its own: prints "ready", then seq,historical for each inspection.

    Ends at the station's last word.
    """
    client = Client(CallbackAPIVersion.VERSION2, "bench-reader", protocol=MQTTProtocolVersion.MQTTv5)

    def note(client: Client, userdata: object, message: MQTTMessage) -> None:
        payload = message.payload
        if message.topic == f"{TOPIC}/status":
            if payload == b"stopped":
                client.disconnect()
            return
        at = payload.index(b'"seq":') + 6
        seq = payload[at : payload.index(b",", at)].decode()
        late = b'"historical":true' in payload
        print(f"{seq},{late:d}")

    client.on_connect = lambda *_: client.subscribe([(f"{TOPIC}/inspection", 1), (f"{TOPIC}/status", 1)])
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = note
    client.connect("127.0.0.1", port)
    client.loop_forever()


# -- what they share


def make_publisher(folder: Path, port: int, session_id: str = "away") -> Publisher:
    """The service's own, with its outbox in the folder."""
    mqtt = MqttConfig(host="127.0.0.1", port=port, client_id="bench")
    limits = OutboxConfig(10_000_000_000, 30.0)
    return Publisher(mqtt, STATION, session_id, lambda _protocol: "{}", limits, folder / "state")


def example(station: str) -> Verdict:
    """What a service says of one frame, in its usual length."""
    golden = (ROOT / "tests" / "golden" / "verdict-ok.json").read_text()
    return replace(Verdict.from_json(golden), station=station, session_id="away", regions=())


def without_repeats(events: list[Verdict]) -> tuple[list[Verdict], int]:
    """Each event once, where it first came, and how many were more than that."""
    first: dict[str, Verdict] = {}
    for verdict in events:
        first.setdefault(verdict.event_id, verdict)
    return list(first.values()), len(events) - len(first)


def disorder(events: list[Verdict]) -> int:
    """How many came before an earlier one of their session, or of an earlier session."""
    sessions = {session: at for at, session in enumerate(dict.fromkeys(v.session_id for v in events))}
    places = [(sessions[verdict.session_id], verdict.seq) for verdict in events]
    return sum(a > b for a, b in pairwise(places))


def quantile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def resident_bytes() -> int:
    """The memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A loopback TCP port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def shut(end: socket.socket) -> None:
    """Close a connection, and wake who waits for it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def wait_for(condition: Callable[[], object], what: str, seconds: float = DEADLINE_S) -> None:
    """Poll until it is true. Ends the program when it takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"error: {what} did not come within {seconds:g} s")
        time.sleep(0.02)


def tell(text: str) -> None:
    """To the person who waits."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """One of the four measurements. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--kills", type=int, metavar="N")
    what.add_argument("--away", type=int, metavar="VERDICTS")
    what.add_argument("--cost", action="store_true")
    what.add_argument("--latency", action="store_true")
    what.add_argument("--read", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "--verdicts", type=int, default=0, metavar="N", help="at least so many (with --kills)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--rate", type=float, default=50.0, metavar="HZ", help="frames a second (with --kills)"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of --cost and --latency")
    parser.add_argument("--bundle", type=Path, default=ROOT / "deploy" / "demo" / "bundle")
    parser.add_argument("--images", type=Path, default=ROOT / "deploy" / "demo" / "images")
    options = parser.parse_args()
    if options.read:
        read(options.read)
        return 0
    logging.basicConfig(level="WARNING", stream=sys.stderr)
    bundle, images = options.bundle.resolve(), options.images.resolve()
    with tempfile.TemporaryDirectory(prefix="delivery-") as name:
        folder = Path(name)
        if options.kills:
            chaos = Chaos(folder, options.seed, bundle, images, options.rate)
            found = {"seed": options.seed, **chaos.run(options.kills, options.verdicts)}
        elif options.away:
            found = away(folder, options.away)
        elif options.cost:
            found = cost(folder, bundle, images, options.seconds)
        else:
            found = latency(folder, bundle, images, options.seconds)
    print(json.dumps(found, indent=2))
    return 0 if found["as_expected"] else 1


if __name__ == "__main__":
    sys.exit(main())
