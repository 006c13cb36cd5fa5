"""A camera through OpenCV: what is its own. What all cameras keep to is in test_camera.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_camera import (
    HEIGHT,
    WIDTH,
    RtspServer,
    StreamServer,
    camera_config,
    jpeg,
    number_of,
    rtsp_is_missing,
    wait_until,
    write_film,
)

from device.bundle.bundle import Bundle
from device.camera.opencv import OpenCvCamera, without_password
from device.config import CameraConfig
from device.errors import FrameError
from device.image.frame import BadFrame
from device.inspection.annotate import annotate
from device.inspection.pipeline import Pipeline

Make = Callable[..., OpenCvCamera]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(source: object, **changes: object) -> OpenCvCamera:
        config: CameraConfig = camera_config(tmp_path, kind="opencv", source=str(source), **changes)
        return OpenCvCamera(config)

    return made


def read_on(camera: OpenCvCamera, limit_s: float) -> None:
    """What was on its way still comes; then it fails."""
    for _ in range(10_000):
        camera.read(limit_s)


def test_a_file_gives_every_frame_and_then_ends(make: Make, tmp_path: Path) -> None:
    camera = make(write_film(tmp_path / "line.avi", 7))
    camera.open()
    frames = [camera.read(10.0) for _ in range(7)]
    assert [f.path for f in frames] == [f"line.avi#{index}" for index in range(7)]
    assert [f.seq for f in frames] == list(range(7))
    assert [camera.read(10.0) for _ in range(2)] == [None, None]
    assert (camera.dropped, camera.live) == (0, False)
    camera.close()


def test_a_file_waits_for_its_reader(make: Make, tmp_path: Path) -> None:
    camera = make(write_film(tmp_path / "line.avi", 5))
    camera.open()
    for seq in range(5):
        threading.Event().wait(0.03)
        assert camera.read(10.0, flush=True).seq == seq
    camera.close()


def test_a_stream_that_is_not_read_is_no_queue(make: Make, stream: StreamServer) -> None:
    """What comes is what the camera sees now, not what it saw when the last part was there."""
    camera = make(stream.address)
    camera.open()
    first = number_of(camera.read(10.0).image)
    sent = stream.number
    wait_until(lambda: stream.number > sent + 40)
    sent = stream.number
    frame = camera.read(10.0)
    assert number_of(frame.image) > sent - 10 > first + 10
    assert frame.seq == camera.dropped + 1
    camera.close()


@pytest.mark.parametrize(
    "mode", [partial(jpeg, side_ratio=2), partial(jpeg, side_ratio=0.5), partial(jpeg, gray=True)]
)
def test_what_a_stream_sends_in_another_mode_is_what_is_seen(
    make: Make, stream: StreamServer, mode: Callable[[int], bytes]
) -> None:
    """A part that is asked for is never shown as the one before it."""
    camera = make(stream.address, latency_ms=20.0)
    camera.open()
    for picture in (jpeg, mode, jpeg):
        stream.picture = picture
        sent = stream.number
        wait_until(lambda sent=sent: stream.number > sent + 1)
        asked = stream.number
        frame = camera.read(10.0, flush=True)
        assert number_of(frame.image) >= asked
        whole = cv2.imdecode(np.frombuffer(picture(number_of(frame.image)), np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(frame.image[..., ::-1], whole)
    camera.close()


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.99])
def test_a_picture_that_is_cut_off_is_a_bad_frame(make: Make, stream: StreamServer, kept: float) -> None:
    camera = make(stream.address)
    camera.open()
    camera.read(10.0)
    stream.picture = partial(jpeg, kept=kept)
    sent = stream.number
    wait_until(lambda: stream.number > sent + 20)
    for flush in (True, False):
        with pytest.raises(
            BadFrame, match=r"frame [0-9]+ is no picture: truncated JPEG: ends at byte [0-9]+ without EOI"
        ):
            camera.read(10.0, flush=flush)
    stream.picture = jpeg
    sent = stream.number
    wait_until(lambda: stream.number > sent + 20)
    assert number_of(camera.read(10.0).image) > sent
    camera.close()


def test_a_stream_writes_nothing_to_the_terminal(
    make: Make, stream: StreamServer, capfd: pytest.CaptureFixture[str]
) -> None:
    camera = make(stream.address)
    camera.open()
    for picture in (partial(jpeg, kept=0.3), partial(jpeg, gray=True)):
        stream.picture = picture
        sent = stream.number
        wait_until(lambda sent=sent: stream.number > sent + 20)
    camera.close()
    assert capfd.readouterr().err == ""


def test_a_stream_that_hangs_up_is_a_lost_camera(make: Make, stream: StreamServer) -> None:
    camera = make(stream.address)
    camera.open()
    camera.read(10.0)
    stream.hung_up.set()
    with pytest.raises(FrameError, match="gives no more frames") as caught:
        read_on(camera, 10.0)
    assert not isinstance(caught.value, BadFrame)
    with pytest.raises(FrameError, match="gives no more frames"):
        camera.read(10.0)
    camera.close()


def test_a_stall_that_ends_lets_the_camera_go_on(make: Make, stream: StreamServer) -> None:
    camera = make(stream.address)
    camera.open()
    camera.read(10.0)
    stream.flowing.clear()
    with pytest.raises(FrameError, match=r"no frame within 0.1 s"):
        read_on(camera, 0.1)
    stream.flowing.set()
    assert camera.read(10.0) is not None
    camera.close()


def test_closing_a_stalled_stream_does_not_wait_for_it(
    make: Make, stream: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    camera = make(stream.address)
    camera.open()
    camera.read(10.0)
    stream.flowing.clear()
    with pytest.raises(FrameError):
        read_on(camera, 0.05)
    started_s = time.monotonic()
    camera.close()
    assert time.monotonic() - started_s < 4
    assert "hangs while it is closed" in caplog.text


def test_latency_is_passed_over_after_a_trigger(make: Make, stream: StreamServer) -> None:
    camera = make(stream.address, latency_ms=300.0)
    camera.open()
    camera.read(10.0)
    called_ns = time.monotonic_ns()
    assert camera.read(10.0, flush=True).monotonic_ns - called_ns >= 300_000_000
    camera.close()


def test_what_the_network_has_held_back_is_no_picture_of_the_part_that_came_meanwhile(
    make: Make, stream: StreamServer
) -> None:
    """The first picture after a silence had to be waited for, and may be as old as the silence is."""
    camera = make(stream.address, latency_ms=20.0)
    camera.open()
    for _ in range(20):
        camera.read(10.0)
    stream.holding.set()
    sent = stream.number
    wait_until(lambda: stream.number > sent + 30)
    asked = stream.number
    threading.Timer(0.2, stream.holding.clear).start()
    assert number_of(camera.read(10.0, flush=True).image) >= asked
    camera.close()


def test_a_camera_that_sends_the_same_bytes_again_has_sent_no_picture(
    make: Make, stream: StreamServer
) -> None:
    camera = make(stream.address, latency_ms=20.0)
    camera.open()
    camera.read(10.0)
    stream.picture = lambda _: jpeg(7)
    with pytest.raises(FrameError, match=r"no frame within 0.3 s"):
        read_on(camera, 0.3)
    with pytest.raises(BadFrame, match="is the one before again, byte for byte"):
        camera.read(10.0, flush=True)
    stream.picture = jpeg
    sent = stream.number
    wait_until(lambda: stream.number > sent + 20)
    assert number_of(camera.read(10.0, flush=True).image) > sent
    camera.close()


@pytest.mark.parametrize(("path", "why"), [("", "Connection refused"), ("/missing", "404")])
def test_why_a_stream_cannot_be_opened_is_told(make: Make, stream: StreamServer, path: str, why: str) -> None:
    address = f"http://127.0.0.1:{stream.server_address[1]}{path}" if path else "http://127.0.0.1:9/line"
    with pytest.raises(FrameError, match=f"cannot be opened: .*{why}"):
        make(address).open()


# ---- RTSP


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("codec", ["h264", "jpeg"])
def test_rtsp_in_its_kinds(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, transport: str
) -> None:
    if rtsp_is_missing():
        pytest.skip(rtsp_is_missing())
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", f"rtsp_transport;{transport}")
    server = RtspServer(tmp_path / "pictures", codec)
    camera = make(server.address, timeout_s=10.0)
    try:
        camera.open()
        frames = [camera.read(10.0) for _ in range(5)]
    finally:
        camera.close()
        server.stop()
    row = frames[-1].image[HEIGHT // 2]
    assert ["RGB"[int(np.argmax(row[x]))] for x in (10, WIDTH // 2, WIDTH - 10)] == ["R", "G", "B"]
    assert len({frame.image[: HEIGHT // 8].tobytes() for frame in frames}) > 1


def test_an_rtsp_stream_that_is_cut_and_comes_again(make: Make, rtsp: RtspServer) -> None:
    camera = make(rtsp.address, timeout_s=10.0)
    camera.open()
    camera.read(10.0)
    rtsp.stop()
    with pytest.raises(FrameError, match="gives no more frames") as caught:
        read_on(camera, 10.0)
    assert not isinstance(caught.value, BadFrame)
    with pytest.raises(FrameError, match="cannot be opened"):
        camera.open()
    rtsp.start()
    camera.open()
    assert camera.read(10.0) is not None
    camera.close()


def test_an_rtsp_stream_that_stalls_goes_on(make: Make, rtsp: RtspServer) -> None:
    camera = make(rtsp.address, timeout_s=10.0)
    camera.open()
    camera.read(10.0)
    rtsp.stall()
    with pytest.raises(FrameError, match=r"no frame within 0.3 s"):
        read_on(camera, 0.3)
    rtsp.go_on()
    assert camera.read(10.0) is not None
    camera.close()


# ---- V4L2


def virtual_devices() -> list[Path]:
    """Video devices that are no cameras: the kernel's vivid, or v4l2loopback."""
    named = Path("/sys/class/video4linux").glob("*/name")
    found = [name for name in named if name.read_text().startswith(("vivid", "Dummy video device"))]
    return sorted(Path("/dev") / name.parent.name for name in found)


