"""The whole daemon on a line: its process, with triggers, outputs and cameras of every kind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber
from fixtures_camera import StreamServer, wait_until
from fixtures_daemon import REPOSITORY, ROOT, Station

from device.inspection.verdict import Verdict

MakeStation = Callable[..., Station]
SENSOR, REJECT, BUSY, READY = 17, 5, 6, 13
PINS = f'[trigger]\nkind = "gpio"\npin = {SENSOR}\ndebounce_ms = 0.0\ntimeout_s = 10.0\n'
OUTPUTS = f"[outputs]\nreject_pin = {REJECT}\nbusy_pin = {BUSY}\nready_pin = {READY}\nreject_pulse_ms = 2.0\n"

# The daemon in a process whose pins are mock ones, and the line beside it in a thread: a part, and the
# next one when it was judged. In the end it prints what the pins went through, in s of the monotonic clock.
LINE = """
import json, os, signal, sys, threading, time
os.environ["GPIOZERO_PIN_FACTORY"] = "mock"
from device.line import pins
from device.__main__ import main
config, count, stops, sensor, *watched = sys.argv[1:]
factory = pins.pin_factory()
sensor, (reject, busy, ready) = factory.pin(int(sensor)), [factory.pin(int(n)) for n in watched]
edges = []
def wait(true):
    deadline = time.monotonic() + 30
    while not true() and time.monotonic() < deadline:
        time.sleep(0.001)
def line():
    wait(lambda: ready.state)
    for part in range(int(count)):
        busied = len(busy.states)
        edges.append(time.monotonic())
        sensor.drive_low()
        sensor.drive_high()
        wait(lambda: len(busy.states) >= busied + 2 and not busy.state)
    if stops:
        os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=line, daemon=True).start()
code = main(["run", "--config", config])
told = {}
for name, pin in (("reject", reject), ("busy", busy), ("ready", ready)):
    told[name] = {"last_s": pin._last_change, "states": [[s.timestamp, bool(s.state)] for s in pin.states]}
