"""What every camera keeps to, whatever it is made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fixtures_camera import (
    HEIGHT,
    WIDTH,
    RtspServer,
    StreamServer,
    camera_config,
    write_film,
    write_pictures,
)

from device.camera.camera import Camera, make_camera
from device.camera.fake_picamera2 import Platform, World
from device.config import CameraConfig
from device.errors import FrameError
from device.image.frame import BadFrame, Frame

FRAMES = 12
SLACK_S = 5.0  # a loaded machine's


@dataclass
class Case:
    """A camera that sees the colour picture, and how to take its frames away."""

    config: CameraConfig
    stall: Callable[[], object]
    missing: CameraConfig  # the same, of something that is not there
    finite: bool

    def make(self) -> Camera:
        return make_camera(self.config, threading.Event().wait)


def of_folder(tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    source = write_pictures(tmp_path / "images", FRAMES)
    config = camera_config(tmp_path, source=str(source), faults=(f"{FRAMES - 1}:stall:9000",))
    return Case(config, lambda: None, replace(config, source="/missing"), finite=True)


def of_film(tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    source = write_film(tmp_path / "line.avi", FRAMES)
    config = camera_config(tmp_path, source=str(source), faults=(f"{FRAMES - 1}:stall:9000",))
    return Case(config, lambda: None, replace(config, source="/missing.avi"), finite=True)


def of_stream(tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    server: StreamServer = request.getfixturevalue("stream")
    deaf_port = request.getfixturevalue("deaf_port")
    config = camera_config(tmp_path, kind="opencv", source=server.address, latency_ms=20.0, timeout_s=5.0)
    missing = replace(config, source=f"http://127.0.0.1:{deaf_port}/", timeout_s=0.5)
    return Case(config, server.flowing.clear, missing, finite=False)


def of_rtsp(tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    server: RtspServer = request.getfixturevalue("rtsp")
    deaf_port = request.getfixturevalue("deaf_port")
    config = camera_config(tmp_path, kind="opencv", source=server.address, latency_ms=50.0, timeout_s=10.0)
    missing = replace(config, source=f"rtsp://127.0.0.1:{deaf_port}/line", timeout_s=0.5)
    return Case(config, server.stall, missing, finite=False)


def of_picamera(tmp_path: Path, request: pytest.FixtureRequest, **changes: object) -> Case:
    world: World = request.getfixturevalue("world")
    config = camera_config(tmp_path, kind="picamera2", width_px=WIDTH, height_px=HEIGHT, **changes)
    return Case(config, world.gives_frames.clear, replace(config, number=3), finite=False)


def of_lores(tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    changes = {"stream": "lores", "lores_width_px": WIDTH, "lores_height_px": HEIGHT}
    case = of_picamera(tmp_path, request, **changes)
    return replace(case, config=replace(case.config, width_px=2 * WIDTH, height_px=2 * HEIGHT))


def of_lores_of_pi5(tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    request.getfixturevalue("world").platform = Platform.PISP
    return of_lores(tmp_path, request)


KINDS = [of_folder, of_film, of_stream, of_rtsp, of_picamera, of_lores, of_lores_of_pi5]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__.removeprefix("of_"))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return request.param(tmp_path, request)


@pytest.fixture
def camera(case: Case) -> Iterator[Camera]:
    made = case.make()
    made.open()
    yield made
    made.close()


def colours(image: np.ndarray) -> list[str]:
    """Which channel is strongest in the middle of each third."""
    row = image[HEIGHT // 2]
    return ["RGB"[int(np.argmax(row[int(WIDTH * (third + 0.5) / 3)]))] for third in range(3)]


def test_a_frame_is_rgb_of_the_size_that_it_says(camera: Camera) -> None:
    frame = camera.read(10.0)
    assert frame.image.shape == (HEIGHT, WIDTH, 3)
    assert frame.image.dtype == np.uint8
    assert (frame.size.width, frame.size.height) == (WIDTH, HEIGHT)
    assert colours(frame.image) == ["R", "G", "B"]
    strong = [int(frame.image[HEIGHT // 2, int(WIDTH * (i + 0.5) / 3), i]) for i in range(3)]
    assert all(abs(value - 200) <= 6 for value in strong), strong


def test_it_says_what_it_is_and_its_frames_say_so_too(case: Case, camera: Camera) -> None:
    frame = camera.read(10.0)
    assert camera.name.startswith(frame.camera)
    assert case.config.kind == frame.camera
    assert camera.live is not case.finite


def test_frames_are_numbered_and_timed_in_order(camera: Camera) -> None:
    frames = [camera.read(10.0) for _ in range(6)]
    assert frames[0].seq >= 0
    for before, after in pairwise(frames):
        assert after.seq > before.seq
        assert after.monotonic_ns > before.monotonic_ns
        assert (
            abs((after.captured_ns - before.captured_ns) - (after.monotonic_ns - before.monotonic_ns)) < 5e8
        )
    assert abs(time.time_ns() - frames[-1].captured_ns) < 20e9
    assert 0 <= time.monotonic_ns() - frames[-1].monotonic_ns < 20e9


def test_every_frame_is_seen_or_counted_as_dropped(camera: Camera) -> None:
    seen = 0
    last = None
    for _ in range(6):
        last = camera.read(10.0)
        seen += 1
    assert seen + camera.dropped == last.seq + 1


def test_a_kept_frame_stays_as_it_is(camera: Camera) -> None:
    kept = [camera.read(10.0) for _ in range(6)]
    copies = [frame.image.copy() for frame in kept[:4]]
    for _ in range(4):
        camera.read(10.0)
    for frame, copy in zip(kept[:4], copies, strict=True):
        assert np.array_equal(frame.image, copy)


def test_frames_move_on(camera: Camera) -> None:
    pictures = [camera.read(10.0).image[:6].copy() for _ in range(3)]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


def test_a_flushed_frame_was_exposed_after_the_call(camera: Camera) -> None:
    camera.read(10.0)
    for _ in range(3):
        called_ns = time.monotonic_ns()
        frame = camera.read(10.0, flush=True)
        exposure_us = frame.metadata.get("exposure_us", 0)
        assert frame.monotonic_ns - 1000 * exposure_us >= called_ns


def test_frames_that_nobody_wanted_are_no_drops(camera: Camera) -> None:
    for _ in range(3):
        camera.read(10.0, flush=True)
        threading.Event().wait(0.05)
    frame = camera.read(10.0, flush=True)
    assert (frame.seq, camera.dropped) == (3, 0)


def read_on(camera: Camera, count: int) -> None:
    """Read until it fails; each call keeps to its limit, also the one that fails."""
    for _ in range(count):
        started_s = time.monotonic()
        try:
            camera.read(0.3)
        finally:
            assert time.monotonic() - started_s < 0.3 + SLACK_S


def test_a_stalled_camera_is_reported_in_time_and_as_the_camera_not_the_frame(
    case: Case, camera: Camera
) -> None:
    for _ in range(3):
        camera.read(10.0)
    case.stall()
    with pytest.raises(FrameError) as caught:
        read_on(camera, FRAMES + 1000)
    assert not isinstance(caught.value, BadFrame)
    assert "no frame within 0.3 s" in str(caught.value)


def test_what_is_not_there_is_named_in_time(case: Case) -> None:
    camera = make_camera(case.missing, threading.Event().wait)
    started_s = time.monotonic()
    with pytest.raises(FrameError) as caught:
        camera.open()
    assert not isinstance(caught.value, BadFrame)
    assert str(caught.value)
    assert time.monotonic() - started_s < case.missing.timeout_s + SLACK_S
    camera.close()


def test_it_can_be_closed_at_any_time_and_opened_again(case: Case) -> None:
    camera = case.make()
    camera.close()
    for _ in range(2):
        camera.open()
        assert isinstance(camera.read(10.0), Frame)
        camera.close()
        camera.close()
        started_s = time.monotonic()
        assert camera.read(10.0) is None
        assert time.monotonic() - started_s < SLACK_S


def test_another_size_than_was_asked_for_is_refused(case: Case) -> None:
    if case.config.kind == "replay":
        pytest.skip("a replay takes its images as they are")
    odd = {"width_px": 1001, "height_px": 101} if case.config.stream == "main" else {"lores_width_px": 81}
    camera = make_camera(replace(case.config, **odd), threading.Event().wait)
    with pytest.raises(FrameError, match=r"\d+x\d+ px, asked for were (1001x101|81x64) px"):
        open_and_read(camera)
    camera.close()


def open_and_read(camera: Camera) -> None:
    camera.open()
    camera.read(10.0)
