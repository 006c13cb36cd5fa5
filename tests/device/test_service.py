"""The whole daemon as a process, with a real broker, a real (tiny) model and real signals."""

from __future__ import annotations

import json
import logging
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber, free_port
from fixtures_bundle import TinyModel
from fixtures_daemon import REPOSITORY, ROOT, Station, errors, run_device

from device import config, service
from device.camera.camera import make_camera
from device.errors import FrameError
from device.inspection.verdict import Verdict
from device.line.trigger import make_trigger
from device.system.signals import StopSignal

MakeStation = Callable[..., Station]


def make_service(station: Station, stop: StopSignal) -> service.Service:
    loaded = config.load(station.config)
    return service.Service(loaded, stop, make_camera(loaded.camera, stop.wait), make_trigger(loaded.trigger))


def verdicts(subscriber: Subscriber, topic: str = "inspection") -> list[Verdict]:
    return [Verdict.from_json(payload) for payload in subscriber.payloads(f"{ROOT}/{topic}")]


def words(subscriber: Subscriber, topic: str = "inspection") -> list[str]:
    return [verdict.verdict for verdict in verdicts(subscriber, topic)]


def test_a_finite_source_is_inspected_published_and_ends_with_0(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    station = make_station(broker.port, "oonoxo")
    process = station.start()
    assert process.wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    assert words(subscriber) == ["OK", "OK", "NG", "OK", "ERROR", "OK"]
    assert words(subscriber, "defect") == ["NG"]
    assert subscriber.payloads(f"{ROOT}/status") == ["online", "stopped"]
    assert verdicts(subscriber)[2] == verdicts(subscriber, "defect")[0]
    assert subscriber.payloads(f"{ROOT}/inspection/last")[-1] == subscriber.payloads(f"{ROOT}/inspection")[-1]
    assert "verdicts in all: 4 OK, 1 NG, 0 MARGINAL, 1 ERROR" in station.log()
    assert "0 waiting, 0 dropped, 0 refused, 0 lost" in station.log()


def test_images_of_12_bits_are_judged_as_the_bundle_says(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation, tiny_model: TinyModel, tmp_path: Path
) -> None:
    preprocess = replace(tiny_model.calibration.preprocess, white_level=4080)
    tiny_model.write(tmp_path / "deep", preprocess=preprocess)
    station = make_station(broker.port, "ono")
    for path in station.images.iterdir():
        cv2.imwrite(str(path), np.uint16(cv2.imread(str(path))) * 16)
    station.bundle = tmp_path / "deep"
    station.configure()
    assert station.start().wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    assert words(subscriber) == ["OK", "NG", "OK"]


ROI = "[inspection]\nroi = [[[64, 0], [{}, 0], [{}, 96], [64, 96]]]"


def test_a_region_for_another_camera_ends_it_with_3(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    """There is no default verdict: the part that was taken is an ERROR."""
    station = make_station(broker.port, "oo", more=ROI.format(640, 640))
    assert station.start().wait(DEADLINE_S) == 3
    told = "[inspection] roi: every corner must lie in the frame of 128x96 px, got 640, 0"
    assert station.log().splitlines()[-1] == f"error: {told}"
    subscriber.wait_payload(f"{ROOT}/status", "offline")
    assert words(subscriber) == ["ERROR"]


def test_one_frame_of_another_size_is_an_error_and_no_more(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    station = make_station(broker.port, "oooo", camera='faults = ["2:size:64x48"]', more=ROI.format(128, 128))
    assert station.start().wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    assert words(subscriber) == ["OK", "OK", "ERROR", "OK"]
    assert "every corner must lie in the frame of 64x48 px" in str(verdicts(subscriber)[2].reason)


def test_frames_that_stay_of_another_size_end_it_with_5(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    camera = 'loop = true\nmax_failures = 3\nfaults = ["2:size:64x48", "3:size:64x48", "4:size:64x48"]'
    station = make_station(broker.port, "oooo", camera=camera, more=ROI.format(128, 128))
    assert station.start().wait(DEADLINE_S) == 5
    assert "3 unreadable frames one after the other" in station.log()


def test_the_verdicts_say_what_was_seen(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    make_station(broker.port, "onx").start().wait(DEADLINE_S)
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    good, defective, unseen = verdicts(subscriber)
    assert [v.seq for v in (good, defective, unseen)] == [0, 1, 2]
    assert [v.image_path for v in (good, defective, unseen)] == ["part1.png", "part2.png", "part3.png"]
    assert [r.method for r in defective.regions] == ["evidence"]
    assert good.score < 0.3
    assert defective.score >= 0.6
    assert (unseen.score, unseen.regions, unseen.image_size, unseen.checks) == (None, (), None, None)
    birth = json.loads(subscriber.payloads(f"{ROOT}/birth")[0])
    assert {v.session_id for v in (good, defective, unseen)} == {birth["session_id"]}
    assert birth["model"] == {"id": "tiny", "version": good.model.version, "sha256": good.model.sha256}
    assert birth["runtime"].startswith("ai-edge-litert ") or birth["runtime"].startswith("tflite-runtime ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_0(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation, number: signal.Signals
) -> None:
    process = make_station(broker.port, "on", camera="loop = true\nrate_hz = 50").start()
    subscriber.wait(lambda _: len(words(subscriber)) >= 5, "five verdicts")
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    sent = [v.seq for v in verdicts(subscriber)]
    assert sent == list(range(len(sent)))


def test_a_signal_does_not_wait_for_the_next_frame(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    process = make_station(broker.port, "o", camera="loop = true\nrate_hz = 0.05\ntimeout_s = 30").start()
    subscriber.wait(lambda _: words(subscriber), "the first verdict")
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
    assert time.monotonic() - begin < 10  # the next frame was due in 20 s


def test_a_killed_station_is_reported_offline_by_its_last_will(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    process = make_station(broker.port, "o", camera="loop = true\nrate_hz = 20").start()
    session = subscriber.wait_payload(f"{ROOT}/status", "online").properties.UserProperty
    process.kill()
    will = subscriber.wait_payload(f"{ROOT}/status", "offline")
    assert will.properties.UserProperty == session
    newcomer = Subscriber(broker.port)
    assert newcomer.wait_payload(f"{ROOT}/status", "offline").retain
    newcomer.close()


def test_a_station_that_is_back_at_once_was_never_offline(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    station = make_station(broker.port, "o", camera="loop = true\nrate_hz = 20")
    first = station.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    first.kill()
    first.wait(DEADLINE_S)
    subscriber.forget()
    station.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    subscriber.wait(
        lambda _: len(words(subscriber)) > 20 * 6, "six seconds of verdicts: more than the will's delay"
    )
    assert subscriber.payloads(f"{ROOT}/status") == ["online"]


def test_a_broker_that_is_killed_and_comes_back_costs_nothing(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    station = make_station(
        broker.port, "on", camera="loop = true\nrate_hz = 20", more='[log]\nlevel = "debug"'
    )
    process = station.start()
    subscriber.wait(lambda _: len(words(subscriber)) >= 5, "five verdicts")
    broker.stop(signal.SIGKILL)
    wait_for(lambda: "connection lost" in station.log() and "cannot be reached" in station.log())
    assert process.poll() is None
    subscriber.forget()
    broker.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    wait_for(lambda: re.search(r"connected after \d+\.\d s, [1-9]\d* verdicts waiting", station.log()))
    subscriber.wait(lambda _: len(words(subscriber)) >= 40, "what waited, and more")
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    sent = [v.seq for v in verdicts(subscriber)]
    assert set(range(max(sent) + 1)) - set(sent) <= set(range(sent[0]))  # no gap after the last one before
    assert "0 waiting, 0 dropped" in station.log()
    assert station.log().count(" WARNING device.mqtt.reconnect: ") == 1


def test_without_any_broker_it_runs_on(make_station: MakeStation) -> None:
    station = make_station(
        free_port(), "on", camera="loop = true\nrate_hz = 50", more='[log]\nlevel = "debug"'
    )
    process = station.start()
    wait_for(lambda: station.log().count("cannot be reached: Connection refused") >= 2)
    wait_for(lambda: station.log().count(" NG, score ") >= 5)
    assert process.poll() is None
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    assert re.search(r"\d+ verdicts wait in the outbox for the next start", station.log())


def test_unreadable_frames_one_after_the_other_end_it(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    station = make_station(broker.port, "oxoxxxo", camera="max_failures = 3")
    assert station.start().wait(DEADLINE_S) == 5
    subscriber.wait_payload(f"{ROOT}/status", "offline")
    assert words(subscriber) == ["OK", "ERROR", "OK", "ERROR", "ERROR", "ERROR"]
    assert "error: replay of" in station.log()
    assert "3 unreadable frames one after the other" in station.log()
    assert "Traceback" not in station.log()


def test_a_source_without_one_readable_frame_is_a_fault(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    station = make_station(broker.port, "xx")
    assert station.start().wait(DEADLINE_S) == 5
    subscriber.wait_payload(f"{ROOT}/status", "offline")
    assert words(subscriber) == ["ERROR", "ERROR"]
    assert "ended without a single readable frame" in station.log()


def test_systemd_hears_ready_after_the_first_good_frame_and_progress_while_there_is_some(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(DEADLINE_S)
        station = make_station(broker.port, "xxo", camera="loop = true\nrate_hz = 10")
        process = station.start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        told: list[str] = []
        while told.count("WATCHDOG=1") < 4:
            told.append(systemd.recv(100).decode())
        process.terminate()
        while told[-1] != "STOPPING=1":
            told.append(systemd.recv(100).decode())
    assert told.count("READY=1") == 1
    assert words(subscriber)[:3] == ["ERROR", "ERROR", "OK"]
    assert process.wait(DEADLINE_S) == 0


def test_a_station_that_waits_for_its_trigger_lives_and_one_whose_camera_is_silent_does_not(
    broker: Broker, make_station: MakeStation, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(DEADLINE_S)
        waiting = make_station(broker.port, "o", more='[trigger]\nkind = "mqtt"')
        process = waiting.start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert systemd.recv(100) == b"READY=1"  # the first part may come in hours
        for _ in range(3):
            assert systemd.recv(100) == b"WATCHDOG=1"
        process.kill()
        process.wait(DEADLINE_S)
        silent = make_station(broker.port, "oo", camera="loop = true\nrate_hz = 0.2\ntimeout_s = 20")
        silent.start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        told: list[str] = []
        times_s: list[float] = []
        while told.count("WATCHDOG=1") < 2:  # of the first frame, and of the second, 5 s later
            told.append(systemd.recv(100).decode())
            times_s.append(time.monotonic())
    assert times_s[-1] - times_s[-2] > 3


def test_a_fault_in_any_thread_ends_the_process() -> None:
    program = (
        "import logging, threading, time\n"
        "from device.service import end_process_on_thread_fault\n"
        "logging.basicConfig()\n"
        "end_process_on_thread_fault()\n"
        "threading.Thread(target=lambda: 1 / 0, name='sender').start()\n"
        "time.sleep(60)\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", program),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert "fault in thread sender; the process ends" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_one_turn_without_a_broker(make_station: MakeStation, caplog: pytest.LogCaptureFixture) -> None:
    station = make_station(free_port(), "nx")
    with StopSignal() as stop:
        parts = make_service(station, stop)
        parts._capture.open()
        parts._capture.start()
        parts._inference.start()
        with caplog.at_level(logging.WARNING):
            assert [parts.turn(DEADLINE_S).verdict, parts.turn(DEADLINE_S).verdict] == ["NG", "ERROR"]
        assert "part2.png: truncated PNG" in caplog.text
        assert parts.turn(DEADLINE_S) is None
        assert parts._inference.ended


def test_a_camera_that_cannot_be_opened_is_told_before_anything_starts(make_station: MakeStation) -> None:
    station = make_station(free_port())
    shutil.rmtree(station.images)
    with StopSignal() as stop, pytest.raises(FrameError, match="images: cannot be read: No such file"):
        make_service(station, stop).start()


def test_the_whole_command_names_what_is_wrong_with_the_camera(make_station: MakeStation) -> None:
    station = make_station(free_port())
    for image in station.images.iterdir():
        image.unlink()
    done = run_device("run", "--config", station.config)
    assert done.returncode == 5
    assert f"error: {station.images}: no image directly in this folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreadable_folder_is_told(make_station: MakeStation) -> None:
    station = make_station(free_port())
    station.images.chmod(0)
    done = run_device("run", "--config", station.config)
    station.images.chmod(0o755)
    assert done.returncode == 5
    assert errors(done) == [f"error: {station.images}: cannot be listed: Permission denied"]


def wait_for(condition: Callable[[], object]) -> None:
    """Poll what has no event to wait for: a line in a log."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)
