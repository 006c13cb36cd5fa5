"""Many stations on one Mosquitto: how much it bears, what it costs, and how late verdicts are.

    .venv/bin/python -m benchmarks.load [--stations 200] [--rates 1,2,5,10] [--seconds 15] [--consumers 2]

Every station has a connection of its own (MQTT 5) and does what the device does: retained status, birth,
model, counters, health and the latest verdict; every verdict on `inspection`, QoS 1, and NG and MARGINAL on
`defect`. The consumers share one subscription (`$share/store/...`), so that each verdict reaches one of them.
All on loopback, with real payload sizes (the golden ones of the tests). Needs `apt install mosquitto`. Ends
with 1 when a verdict was lost.

Broker, stations and consumers share this machine: the figures are a lower bound of what a broker alone bears.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.mosquitto import Mosquitto, mosquitto
from benchmarks.simulated import SimulatedStation, compact

FILTER = "$share/store/edgevision/+/inspection"
PROCESSES = 4  # that play stations
DRAIN_S = 10.0  # the longest wait for what is still under way
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one rate gave."""

    sent: int
    received: int
    messages: int
    payload_bytes: int
    seconds: float
    latency_ms: list[float]
    broker_cpu_s: float
    broker_bytes: int

    def __str__(self) -> str:
        return (
            f"| {self.sent / self.seconds:.0f} | {self.messages / self.seconds:.0f} "
            f"| {self.payload_bytes / self.seconds / 1e6:.2f} | {self.sent - self.received} "
            f"| {self._at(0.5):.1f} | {self._at(0.99):.1f} | {self.latency_ms[-1]:.0f} "
            f"| {100 * self.broker_cpu_s / self.seconds:.0f} % | {self.broker_bytes / 1e6:.1f} |"
        )

    def _at(self, share: float) -> float:
        last = len(self.latency_ms) - 1
        return self.latency_ms[min(last, int(share * len(self.latency_ms)))]


def main() -> int:
    """Run every rate; returns the exit code."""
    options = _options()
    print(
        f"{options.stations} stations, {options.consumers} consumers, "
        f"{os.cpu_count()} cores, {options.seconds:g} s each"
    )
    print(
        "| verdicts/s | messages/s to the broker | MB/s | lost "
        "| p50 ms | p99 ms | longest ms | broker CPU | RSS MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    lost = 0
    for rate_hz in (float(rate) for rate in options.rates.split(",")):
        with (
            tempfile.TemporaryDirectory() as folder,
            mosquitto(Path(folder), "max_queued_messages 0") as broker,
        ):
            figures = run(broker, options.stations, options.consumers, rate_hz, options.seconds)
        print(figures, flush=True)
        lost += figures.sent - figures.received
    return 1 if lost else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Load one Mosquitto with simulated stations.")
    parser.add_argument("--stations", type=int, default=200)
    parser.add_argument("--consumers", type=int, default=2)
    parser.add_argument("--rates", default="1,2,5,10", help="verdicts a second of each station, with commas")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each rate")
    return parser.parse_args()


def run(broker: Mosquitto, stations: int, consumers: int, rate_hz: float, seconds: float) -> Figures:
    """One rate on a fresh broker."""
    context = multiprocessing.get_context("spawn")
    go, stop = context.Event(), context.Event()
    listeners = [_start(context, consume, broker.port, stop) for _ in range(consumers)]
    names = [f"station-{number:03d}" for number in range(stations)]
    parts = [names[i::PROCESSES] for i in range(PROCESSES)]
    speakers = [_start(context, speak, broker.port, part, rate_hz, seconds, go) for part in parts if part]
    for _, pipe in (*listeners, *speakers):
        pipe.recv()  # ready
    time.sleep(SETTLE_S)
    before_s = broker.cpu_s
    go.set()
    said = [pipe.recv() for _, pipe in speakers]
    busy_s = broker.cpu_s - before_s
    time.sleep(SETTLE_S)
    memory = broker.resident_bytes
    stop.set()
    heard = [pipe.recv() for _, pipe in listeners]
    for process, _ in (*listeners, *speakers):
        process.join()
    sent, messages, payload, took_s = (list(column) for column in zip(*said, strict=True))
    latency_ms = sorted(ms for latencies in heard for ms in latencies)
    return Figures(
        sum(sent), len(latency_ms), sum(messages), sum(payload), max(took_s), latency_ms, busy_s, memory
    )


def _start(context: Any, target: Any, *arguments: Any) -> tuple[Any, Connection]:
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    return process, ours


# ---- in processes of their own


def consume(port: int, stop: Event, pipe: Connection) -> None:
    """A consumer: the milliseconds of every verdict it was given, once told to stop and all is still."""
    latency_ms: list[float] = []
    subscribed = threading.Event()

    def on_message(client: Client, userdata: Any, message: MQTTMessage) -> None:
        sent_ns = int(message.payload.split(b'"part_id":"', 1)[1].split(b'"', 1)[0])
        latency_ms.append((time.monotonic_ns() - sent_ns) / 1e6)

    client = _client("")
    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.subscribe(FILTER, qos=1)
    client.loop_start()
    subscribed.wait(DRAIN_S)
    pipe.send("ready")
    stop.wait()
    _wait_until_still(latency_ms)
    pipe.send(latency_ms)


def _wait_until_still(arrived: list[float]) -> None:
    end = time.monotonic() + DRAIN_S
    before = -1
    while len(arrived) != before and time.monotonic() < end:
        before = len(arrived)
        time.sleep(SETTLE_S)


def speak(port: int, names: list[str], rate_hz: float, seconds: float, go: Event, pipe: Connection) -> None:
    """Some stations: sends back (verdicts, messages, payload bytes, s) once all is acknowledged."""
    voices = [(SimulatedStation(name), _client(name)) for name in names]
    for station, client in voices:
        client.connect("127.0.0.1", port)
        client.loop_start()
        for topic, payload in station.retained().items():
            client.publish(topic, payload, 1, retain=True).wait_for_publish(DRAIN_S)
    pipe.send("ready")
    go.wait()
    pipe.send(_speak_all(voices, rate_hz, seconds))


def _speak_all(
    voices: list[tuple[SimulatedStation, Client]], rate_hz: float, seconds: float
) -> tuple[int, int, int, float]:
    """Station after station, evenly over the time: verdicts of a hall do not come in step."""
    started = time.monotonic()
    verdicts = int(len(voices) * rate_hz * seconds)
    messages = payload_bytes = 0
    waiting = []
    for turn in range(verdicts):
        time.sleep(max(0.0, started + turn / (len(voices) * rate_hz) - time.monotonic()))
        station, client = voices[turn % len(voices)]
        word = station.any_word()
        payload = compact(station.verdict(word, part_id=str(time.monotonic_ns())))
        topics = ["inspection", "inspection/last", *(["defect"] if word in ("NG", "MARGINAL") else [])]
        for topic in topics:
            retain = topic == "inspection/last"
            waiting.append(client.publish(station.topic(topic), payload, 1, retain))
        messages += len(topics)
        payload_bytes += len(topics) * len(payload)
    for info in waiting:
        info.wait_for_publish(DRAIN_S)
    return verdicts, messages, payload_bytes, time.monotonic() - started


def _client(name: str) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(100)
    return client


if __name__ == "__main__":
    sys.exit(main())
