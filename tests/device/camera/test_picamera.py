"""The adapter to picamera2, on the stand-in. What all cameras keep to is in test_camera.py."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fixtures_camera import HEIGHT, WIDTH, camera_config

from device.camera import fake_picamera2, picamera
from device.camera.fake_picamera2 import Platform, World
from device.camera.picamera import LENT, Picamera
from device.errors import FrameError
from device.image.frame import BadFrame

Make = Callable[..., Picamera]
SIZE = {"width_px": WIDTH, "height_px": HEIGHT}
LORES = {"stream": "lores", "lores_width_px": WIDTH - 14, "lores_height_px": HEIGHT - 10, **SIZE}


@pytest.fixture
def make(tmp_path: Path, world: World) -> Iterator[Make]:
    cameras: list[Picamera] = []

    def made(**changes: object) -> Picamera:
        cameras.append(Picamera(camera_config(tmp_path, kind="picamera2", **{**SIZE, **changes})))
        cameras[-1].open()
        return cameras[-1]

    yield made
    world.may_return.set()
    for camera in cameras:
        camera.close()


def inside(camera: Picamera) -> fake_picamera2.Picamera2:
    return camera._camera


def test_a_frame_of_main_is_a_view_of_the_camera_s_memory_and_cannot_be_written(make: Make) -> None:
    camera = make()
    frame = camera.read(10.0)
    stride = inside(camera).stream_configuration("main")["stride"]
    assert frame.image.strides == (stride, 3, 1)
    assert stride > 3 * WIDTH  # padded, and the padding is not in the image
    assert not frame.image.flags.writeable
    assert not frame.image.flags.owndata


def test_no_more_than_so_many_buffers_are_lent_and_kept_frames_do_not_starve_the_camera(make: Make) -> None:
    camera = make()
    kept = [camera.read(10.0) for _ in range(20)]
    assert [frame.image.flags.owndata for frame in kept] == [False] * LENT + [True] * (20 - LENT)
    assert all(np.array_equal(frame.image, frame.image.copy()) for frame in kept)
    assert inside(camera).starved == 0


def test_a_buffer_goes_back_when_the_last_view_of_it_is_gone(make: Make) -> None:
    camera = make()
    frames = [camera.read(10.0) for _ in range(LENT)]
    corner = frames[0].image[10:20, :5]
    pixels = corner.copy()
    frames.clear()
    again = [camera.read(10.0) for _ in range(LENT)]  # one is still out, for the sake of its corner
    assert [frame.image.flags.owndata for frame in again] == [False] * (LENT - 1) + [True]
    assert np.array_equal(corner, pixels)
    del corner
    again.clear()
    assert not camera.read(10.0).image.flags.owndata


def test_the_stand_in_would_show_a_view_that_outlives_its_request(make: Make) -> None:
    """So the tests of kept frames can fail."""
    camera = make()
    request = inside(camera).capture_request(wait=10.0)
    with fake_picamera2.MappedArray(request, "main", write=False) as mapped:
        view = mapped.array
    pixels = view.copy()
    request.release()
    assert not np.array_equal(view, pixels)


def test_lores_is_yuv_up_to_the_pi_4_and_rgb_on_the_pi_5(make: Make, world: World) -> None:
    camera = make(**LORES)
    stream = inside(camera).stream_configuration("lores")
    assert (stream["format"], stream["stride"] > stream["size"][0]) == ("YUV420", True)
    of_yuv = camera.read(10.0).image
    camera.close()
    world.platform = Platform.PISP
    camera = make(**LORES)
    assert inside(camera).stream_configuration("lores")["format"] == "BGR888"
    of_rgb = camera.read(10.0).image
    assert of_yuv.shape == of_rgb.shape == (HEIGHT - 10, WIDTH - 14, 3)
    rows = slice(10, None)  # without the counter
    smooth = [
        slice(4, 20),
        slice(28, 42),
        slice(52, 66),
    ]  # away from the edges between colours, which YUV blurs
    for columns in smooth:
        difference = np.abs(of_yuv[rows, columns].astype(int) - of_rgb[rows, columns])
        assert difference.max() <= 4


@pytest.mark.parametrize("given", ["BGR888", "RGB888", "XBGR8888", "XRGB8888", "YUV420"])
def test_every_format_that_may_come_is_turned_into_rgb(
    make: Make, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """libcamera may adjust a configuration: what counts is what it made of it."""
    adjusted = fake_picamera2.Picamera2.create_video_configuration

    def adjust(self: object, main: dict[str, object], **others: object) -> dict[str, object]:
        return adjusted(self, main={**main, "format": given}, **others)

    monkeypatch.setattr(fake_picamera2.Picamera2, "create_video_configuration", adjust)
    image = make().read(10.0).image
    assert image.shape == (HEIGHT, WIDTH, 3)
    expected = fake_picamera2.colour_picture(0, WIDTH, HEIGHT)
    for columns in (slice(4, 24), slice(32, 52), slice(60, 80)):
        difference = np.abs(image[10:, columns].astype(int) - expected[10:, columns])
        assert difference.max() <= 4


def test_a_format_that_cannot_be_inspected_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picamera, "_TO_RGB", {"RGB888": None})
    with pytest.raises(FrameError, match="gives BGR888, must be one of RGB888"):
        make()


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        ({}, "RGB"),
        ({"mirror": True}, "BGR"),
        ({"flip": True}, "RGB"),
        ({"mirror": True, "flip": True}, "BGR"),
    ],
)
def test_mirror_and_flip(make: Make, changes: dict[str, bool], order: str) -> None:
    camera = make(**changes)
    while camera.read(10.0).seq < 1:
        pass
    image = camera.read(10.0).image
    row = image[HEIGHT // 2]
    assert "".join("RGB"[int(np.argmax(row[int(WIDTH * (i + 0.5) / 3)]))] for i in range(3)) == order
    counter = [bool((image[y] == 255).all(axis=1).any()) for y in (1, HEIGHT - 2)]
    assert counter == ([False, True] if changes.get("flip") else [True, False])


def test_locked_exposure_gain_and_colours_reach_the_camera_and_the_metadata(make: Make) -> None:
    camera = make(exposure_us=7000, gain_ratio=2.5, colour_gains=(1.25, 2.0), rate_hz=50.0)
    controls = inside(camera)._controls
    assert controls["ExposureTime"] == 7000
    assert controls["AnalogueGain"] == 2.5
    assert controls["ColourGains"] == (1.25, 2.0)
    assert (controls["AeEnable"], controls["AwbEnable"]) == (False, False)
    assert controls["FrameDurationLimits"] == (20_000, 20_000)
    metadata = dict(camera.read(10.0).metadata)
    assert metadata.pop("sensor_ts_ns") > 0
    assert metadata == {
        "exposure_us": 7000,
        "analogue_gain": 2.5,
        "digital_gain": 1.0,
        "red_gain": 1.25,
        "blue_gain": 2.0,
        "frame_duration_us": 20_000,
        "illuminance_lx": 400.25,
        "colour_temperature_k": 4500,
        "sensor_temperature_c": 35.0,
    }


def test_what_is_not_locked_is_left_to_the_camera(make: Make) -> None:
    controls = inside(make())._controls
    assert not {"ExposureTime", "AnalogueGain", "ColourGains", "AeEnable", "AwbEnable"} & set(controls)


def test_a_long_exposure_is_given_the_time_that_it_takes(make: Make) -> None:
    """picamera2's own limit for video is 1/30 s, and libcamera would cut the exposure down to it."""
    camera = make(exposure_us=120_000)
    assert camera.read(10.0).metadata["exposure_us"] == 120_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exposure_us": 20}, r"\[camera\] exposure_us: must be 29..1.55344e\+07, got 20"),
        ({"gain_ratio": 20.0}, r"\[camera\] gain_ratio: must be 1..16, got 20"),
        ({**LORES, "lores_width_px": 2 * WIDTH}, "cannot be started: lores stream dimensions may not exceed"),
        ({"number": 2}, "cannot be opened: No camera number 2 found"),
    ],
)
def test_what_the_camera_refuses_is_told(make: Make, changes: dict[str, object], message: str) -> None:
    with pytest.raises(FrameError, match=message) as caught:
        make(**changes)
    assert not isinstance(caught.value, BadFrame)


