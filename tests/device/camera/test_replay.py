"""The camera that replays a disk."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from device import config
from device.camera.camera import make_camera
from device.camera.faults import FaultScript
from device.camera.replay import ReplayCamera, image_files
from device.errors import FrameError
from device.image.frame import BadFrame, Frame


def picture(value: int) -> np.ndarray:
    """Plain red, the shade of which tells pictures apart."""
    image = np.zeros((24, 32, 3), np.uint8)
    image[..., 2] = value % 256  # BGR, as OpenCV writes
    return image


def write(path: Path, value: int = 100) -> Path:
    assert cv2.imwrite(str(path), picture(value))
    return path


def write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for index in range(frames):
        writer.write(picture(10 + 40 * index))
    writer.release()


def read_all(camera: ReplayCamera) -> list[Frame | BadFrame]:
    camera.open()
    seen: list[Frame | BadFrame] = []
    while True:
        try:
            frame = camera.read(1.0)
        except BadFrame as fault:
            seen.append(fault)
            continue
        if frame is None:
            return seen
        seen.append(frame)


def test_a_folder_comes_in_natural_order_with_paths_and_digests(tmp_path: Path) -> None:
    for name in ("part10.png", "part2.PNG", "Part1.png", "part2b.bmp"):
        write(tmp_path / name)
    (tmp_path / ".part0.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "part3.png")
    frames = read_all(ReplayCamera(tmp_path))
    assert [f.path for f in frames] == ["Part1.png", "part2.PNG", "part2b.bmp", "part10.png"]
    assert [f.seq for f in frames] == [0, 1, 2, 3]
    assert [f.sha256 for f in frames] == [
        hashlib.sha256((tmp_path / str(f.path)).read_bytes()).hexdigest() for f in frames
    ]
    assert all(f.camera == "replay" and f.image.shape == (24, 32, 3) for f in frames)
    assert frames[0].image[0, 0].tolist() == [100, 0, 0]  # RGB


def test_names_that_differ_in_case_or_zeros_keep_one_order(tmp_path: Path) -> None:
    for name in ("a1.png", "A1.png", "a01.png", "a.png", "1.png", "1a.png"):
        write(tmp_path / name)
    names = [p.name for p in image_files(tmp_path)]
    assert names == ["1.png", "1a.png", "a.png", "A1.png", "a01.png", "a1.png"]


def test_times_are_of_now(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    before, before_monotonic = time.time_ns(), time.monotonic_ns()
    [frame] = read_all(ReplayCamera(tmp_path))
    assert before <= frame.captured_ns <= time.time_ns()
    assert before_monotonic <= frame.monotonic_ns <= time.monotonic_ns()


def test_one_image_is_a_source(tmp_path: Path) -> None:
    camera = ReplayCamera(write(tmp_path / "only.png"))
    assert [f.path for f in read_all(camera)] == ["only.png"]
    assert camera.read(1.0) is None


def test_a_bad_image_is_a_bad_frame_and_the_rest_goes_on(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "3.png"):
        write(tmp_path / name)
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])
    first, fault, last = read_all(ReplayCamera(tmp_path))
    assert isinstance(fault, BadFrame)
    assert (fault.seq, fault.path, fault.camera) == (1, "2.png", "replay")
    assert str(tmp_path / "2.png") in str(fault)
    assert abs(time.time_ns() - fault.captured_ns) < 60e9
    assert (first.seq, last.seq) == (0, 2)


def test_a_jpeg_with_a_hole_before_its_end_is_no_frame(tmp_path: Path) -> None:
    """What is missing would be gray, and gray may be good."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    content = cv2.imencode(".jpg", noise)[1].tobytes()
    (tmp_path / "1.jpg").write_bytes(content[: len(content) // 3] + b"\xff\xd9")
    (tmp_path / "2.jpg").write_bytes(content)
    fault, frame = read_all(ReplayCamera(tmp_path))
    assert isinstance(fault, BadFrame)
    assert "damaged JPEG: its data end before its image does" in str(fault)
    assert isinstance(frame, Frame)


def test_a_loop_lists_the_folder_afresh(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    camera = ReplayCamera(tmp_path, loop=True)
    camera.open()
    assert [camera.read(1.0).path for _ in range(3)] == ["1.png"] * 3
    write(tmp_path / "2.png")
    assert [camera.read(1.0).path for _ in range(3)] == ["1.png", "2.png", "1.png"]
    assert camera.read(1.0).seq == 6
    for image in tmp_path.iterdir():
        image.unlink()
    with pytest.raises(FrameError, match="no image directly in this folder"):
        camera.read(1.0)


def test_the_rate_is_kept_and_a_late_frame_is_not_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "1.png")
    now_s = 100.0
    waits: list[float] = []

    def wait(seconds: float) -> None:
        nonlocal now_s
        waits.append(round(seconds, 6))
        now_s += seconds

    monkeypatch.setattr("device.camera.replay.time.monotonic", lambda: now_s)
    camera = ReplayCamera(tmp_path, rate_hz=4, loop=True, wait=wait)
    camera.open()
    camera.read(1.0)  # at once
    camera.read(1.0)
    now_s += 0.1  # an inspection
    camera.read(1.0)
    now_s += 10.0  # a very slow one
    camera.read(1.0)
    camera.read(1.0)
    assert waits == [0.25, 0.15, 0.25]


def test_a_frame_that_is_not_due_in_time_is_a_dead_camera(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    camera = ReplayCamera(tmp_path, rate_hz=0.1, loop=True)
    camera.open()
    camera.read(0.5)
    with pytest.raises(
        FrameError, match=r"replay of .*: no frame within 0.1 s, the next is due in (10.0|9.9) s"
    ):
        camera.read(0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "cannot be read: No such file or directory"),
        (lambda p: p.mkdir(), "no image directly in this folder"),
        (lambda p: p.write_bytes(b"nothing that moves"), "neither an image nor a video"),
    ],
)
def test_a_source_that_cannot_be_read_at_all(tmp_path: Path, make: object, message: str) -> None:
    source = tmp_path / "source"
    make(source)
    with pytest.raises(FrameError) as caught:
        ReplayCamera(source).open()
    assert not isinstance(caught.value, BadFrame)
    assert str(caught.value).startswith(f"{source}: {message}")


def test_a_video_gives_its_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "line.avi", 3)
    frames = read_all(ReplayCamera(tmp_path / "line.avi"))
    assert [f.path for f in frames] == ["line.avi#0", "line.avi#1", "line.avi#2"]
    assert [f.sha256 for f in frames] == [None] * 3
    reds = [f.image[12, 16].tolist() for f in frames]
    for index, (red, green, blue) in enumerate(reds):
        assert abs(red - (10 + 40 * index)) < 12
        assert max(green, blue) < 12


