"""The heat over the frame is evidence_in_frame() in small, whatever was cut out, padded and tiled."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from device.bundle.bundle import Bundle
from device.bundle.calibration import Calibration
from device.image.geometry import Box, Letterbox, Size
from device.inspection.annotate import heat_layer, heat_map
from device.inspection.heat import MOST_PX, heat_over
from device.inspection.localizer import evidence_in_frame


@pytest.fixture
def calibration(tiny_bundle: Bundle) -> Calibration:
    whole = tiny_bundle.calibration
    return replace(whole, localization=replace(whole.localization, shift_px=3.0))


def smooth(height: int, width: int) -> np.ndarray:
    drawn = np.random.default_rng(5).normal(size=(height // 4, width // 4)).astype(np.float32)
    return cv2.resize(drawn, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    "placement",
    [
        Letterbox.fit(Size(640, 480), Size(256, 256), "letterbox"),
        Letterbox.fit(Size(640, 480), Size(256, 256), "stretch"),
        Letterbox.fit(Size(300, 900), Size(512, 512), "letterbox"),
        Letterbox.fit(Size(640, 480), Size(256, 256), "letterbox", Box(200, 40, 300, 400)),
        Letterbox.fit(Size(40, 30), Size(256, 192), "letterbox"),
    ],
)
def test_it_is_the_map_over_the_frame_in_small(calibration: Calibration, placement: Letterbox) -> None:
    evidence = smooth(32, 32)
    heat = heat_over(calibration, placement, evidence)
    source, region = placement.source, placement.region
    assert max(heat.shape) == MOST_PX
    assert heat.shape[1] / heat.shape[0] == pytest.approx(source.width / source.height, rel=0.02)
    large = calibration.heat(evidence_in_frame(evidence, placement, calibration.localization.shift_px))
    levels = np.full(large.shape, 0, np.float32)
    region.of(levels)[:] = region.of(127.5 * (1 + np.tanh(large / 2)))
    small = cv2.resize(levels, (heat.shape[1], heat.shape[0]), interpolation=cv2.INTER_AREA)
    inside = cv2.erode((small > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert np.abs(small - heat)[inside].mean() < 4
    outside = cv2.dilate((small > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert not heat[outside].any()


def test_the_layer_over_a_gray_image_is_the_heat_map() -> None:
    logits = np.linspace(-6, 6, 64, dtype=np.float32).reshape(8, 8)
    heat = np.rint(127.5 * (1 + np.tanh(logits / 2))).astype(np.uint8)
    image = np.full((8, 8, 3), 100, np.uint8)
    layer = heat_layer(heat).astype(np.float32)
    opacity = layer[:, :, 3:] / 255
    over = layer[:, :, :3] * opacity + image * (1 - opacity)
    assert np.abs(over - heat_map(image, logits)).max() < 3