def test_a_v4l2_device(make: Make) -> None:
    if not virtual_devices():
        pytest.skip("no virtual V4L2 device (modprobe vivid)")
    camera = make(virtual_devices()[0], width_px=640, height_px=480, timeout_s=10.0)
    camera.open()
    frames = [camera.read(10.0) for _ in range(5)]
    assert {frame.image.shape for frame in frames} == {(480, 640, 3)}
    assert frames[-1].seq == 4 + camera.dropped
    camera.close()


# ---- settings


@pytest.mark.parametrize(
    ("changes", "key"), [({"exposure_us": 8000}, "exposure_us"), ({"rate_hz": 10.0}, "rate_hz")]
)
def test_a_source_that_refuses_a_setting(
    make: Make, tmp_path: Path, changes: dict[str, object], key: str
) -> None:
    camera = make(write_film(tmp_path / "line.avi", 2), **changes)
    with pytest.raises(FrameError, match=rf"refuses \[camera\] {key}"):
        camera.open()
    camera.close()


def test_a_frame_of_another_size_is_a_bad_frame(make: Make, tmp_path: Path) -> None:
    camera = make(write_film(tmp_path / "line.avi", 2), width_px=640, height_px=480)
    camera.open()
    with pytest.raises(BadFrame, match="frame 0 is 84x64 px, asked for were 640x480 px") as caught:
        camera.read(10.0)
    assert (caught.value.seq, caught.value.path, caught.value.camera) == (0, "line.avi#0", "opencv")
    camera.close()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/dev/video99", "opencv of /dev/video99: no such file or device"),
        ("/missing.avi", "opencv of /missing.avi: no such file or device"),
        ("/dev/null", "opencv of /dev/null: cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_named(make: Make, source: str, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        make(source).open()


def test_a_password_is_not_told() -> None:
    assert without_password("rtsp://user:secret@10.0.0.9:554/a?token=x") == "rtsp://10.0.0.9:554/a"
    assert without_password("/a@b.avi") == "/a@b.avi"


def test_an_annotated_picture_of_a_film_has_its_colours(
    make: Make, tmp_path: Path, tiny_bundle: Bundle
) -> None:
    """As the operator sees it: what is red on the line is red in the picture that is written."""
    camera = make(write_film(tmp_path / "line.avi", 1))
    camera.open()
    frame = camera.read(10.0)
    camera.close()
    pipeline = Pipeline(tiny_bundle, station="press-4", session_id="5e55")
    drawn = annotate(frame.image, pipeline.inspect(frame))
    assert cv2.imwrite(str(tmp_path / "seen.png"), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    row = cv2.imread(str(tmp_path / "seen.png"))[HEIGHT - 4]
    assert ["BGR"[int(np.argmax(row[x]))] for x in (10, WIDTH // 2, WIDTH - 10)] == ["R", "G", "B"]