def test_a_control_that_the_camera_lacks_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(fake_picamera2._LIMITS, "ColourGains")
    with pytest.raises(FrameError, match="Control ColourGains is not advertised by libcamera"):
        make(colour_gains=(1.5, 2.0))


def test_an_exposure_that_is_not_kept_is_told_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    camera = make(exposure_us=5000)
    inside(camera)._controls["ExposureTime"] = 9000
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            camera.read(10.0)
    assert [record.getMessage() for record in caplog.records] == [
        "picamera2 0, main: exposure_us is 9000, asked for was 5000"
    ]


def test_the_whole_sensor_is_the_default(make: Make) -> None:
    assert make(width_px=0, height_px=0).read(10.0).image.shape == (1088, 1456, 3)


def test_a_time_out_leaves_no_job_behind_that_would_take_a_frame_for_nobody(make: Make, world: World) -> None:
    camera = make()
    camera.read(10.0)
    world.gives_frames.clear()
    for _ in range(picamera.BUFFERS + 2):
        with pytest.raises(FrameError, match="no frame within"):
            read_on(camera, 0.02)
    world.gives_frames.set()
    for _ in range(3 * picamera.BUFFERS):
        camera.read(10.0)
    assert inside(camera).starved == 0


def read_on(camera: Picamera, limit_s: float) -> None:
    for _ in range(3):
        camera.read(limit_s)


