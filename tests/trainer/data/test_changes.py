"""What tomorrow may bring: each change does what its name says, and the same again with the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.data import changes
from trainer.data.changes import TOMORROWS, Tomorrow


def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    gray = 110 + 30 * np.sin(x / 7) + 20 * np.cos(y / 5) + rng.normal(0, 4, (96, 128))
    return np.clip(gray[:, :, np.newaxis] * (1.0, 0.95, 0.9), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("tomorrow", TOMORROWS, ids=lambda one: one.name)
def test_a_change_is_seeded_changes_something_and_leaves_its_input_alone(tomorrow: Tomorrow) -> None:
    before = picture()
    first, second = (tomorrow.change(before, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == before.shape
    assert first.dtype == np.uint8
    assert not np.array_equal(first, before)
    assert np.array_equal(before, picture())


def test_names_are_not_repeated() -> None:
    assert len({one.name for one in TOMORROWS}) == len(TOMORROWS)


def changed(change: changes.Change) -> np.ndarray:
    return change(picture(), np.random.default_rng(1)).astype(float)


def test_light() -> None:
    mean = picture().mean()
    assert changed(changes.gained(0.8)).mean() == pytest.approx(0.8 * mean, rel=0.01)
    assert changed(changes.lifted(25)).mean() == pytest.approx(mean + 25, abs=1)
    uneven = changed(changes.uneven(0.75, 1.25, 0.0))
    left, right = picture()[:, :20].mean(), picture()[:, -20:].mean()
    assert uneven[:, :20].mean() < 0.85 * left
    assert uneven[:, -20:].mean() > 1.15 * right
    red, _, blue = changed(changes.tinted((1.1, 1.0, 0.9))).mean((0, 1))
    assert red / blue == pytest.approx(1.1 / 0.81, rel=0.02)


def test_focus_and_noise() -> None:
    rough = np.abs(np.diff(picture().astype(float), axis=1)).mean()
    assert np.abs(np.diff(changed(changes.blurred(1.0)), axis=1)).mean() < 0.8 * rough
    assert np.abs(np.diff(changed(changes.sharpened(0.8)), axis=1)).mean() > 1.2 * rough
    assert (changed(changes.noisy(8.0)) - picture()).std() == pytest.approx(8.0, rel=0.1)


def test_a_smear_takes_detail_along_its_own_direction() -> None:
    def lost(change: changes.Change) -> tuple[float, float]:
        """(of the detail down the columns, along the rows)."""
        before, after = (
            [np.abs(np.diff(image.astype(float), axis=axis)).mean() for axis in (0, 1)]
            for image in (picture(), changed(change))
        )
        return 1 - after[0] / before[0], 1 - after[1] / before[1]

    down, along = lost(changes.smeared(5))
    assert along > down + 0.05
    down, along = lost(changes.smeared(5, down=True))
    assert down > along + 0.05


def test_noise_of_a_gray_image_is_gray() -> None:
    gray = np.repeat(picture()[:, :, :1], 3, axis=2)
    found = changes.noisy(8.0)(gray, np.random.default_rng(0))
    assert np.array_equal(found[:, :, 0], found[:, :, 2])


def test_a_moved_camera_moves_the_picture() -> None:
    before, after = picture().astype(float), changed(changes.moved(shift_ratio=0.125))
    errors = [
        np.abs(np.roll(after, (-y, -x), (0, 1))[20:-20, 20:-20] - before[20:-20, 20:-20]).mean()
        for y in (-12, 12)
        for x in (-16, 16)
    ]
    assert min(errors) < 1
