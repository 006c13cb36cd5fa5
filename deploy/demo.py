"""The demo behind deploy/demo.sh: a broker, the real service on images from the disk, and a subscriber.

Every line that is printed comes from a verdict that arrived over MQTT; the annotated pictures are drawn from
these verdicts, and not from anything that the service keeps.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any
from urllib.parse import urlencode

import cv2
import iotcore
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from deploy.serve import serving
from device.camera.replay import image_files
from device.errors import EdgeVisionError
from device.image.frame import read_image
from device.inspection.annotate import annotate
from device.inspection.verdict import Verdict

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "deploy" / "demo"
STATION = "demo"
TOPICS = f"edgevision/{STATION}"
SILENCE_S = 60.0  # the longest pause between two messages, the start of the service included
END_S = 30.0  # the service has said its last word and still has to end
ENDS = (signal.SIGHUP, signal.SIGTERM)
INTERRUPTED = 130
WATCHING_HZ = 2.0  # images a second with --keep: slow enough to look at

_BROKER_TOML = """\
id = 0
[router]
id = 0
max_connections = 10
max_outgoing_packet_count = 200
max_segment_size = 10485760
max_segment_count = 10
[v4.1]
name = "demo"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 262144
max_inflight_count = 100
dynamic_filters = true
[ws.1]
name = "dashboard"
listen = "127.0.0.1:{websockets}"
next_connection_delay_ms = 1
[ws.1.connections]
connection_timeout_ms = 60000
max_payload_size = 262144
max_inflight_count = 100
dynamic_filters = true
"""


class DemoError(Exception):
    """The demo did not show what it should; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the broker listens on 127.0.0.1: for the service, and for a browser."""

    mqtt: int
    websockets: int


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """What the subscriber was sent, and when it had it (UTC ns)."""

    topic: str
    payload: bytes
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verdict at the subscriber. `known` is what the image really shows, None where nobody has said."""

    verdict: Verdict
    arrived_ns: int
    known: str | None

    @property
    def name(self) -> str:
        return self.verdict.image_path or "?"

    @property
    def latency_ms(self) -> float:
        """From the capture to the subscriber."""
        return (self.arrived_ns - self.verdict.captured_ns) / 1e6

    @property
    def agrees(self) -> bool:
        """Whether NG was said of a defective image, or OK of a good one; MARGINAL agrees with neither."""
        return (self.verdict.verdict, self.known) in (("NG", "defective"), ("OK", "good"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns the exit code that deploy/demo.sh promises; argparse ends with 2 by itself."""
    options = _options(arguments)
    for number in ENDS:
        signal.signal(number, _end)
    try:
        if options.keep:
            watch(DEMO / "bundle", DEMO / "images", options.out)
        else:
            run(DEMO / "bundle", DEMO / "images", options.out)
    except (DemoError, EdgeVisionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if options.keep else INTERRUPTED
    return 0


def _end(number: int, frame: object) -> None:
    """The terminal is closed, or the machine goes down: end as by Ctrl-C, with all that was started."""
    for each in ENDS:
        signal.signal(each, signal.SIG_IGN)  # once is enough
    raise KeyboardInterrupt


def run(bundle: Path, images: Path, out: Path) -> None:
    """Show the service inspecting `images` with `bundle`. Raises DemoError, FrameError, OSError."""
    names = [file.name for file in image_files(images)]
    known = known_labels(images / "labels.csv")
    with _parties(bundle, images, out) as (inbox, service):
        arrivals = list(show(arriving(inbox, service, known), max(map(len, names))))
        end_well(service, out / "service.log")
    require_all(names, arrivals)
    keep(arrivals, images, out)
    summarize(arrivals, out)


def watch(bundle: Path, images: Path, out: Path) -> None:
    """The demo's frames again and again, slowly, for the dashboard. Ends by KeyboardInterrupt."""
    width = max(len(file.name) for file in image_files(images))
    known = known_labels(images / "labels.csv")
    with _parties(bundle, images, out, f"loop = true\nrate_hz = {WATCHING_HZ}\n") as (inbox, service):
        for _ in show(arriving(inbox, service, known), width):
            pass  # shown is enough: what goes on for days is not kept
        end_well(service, out / "service.log")


@contextlib.contextmanager
def _parties(
    bundle: Path, images: Path, out: Path, camera: str = ""
) -> Iterator[tuple[SimpleQueue[ReceivedMessage], subprocess.Popen[bytes]]]:
    """Broker, subscriber, dashboard and service. Yields what the subscriber receives, and the service."""
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="edgevision-demo-") as folder,
        running_broker(Path(folder)) as ports,
        listening(ports.mqtt) as inbox,
        serving() as address,
        running_service(
            Path(folder), service_config(bundle, images, ports.mqtt, camera), out / "service.log"
        ) as service,
    ):
        print(f"service and broker on 127.0.0.1:{ports.mqtt}, images of {images}")
        print(f"dashboard: {dashboard_address(address, ports)}\n", flush=True)
        yield inbox, service


