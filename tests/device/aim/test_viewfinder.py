"""The newest picture with its figures, on the camera stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import make_image
from fixtures_camera import WIDTH, camera_config, wait_until, write_pictures

from device.aim.viewfinder import Viewfinder
from device.bundle.bundle import Bundle
from device.camera import fake_picamera2
from device.camera.camera import make_camera
from device.camera.fake_picamera2 import World
from device.config import CameraConfig
from device.image.frame import Pixels
from device.inspection.pipeline import Pipeline


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CameraConfig:
    """A camera on the Pi's connector that sees a part."""
    monkeypatch.setitem(__import__("sys").modules, "picamera2", fake_picamera2)
    monkeypatch.setitem(__import__("sys").modules, "libcamera", fake_picamera2)
    part = make_image(width=320, height=240, seed=3)

    def picture(number: int, width: int, height: int) -> Pixels:
        return np.asarray(cv2.resize(part, (width, height)), np.uint8)

    monkeypatch.setattr(fake_picamera2.Picamera2, "world", World(picture=picture))
    return camera_config(tmp_path, kind="picamera2", width_px=320, height_px=240, rate_hz=20.0)


@pytest.fixture
def finder(pi: CameraConfig) -> Iterator[Viewfinder]:
    made = Viewfinder(pi, lambda config: make_camera(config, lambda s: None), None)
    made.start()
    yield made
    made.stop()


def test_pictures_follow_each_other_with_their_figures(finder: Viewfinder) -> None:
    first = finder.newest(0, 20)
    second = finder.newest(first.number, 20)
    assert second.number > first.number
    assert (second.figures["width"], second.figures["height"]) == (320, 240)
    assert second.figures["model"] is None, "there is no bundle yet"
    assert second.figures["camera"]["exposure_us"] > 0
    shown = cv2.imdecode(np.frombuffer(finder.picture(False) or b"", np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (240, 320, 3)


def test_other_settings_are_tried_and_those_that_are_refused_are_given_up(finder: Viewfinder) -> None:
    finder.newest(0, 20)
    assert finder.controls == ("exposure_us", "gain_ratio", "colour_gains")
    assert finder.try_camera(20, exposure_us=6000) is None
    assert finder.camera.exposure_us == 6000
    seen = finder.newest(0, 20).number
    wait_until(lambda: finder.newest(seen, 1).figures["camera"]["exposure_us"] == 6000)
    refused = finder.try_camera(20, gain_ratio=60.0)
    assert refused is not None
    assert "gain_ratio: must be 1..16, got 60" in refused
    assert finder.camera.exposure_us == 6000
    assert finder.camera.gain_ratio == 0
    after = finder.newest(0, 20).number
    assert finder.newest(after, 20).number > after, "it goes on"


def test_a_camera_that_gives_nothing_is_named_and_tried_again(tmp_path: Path) -> None:
    config = replace(camera_config(tmp_path), source=str(tmp_path / "images"), loop=True, rate_hz=20.0)
    made = Viewfinder(config, lambda wanted: make_camera(wanted, lambda s: None), None)
    made.start()
    assert "images" in (made.newest(0, 20).fault or "")
    assert made.picture(False) is None
    write_pictures(tmp_path / "images", 2)
    wait_until(lambda: made.newest(0, 0).fault is None)
    assert made.newest(0, 0).figures["width"] == WIDTH
    made.stop()


def test_the_model_says_what_it_would_say_and_where_the_part_lies(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    golden = cv2.imread(str(tiny_bundle.golden_path(tiny_bundle.calibration.golden.vectors[0])))
    moved = np.roll(golden, (3, -5), (0, 1))
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), moved)
    config = replace(camera_config(tmp_path), source=str(tmp_path / "images"), loop=True, rate_hz=20.0)
    pipeline = Pipeline(tiny_bundle, "press-4", "aim")
    made = Viewfinder(config, lambda wanted: make_camera(wanted, lambda s: None), pipeline)
    made.start()
    said = made.newest(0, 20).figures
    assert said["model"]["verdict"] in ("OK", "NG", "MARGINAL")
    assert said["model"]["usual_focus"]["mean"] > 0
    assert said["shift"]["right_px"] == pytest.approx(-5, abs=0.7)
    assert said["shift"]["down_px"] == pytest.approx(3, abs=0.7)
    assert made.picture(True) != made.picture(False), "with heat"
    assert made.golden(0) is not None
    assert made.golden(99) is None
    made.stop()
