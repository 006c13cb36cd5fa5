"""The stand-in for picamera2: that it behaves, and that its signatures are those of the genuine one."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures_camera import wait_until

from device.camera.fake_picamera2 import (
    ColorSpace,
    CompletedRequest,
    MappedArray,
    Picamera2,
    Platform,
    Transform,
    World,
    colour_picture,
)

MAIN = {"size": (100, 60), "format": "BGR888"}
LIMIT_S = 20.0

Start = Callable[..., Picamera2]


@pytest.fixture
def start(world: World) -> Iterator[Start]:
    cameras: list[Picamera2] = []

    def started(**configuration: Any) -> Picamera2:
        camera = Picamera2()
        cameras.append(camera)
        camera.configure(camera.create_video_configuration(**{"main": MAIN, **configuration}))
        camera.start()
        return camera

    yield started
    world.may_return.set()
    for camera in cameras:
        camera.close()


@pytest.mark.parametrize(
    ("name", "to_rgb"),
    [
        ("BGR888", None),
        ("RGB888", cv2.COLOR_BGR2RGB),
        ("XBGR8888", cv2.COLOR_RGBA2RGB),
        ("XRGB8888", cv2.COLOR_BGRA2RGB),
    ],
)
def test_formats_are_named_from_the_top_byte_down(start: Start, name: str, to_rgb: int | None) -> None:
    """As picamera2's own FORMAT_TABLE has it, in request.py: "BGR888" is RGB in memory."""
    camera = start(main={**MAIN, "format": name})
    with camera.captured_request(wait=LIMIT_S) as request:
        array = request.make_array("main")
    image = array if to_rgb is None else cv2.cvtColor(array, to_rgb)
    assert np.array_equal(image[10:], colour_picture(0, 100, 60)[10:])


def test_rows_are_padded_and_yuv_keeps_its_padding(start: Start) -> None:
    camera = start(lores={"size": (100, 60)})
    main, lores = camera.stream_configuration(), camera.stream_configuration("lores")
    assert (main["stride"], main["framesize"]) == (320, 320 * 60)
    assert (lores["format"], lores["stride"], lores["framesize"]) == ("YUV420", 128, 128 * 90)
    with camera.captured_request(wait=LIMIT_S) as request:
        assert request.make_array("main").shape == (60, 100, 3)
        planes = request.make_array("lores")
    assert planes.shape == (90, 128)
    image = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)[:, :100]
    expected = colour_picture(0, 100, 60).astype(int)
    for columns in (slice(4, 28), slice(38, 62), slice(70, 96)):
        assert np.abs(image[10:, columns] - expected[10:, columns]).max() <= 4


def test_a_view_is_of_the_buffer_and_good_until_the_release(start: Start) -> None:
    camera = start()
    request = camera.capture_request(wait=LIMIT_S)
    with MappedArray(request, "main") as mapped:
        view = mapped.array
    assert view.base is not None
    pixels = view.copy()
    request.acquire()
    request.release()
    assert np.array_equal(view, pixels)  # acquired once more
    request.release()
    assert (view != pixels).mean() > 0.9
    with pytest.raises(AssertionError):
        MappedArray(request, "main")
    with pytest.raises(RuntimeError, match="negative ref_count"):
        request.release()
    with pytest.raises(RuntimeError, match="acquiring lock with ref_count"):
        CompletedRequest.acquire(dead_request(camera))


def dead_request(camera: Picamera2) -> CompletedRequest:
    request = camera.capture_request(wait=LIMIT_S)
    request.release()
    return request


def test_requests_that_nobody_releases_starve_the_camera(start: Start) -> None:
    camera = start(buffer_count=3)
    held = [camera.capture_request(wait=LIMIT_S) for _ in range(3)]
    with pytest.raises(TimeoutError):
        camera.capture_request(wait=0.05)
    wait_until(lambda: camera.starved > 0)
    camera.cancel_all_and_flush()
    for request in held:
        request.release()
    camera.capture_request(wait=LIMIT_S).release()


