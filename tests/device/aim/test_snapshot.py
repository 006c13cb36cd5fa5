"""One picture of the camera into a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
from fixtures_broker import Broker, Subscriber
from fixtures_daemon import ROOT, Station, errors, run_device


def test_a_picture_comes_whole_and_as_its_name_says(
    make_station: Callable[..., Station], tmp_path: Path
) -> None:
    station = make_station(1, "o")
    for name in ("a.png", "b.jpg"):
        done = run_device("snapshot", tmp_path / name, "--config", station.config)
        assert done.returncode == 0, done.stderr
        assert "128x96 px" in done.stderr
        assert cv2.imread(str(tmp_path / name)).shape == (96, 128, 3)
    assert (cv2.imread(str(tmp_path / "a.png")) == cv2.imread(str(station.images / "part1.png"))).all()


def test_what_is_wrong_is_said_and_nothing_is_written(
    make_station: Callable[..., Station], tmp_path: Path
) -> None:
    station = make_station(1, "")
    done = run_device("snapshot", tmp_path / "a.gif", "--config", station.config)
    assert (done.returncode, errors(done)) == (
        3,
        [f"error: {tmp_path / 'a.gif'}: must end in .png, .jpg or .jpeg"],
    )
    assert run_device("snapshot", tmp_path / "a.png", "--config", station.config).returncode == 5
    assert not (tmp_path / "a.png").exists()


def test_not_beside_the_service_unless_told_to(
    broker: Broker, subscriber: Subscriber, make_station: Callable[..., Station], tmp_path: Path
) -> None:
    station = make_station(broker.port, "oo", camera="loop = true\nrate_hz = 5")
    station.start()
    subscriber.wait(lambda _: subscriber.payloads(f"{ROOT}/inspection"), "the first verdict")
    done = run_device("snapshot", tmp_path / "a.png", "--config", station.config)
    assert done.returncode == 14
    assert "the service of station press-4 runs and has the camera" in done.stderr
    assert run_device("aim", "--config", station.config).returncode == 14
    done = run_device("snapshot", tmp_path / "a.png", "--beside", "--config", station.config)
    assert done.returncode == 0, done.stderr
    assert "the service runs at the same time" in done.stderr
