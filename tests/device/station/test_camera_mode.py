"""Another size, no colours, another light: found out at the first frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_camera import camera_config

from device import config
from device.config import HealthConfig
from device.image.frame import FREE_RUN, Frame
from device.station.camera_mode import FILE, KNOWN_AFTER, CameraMode

DAY = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
NIGHT = np.repeat(DAY[..., :1], 3, axis=2)


@pytest.fixture
def health(tmp_path: Path) -> HealthConfig:
    camera_config(tmp_path)
    return config.load(tmp_path / "camera.toml").health


@pytest.fixture
def mode(tmp_path: Path, health: HealthConfig) -> CameraMode:
    return CameraMode(tmp_path, "opencv of a", health)


def frame(image: np.ndarray = DAY, trigger: str = "mqtt") -> Frame:
    return Frame(image, 0, 0, 0, "opencv", None, None, trigger=trigger)


def test_a_camera_that_stays_as_it_is_has_no_other_mode(mode: CameraMode) -> None:
    assert [mode.change(frame(), "m", 0.5) for _ in range(50)] == [None] * 50


def test_another_size_is_told_until_the_first_is_back(mode: CameraMode, tmp_path: Path) -> None:
    assert mode.change(frame(), "m", 0.5) is None
    told = mode.change(frame(DAY[::2, ::2]), "m", 0.5)
    assert told is not None
    assert "gives 64x48 px, and gave 128x96 px; after a wanted change delete " in told
    assert mode.change(frame(), "m", 0.5) is None
    (tmp_path / FILE).unlink()


def test_colours_that_are_lost_are_told_and_colours_that_come_are_not(mode: CameraMode) -> None:
    assert mode.change(frame(NIGHT), "m", 0.5) is None
    assert mode.change(frame(DAY), "m", 0.5) is None
    assert "has lost its colours" in str(mode.change(frame(NIGHT), "m", 0.5))
    assert mode.change(frame(DAY), "m", 0.5) is None


def test_a_gray_camera_is_gray(mode: CameraMode) -> None:
    assert [mode.change(frame(NIGHT), "m", 0.5) for _ in range(3)] == [None] * 3


@pytest.mark.parametrize(("brightness", "word"), [(0.19, "darker"), (0.71, "brighter")])
def test_light_that_jumps_is_told_of_triggered_parts(mode: CameraMode, brightness: float, word: str) -> None:
    for _ in range(KNOWN_AFTER):
        assert mode.change(frame(), "m", 0.4) is None
    for _ in range(100):  # for as long as it lasts
        assert f"is suddenly {word}: {brightness:.3f} of white" in str(mode.change(frame(), "m", brightness))
    assert mode.change(frame(), "m", 0.41) is None


def test_a_belt_between_its_parts_may_be_dark_but_not_black(mode: CameraMode) -> None:
    for _ in range(KNOWN_AFTER):
        assert mode.change(frame(trigger=FREE_RUN), "m", 0.4) is None
    assert mode.change(frame(trigger=FREE_RUN), "m", 0.05) is None
    assert "darker" in str(mode.change(frame(trigger=FREE_RUN), "m", 0.01))
    assert "brighter" in str(mode.change(frame(trigger=FREE_RUN), "m", 0.99))


def test_light_that_changes_slowly_is_followed(mode: CameraMode) -> None:
    for step in range(2000):
        assert mode.change(frame(), "m", 0.8 - 0.6 * step / 2000) is None


def test_it_is_remembered_for_the_same_model_and_camera(tmp_path: Path, health: HealthConfig) -> None:
    assert CameraMode(tmp_path, "a", health).change(frame(), "m", 0.5) is None
    assert "lost its colours" in str(CameraMode(tmp_path, "a", health).change(frame(NIGHT), "m", 0.5))
    assert CameraMode(tmp_path, "b", health).change(frame(NIGHT), "m", 0.5) is None
    other = CameraMode(tmp_path, "b", health)
    assert "gives 64x48 px" in str(other.change(frame(NIGHT[::2, ::2]), "m", 0.5))
    assert other.change(frame(NIGHT[::2, ::2]), "another model", 0.5) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"camera":"a"}', b"\xff\xfe"])
def test_a_damaged_memory_is_as_good_as_none(tmp_path: Path, health: HealthConfig, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert CameraMode(tmp_path, "a", health).change(frame(), "m", 0.5) is None


def test_a_disk_that_does_not_take_it_is_told_and_is_no_fault(
    tmp_path: Path, health: HealthConfig, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    mode = CameraMode(tmp_path / "file", "a", health)
    assert mode.change(frame(), "m", 0.5) is None
    assert "is not remembered over a restart" in caplog.text


def test_without_limits_light_is_not_looked_at_but_for_black_and_white(
    tmp_path: Path, health: HealthConfig
) -> None:
    mode = CameraMode(tmp_path, "a", replace(health, dark_ratio=0.0, bright_ratio=0.0))
    for _ in range(KNOWN_AFTER):
        mode.change(frame(), "m", 0.4)
    assert mode.change(frame(), "m", 0.05) is None
    assert mode.change(frame(), "m", 0.95) is None
    assert "darker" in str(mode.change(frame(), "m", 0.001))