def dashboard_address(address: str, ports: Ports) -> str:
    """The page, told which broker to ask."""
    return f"{address}/?{urlencode({'broker': f'ws://127.0.0.1:{ports.websockets}'}, safe=':/')}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="deploy/demo.sh",
        description="See the service inspect images, and its verdicts arrive over MQTT.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "build" / "demo",
        metavar="DIR",
        help="for annotated pictures, verdicts and log; default: %(default)s",
    )
    parser.add_argument(
        "--keep", action="store_true", help="inspect the images again and again, slowly, until Ctrl-C"
    )
    return parser.parse_args(arguments)


def known_labels(file: Path) -> dict[str, str]:
    """{image: "good" or "defective"} from a manifest as docs/guide/data.md describes it. Raises DemoError."""
    words = {"0": "good", "1": "defective"}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return {row["path"]: words[row["label"]] for row in csv.DictReader(lines)}
    except KeyError as error:
        raise DemoError(f"{file}: must have columns path and label, labels 0 or 1; got {error}") from None


# ---- the three parties


@contextlib.contextmanager
def running_broker(folder: Path) -> Iterator[Ports]:
    """A broker in a process of its own, for this machine alone. Yields its ports.

    It speaks MQTT 3.1.1: its listener for browsers can do no more, and ends at the first message that carries
    properties of MQTT 5.
    """
    ports = Ports(_free_port(), _free_port())
    config = folder / "broker.toml"
    config.write_text(_BROKER_TOML.format(port=ports.mqtt, websockets=ports.websockets))
    with iotcore.Broker(config_path=str(config)):
        yield ports


