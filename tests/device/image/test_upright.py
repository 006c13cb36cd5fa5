"""Parts at any angle, turned and turned back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from device.image.upright import find

GROUND = 200


def a_nail(angle_deg: float, centre: tuple[float, float] = (64.0, 64.0)) -> np.ndarray:
    """A dark nail, its head at the left where the angle is 0."""
    image = np.full((128, 128, 3), GROUND, np.uint8)
    cv2.rectangle(image, (34, 54), (42, 74), (40, 40, 40), -1)
    cv2.rectangle(image, (42, 60), (94, 68), (60, 60, 60), -1)
    matrix = np.asarray(cv2.getRotationMatrix2D((64.0, 64.0), angle_deg, 1.0))
    matrix[:, 2] += np.array(centre) - 64
    return np.asarray(cv2.warpAffine(image, matrix, (128, 128), borderValue=(GROUND,) * 3), np.uint8)


@pytest.mark.parametrize("angle_deg", [0, 37, 90, 141, 200, 305])
def test_a_part_at_any_angle_looks_the_same_upright(angle_deg: float) -> None:
    expected = find(a_nail(0))
    turn = find(a_nail(angle_deg, (70.0, 58.0)))
    assert turn is not None
    assert expected is not None
    upright = turn.turned(a_nail(angle_deg, (70.0, 58.0))).astype(float)
    assert np.abs(upright - expected.turned(a_nail(0))).mean() < 2
    assert upright[55:58, :64].mean() < upright[55:58, 64:].mean() - 10  # the head is at the left


@pytest.mark.parametrize("angle_deg", [0, 90, 141, 305])
def test_a_map_comes_back_to_where_it_was(angle_deg: float) -> None:
    image = a_nail(angle_deg, (70.0, 58.0))
    turn = find(image)
    assert turn is not None
    upright = cv2.cvtColor(turn.turned(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    cells = cv2.resize(upright, (32, 32), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(image[:, :, 0].astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
    found = turn.back(cells)
    assert np.abs(found - expected).mean() < 5
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95


def test_where_there_is_no_long_part_nothing_is_turned() -> None:
    flat = np.full((128, 128, 3), GROUND, np.uint8)
    assert find(flat) is None
    disc = flat.copy()
    cv2.circle(disc, (64, 64), 20, (40, 40, 40), -1)
    assert find(disc) is None
    assert find(np.random.default_rng(0).integers(0, 255, (128, 128, 3)).astype(np.uint8)) is None
