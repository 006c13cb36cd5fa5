"""Whether the camera moved: pictures of a fixture with a part that changes, and others without."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_scene import HEIGHT, WIDTH, scene

from device.health.camera_shift import LEARNED_FROM, ReferenceView


def learned(path: Path | None = None) -> ReferenceView:
    view = ReferenceView(path)
    for seed in range(LEARNED_FROM):
        assert not view.learned
        view.learn(scene(seed))
    assert view.learned
    return view


def test_a_camera_that_stands_still_has_not_moved() -> None:
    view = learned()
    shifts = [view.shift_ratio(scene(seed)) for seed in range(100, 120)]
    assert max(shifts) < 0.02  # the part itself moves by 0.01


def test_a_camera_that_stands_still_all_day_has_not_moved() -> None:
    view = learned()
    assert max(view.shift_ratio(scene(seed)) for seed in range(100, 200)) < 0.02


@pytest.mark.parametrize(
    ("shift", "expected"), [((20, 0), 20 / WIDTH), ((-40, 6), 40 / WIDTH), ((0, 24), 24 / HEIGHT)]
)
def test_the_shift_is_measured(shift: tuple[int, int], expected: float) -> None:
    assert learned().shift_ratio(scene(50, shift)) == pytest.approx(expected, abs=0.012)


def test_a_turned_camera_sees_another_scene() -> None:
    assert learned().shift_ratio(scene(50, turn=40)) == math.inf


def test_darkness_says_nothing() -> None:
    assert learned().shift_ratio(np.zeros((HEIGHT, WIDTH, 3), np.uint8)) is None


def test_before_it_is_learned_there_is_no_word() -> None:
    assert ReferenceView(None).shift_ratio(scene(1)) is None


def test_dark_frames_teach_nothing() -> None:
    view = ReferenceView(None)
    for _ in range(2 * LEARNED_FROM):
        view.learn(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert not view.learned
    assert view.watched


def test_where_nothing_stands_still_nothing_is_watched(caplog: pytest.LogCaptureFixture) -> None:
    view = ReferenceView(None)
    with caplog.at_level(logging.INFO):
        for seed in range(LEARNED_FROM):
            texture = np.random.default_rng(seed).integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), np.uint8)
            view.learn(cv2.resize(texture, (WIDTH, HEIGHT)))
    assert not view.watched
    assert view.shift_ratio(scene(1)) is None
    assert "not watched" in caplog.text


def test_it_is_remembered_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "view.npz"
    learned(path)
    again = ReferenceView(path)
    assert again.learned
    assert again.shift_ratio(scene(50, (20, 0))) == pytest.approx(20 / WIDTH, abs=0.012)
    assert [file.name for file in tmp_path.iterdir()] == ["view.npz"]


@pytest.mark.parametrize("content", [b"", b"not a view", b"PK\x03\x04 cut off"])
def test_a_damaged_memory_is_learned_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "view.npz"
    path.write_bytes(content)
    learned(path)
    assert "learned anew" in caplog.text
    assert ReferenceView(path).learned


def test_a_place_that_cannot_be_written_is_told_and_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    learned(tmp_path / "file" / "view.npz")
    assert "cannot be written" in caplog.text
