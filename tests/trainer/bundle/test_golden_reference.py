"""Whether good images give a golden reference, and which."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_part import shot, shots

from device.bundle.bundle import PreprocessSpec
from device.image.geometry import Size
from trainer.bundle import golden_reference
from trainer.data.dataset import Sample

SPEC = PreprocessSpec(Size(256, 256), "stretch", "gray", 114)


def samples(folder: Path, images: list[np.ndarray]) -> list[Sample]:
    found = []
    for index, image in enumerate(images):
        path = folder / f"{index:03}.png"
        cv2.imwrite(str(path), image)
        size = Size(image.shape[1], image.shape[0])
        found.append(Sample(path.name, path, 0, "good", None, path.name, "train", "0" * 64, size))
    return found


def refused(
    folder: Path, images: list[np.ndarray], spec: PreprocessSpec, caplog: pytest.LogCaptureFixture
) -> str:
    with caplog.at_level(logging.INFO, "trainer.bundle.golden_reference"):
        assert golden_reference.learn(samples(folder, images), spec, 16) is None
    return caplog.messages[-1]


def test_parts_that_lie_still_have_one_and_it_tells_good_from_defective(tmp_path: Path) -> None:
    found = golden_reference.learn(samples(tmp_path, shots(24)), SPEC, 16)
    assert found is not None
    reference, spec = found
    assert reference.align(shot()) is not None
    for seed in range(8):
        for spot in (None, (160, 140)):
            image = shot(2.3, -1.7, gain=1.05, seed=seed + 500, spot=spot)
            alignment = reference.align(image)
            assert alignment is not None
            assert alignment.response >= spec.least_response
            beyond = int((reference.deviation(image, alignment) >= spec.cut).sum())
            assert (beyond >= 16) == (spot is not None)


def test_a_texture_has_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    images = [
        cv2.GaussianBlur(rng.integers(0, 256, (128, 128), dtype=np.uint8), (0, 0), 1.5) for _ in range(16)
    ]
    assert "no golden reference: " in refused(tmp_path, images, SPEC, caplog)


def test_parts_that_are_turned_have_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    bar = np.full((128, 128), 90, np.uint8)
    bar[58:70, 20:108] = 200
    images = []
    for angle in rng.uniform(0, 180, 16):
        turn = cv2.getRotationMatrix2D((64, 64), angle, 1.0)
        images.append(cv2.warpAffine(bar, turn, (128, 128), borderValue=(90,)))
    assert "no golden reference: " in refused(tmp_path, images, SPEC, caplog)


def test_few_images_or_several_sizes_or_tiles_give_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "7 good images, 8 or more" in refused(tmp_path, shots(7), SPEC, caplog)
    letterboxed = PreprocessSpec(Size(256, 256), "letterbox", "gray", 114)
    mixed = [*shots(8), *(image[20:] for image in shots(8))]
    assert "differ in size" in refused(tmp_path, mixed, letterboxed, caplog)
    tiled = PreprocessSpec(Size(128, 128), "stretch", "gray", 114, tiles=Size(128, 128))
    assert "seen in tiles" in refused(tmp_path, shots(8), tiled, caplog)
