"""The whole daemon on a line: its process, with triggers, outputs and cameras of every kind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import accumulate, count, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber
from fixtures_bundle import make_image
from fixtures_camera import StreamServer, wait_until
from fixtures_commands import Commander
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


COMMANDED = """
[trigger]
kind = "mqtt"
timeout_s = 5.0
[commands]
enabled = true
allow = ["trigger"]
rate_hz = 1000.0
"""


def part(
    *, defective: bool = False, side_ratio: float = 1.0, tint: int = 20, gray: bool = False, kept: float = 1.0
) -> Callable[[int], bytes]:
    """JPEGs of a part of the tiny model's; `tint`: more red than green and blue."""

    def picture(number: int) -> bytes:
        image = make_image(width=128, height=96, seed=number, spot=(30, 40, 24, 24) if defective else None)
        image[..., 0] += np.uint8(tint) * (image[..., 0] < 200)
        image = cv2.resize(image, None, fx=side_ratio, fy=side_ratio, interpolation=cv2.INTER_NEAREST)
        coded = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if gray else cv2.COLOR_RGB2BGR)
        content = cv2.imencode(".jpg", coded, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        return content[: round(kept * len(content))]

    return picture


def stream_station(
    make_station: MakeStation, broker: Broker, stream: StreamServer, camera: str = ""
) -> Station:
    station = make_station(broker.port, "o", camera=f'kind = "opencv"\n{camera}', more=COMMANDED)
    text = station.config.read_text().replace('source = "images"', f'source = "{stream.address}"')
    station.config.write_text(text)
    return station


def inspect_parts(commander: Commander, subscriber: Subscriber, names: list[str]) -> list[Verdict]:
    """One part after the other; their verdicts."""
    for name in names:
        assert commander.ask("trigger", {"part_id": name})["ok"]
        wait_until(lambda name=name: any(v.part_id == name for v in verdicts(subscriber)))
    return [v for v in verdicts(subscriber) if v.part_id in names]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"side_ratio": 4.0}, "the camera gives 512x384 px, and gave 128x96 px"),
        ({"side_ratio": 0.5}, "the camera gives 64x48 px, and gave 128x96 px"),
        ({"gray": True}, "the camera has lost its colours"),
        ({"kept": 0.3}, "truncated JPEG"),
    ],
)
def test_a_defective_part_is_never_judged_by_the_good_one_before(
    broker: Broker,
    subscriber: Subscriber,
    make_station: MakeStation,
    stream: StreamServer,
    change: dict[str, object],
    reason: str,
) -> None:
    stream.picture = part()
    station = stream_station(make_station, broker, stream)
    process = station.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    commander = Commander(broker.port)
    good = inspect_parts(commander, subscriber, ["good1", "good2", "good3"])
    stream.picture = part(defective=True)
    defective = inspect_parts(commander, subscriber, ["bad1", "bad2", "bad3"])
    stream.picture = part(**change)
    changed = inspect_parts(commander, subscriber, ["good4", "good5"])
    stream.picture = part(defective=True, **change)
    hidden = inspect_parts(commander, subscriber, ["bad4", "bad5"])
    stream.picture = part()
    back = inspect_parts(commander, subscriber, ["good6", "good7"])
    assert [v.verdict for v in good + back] == ["OK"] * 5, [v.reason for v in good + back]
    assert [v.verdict for v in defective] == ["NG"] * 3
    assert [v.verdict for v in changed] == ["ERROR"] * 2
    assert all(reason in str(v.reason) for v in changed)
    assert {v.verdict for v in hidden} <= {"NG", "ERROR"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0, station.log()
    commander.close()


def test_what_is_ok_in_another_mode_can_be_marginal(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation, stream: StreamServer
) -> None:
    stream.picture = part()
    station = stream_station(make_station, broker, stream, 'mode_change = "MARGINAL"')
    station.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    commander = Commander(broker.port)
    assert inspect_parts(commander, subscriber, ["good1"])[0].verdict == "OK"
    stream.picture = part(gray=True)
    for doubted in inspect_parts(commander, subscriber, ["good2", "good3"]):
        assert doubted.verdict == "MARGINAL"
        assert "the camera has lost its colours" in str(doubted.reason)
    stream.picture = part(defective=True, gray=True)
    assert inspect_parts(commander, subscriber, ["bad1"])[0].verdict == "NG"
    commander.close()


def test_a_network_camera_that_restarts_costs_its_parts_and_not_the_service(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation, stream: StreamServer
) -> None:
    stream.picture = part()
    station = stream_station(make_station, broker, stream)
    process = station.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    commander = Commander(broker.port)
    assert inspect_parts(commander, subscriber, ["good1"])[0].verdict == "OK"
    stream.hung_up.set()
    lost = inspect_parts(commander, subscriber, [f"lost{n}" for n in range(10)])
    assert {v.verdict for v in lost[2:]} == {"ERROR"}  # what was on its way still came
    assert "it is being opened again" in str(lost[-1].reason)
    stream.hung_up.clear()
    numbers = count()
    wait_until(lambda: inspect_parts(commander, subscriber, [f"g{next(numbers)}"])[0].verdict == "OK")
    assert "back after" in station.log()
    assert process.poll() is None
    commander.close()


def test_triggers_that_come_faster_than_the_model_are_errors_and_no_fault_of_the_camera(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    more = COMMANDED.replace('kind = "mqtt"', 'kind = "mqtt"\nqueue_limit = 2')
    station = make_station(broker.port, "on", camera="loop = true\nrate_hz = 5", more=more)
    process = station.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    commander = Commander(broker.port)
    for number in range(40):
        commander.send("trigger", {"part_id": f"p{number}"})
        threading.Event().wait(0.02)  # so far apart that none is over the rate, and faster than the camera
    wait_until(lambda: len(verdicts(subscriber)) == 40)
    found = verdicts(subscriber)
    missed = [v for v in found if v.verdict == "ERROR"]
    assert len(missed) > 5
    assert all("not inspected: " in str(v.reason) for v in missed)
    assert sorted(str(v.part_id) for v in found) == sorted(f"p{number}" for number in range(40))
    assert inspect_parts(commander, subscriber, ["after"])[0].verdict != "ERROR"
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0, station.log()
    commander.close()