print(json.dumps({"code": code, "edges": edges, **told}))
"""


def run_line(station: Station, parts: int, *, stops: bool = True) -> dict[str, object]:
    arguments = (station.config, parts, "stop" if stops else "", SENSOR, REJECT, BUSY, READY)
    done = subprocess.run(
        (sys.executable, "-c", LINE, *map(str, arguments)),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=4 * DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def rises(pin: dict[str, object]) -> list[float]:
    """When the pin went high, in s of the monotonic clock."""
    states: list[list[object]] = pin["states"]
    since_first = list(accumulate(after for after, _ in states))
    first_s = pin["last_s"] - since_first[-1]
    return [first_s + at for at, (_, state) in zip(since_first, states, strict=True) if state]


def verdicts(subscriber: Subscriber) -> list[Verdict]:
    return [Verdict.from_json(payload) for payload in subscriber.payloads(f"{ROOT}/inspection")]


def test_parts_are_triggered_by_a_pin_and_the_bad_ones_thrown_out_in_front_of_the_gate(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    station = make_station(
        broker.port, "onoxo", camera="loop = true", more=f"{PINS}{OUTPUTS}reject_delay_ms = 2000.0"
    )
    told = run_line(station, parts=5)
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    assert [v.verdict for v in verdicts(subscriber)] == ["OK", "NG", "OK", "ERROR", "OK"]
    assert [v.trigger for v in verdicts(subscriber)] == ["gpio"] * 5
    assert [v.image_path for v in verdicts(subscriber)] == [f"part{n}.png" for n in range(1, 6)]
    assert told["code"] == 0
    bad = [told["edges"][1], told["edges"][3]]
    delays = [rise - edge for rise, edge in zip(rises(told["reject"]), bad, strict=True)]
    assert all(1.999 <= delay < DEADLINE_S for delay in delays), delays
    assert len(rises(told["busy"])) == 5
    assert all(after > before for before, after in pairwise(rises(told["busy"])))
    assert [pin["states"][-1][1] for pin in (told["reject"], told["busy"], told["ready"])] == [False] * 3


def test_a_trigger_without_a_frame_in_time_is_an_error_and_thrown_out_and_never_ok(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    more = PINS.replace("timeout_s = 10.0", "timeout_s = 1.5") + OUTPUTS
    station = make_station(broker.port, "oo", camera='loop = true\nfaults = ["1:stall:60.0"]', more=more)
    told = run_line(station, parts=2, stops=False)  # a signal might come before the fault
    subscriber.wait_payload(f"{ROOT}/status", "offline")
    good, missed = verdicts(subscriber)
    assert (good.verdict, good.reason) == ("OK", None)
    assert (missed.verdict, missed.score, missed.trigger) == ("ERROR", None, "gpio")
    assert "no frame within 1.5 s" in missed.reason
    assert told["code"] == 5
    assert len(rises(told["reject"])) == 1
    assert rises(told["reject"])[0] > told["edges"][1]
    assert [pin["states"][-1][1] for pin in (told["reject"], told["busy"], told["ready"])] == [False] * 3


def test_an_interval_is_a_trigger(broker: Broker, subscriber: Subscriber, make_station: MakeStation) -> None:
    more = '[trigger]\nkind = "interval"\ninterval_s = 0.05\n'
    station = make_station(broker.port, "on", camera="loop = true", more=more)
    process = station.start()
    wait_until(lambda: len(verdicts(subscriber)) >= 10)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
    found = verdicts(subscriber)
    assert {v.trigger for v in found} == {"interval"}
    assert [v.verdict for v in found[:4]] == ["OK", "NG"] * 2
    times_ms = [v.captured_ns / 1e6 for v in found]
    assert times_ms[9] - times_ms[0] >= 9 * 50 - 100  # the first may be late


def inspect_live(station: Station, subscriber: Subscriber, **environment: str) -> list[Verdict]:
    process = station.start(**environment)
    wait_until(lambda: len(verdicts(subscriber)) >= 5 or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0, station.log()
    return verdicts(subscriber)


@pytest.mark.parametrize("stream", ["main", "lores"])
def test_the_pi_s_camera_says_how_each_frame_was_taken(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation, tmp_path: Path, stream: str
) -> None:
    for name in ("picamera2", "libcamera"):
        (tmp_path / f"{name}.py").write_text("from device.camera.fake_picamera2 import *\n")
    camera = (
        'kind = "picamera2"\nwidth_px = 320\nheight_px = 240\nexposure_us = 4000\ngain_ratio = 2.0\n'
        f'colour_gains = [1.5, 2]\nstream = "{stream}"\nlores_width_px = 160\nlores_height_px = 120\n'
    )
    station = make_station(broker.port, "o", camera=camera)
    found = inspect_live(station, subscriber, PYTHONPATH=str(tmp_path))
    assert {v.camera for v in found} == {"picamera2"}
    assert {v.verdict for v in found} <= {"OK", "NG", "MARGINAL"}
    width = 320 if stream == "main" else 160
    for verdict in found:
        assert verdict.image_size.width == width
        assert verdict.camera_metadata["exposure_us"] == 4000
        assert verdict.camera_metadata["red_gain"] == 1.5
        assert verdict.camera_metadata["sensor_temperature_c"] == 35.0
    assert all(after.seq > before.seq for before, after in pairwise(found))
    assert f"camera picamera2 0, {stream}" in station.log()


def test_a_network_camera_is_inspected_as_it_is_now(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation, stream: StreamServer
) -> None:
    address = stream.address.replace("http://", "http://user:secret@")
    station = make_station(broker.port, "o", camera='kind = "opencv"')
    text = station.config.read_text().replace('source = "images"', f'source = "{address}"')
    station.config.write_text(text)
    found = inspect_live(station, subscriber)
    assert {v.camera for v in found} == {"opencv"}
    assert {v.image_size.width for v in found} == {84}
    assert "secret" not in station.log()
    assert f"camera opencv of {stream.address}" in station.log()
