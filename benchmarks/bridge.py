"""What the bridge costs, and how late a PLC knows a verdict.

    .venv/bin/python -m benchmarks.bridge --stations 100 --rate 5 --seconds 30

A real Mosquitto, the bridge with Modbus, HTTP and metrics on one core (taskset), and simulated stations, each
with a connection of its own. One station more is the probe: it publishes a verdict, and a Modbus client reads
its registers again and again until the verdict stands there. A scrape of /metrics every 15 s goes on
meanwhile. All on loopback.

Expected: from publish to register p99 at most 10 ms; no message refused or lost; at most 200 MB. Broker,
stations and probe share this machine with the bridge: the figures are an upper bound.

Exit codes: 0 as expected, 1 not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from pymodbus.client import ModbusTcpClient

from benchmarks.delivery import free_port, wait_for
from benchmarks.load import PROCESSES, speak
from benchmarks.mosquitto import mosquitto
from benchmarks.simulated import SimulatedStation, compact
from deploy.bridge.register_map import FIELDS, STATUS_WORDS

ROOT = Path(__file__).resolve().parent.parent
PROBE = "probe"
SETTINGS = (
    "set_tcp_nodelay true",
    "max_queued_messages 100000",
)  # as deploy/mosquitto/edgevision.conf has them
PAUSE_S = 0.05  # between two verdicts of the probe
SCRAPE_S = 15.0
P99_LIMIT_MS, RESIDENT_LIMIT_BYTES = 10.0, 200_000_000


class Bridge:
    """The bridge as a process on the last core."""

    def __init__(self, folder: Path, broker_port: int) -> None:
        self.modbus, self.metrics = free_port(), free_port()
        config = folder / "bridge.toml"
        config.write_text(
            f"[mqtt]\nport = {broker_port}\n"
            f'[modbus]\nenabled = true\nport = {self.modbus}\nunits = ["1={PROBE}"]\n'
            f"[http]\nenabled = true\nport = {free_port()}\n"
            f"[metrics]\nenabled = true\nport = {self.metrics}\n"
        )
        core = str((os.cpu_count() or 1) - 1)
        command = ("taskset", "-c", core, sys.executable, "-m", "deploy.bridge", "--config", str(config))
        self.process = subprocess.Popen(command, cwd=ROOT)
        wait_for(lambda: self.figure("edgevision_bridge_broker_connected") == 1, "the bridge")

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def figure(self, name: str) -> float | None:
        """A figure without labels of /metrics; None while there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)


class Probe:
    """One more station, and the PLC that reads it: the milliseconds from publish to register."""

    def __init__(self, broker_port: int, bridge: Bridge) -> None:
        self.latency_ms: list[float] = []
        self._voice = SimulatedStation(PROBE, session=f"{time.time_ns():032x}")
        self._client = Client(CallbackAPIVersion.VERSION2, PROBE, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.connect("127.0.0.1", broker_port)
        self._client.loop_start()
        for topic, payload in self._voice.retained().items():
            self._client.publish(topic, payload, 1, retain=True).wait_for_publish(10)
        self._plc = ModbusTcpClient("127.0.0.1", port=bridge.modbus)
        self._plc.connect()

    def run(self, seconds: float) -> None:
        """Verdict after verdict."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            verdict = self._voice.verdict("OK")
            payload = compact(verdict)
            before_s = time.monotonic()
            self._client.publish(self._voice.topic("inspection"), payload, 1)
            while self._event_number() != verdict["seq"] or not verdict["seq"]:
                if (
                    not verdict["seq"] or time.monotonic() - before_s > 10
                ):  # 0 stands there from the beginning
                    break
            else:
                self.latency_ms.append((time.monotonic() - before_s) * 1000)
            time.sleep(PAUSE_S)

    def _event_number(self) -> int:
        answer = self._plc.read_holding_registers(0, count=STATUS_WORDS, device_id=1)
        return FIELDS["event_number"].number(list(answer.registers))

    def close(self) -> None:
        self._plc.close()
        self._client.disconnect()
        self._client.loop_stop()


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description="The bridge under the load of many stations.")
    parser.add_argument("--stations", type=int, default=100)
    parser.add_argument("--rate", type=float, default=5.0, help="verdicts a second of each")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, mosquitto(Path(folder), *SETTINGS) as broker:
        bridge = Bridge(Path(folder), broker.port)
        try:
            return _measured(bridge, broker.port, options)
        finally:
            bridge.process.kill()
            bridge.process.wait()


def _measured(bridge: Bridge, port: int, options: argparse.Namespace) -> int:
    context = multiprocessing.get_context("spawn")
    go = context.Event()
    names = [f"station-{number:03d}" for number in range(options.stations)]
    speakers = []
    for part in (names[i::PROCESSES] for i in range(min(PROCESSES, len(names)))):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=speak, args=(port, part, options.rate, options.seconds, go, theirs), daemon=True
        )
        process.start()
        speakers.append((process, ours))
    for _, pipe in speakers:
        pipe.recv()  # ready
    probe = Probe(port, bridge)
    done = threading.Event()
    scraper = threading.Thread(target=_scrape, args=(bridge, done), daemon=True)
    before, before_s = bridge.figure("edgevision_bridge_messages_total") or 0, bridge.cpu_s
    begin_s = time.monotonic()
    go.set()
    scraper.start()
    probe.run(options.seconds)
    said = [pipe.recv() for _, pipe in speakers]
    took_s = time.monotonic() - begin_s
    busy_s = bridge.cpu_s - before_s
    done.set()
    wait_for(lambda: _heard(bridge, before) >= _told(said, probe), "all messages at the bridge")
    probe.close()
    return _report(bridge, said, sorted(probe.latency_ms), busy_s / took_s, took_s)


def _told(said: list[Any], probe: Probe) -> int:
    """What the bridge subscribes to: `inspection` and `inspection/last` of each verdict, not `defect`."""
    return sum(2 * verdicts for verdicts, *_ in said) + len(probe.latency_ms)


def _heard(bridge: Bridge, before: float) -> float:
    return (bridge.figure("edgevision_bridge_messages_total") or 0) - before


def _scrape(bridge: Bridge, done: threading.Event) -> None:
    while not done.wait(SCRAPE_S):
        bridge.figure("edgevision_station_up")


def _report(bridge: Bridge, said: list[Any], latency_ms: list[float], share: float, took_s: float) -> int:
    def at(share_of: float) -> float:
        return latency_ms[min(len(latency_ms) - 1, int(share_of * len(latency_ms)))]

    refused = bridge.figure("edgevision_bridge_refused_messages_total") or 0
    rate_hz = sum(verdicts for verdicts, *_ in said) / took_s
    print(
        "| verdicts/s | refused | publish to register p50 ms | p99 ms | longest ms | of one core | RSS MB |"
    )
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {rate_hz:.0f} | {refused:.0f} | {at(0.5):.1f} | {at(0.99):.1f} | {latency_ms[-1]:.0f} "
        f"| {share:.0%} | {bridge.resident_bytes / 1e6:.0f} |"
    )
    fine = not refused and at(0.99) <= P99_LIMIT_MS and bridge.resident_bytes <= RESIDENT_LIMIT_BYTES
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
