"""kill -9 of `receive` and of the service in a trial: never an untried model after the restart."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_broker import DEADLINE_S, Broker
from fixtures_bundle import TinyModel
from fixtures_camera import wait_until
from fixtures_daemon import REPOSITORY, Station, command_line

from device.bundle import store, trial

# Trials that are killed. More, and others: EDGEVISION_CUTS=200 EDGEVISION_SEED=2 tests/run.sh -k trial_killed
CUTS = int(os.environ.get("EDGEVISION_CUTS", "6"))
WITHIN_S = 4 * DEADLINE_S  # for programs that start beside others
SEED = int(os.environ.get("EDGEVISION_SEED", "1"))
NEVER = ("--frames", "1000000", "--wait", "3000")  # a gate that no bundle passes


@pytest.fixture
def station(broker: Broker, tiny_model: TinyModel, make_station: Callable[..., Station]) -> Station:
    """With models of its own, the first of them proven in use; the second is uploaded."""
    made = make_station(broker.port)
    tiny_model.write(made.folder / "models", created="2026-03-01T00:00:00Z")
    second = tiny_model.write(made.folder / "made", created="2026-03-02T00:00:00Z")
    shutil.copytree(second, made.folder / "incoming" / second.name)
    made.bundle = made.folder / "models"
    made.configure(camera="loop = true\nrate_hz = 20")
    return made


def at_work(station: Station) -> str:
    """The bundle that the running service says it runs; "" before it has judged a frame."""
    try:
        said = json.loads((station.folder / "run" / "status.json").read_text())
    except (OSError, ValueError):
        return ""
    return str(said["model"]["bundle"]) if said["pid"] == station.processes[-1].pid else ""


def receive(station: Station, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command_line("receive", "install", name, *NEVER, "--config", station.config),
        cwd=REPOSITORY,
        env={**os.environ, "EDGEVISION_INCOMING": str(station.folder / "incoming")},
        stderr=subprocess.DEVNULL,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(WITHIN_S)


@pytest.mark.timeout(1800)
def test_after_every_kill_it_runs_what_it_ran_before(station: Station) -> None:
    chance = random.Random(SEED)  # noqa: S311 - reproducible, not secret
    first = store.current_name(station.bundle)
    [second] = [path.name for path in (station.folder / "incoming").iterdir()]
    tried = 0
    for cut in range(CUTS):
        service = station.start()
        wait_until(lambda: at_work(station) == first, WITHIN_S)
        receiver = receive(station, second)
        if cut % 2:  # in the gate, or while the service opens the bundle
            wait_until(lambda: trial.read(station.bundle) is not None, WITHIN_S)
            tried += 1
        with_pause(chance.uniform(0, 1.5), receiver)
        for process in chance.sample((receiver, service), 2):
            kill(process)
    service = station.start()
    wait_until(lambda: at_work(station) == first, WITHIN_S)
    assert tried
    assert store.current_name(station.bundle) == first
    assert store.previous_name(station.bundle) == ""
    assert trial.read(station.bundle) is None
    wait_until(lambda: len(lines(station)) % 2 == 0, WITHIN_S)
    results = [line["result"] for line in lines(station)]
    assert results[::2] == ["begun"] * len(results[::2])
    assert set(results[1::2]) == {"cut off"}
    service.terminate()
    assert service.wait(WITHIN_S) == 0


def with_pause(seconds: float, process: subprocess.Popen[bytes]) -> None:
    """Let the process work for some time; it does not end by itself."""
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)


def lines(station: Station) -> list[dict[str, str]]:
    path: Path = station.folder / "state" / "push.log"
    return [json.loads(line) for line in path.read_text().splitlines()]