def test_a_job_that_timed_out_still_takes_a_frame(start: Start, world: World) -> None:
    camera = start(buffer_count=3, queue=False)
    world.gives_frames.clear()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            camera.capture_request(wait=0.01)
    world.gives_frames.set()
    wait_until(lambda: camera.starved > 0)  # three jobs have taken the three buffers, for nobody
    assert not camera._jobs


def test_a_cancelled_job_says_so(start: Start, world: World) -> None:
    camera = start()
    world.gives_frames.clear()
    job = camera.capture_request(wait=False, flush=True)
    camera.cancel_all_and_flush()
    with pytest.raises(CancelledError):
        job.future.result(timeout=LIMIT_S)


def test_the_newest_frame_is_held_back_unless_flush_wants_a_later_one(start: Start) -> None:
    camera = start()
    wait_until(lambda: camera.completed_requests)
    called_ns = time.monotonic_ns()
    with camera.captured_request(wait=LIMIT_S) as request:
        old = request.get_metadata()
    assert old["SensorTimestamp"] - 1000 * old["ExposureTime"] < called_ns
    called_ns = time.monotonic_ns()
    with camera.captured_request(wait=LIMIT_S, flush=True) as request:
        new = request.get_metadata()
    assert new["SensorTimestamp"] - 1000 * new["ExposureTime"] >= called_ns


@pytest.mark.parametrize(("hflip", "vflip"), [(True, False), (False, True), (True, True)])
def test_a_transform_turns_both_streams(start: Start, hflip: bool, vflip: bool) -> None:
    camera = start(lores={"size": (64, 32)}, transform=Transform(hflip=hflip, vflip=vflip))
    with camera.captured_request(wait=LIMIT_S) as request:
        main, lores = request.make_array("main"), request.make_array("lores")
    picture = colour_picture(0, 100, 60)[:: -1 if vflip else 1, :: -1 if hflip else 1]
    assert np.array_equal(main, picture)
    red_is_left = bool(cv2.cvtColor(lores, cv2.COLOR_YUV2RGB_I420)[16, 8, 0] > 150)
    assert red_is_left is not hflip


def test_controls_are_obeyed_and_exposure_ends_at_the_frame(start: Start) -> None:
    controls = {"ExposureTime": 5000, "AnalogueGain": 2.0, "FrameDurationLimits": (12_000, 12_000)}
    camera = start(controls=controls)
    with camera.captured_request(wait=LIMIT_S) as request:
        metadata = request.get_metadata()
    assert (metadata["ExposureTime"], metadata["AnalogueGain"], metadata["FrameDuration"]) == (
        5000,
        2.0,
        12_000,
    )


