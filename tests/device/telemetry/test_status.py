"""`status` of a service that runs, warns, hangs, or is not there; as a person and as a program reads it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber, free_port
from fixtures_daemon import REPOSITORY, ROOT, Station, errors, run_device
from fixtures_health import Bench

from device.errors import StorageError
from device.health.reasons import REASONS, ROLES
from device.schemas.strict_json import parse_as
from device.telemetry import status
from device.telemetry.status import StatusFile, StatusReading, process_start

MakeStation = Callable[..., Station]


def said(folder: Path, **changes: Any) -> dict[str, Any]:
    """What a healthy service says of itself."""
    bench = Bench(folder)
    bench.see()
    content = {
        "station": "press-4",
        "session_id": "5e55",
        "started": "2026-01-31T06:00:00.000Z",
        "uptime_s": 7380.0,
        "camera": "replay of images, free-run",
        "pid": 4711,
        "model": {
            "id": "tiny",
            "version": "20260304T050607Z-abcdef01",
            "sha256": "ab",
            "bundle": "tiny-20260304T050607Z-abcdef01",
            "previous": None,
            "state": "active",
            "reason": None,
            "since": "2026-01-31T06:00:00.000Z",
        },
        "last": {"event_id": "5e55-00000007", "verdict": "NG", "score": 0.9375, "ts": "", "age_s": 0.25},
        "verdicts_since_model": 8,
        "counters": {"ok": 90, "ng": 7, "marginal": 2, "error": 1, "since": "2026-01-01T00:00:00.000Z"},
        "frames": {"skipped": 3, "dropped": 0},
        "broker": {"address": "localhost:1883", "connected": True},
        "delivery": {"acknowledged": 1, "waiting": 4, "dropped": 0, "refused": 0, "lost": 0, "durable": True},
        "health": bench.health.content(),
        "board": {},
    }
    return {**content, **changes}


def test_a_person_reads_it(tmp_path: Path) -> None:
    text = list(status.lines(StatusReading("running", said(tmp_path), 0.5), tmp_path))
    assert text[:9] == [
        "station press-4: ready",
        "  session   5e55, process 4711, for 2 h 3 min",
        "  camera    replay of images, free-run",
        "  model     tiny 20260304T050607Z-abcdef01, active since 2026-01-31T06:00:00.000Z",
        "  bundle    tiny-20260304T050607Z-abcdef01; before it: none",
        "  last      NG, score 0.938, 0.8 s ago, 5e55-00000007",
        "  verdicts  8 by this model; 90 OK, 7 NG, 2 MARGINAL, 1 ERROR since 2026-01-01T00:00:00.000Z",
        "  frames    3 skipped, 0 dropped",
        "  broker    localhost:1883 connected; 4 waiting, 0 dropped, 0 refused, 0 lost",
    ]
    assert text[9:] == [f"  {role:<10}ok" for role in ROLES]


def test_what_is_wrong_stands_there_with_what_to_do(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.fake.set(throttled="1", temperature_c=78)
    bench.poll(4)
    content = said(tmp_path, health=bench.health.content(), last=None)
    content["model"].update(state="rejected", reason="golden/0.png: must score 0.9")
    content["broker"]["connected"] = content["delivery"]["durable"] = False
    text = "\n".join(status.lines(StatusReading("running", content, 0.5), tmp_path))
    assert "station press-4: alert" in text
    assert "board     ALERT under_voltage: the supply was too low now (and too_hot)" in text
    assert f"mend: {REASONS['under_voltage'].mend}" in text
    assert "no verdict yet" in text
    assert "rejected: golden/0.png: must score 0.9" in text
    assert "localhost:1883 AWAY" in text
    assert "IN MEMORY ONLY" in text


@pytest.mark.parametrize(
    ("presence", "state", "code"),
    [
        ("running", "ready", 0),
        ("running", "init", 22),
        ("running", "degraded", 22),
        ("running", "alert", 23),
        ("silent", "ready", 21),
    ],
)
def test_the_exit_codes(tmp_path: Path, presence: str, state: str, code: int) -> None:
    content = said(tmp_path)
    content["health"]["state"] = state
    assert status.exit_code(StatusReading(presence, content, 12.0)) == code


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.24, "0.2 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_durations(seconds: float, words: str) -> None:
    assert status._duration(seconds) == words


def test_a_service_that_is_not_there(make_station: MakeStation) -> None:
    station = make_station(free_port())
    done = run_device("status", "--config", station.config)
    assert done.returncode == 20
    assert done.stdout == f"not running: no living service has written to {station.folder}/run/status.json\n"
    done = run_device("status", "--json", "--config", station.config)
    assert done.returncode == 20
    assert json.loads(done.stdout) == {"presence": "absent", "age_s": None, "status": None}


def test_a_file_that_is_damaged_is_an_error(make_station: MakeStation) -> None:
    station = make_station(free_port())
    (station.folder / "run").mkdir()
    (station.folder / "run" / "status.json").write_text("{")
    done = run_device("status", "--config", station.config)
    assert done.returncode == 9
    assert errors(done)[0].startswith(f"error: {station.folder}/run/status.json: ")


def json_of(station: Station) -> tuple[int, dict[str, Any]]:
    done = run_device("status", "--json", "--config", station.config)
    return done.returncode, json.loads(done.stdout)


def wait_for_status(station: Station, found: Callable[[int, dict[str, Any]], object]) -> dict[str, Any]:
    end = time.monotonic() + DEADLINE_S
    while True:
        code, content = json_of(station)
        if found(code, content):
            return content
        assert time.monotonic() < end, (code, content)


def test_a_running_service_its_health_and_its_end(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    limits = "[health]\nfocus_ratio = 0.0\nbright_ratio = 0.0\ndrift_limit = 0.0\nclock_warn_s = 1e6\n"
    limits += "disk_warn_ratio = 0.0\ndisk_alert_ratio = 0.0"
    station = make_station(broker.port, "on", camera="loop = true\nrate_hz = 20", more=limits)
    process = station.start()
    # the board is healthy before the first verdict is stored
    running = wait_for_status(
        station,
        lambda code, found: code == 0 and found["status"]["last"] and found["status"]["broker"]["connected"],
    )["status"]
    assert running["pid"] == process.pid
    assert running["station"] == "press-4"
    assert running["model"]["id"] == "tiny"
    assert running["last"]["verdict"] in ("OK", "NG")
    assert running["verdicts_since_model"] >= 1
    assert running["counters"]["ok"] >= 1
    assert running["broker"] == {"address": f"127.0.0.1:{broker.port}", "connected": True}
    assert running["health"]["state"] == "ready"
    assert running["board"]["resident_bytes"] > 10_000_000
    message = subscriber.wait(
        lambda messages: [m for m in messages if m.topic == f"{ROOT}/health" and b'"ready"' in m.payload],
        "the health message",
    )[0]
    assert parse_as("health", message.payload)["state"] == "ready"
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
    assert json_of(station)[0] == 20
    newcomer = Subscriber(broker.port, f"{ROOT}/health")
    kept = newcomer.wait(lambda messages: messages, "the retained health")[0]
    assert kept.retain
    newcomer.close()


def test_a_service_that_was_killed_is_not_running(broker: Broker, make_station: MakeStation) -> None:
    station = make_station(broker.port, "on", camera="loop = true\nrate_hz = 20")
    process = station.start()
    wait_for_status(station, lambda code, _: code != 20)
    process.kill()
    process.wait(DEADLINE_S)
    assert (station.folder / "run" / "status.json").exists()
    assert json_of(station)[0] == 20


def test_a_still_image_is_a_frozen_camera_and_stops_nothing(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    station = make_station(broker.port, "o", camera="loop = true\nrate_hz = 20")
    process = station.start()
    found = wait_for_status(station, lambda code, _: code == 23)["status"]
    assert found["health"]["roles"]["camera"]["reason"] == "frozen"
    seen = len(subscriber.payloads(f"{ROOT}/inspection"))
    subscriber.wait(lambda _: len(subscriber.payloads(f"{ROOT}/inspection")) > seen + 20, "more verdicts")
    assert process.poll() is None
    assert "health: camera alert, frozen" in station.log()


def test_a_hanging_service_is_silent(make_station: MakeStation, tmp_path: Path) -> None:
    station = make_station(free_port())
    file = StatusFile(station.folder / "run")
    file.open()
    content = said(tmp_path)
    del content["pid"]
    file.write(content)
    written = json.loads(file.path.read_text())
    file.path.write_text(json.dumps({**written, "written_monotonic_s": written["written_monotonic_s"] - 60}))
    done = run_device("status", "--config", station.config)
    assert done.returncode == 21
    assert done.stdout.startswith("station press-4: SILENT for 1 min")


def test_it_is_written_as_a_whole_and_read_back(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "run" / "edgevision")
    file.open()
    for name in ("press-4", "press-5"):
        file.write({**said(tmp_path), "station": name, "pid": os.getpid()})
    found = status.read(tmp_path / "run" / "edgevision")
    assert found.presence == "running"
    assert found.content is not None
    assert found.content["station"] == "press-5"
    assert found.content["pid"] == os.getpid()
    assert [path.name for path in file.path.parent.iterdir()] == ["status.json"]


def test_nothing_there_is_absent(tmp_path: Path) -> None:
    assert status.read(tmp_path).presence == "absent"
    assert status.read(tmp_path / "missing").presence == "absent"


def test_after_the_end_it_is_absent(tmp_path: Path) -> None:
    file = StatusFile(tmp_path)
    file.write({})
    file.close()
    assert status.read(tmp_path).presence == "absent"
    file.close()


def test_the_word_of_a_process_that_died_is_not_believed(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from device.telemetry.status import StatusFile\n"
    program += "StatusFile(Path(sys.argv[1])).write({})"
    subprocess.run((sys.executable, "-c", program, str(tmp_path)), check=True, cwd=REPOSITORY)
    assert (tmp_path / "status.json").exists()
    assert status.read(tmp_path).presence == "absent"


def test_the_word_of_another_process_with_the_same_number_is_not_believed(tmp_path: Path) -> None:
    StatusFile(tmp_path).write({})
    path = tmp_path / "status.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "process_start": content["process_start"] - 1}))
    assert status.read(tmp_path).presence == "absent"


def test_a_service_that_has_not_written_for_long_is_silent(tmp_path: Path) -> None:
    StatusFile(tmp_path).write(said(tmp_path) | {"pid": os.getpid()})
    path = tmp_path / "status.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "written_monotonic_s": content["written_monotonic_s"] - 11}))
    found = status.read(tmp_path)
    assert found.presence == "silent"
    assert found.age_s == pytest.approx(11, abs=2)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 9}', '{"schema": 1}'])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(StorageError, match=r"status\.json"):
        status.read(tmp_path)


def test_a_file_that_lacks_what_is_read_is_told(tmp_path: Path) -> None:
    """Whatever is missing, or of another kind: a message, and no signal to a process -1."""
    StatusFile(tmp_path).write(said(tmp_path / "health") | {"pid": os.getpid()})
    whole = json.loads((tmp_path / "status.json").read_text())
    damaged = [{name: one for name, one in whole.items() if name != left_out} for left_out in whole]
    damaged += [{**whole, name: value} for name in whole for value in ([], "x", -1.5)]
    damaged.append({**whole, "pid": -1, "process_start": None})
    refused = 0
    for content in damaged:
        (tmp_path / "status.json").write_text(json.dumps(content))
        try:
            found = status.read(tmp_path)
        except StorageError:
            refused += 1
        else:
            list(status.lines(found, tmp_path))
            status.exit_code(found)
    assert refused >= len(whole)
    with pytest.raises(StorageError, match=r"pid: must be at least 1, got -1"):
        status.read(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = StatusFile(tmp_path / "file" / "run")
    with pytest.raises(StorageError, match=r"cannot be made: Not a directory; set \[station\] runtime"):
        file.open()
    with pytest.raises(StorageError, match="cannot be written"):
        file.write({})


def test_a_process_that_is_not_there_began_never() -> None:
    assert process_start(2**22 + 1) is None
    assert process_start(os.getpid()) > 0
