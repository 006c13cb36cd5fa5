"""Does a PLC ever take a wrong verdict for its part's? Simulated PLCs, and everything else real.

    .venv/bin/python -m benchmarks.plc --parts 100000 --kills 400 --seed 1      about an hour on two cores
    .venv/bin/python -m benchmarks.plc --parts 2000 --kills 20 --seed 1         about two minutes

Each line has a station (the service with the demo's model and images, triggered by command) and a PLC that
scans every 10 ms: it reads the registers, does one step of the handshake of docs/guide/bridge-plc.md, writes
what has changed. One bridge and one Mosquitto serve all lines. At seeded random moments a station, the bridge
or the broker is killed (kill -9) and comes back.

A PLC gives each part a number and an id, and knows at the end of its time whether the part is judged.
Expected: each part is known as judged or as not judged, and each verdict that was taken is this part's own:
it bears the part's id and number, its frame was taken while the part was there, and where the verdict was
heard on MQTT as well (the broker forgets some when it is killed), it is the same.

Exit codes: 0 as expected, 1 not. Prints a JSON object with all figures.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from benchmarks.delivery import Broker, free_port
from deploy.bridge.register_map import CONTROL_BITS, FIELDS, STATUS_BITS, STATUS_WORDS, VERDICTS, WORDS

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "deploy" / "demo"
SCAN_S = 0.010
START_S = 120.0  # until all are there for the first time
READY_S = 1.0  # how long a part waits for the station; then it goes by, not judged
VERDICT_S = 3.0  # and for its verdict
KINDS = ("station", "bridge", "broker")
_WORDS = {code: word for word, code in VERDICTS.items()}


@dataclass(frozen=True, slots=True)
class Part:
    """A part as the PLC knows it at the end; `verdict` None: not judged."""

    id: str
    came_s: float
    left_s: float
    verdict: str | None = None
    part_id: str = ""
    event_id: str = ""
    captured_s: float = 0.0


@dataclass
class Plc(threading.Thread):
    """One line's PLC: `parts` parts, one after the other."""

    line: str
    unit: int
    port: int
    parts: int
    done: list[Part] = field(default_factory=list)
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(name=f"plc {self.line}", daemon=True)
        self._client: ModbusTcpClient | None = None
        self._number = 0

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        self._scan_until(START_S, "ready")
        for number in range(self.parts):
            self.done.append(self._inspect(f"{self.line}-{number:06d}"))
        if self._client is not None:
            self._client.close()

    def _inspect(self, part_id: str) -> Part:
        """One part, by the handshake of docs/guide/bridge-plc.md."""
        came_s = time.time()
        self._number += 1
        if self._scan_until(READY_S, "ready", control=0) is None:
            return Part(part_id, came_s, time.time())
        trigger = {"control": CONTROL_BITS["trigger"], "trigger_number": self._number, "part_id": part_id}
        if (
            self._write(trigger)
            and self._scan_until(VERDICT_S, "trigger_ack")
            and self._write({"control": 0})
        ):
            image = self._scan_until(VERDICT_S, "result_valid")
            if image is not None and FIELDS["result_trigger"].number(image) == self._number:
                return self._judged(part_id, came_s, image)
        return Part(part_id, came_s, time.time())

    def _judged(self, part_id: str, came_s: float, image: list[int]) -> Part:
        left_s = time.time()
        self.slowest_s = max(self.slowest_s, left_s - came_s)
        self._write({"control": CONTROL_BITS["result_ack"]})
        seconds, ms = FIELDS["captured_s"].number(image), FIELDS["captured_ms"].number(image)
        return Part(
            part_id,
            came_s,
            left_s,
            _WORDS[FIELDS["verdict"].number(image)],
            FIELDS["result_part_id"].text(image),
            FIELDS["event_id"].text(image),
            seconds + ms / 1000,
        )

    def _scan_until(self, limit_s: float, bit: str, control: int | None = None) -> list[int] | None:
        """Scans until a bit of the status is 1; None after its time, or when this trigger has failed."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            if control is not None:
                control = None if self._write({"control": control}) else control
            image = self._read()
            if image is not None:
                status = FIELDS["status"].number(image)
                if status & STATUS_BITS[bit]:
                    return image
                if status & STATUS_BITS["trigger_error"] and bit == "result_valid":
                    return None
            time.sleep(SCAN_S)
        return None

    def _read(self) -> list[int] | None:
        try:
            answer = self._connected().read_holding_registers(0, count=STATUS_WORDS, device_id=self.unit)
        except (ModbusException, OSError):
            self._drop()
            return None
        return None if answer.isError() else list(answer.registers)

    def _write(self, values: dict[str, int | str]) -> bool:
        """All that stands together, in one request."""
        image = [0] * WORDS
        last = 0
        for name, value in values.items():
            FIELDS[name].put(image, value)
            last = max(last, FIELDS[name].address + FIELDS[name].words)
        first = FIELDS["control"].address
        try:
            answer = self._connected().write_registers(first, image[first:last], device_id=self.unit)
        except (ModbusException, OSError):
            self._drop()
            return False
        return not answer.isError()

    def _connected(self) -> ModbusTcpClient:
        if self._client is None:
            self._client = ModbusTcpClient("127.0.0.1", port=self.port, timeout=1, retries=0)
        if not self._client.connected and not self._client.connect():
            raise OSError("the bridge is away")
        return self._client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


class Ear:
    """Hears every verdict on MQTT, as far as the broker passes it on."""

    def __init__(self, port: int) -> None:
        self.heard: dict[str, tuple[str | None, str]] = {}  # part id and verdict, by event id
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda *_: self._client.subscribe("edgevision/+/inspection", qos=1)
        self._client.on_message = self._note
        self._client.connect_async("127.0.0.1", port)

    def start(self) -> None:
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _note(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        verdict = json.loads(message.payload)
        self.heard[verdict["event_id"]] = verdict["part_id"], verdict["verdict"]


class Program:
    """A process that can be killed and started again."""

    def __init__(self, folder: Path, name: str, *command: str) -> None:
        self._folder = folder
        self._name = name
        self._command = (sys.executable, *command)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / f"{self._name}.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stderr=log, stdout=log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


class Hall:
    """All lines, the bridge and the broker, and strikes at them."""

    def __init__(self, folder: Path, lines: int, parts: int, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 seeded on purpose
        self.struck = Counter(dict.fromkeys(KINDS, 0))
        shutil.copytree(DEMO / "bundle", folder / "bundle", symlinks=True)  # a station locks its bundles
        self.broker = Broker(folder / "broker", free_port())
        self.broker.start()
        self.ear = Ear(self.broker.port)
        names = [f"line-{number}" for number in range(1, lines + 1)]
        port = free_port()
        self.bridge = Program(folder, "bridge", *_bridge(folder, names, port, self.broker.port))
        self.stations = [Program(folder, name, *_station(folder, name, self.broker.port)) for name in names]
        share, rest = divmod(parts, lines)
        self.plcs = [Plc(name, unit, port, share + (unit <= rest)) for unit, name in enumerate(names, 1)]

    def run(self, kills: int) -> dict[str, Any]:
        """Until every part is known, with so many strikes spread over the parts."""
        begin_s = time.monotonic()
        programs = (*self.stations, self.bridge)
        try:
            self.ear.start()
            for program in programs:
                program.start()
            for plc in self.plcs:
                plc.start()
            self._strike_meanwhile(kills)
            for plc in self.plcs:
                plc.join()
        finally:
            for program in programs:
                program.kill()
            self.ear.stop()
            self.broker.kill()
        return self.report(time.monotonic() - begin_s)

    def _strike_meanwhile(self, kills: int) -> None:
        """Each strike after a share of all parts, and a moment of its own within it."""
        total = sum(plc.parts for plc in self.plcs)
        for number in range(kills):
            after = (number + self.chance.random()) * total / (kills + 1)
            while self._known() < after:
                time.sleep(0.01)
            time.sleep(self.chance.uniform(0.0, 0.1))
            self._strike(self.chance.choice(KINDS))
            if number % 10 == 0:
                print(f"{number + 1} kills, {self._known()} parts", file=sys.stderr, flush=True)

    def _strike(self, kind: str) -> None:
        self.struck[kind] += 1
        if kind == "broker":
            self.broker.kill()
            self.broker.start()
            return
        program = self.bridge if kind == "bridge" else self.chance.choice(self.stations)
        program.kill()
        program.start()

    def _known(self) -> int:
        return sum(len(plc.done) for plc in self.plcs)

    def report(self, seconds: float) -> dict[str, Any]:
        """What came of all parts; `wrong` are those whose verdict is not their own."""
        parts = [part for plc in self.plcs for part in plc.done]
        judged = [part for part in parts if part.verdict is not None]
        return {
            "parts": len(parts),
            "judged": len(judged),
            "not_judged": len(parts) - len(judged),
            "verdicts": Counter(part.verdict for part in judged),
            "kills": dict(self.struck),
            "wrong": [str(part) for part in judged if self.is_wrong(part)],
            "taken_twice": len(judged) - len({part.event_id for part in judged}),
            "heard_on_mqtt_as_well": sum(part.event_id in self.ear.heard for part in judged),
            "slowest_judged_s": round(max(plc.slowest_s for plc in self.plcs), 2),
            "seconds": round(seconds),
        }

    def is_wrong(self, part: Part) -> bool:
        """Whether a verdict that was taken for a part is not its own."""
        heard = self.ear.heard.get(part.event_id, (part.id, part.verdict))
        return (
            part.part_id != part.id
            or not part.came_s - 0.001 <= part.captured_s <= part.left_s
            or heard != (part.id, part.verdict)
        )


def _station(folder: Path, name: str, port: int) -> tuple[str, ...]:
    path = folder / f"{name}.toml"
    path.write_text(
        f'[station]\nname = "{name}"\nstate = "{folder / name}"\nruntime = "{folder / name}-run"\n'
        f'[bundle]\npath = "{folder / "bundle"}"\n[camera]\nsource = "{DEMO / "images"}"\nloop = true\n'
        f'[trigger]\nkind = "mqtt"\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\nkeepalive_s = 5\n'
        '[commands]\nenabled = true\nallow = ["trigger"]\nrate_hz = 1000.0\n'
        "[archive]\nmax_bytes = 0\n[model]\nthreads = 1\n"
    )
    return ("-m", "device", "run", "--config", str(path))


def _bridge(folder: Path, names: list[str], port: int, broker_port: int) -> tuple[str, ...]:
    path = folder / "bridge.toml"
    units = ", ".join(f'"{unit}={name}"' for unit, name in enumerate(names, 1))
    path.write_text(
        f"[mqtt]\nport = {broker_port}\n[modbus]\nenabled = true\nport = {port}\nunits = [{units}]\n"
        "trigger_timeout_s = 2.0\n"
    )
    return ("-m", "deploy.bridge", "--config", str(path))


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Simulated PLCs, real stations, bridge and broker, and kills."
    )
    parser.add_argument("--parts", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--lines", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("pymodbus_internal").setLevel(logging.CRITICAL)  # a bridge that is away is no news here
    with tempfile.TemporaryDirectory() as folder:
        figures = Hall(Path(folder), options.lines, options.parts, options.seed).run(options.kills)
    print(json.dumps(figures, indent=2))
    fine = not figures["wrong"] and not figures["taken_twice"] and figures["parts"] == options.parts
    return 0 if fine and figures["judged"] else 1


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
