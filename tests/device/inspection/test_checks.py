"""Brightness and focus of the model's input."""

from __future__ import annotations

import math
from dataclasses import astuple

import cv2
import numpy as np
import pytest
from fixtures_bundle import make_frame

from device.bundle.calibration import PreprocessSpec
from device.image.geometry import Size
from device.inspection.checks import Checks, measure
from device.inspection.preprocess import Preprocessor


def checks(image: np.ndarray, side: int) -> Checks:
    spec = PreprocessSpec(Size(side, side), "letterbox", "rgb", 255)
    return measure(Preprocessor(spec).prepare(make_frame(image)))


def texture(width: int, height: int) -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 1), dtype=np.uint8)
    return cv2.GaussianBlur(noise.repeat(3, axis=2), (0, 0), 1.2)


@pytest.mark.parametrize("side", [1, 2, 40, 64, 65, 300])
@pytest.mark.parametrize("level", [0, 51, 255])
def test_a_flat_image(side: int, level: int) -> None:
    found = checks(np.full((side, side, 3), level, np.uint8), side)
    assert found.brightness_ratio == pytest.approx(level / 255)
    assert found.focus == pytest.approx(0, abs=1e-9)


def test_brightness_is_luma() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:] = (0, 255, 0)
    assert checks(image, 64).brightness_ratio == pytest.approx(0.587, abs=0.003)


def test_a_small_image_is_measured_as_a_whole() -> None:
    image = texture(60, 60)
    laplacian = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F)
    assert checks(image, 60).focus == pytest.approx(laplacian[1:-1].var())


def test_the_bands_stand_for_the_whole() -> None:
    image = texture(512, 512)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found = checks(image, 512)
    assert found.focus == pytest.approx(cv2.Laplacian(gray, cv2.CV_64F).var(), rel=0.05)
    assert found.brightness_ratio == pytest.approx(gray.mean() / 255, abs=0.01)


def test_light_at_one_end_is_seen() -> None:
    image = np.zeros((512, 512, 3), np.uint8)
    image[400:] = 255
    assert 0.1 < checks(image, 512).brightness_ratio < 0.4


def test_padding_is_not_measured() -> None:
    assert checks(np.full((100, 512, 3), 51, np.uint8), 512) == Checks(0.2, 0.0)


def test_a_smear_is_told_by_its_direction_and_noise_from_a_coarser_grain() -> None:
    image = texture(512, 512)
    usual = checks(image, 512).look

    def change(pixels: np.ndarray) -> tuple[float, float]:
        look = checks(np.clip(pixels, 0, 255).astype(np.uint8), 512).look
        return look.smear - usual.smear, look.fineness - usual.fineness

    assert abs(usual.smear) < 0.1
    smeared = np.ones((1, 9), np.float32) / 9
    assert change(cv2.filter2D(image, -1, smeared))[0] < -2
    assert change(cv2.filter2D(image, -1, smeared.T))[0] > 2
    assert change(cv2.GaussianBlur(image, (0, 0), 1.5))[1] < -0.5
    grain = 128 + 0.5 * (image.astype(float) - 128)  # half of the grain: of either size
    assert change(grain) == pytest.approx((0, 0), abs=0.1)
    noise = np.random.default_rng(0).normal(0, 12, (512, 512, 1))
    smear, fineness = change(image + noise)
    assert abs(smear) < 0.1
    assert fineness > 0.5


@pytest.mark.parametrize("side", [1, 2, 3, 65])
def test_a_picture_of_any_size_has_a_look(side: int) -> None:
    look = checks(texture(side, side), side).look
    assert all(np.isfinite(astuple(look)))


def test_focus_falls_with_blur() -> None:
    sharp = texture(256, 256)
    values = [checks(cv2.GaussianBlur(sharp, (0, 0), sigma), 256).focus for sigma in (0.6, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert checks(sharp, 256).focus > values[0] > 4 * values[2]


@pytest.mark.parametrize(("ratio", "focus"), [(-0.1, 0), (1.1, 0), (math.nan, 0), (0.5, -1), (0.5, math.nan)])
def test_checks_check_themselves(ratio: float, focus: float) -> None:
    with pytest.raises(ValueError, match=r"(brightness_ratio|focus) must be"):
        Checks(ratio, focus)