def test_a_driver_that_hangs_is_given_up(
    make: Make, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(picamera, "_GRACE_S", 0.1)
    monkeypatch.setattr(picamera, "_CLOSE_S", 0.1)
    camera = make()
    camera.read(10.0)
    world.may_return.clear()
    started_s = time.monotonic()
    with pytest.raises(FrameError, match=r"picamera2: read: hangs, no answer within 0.2 s"):
        camera.read(0.1)
    with pytest.raises(FrameError, match="picamera2: read: still hangs in read"):
        camera.read(0.1)
    camera.close()
    assert time.monotonic() - started_s < 5
    assert "close: still hangs in read; it is left alone" in caplog.text


def test_a_camera_that_hangs_while_it_is_opened(
    make: Make, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picamera, "_OPEN_S", 0.1)
    world.may_return.clear()
    with pytest.raises(FrameError, match=r"picamera2: open: hangs, no answer within 0.1 s"):
        make()


def test_missed_frames_are_counted_by_the_sensor_s_clock(make: Make, world: World) -> None:
    camera = make()
    first = camera.read(10.0)
    threading.Event().wait(0.2)  # 20 frames pass
    camera.read(10.0)  # that was held back
    last = camera.read(10.0)
    elapsed_ns = last.metadata["sensor_ts_ns"] - first.metadata["sensor_ts_ns"]
    periods = round(elapsed_ns / world.frame_us / 1000)
    assert abs((last.seq - first.seq) - periods) <= 2  # rounding, twice
    assert camera.dropped == last.seq - 2


def test_frames_may_outlive_the_camera(make: Make) -> None:
    camera = make()
    frame = camera.read(10.0)
    pixels = frame.image.copy()
    camera.close()
    assert np.array_equal(frame.image, pixels)
    camera.open()
    for _ in range(2 * picamera.BUFFERS):
        camera.read(10.0)
    assert np.array_equal(frame.image, pixels)


def test_without_picamera2_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "libcamera", None)
    camera = Picamera(camera_config(tmp_path, kind="picamera2"))
    with pytest.raises(FrameError, match=r"install python3-picamera2, .* --system-site-packages"):
        camera.open()
    camera.close()


def test_a_frame_that_was_given_before_is_found_out_by_the_sensor_s_time(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = make()
    first = camera.read(10.0)
    stamp = first.metadata["sensor_ts_ns"]
    genuine = fake_picamera2.CompletedRequest.get_metadata
    monkeypatch.setattr(
        fake_picamera2.CompletedRequest,
        "get_metadata",
        lambda request: {**genuine(request), "SensorTimestamp": stamp},
    )
    with pytest.raises(BadFrame, match=r"is one that was given before, by the sensor's time") as caught:
        camera.read(10.0)
    assert caught.value.cause == "unreadable"