def test_a_video_can_be_looped(tmp_path: Path) -> None:
    write_video(tmp_path / "line.avi", 2)
    camera = ReplayCamera(tmp_path / "line.avi", loop=True)
    camera.open()
    assert [camera.read(1.0).path[-1] for _ in range(5)] == list("01010")


def test_a_video_that_ends_early_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_video(tmp_path / "line.avi", 20)
    whole = (tmp_path / "line.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 4 // 5])
    with caplog.at_level(logging.WARNING):
        frames = read_all(ReplayCamera(tmp_path / "cut.avi"))
    assert 0 < len(frames) < 20
    assert f"ended after {len(frames)} of 20 frames" in caplog.text


def test_the_configured_camera_is_made(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    (tmp_path / "config.toml").write_text('[camera]\nsource = "."\nfaults = ["7:drop"]\n')
    camera = make_camera(config.load(tmp_path / "config.toml").camera, time.sleep)
    assert camera.name == f"replay of {tmp_path}"
    camera.open()
    assert camera.read(1.0) is not None
    camera.close()
    camera.close()
    assert camera.read(1.0) is None


def test_an_image_of_16_bits_is_read_as_the_bundle_at_work_says(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        assert cv2.imwrite(str(tmp_path / name), np.full((24, 32), 2000, np.uint16))
    (tmp_path / "config.toml").write_text('[camera]\nsource = "."\n')
    settings = config.load(tmp_path / "config.toml").camera
    levels = iter((4000, 8000))
    first, second = read_all(make_camera(settings, time.sleep, lambda: next(levels)))
    assert (int(first.image.max()), int(second.image.max())) == (128, 64)
    unknown, _ = read_all(make_camera(settings, time.sleep))
    assert isinstance(unknown, BadFrame)
    assert "which level is white is not known" in str(unknown)


def test_a_folder_that_vanishes_in_a_loop_ends_it(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    write(folder / "1.png")
    camera = ReplayCamera(folder, loop=True)
    camera.open()
    camera.read(1.0)
    shutil.rmtree(folder)
    with pytest.raises(FrameError, match="cannot be read: No such file or directory"):
        camera.read(1.0)


def scripted(folder: Path, *lines: str, seed: int = 0) -> ReplayCamera:
    for index in range(6):
        write(folder / f"{index}.png", 40 * index + 10)
    return ReplayCamera(folder, faults=FaultScript(lines, seed))


def test_a_dropped_frame_leaves_a_gap_that_is_counted(tmp_path: Path) -> None:
    camera = scripted(tmp_path, "0:drop", "2:drop", "3:drop")
    frames = read_all(camera)
    assert [(f.seq, f.path) for f in frames] == [(1, "1.png"), (4, "4.png"), (5, "5.png")]
    assert camera.dropped == 3


def test_a_frame_that_fails_by_script_is_a_bad_frame(tmp_path: Path) -> None:
    seen = read_all(scripted(tmp_path, "1:fail"))
    assert [type(f) for f in seen] == [Frame, BadFrame, Frame, Frame, Frame, Frame]
    assert (seen[1].seq, seen[1].path) == (1, "1.png")


def test_a_black_frame_and_a_frame_of_another_size(tmp_path: Path) -> None:
    frames = read_all(scripted(tmp_path, "1:black", "2:size:10x20"))
    assert [(f.size.width, f.size.height, f.image.any()) for f in frames[:4]] == [
        (32, 24, True),
        (32, 24, False),
        (10, 20, True),
        (32, 24, True),
    ]
    assert [f.sha256 is None for f in frames[:4]] == [False, True, True, False]


def test_a_camera_that_dies_stays_dead(tmp_path: Path) -> None:
    camera = scripted(tmp_path, "1:die")
    camera.open()
    camera.read(1.0)
    for _ in range(2):
        with pytest.raises(FrameError, match="the camera is gone") as caught:
            camera.read(1.0)
        assert not isinstance(caught.value, BadFrame)


def test_a_stall_within_the_limit_is_waited_out_and_a_longer_one_is_a_dead_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    waits: list[float] = []

    def wait(seconds: float) -> None:
        nonlocal now_s
        waits.append(round(seconds, 6))
        now_s += seconds

    monkeypatch.setattr("device.camera.replay.time.monotonic", lambda: now_s)
    write(tmp_path / "1.png")
    camera = ReplayCamera(tmp_path, loop=True, wait=wait, faults=FaultScript(["1:stall:0.5", "2:stall:7"]))
    camera.open()
    assert [camera.read(5.0).seq for _ in range(2)] == [0, 1]
    assert waits == [0.5]
    with pytest.raises(FrameError, match=r"no frame within 5 s, the next is due in 7.0 s"):
        camera.read(5.0)
    assert camera.read(5.0).seq == 2  # the stall has passed
    assert waits == [0.5, 5.0, 2.0]


def test_a_slow_frame_is_as_old_as_it_is_late(tmp_path: Path) -> None:
    camera = scripted(tmp_path, "0:slow:0.05", "1:slow:9")
    camera.open()
    frame = camera.read(1.0)
    assert time.monotonic_ns() - frame.monotonic_ns >= 50_000_000
    with pytest.raises(FrameError, match=r"no frame within 0.01 s, frame 1 comes too late"):
        camera.read(0.01)
    assert (camera.read(1.0).seq, camera.dropped) == (2, 1)
