"""A lost stream is opened again, and nothing stands for its pictures meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_camera import StreamServer, camera_config, wait_until

from device.camera import reopening
from device.camera.camera import make_camera
from device.camera.reopening import Reopening, reopened
from device.errors import FrameError
from device.image.frame import BadFrame, Frame

Make = Callable[..., Reopening]


@pytest.fixture
def make(tmp_path: Path, stream: StreamServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(reopening, "FIRST_PAUSE_S", 0.05)
    made: list[Reopening] = []

    def make_reopening(limit_s: float = 60.0) -> Reopening:
        config = camera_config(
            tmp_path, kind="opencv", source=stream.address, timeout_s=1.0, reopen_s=limit_s
        )
        camera = reopened(make_camera(config, threading.Event().wait), config)
        assert isinstance(camera, Reopening)
        made.append(camera)
        camera.open()
        return camera

    yield make_reopening
    for each in made:
        each.close()


def read_on(camera: Reopening, *, flush: bool = False) -> BadFrame:
    """Pictures that were on their way still come; then there is none."""
    for _ in range(10_000):
        try:
            camera.read(1.0, flush=flush)
        except BadFrame as fault:
            return fault
    raise AssertionError("the stream goes on")


def came_back(camera: Reopening) -> Frame | None:
    try:
        return camera.read(0.2)
    except BadFrame:
        return None


def come_back(camera: Reopening) -> Frame:
    frames: list[Frame | None] = []
    wait_until(lambda: frames.append(came_back(camera)) or frames[-1])
    assert frames[-1] is not None
    return frames[-1]


def test_a_stream_that_was_cut_goes_on_and_is_counted(
    make: Make, stream: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="device")
    camera = make()
    for losses in (1, 2, 3):
        before = camera.read(5.0)
        stream.hung_up.set()
        fault = read_on(camera)
        assert fault.cause == "away"
        assert "gives no more frames; it is being opened again" in str(fault)
        stream.hung_up.clear()
        after = come_back(camera)
        assert after.seq > before.seq
        assert camera.losses == losses
    lines = [record.message for record in caplog.records if record.name.endswith("reopening")]
    assert len(lines) == 2  # of the first loss; it flaps
    assert "is opened again, for 60 s at most" in lines[0]
    assert "back after" in lines[1]


def test_a_part_that_is_asked_for_while_the_stream_is_away_is_told_at_once(
    make: Make, stream: StreamServer
) -> None:
    camera = make()
    camera.read(5.0)
    stream.hung_up.set()
    read_on(camera, flush=True)
    started_s = time.monotonic()
    for _ in range(5):
        with pytest.raises(BadFrame, match="it is being opened again"):
            camera.read(10.0, flush=True)
    assert time.monotonic() - started_s < 5.0


def test_a_stream_that_stalls_is_opened_again(make: Make, stream: StreamServer) -> None:
    camera = make()
    camera.read(5.0)
    stream.flowing.clear()
    assert "no frame within 1 s" in str(read_on(camera))
    stream.flowing.set()
    assert come_back(camera)


def test_one_that_stays_away_is_given_up(make: Make, stream: StreamServer) -> None:
    """It takes connections and never sends a picture: opened or not, it was never back."""
    camera = make(limit_s=1.0)
    camera.read(5.0)
    stream.hung_up.set()
    with pytest.raises(FrameError, match=r"given up after 1 s") as caught:
        wait_until(lambda: came_back(camera) and False)  # what was on its way still comes
    assert not isinstance(caught.value, BadFrame)


def test_it_can_be_closed_while_the_stream_is_away(make: Make, stream: StreamServer) -> None:
    camera = make()
    camera.read(5.0)
    stream.hung_up.set()
    read_on(camera)
    started_s = time.monotonic()
    camera.close()
    assert time.monotonic() - started_s < 5.0


def test_the_first_time_it_must_be_there(make: Make, stream: StreamServer) -> None:
    stream.hung_up.set()
    with pytest.raises(FrameError, match="cannot be opened"):
        make()


@pytest.mark.parametrize("changes", [{"reopen_s": 0.0}, {"source": "/dev/video0"}, {"kind": "replay"}])
def test_other_cameras_are_as_they_are(tmp_path: Path, changes: dict[str, object]) -> None:
    config = camera_config(tmp_path, **{"kind": "opencv", "source": "http://localhost/", **changes})
    camera = make_camera(config, threading.Event().wait)
    assert reopened(camera, config) is camera
