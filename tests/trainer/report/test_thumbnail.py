"""Small pictures for a report."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from device.image.geometry import Box
from trainer.report import thumbnail


def decoded(small):
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(small.encoded), np.uint8), cv2.IMREAD_COLOR)
    return pixels[:, :, ::-1].astype(int)


def test_the_image_with_its_box_and_then_its_map():
    image = np.full((100, 200, 3), 100, np.uint8)
    evidence = np.full((100, 200), -9.0, np.float32)
    evidence[:, 150:] = 9.0
    mask = np.zeros((100, 200), bool)
    mask[10:30, 10:30] = True
    small = thumbnail.side_by_side(image, [evidence], [Box(80, 40, 40, 40)], mask, 100)
    assert (small.width, small.height) == (2 * 100 + thumbnail.GAP_PX, 50)
    pixels = decoded(small)
    assert pixels.shape == (50, 204, 3)
    right = pixels[:, 104:]
    red = pixels[..., 0] - pixels[..., 1]
    assert red[30, 38:41].max() > 40  # the left side of the box
    assert (pixels[..., 1] - pixels[..., 0])[9:12, 4:16].max() > 30  # the outline of the mask
    assert abs(right[25, 20].mean() - 100) < 12
    assert np.ptp(right[25, 90]) > 60  # heat has a colour


def test_a_small_image_is_not_enlarged():
    small = thumbnail.side_by_side(np.zeros((20, 30, 3), np.uint8), [], [], None, 100)
    assert (small.width, small.height) == (30, 20)


def test_a_map_of_any_scale_has_its_greatest_value_hottest():
    logits = thumbnail.as_logits(np.float32([[0.0, 1e-9, 2e-9]]))
    assert logits[0, 2] > 6
    assert abs(logits[0, 1]) < 0.01
    assert logits[0, 0] < -6
    assert np.isfinite(thumbnail.as_logits(np.zeros((2, 2), np.float32))).all()
