"""Features of frames, and what counts of them, are what the device itself uses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import TinyModel, make_frame, make_image, make_memory

from device.bundle.bundle import Bundle
from device.bundle.memory import FILE
from device.errors import BundleError
from device.image.geometry import Polygon
from device.image.region_of_interest import RegionOfInterest
from device.inspection.detector import Detector
from device.inspection.preprocess import Preprocessor
from device.learning.features import Sight

MEMORY = make_memory(np.array([[-77], [-70]], np.int8), centre=20.0, spread=4.0)


@pytest.fixture
def bundle(tiny_model: TinyModel, tmp_path: Path) -> Bundle:
    (tmp_path / FILE).write_bytes(MEMORY.good.to_bytes())
    return tiny_model.bundle(tmp_path, memory=MEMORY.spec)


def test_it_pools_and_scores_as_the_detector_does(bundle: Bundle) -> None:
    frame = make_frame(make_image(seed=3, spot=(16, 16, 8, 8)))
    expected = Detector(bundle).detect(Preprocessor(bundle.calibration.preprocess).prepare(frame))
    sight = Sight(bundle)
    seen = sight.see(frame)
    assert [part.stored.shape for part in seen.parts] == [(8, 8, 1)]
    assert seen.rows.shape == (64, 1)
    assert seen.pooled(MEMORY, sight.pooling) == expected.pooled
    assert sight.score(frame, MEMORY, bundle.calibration.score_calibration) == expected.score
    assert sight.tile_bytes == 64


def test_only_what_is_looked_at_counts(bundle: Bundle) -> None:
    region = RegionOfInterest((Polygon(((0, 0), (32, 0), (32, 64), (0, 64))),))
    spec = replace(bundle.calibration.preprocess, resize="stretch")
    there = Bundle(bundle.path, replace(bundle.calibration, preprocess=spec, memory=MEMORY.spec), bundle.name)
    ignoring = RegionOfInterest((), (Polygon(((32, 0), (64, 0), (64, 64), (32, 64))),))
    assert len(Sight(there, ignoring).see(make_frame()).rows) == 32
    assert len(Sight(there, region).see(make_frame()).rows) == 64  # cut out and enlarged


def test_a_bundle_without_a_memory(tiny_model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no memory"):
        Sight(tiny_model.bundle(tmp_path / "plain"))