@pytest.mark.parametrize(
    ("configuration", "error", "message"),
    [
        ({"controls": {"Exposure": 1}}, RuntimeError, "Control Exposure is not advertised by libcamera"),
        ({"main": {"size": (100, 60), "format": "JPEG"}}, RuntimeError, "Bad format JPEG in stream main"),
        ({"main": {"shape": (100, 60)}}, ValueError, "Bad key 'shape': valid stream configuration keys"),
        ({"main": {"size": [100, 60, 1]}}, ValueError, "too many values"),
        ({"lores": {"size": (200, 60)}}, RuntimeError, "lores stream dimensions may not exceed main stream"),
        ({"lores": {"size": (64, 32), "format": "BGR888"}}, RuntimeError, "lores stream must be YUV"),
        ({"encode": "lores"}, RuntimeError, "Encode stream lores was not defined"),
        ({"colour_space": "sRGB"}, RuntimeError, "Colour space has incorrect type"),
        ({"transform": 180}, RuntimeError, "Transform has incorrect type"),
    ],
)
def test_what_is_refused_is_refused_as_there(
    start: Start, configuration: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        start(**configuration)


def test_lores_may_be_rgb_on_a_pi_5(start: Start, world: World) -> None:
    world.platform = Platform.PISP
    camera = start(lores={"size": (64, 32), "format": "BGR888"})
    with camera.captured_request(wait=LIMIT_S) as request:
        assert request.make_array("lores").shape == (32, 64, 3)


def test_odd_sizes_are_made_even(start: Start) -> None:
    assert start(main={"size": (101, 61), "format": "BGR888"}).stream_configuration()["size"] == (100, 60)


def test_a_running_camera_cannot_be_configured_and_no_camera_cannot_be_opened(start: Start) -> None:
    camera = start()
    with pytest.raises(RuntimeError, match="Camera must be stopped before configuring"):
        camera.configure()
    with pytest.raises(RuntimeError, match="No camera number 1 found"):
        Picamera2(1)


def test_a_request_that_comes_back_after_the_stop_is_not_used_again(start: Start) -> None:
    camera = start(buffer_count=2)
    request = camera.capture_request(wait=LIMIT_S)
    camera.stop()
    camera.configure(camera.create_video_configuration(main={"size": (32, 32), "format": "BGR888"}))
    camera.start()
    request.release()
    with camera.captured_request(wait=LIMIT_S) as other:
        assert other.make_array("main").shape == (32, 32, 3)


def test_the_picture_counts() -> None:
    assert not np.array_equal(colour_picture(1, 64, 64), colour_picture(2, 64, 64))
    assert isinstance(ColorSpace.Sycc(), ColorSpace)


def genuine_sources() -> list[Path]:
    """picamera2.py and request.py of an installed picamera2, or of a copy in $PICAMERA2_SOURCE."""
    folder = os.environ.get("PICAMERA2_SOURCE")
    if folder is None:
        spec = importlib.util.find_spec("picamera2")
        folder = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else None
    if folder is None:
        pytest.skip("picamera2 is neither installed nor in $PICAMERA2_SOURCE (docs/measurements/cameras.md)")
    return [Path(folder) / name for name in ("picamera2.py", "request.py")]


def genuine_signatures() -> dict[tuple[str, str], ast.arguments]:
    found = {}
    for path in genuine_sources():
        for class_ in ast.parse(path.read_text("utf-8")).body:
            if isinstance(class_, ast.ClassDef):
                # The last of several is the function itself; those before it are its overloads.
                functions = [node for node in class_.body if isinstance(node, ast.FunctionDef)]
                found |= {(class_.name, function.name): function.args for function in functions}
    return found


def own_methods() -> Iterator[tuple[type, str, Any]]:
    for class_ in (Picamera2, CompletedRequest, MappedArray):
        for name, member in vars(class_).items():
            function = member.__func__ if isinstance(member, staticmethod) else member
            if inspect.isfunction(function) and (not name.startswith("_") or name == "__init__"):
                yield class_, name, function


OWN = {("Picamera2", "take_back"), ("CompletedRequest", "buffer"), ("CompletedRequest", "__init__")}


def test_signatures_are_those_of_the_genuine_one() -> None:
    """Names and order of the arguments, and which of them have a default."""
    genuine = genuine_signatures()
    compared = 0
    for class_, name, function in own_methods():
        if (class_.__name__, name) in OWN:
            continue
        there = genuine[class_.__name__, name]
        here = inspect.signature(function).parameters
        assert list(here) == [argument.arg for argument in there.args], (class_.__name__, name)
        defaults = [p.default is not inspect.Parameter.empty for p in here.values()]
        assert sum(defaults) == len(there.defaults), (class_.__name__, name)
        compared += 1
    assert compared >= 15


def test_defaults_that_the_adapter_relies_on_are_those_of_the_genuine_one() -> None:
    arguments = genuine_signatures()["Picamera2", "create_video_configuration"]
    names = [argument.arg for argument in arguments.args][-len(arguments.defaults) :]
    there = {
        name: default.value
        for name, default in zip(names, arguments.defaults, strict=True)
        if isinstance(default, ast.Constant)
    }
    here = inspect.signature(Picamera2.create_video_configuration).parameters
    for name in ("buffer_count", "display", "encode", "queue", "use_case"):
        assert here[name].default == there[name], name
