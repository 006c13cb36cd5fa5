"""What grows while a lens is turned, and what tells of the light."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from fixtures_bundle import make_image

from device.aim import figures


def test_sharpness_rises_with_every_turn_towards_the_focus() -> None:
    image = make_image(width=320, height=240, seed=1)
    blurred = [cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (8, 4, 2, 1)]
    found = [figures.sharpness(one)[0] for one in (*blurred, image)]
    assert found == sorted(found)
    assert found[-1] > 2 * found[0]


def test_the_field_that_is_sharp_is_told() -> None:
    image = np.full((90, 90, 3), 128, np.uint8)
    image[62:88, 62:88] = make_image(width=26, height=26, seed=2)
    _, fields = figures.sharpness(image)
    assert len(fields) == 9
    assert int(np.argmax(fields)) == 8


def test_clipped_shares_and_brightness() -> None:
    image = np.full((80, 80, 3), 128, np.uint8)
    image[:20] = 0
    image[60:, :, 0] = 255  # one channel is enough
    light = figures.light(image)
    assert (light.black, light.white) == (0.25, 0.25)
    assert sum(light.histogram) == pytest.approx(1, abs=1e-3)
    assert light.brightness == pytest.approx((0 + 128 + 128 + 128 + 0.299 * 127) / 4 / 255, abs=0.01)
