"""Pixels to image files: what comes back, and how large it may be."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import make_image

from device.archive.encode import LEAST_SIDE_PX, jpeg, png, thumbnail
from device.image.frame import read_image


def decoded(content: bytes, folder: Path) -> np.ndarray:
    path = folder / "image"
    path.write_bytes(content)
    return read_image(path)[0]


@pytest.fixture
def noise() -> np.ndarray:
    """Colours that a JPEG can hardly make small."""
    return np.random.default_rng(3).integers(0, 256, (300, 400, 3), dtype=np.uint8)


def test_a_png_gives_every_pixel_back(noise: np.ndarray, tmp_path: Path) -> None:
    assert np.array_equal(decoded(png(noise), tmp_path), noise)


def test_a_jpeg_is_near_and_its_channels_are_in_order(tmp_path: Path) -> None:
    image = make_image(width=64, height=48, spot=(8, 8, 16, 16))
    image[:, :, 0] = 200  # red
    found = decoded(jpeg(image, 95), tmp_path)
    assert np.abs(found.astype(int) - image).mean() < 4
    assert len(jpeg(image, 30)) < len(jpeg(image, 95))


def test_a_picture_without_colour_has_one_channel(noise: np.ndarray, tmp_path: Path) -> None:
    gray = np.repeat(noise[:, :, :1], 3, axis=2)
    for content in (png(gray), jpeg(gray, 90)):
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED).ndim == 2
    assert np.array_equal(decoded(png(gray), tmp_path), gray)


def test_one_pixel_with_colour_keeps_its_colour(tmp_path: Path) -> None:
    image = np.full((50, 70, 3), 90, np.uint8)
    image[17, 33] = (90, 91, 90)
    assert np.array_equal(decoded(png(image), tmp_path), image)


@pytest.mark.parametrize("limit", [2000, 10_000, 60_000])
def test_a_thumbnail_is_as_large_as_fits(noise: np.ndarray, limit: int, tmp_path: Path) -> None:
    content = thumbnail(noise, limit)
    assert content is not None
    assert limit / 3 < len(content) <= limit
    height, width = decoded(content, tmp_path).shape[:2]
    assert width / height == pytest.approx(4 / 3, rel=0.05)


def test_a_picture_that_is_small_already_is_not_shrunk(tmp_path: Path) -> None:
    content = thumbnail(make_image(width=128, height=96), 100_000)
    assert content is not None
    assert decoded(content, tmp_path).shape == (96, 128, 3)


def test_where_nothing_would_be_seen_there_is_no_thumbnail(noise: np.ndarray) -> None:
    assert thumbnail(noise, 300) is None
    assert thumbnail(noise[: LEAST_SIDE_PX - 1, : LEAST_SIDE_PX - 1], 100_000) is None


def test_a_hair_of_an_image_can_be_shrunk(noise: np.ndarray) -> None:
    assert thumbnail(np.repeat(noise[:1], 8, axis=1), 1500) is not None