@contextlib.contextmanager
def listening(port: int) -> Iterator[SimpleQueue[ReceivedMessage]]:
    """A subscriber to all that the station says. Yields what it receives, from now on."""
    inbox: SimpleQueue[ReceivedMessage] = SimpleQueue()
    subscribed = Event()

    def on_connect(
        client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        client.subscribe(f"{TOPICS}/#", qos=1)

    def on_message(client: Client, userdata: Any, message: MQTTMessage) -> None:
        inbox.put(ReceivedMessage(message.topic, bytes(message.payload), time.time_ns()))

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
    client.on_connect = on_connect
    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        if not subscribed.wait(END_S):
            raise DemoError(f"the broker on 127.0.0.1:{port} did not take the subscription")
        yield inbox
    finally:
        client.disconnect()
        client.loop_stop()


def service_config(bundle: Path, images: Path, port: int, camera: str = "") -> str:
    """The service's config.toml; `camera`: further lines of [camera]. JSON's strings are TOML's as well."""
    return (
        f'[station]\nname = {json.dumps(STATION)}\nstate = "state"\nruntime = "run"\n'
        f"[bundle]\npath = {json.dumps(str(bundle.resolve()))}\n"
        f"[camera]\nsource = {json.dumps(str(images.resolve()))}\n{camera}"
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nprotocol = "3.1.1"\n'
        "[archive]\nmax_bytes = 0\npublish_image_max_bytes = 60000\n"
    )


@contextlib.contextmanager
def running_service(folder: Path, config: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m device run`, as systemd would start it; what it logs goes to `log`."""
    file = folder / "config.toml"
    file.write_text(config)
    command = (sys.executable, "-m", "device", "run", "--config", str(file))
    with log.open("wb") as stderr, subprocess.Popen(command, cwd=ROOT, stderr=stderr) as service:
        try:
            yield service
        finally:
            service.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.wait(END_S)
            service.kill()


# ---- what arrives


def arriving(
    inbox: SimpleQueue[ReceivedMessage], service: subprocess.Popen[bytes], known: Mapping[str, str]
) -> Iterator[Arrival]:
    """Verdicts as they come, each once, until the station has said its last word or its process is gone."""
    seen: set[str] = set()
    for message in messages(inbox, service):
        if message.topic == f"{TOPICS}/birth":
            birth = json.loads(message.payload)
            print(f"model {birth['model']['id']} on {birth['runtime']}\n", flush=True)
        elif message.topic == f"{TOPICS}/status" and message.payload != b"online":
            return
        elif message.topic == f"{TOPICS}/inspection":
            verdict = Verdict.from_json(message.payload)
            if verdict.event_id not in seen:  # QoS 1 may deliver twice
                seen.add(verdict.event_id)
                yield Arrival(verdict, message.arrived_ns, known.get(verdict.image_path or ""))


def messages(
    inbox: SimpleQueue[ReceivedMessage], service: subprocess.Popen[bytes]
) -> Iterator[ReceivedMessage]:
    """What is received while the service lives, and what was still under way. Raises DemoError: silence."""
    heard_s = time.monotonic()
    while True:
        gone = service.poll() is not None
        try:
            yield inbox.get(timeout=1.0)
            heard_s = time.monotonic()
        except Empty:
            if gone:
                return
            if time.monotonic() - heard_s > SILENCE_S:
                raise DemoError(f"the service runs, and nothing arrived for {SILENCE_S:g} s") from None


def show(arrivals: Iterator[Arrival], width: int) -> Iterator[Arrival]:
    """Print each one as it arrives, and pass it on."""
    for shown, arrival in enumerate(arrivals):
        if not shown:
            print(f"{'image':<{width}}  verdict   score   known          ms  boxes (x,y wxh)")
        print(_line(arrival, width), flush=True)
        yield arrival


def _line(arrival: Arrival, width: int) -> str:
    verdict = arrival.verdict
    score = "     -" if verdict.score is None else f"{verdict.score:.4f}"
    boxes = "  ".join(f"{r.box.x},{r.box.y} {r.box.width}x{r.box.height}" for r in verdict.regions)
    known = (arrival.known or "?") + ("" if arrival.agrees or arrival.known is None else " (!)")
    said = f"{arrival.name:<{width}}  {verdict.verdict:<8}  {score}"
    return f"{said}  {known:<13}{arrival.latency_ms:4.0f}  {boxes}".rstrip()


# ---- how it went


def end_well(service: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the service, which ends by itself after its last image. Raises DemoError: exit code not 0."""
    try:
        exit_code = service.wait(END_S)
    except subprocess.TimeoutExpired:
        raise DemoError(f"the service said its last word and did not end within {END_S:g} s") from None
    if exit_code:
        last = "\n  ".join(log.read_text(errors="replace").splitlines()[-5:])
        raise DemoError(f"the service ended with exit code {exit_code}; the end of {log}:\n  {last}")


def require_all(names: Sequence[str], arrivals: Sequence[Arrival]) -> None:
    """Raises DemoError when an image has no verdict, or more than one."""
    counted = Counter(arrival.name for arrival in arrivals)
    wrong = [f"{name}: {counted[name]} verdicts" for name in names if counted[name] != 1]
    if wrong:
        raise DemoError(
            f"{len(wrong)} of {len(names)} images without exactly one verdict: {', '.join(wrong)}"
        )


def keep(arrivals: Sequence[Arrival], images: Path, out: Path) -> None:
    """Write DIR/annotated/<name>.png and DIR/verdicts.jsonl, one verdict a line as it was received."""
    pictures = out / "annotated"
    pictures.mkdir(exist_ok=True)
    for arrival in arrivals:
        if arrival.verdict.verdict == "ERROR":
            continue
        image, _ = read_image(images / arrival.name)
        picture = cv2.cvtColor(annotate(image, arrival.verdict), cv2.COLOR_RGB2BGR)
        (pictures / f"{Path(arrival.name).stem}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    lines = [f"{arrival.verdict.to_json()}\n" for arrival in arrivals]
    (out / "verdicts.jsonl").write_text("".join(lines))


def summarize(arrivals: Sequence[Arrival], out: Path) -> None:
    """Print the counts, the agreement with what is known, the speed, and where the pictures are."""
    words = Counter(arrival.verdict.verdict for arrival in arrivals)
    judged = [arrival for arrival in arrivals if arrival.known is not None]
    took_s = (arrivals[-1].arrived_ns - arrivals[0].arrived_ns) / 1e9
    inspection_ms = [ms for arrival in arrivals if (ms := arrival.verdict.timing_ms.get("total")) is not None]
    print(
        f"\n{len(arrivals)} images: "
        + ", ".join(f"{words[word]} {word}" for word in ("OK", "NG", "MARGINAL", "ERROR"))
    )
    print(f"{sum(arrival.agrees for arrival in judged)} of {len(judged)} agree with what is known")
    if took_s > 0:
        print(f"{(len(arrivals) - 1) / took_s:.1f} images/s at the subscriber", end="")
        print(f", {statistics.median(inspection_ms):.1f} ms a frame in the pipeline (median)")
    print(f"pictures: {out / 'annotated'}\nverdicts: {out / 'verdicts.jsonl'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
