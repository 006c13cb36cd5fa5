"""The distance of features to those of good parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import make_memory

from device.bundle.calibration import MemorySpec
from device.bundle.memory import FILE, Memory, TurnedFeatures, described
from device.errors import BundleError
from device.learning.coreset import remember

CHANNELS = 6
SPEC = MemorySpec("nearest", CHANNELS, CHANNELS, 700, False, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0)


def features(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize(("height", "width", "rows"), [(40, 33, 700), (5, 7, 1), (64, 64, 3)])
def test_distances_are_those_to_the_nearest_row(height: int, width: int, rows: int) -> None:
    items, stored = features(rows, 6), features(height, width, 6, seed=1)
    found = make_memory(items).distances(stored)
    differences = stored.astype(np.int64)[:, :, np.newaxis] - items.astype(np.int64)
    expected = np.sqrt((differences**2).sum(3).min(2))
    assert found.dtype == np.float32
    assert np.array_equal(found, expected.astype(np.float32))


def test_distances_are_exact_at_the_ends_of_int8() -> None:
    items = np.full((2, 256), -128, np.int8)
    stored = np.full((1, 1, 256), 127, np.int8)
    assert make_memory(items).distances(stored)[0, 0] == np.float32(255 * 16)


def test_a_frame_leaves_nothing_behind_for_the_next() -> None:
    kept = make_memory(features(700, 6))
    first, second = features(9, 9, 6, seed=2), features(20, 11, 6, seed=3)
    expected = kept.distances(first).copy()
    kept.distances(second)
    assert np.array_equal(kept.distances(first), expected)


def test_by_position_a_cell_is_compared_with_what_its_place_showed() -> None:
    rng = np.random.default_rng(6)
    seen = rng.normal(0, 8, (60, 4, 6, 3))
    seen[:, :, 3:] += 90  # another surface
    seen[:, 0, 0, 1] *= 3  # varies more there
    seen = np.clip(seen, -128, 127).astype(np.int8)
    spec = replace(SPEC, kind="position", channels=3, row_channels=3, items=24)
    kept = Memory(remember(seen, "position", 3, 1, rng), spec)
    own = np.array([kept.distances(image) for image in seen])
    assert own.mean((0,)) == pytest.approx(np.full((4, 6), 1.6), abs=0.5)
    moved = seen[0].copy()
    moved[2, 1] = 90  # normal on the right, not here
    found = kept.distances(moved)
    assert np.unravel_index(found.argmax(), found.shape) == (2, 1)
    assert found[2, 1] > 5


def test_evidence_is_centred_and_scaled() -> None:
    items, stored = features(50, 6), features(8, 8, 6, seed=1)
    plain = make_memory(items).distances(stored)
    found = make_memory(items, centre=30.0, spread=4.0).evidence(TurnedFeatures(stored))
    assert found == pytest.approx((plain - 30) / 4, rel=1e-6)


def test_what_is_strange_about_the_whole_image_is_in_the_score_and_not_in_the_map() -> None:
    items, stored = features(50, 6), features(8, 8, 6, seed=1)
    plain, alone = make_memory(items).judge(TurnedFeatures(stored))
    kept = make_memory(items, image_weight=2.0, image_centre=3.0, image_spread=5.0)
    distance = np.linalg.norm(described(stored))
    assert kept.image_distance(stored) == pytest.approx(distance, rel=1e-5)
    evidence, scale = kept.judge(TurnedFeatures(stored))
    assert np.array_equal(evidence, plain)
    assert scale.gain == alone.gain
    assert scale.offset - alone.offset == pytest.approx(2 * (distance - 3) / 5, rel=1e-4)


def test_rows_may_have_the_first_channels_alone() -> None:
    items, stored = features(50, 4), features(8, 8, 6, seed=1)
    kept = make_memory(items, 6)
    assert np.array_equal(
        kept.smoothed(TurnedFeatures(stored)), make_memory(items).distances(stored[:, :, :4])
    )


def test_a_score_does_not_know_how_strong_the_image_is() -> None:
    items, stored = np.zeros((1, 3), np.int8), np.ones((8, 8, 3), np.int8)
    stored[3, 4] = 10
    kept = make_memory(items, usual=2 * 3**0.5, centre=5.0, spread=2.0)
    for image in (stored, stored * 3):
        evidence, scale = kept.judge(TurnedFeatures(image))
        assert scale.of(float(evidence[3, 4])) == pytest.approx((20 * 3**0.5 - 5) / 2)
    assert kept.evidence(TurnedFeatures(stored * 3))[3, 4] == pytest.approx(
        (30 * 3**0.5 - 5) / 2
    )  # the map does


def test_a_flat_image_has_no_infinite_score() -> None:
    evidence, scale = make_memory(np.zeros((1, 3), np.int8)).judge(
        TurnedFeatures(np.zeros((4, 4, 3), np.int8))
    )
    assert np.isfinite([scale.gain, scale.offset, *evidence.ravel()]).all()


def test_smoothing_spreads_a_peak() -> None:
    items, stored = np.zeros((1, 3), np.int8), np.zeros((9, 9, 3), np.int8)
    stored[4, 4] = 90
    found = make_memory(items, sigma_cells=1.0).evidence(TurnedFeatures(stored))
    assert found.argmax() == 40
    assert found[4, 4] < make_memory(items).evidence(TurnedFeatures(stored))[4, 4] / 4
    assert found[4, 5] > 0


@pytest.mark.parametrize("items", [features(700, 5), features(699, 6), features(700, 6).astype(np.uint8)])
def test_rows_that_are_not_what_the_calibration_says(items: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"items must be int8 \(700, 6\), got"):
        Memory(replace(make_memory(features(700, 6)).good, items=items), SPEC)


def test_numbers_that_are_none() -> None:
    broken = replace(make_memory(features(700, 6)).good, image_mean=np.full(12, np.nan, np.float32))
    with pytest.raises(ValueError, match="image_mean must be finite"):
        Memory(broken, SPEC)


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    kept = make_memory(features(700, 6))
    (tmp_path / FILE).write_bytes(kept.good.to_bytes())
    assert np.array_equal(Memory.from_file(tmp_path / FILE, SPEC).good.items, kept.good.items)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", r"memory\.npz: "),
        (None, r"memory\.npz: .*No such file"),
    ],
)
def test_a_damaged_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BundleError, match=message):
        Memory.from_file(tmp_path / FILE, SPEC)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / FILE, items=np.zeros((2, 2)))
    with pytest.raises(BundleError, match=r"must hold factors, head, .*, means, got 1 arrays"):
        Memory.from_file(tmp_path / FILE, SPEC)


def test_a_file_of_another_size(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(make_memory(features(3, 6)).good.to_bytes())
    with pytest.raises(BundleError, match=r"items must be int8 \(700, 6\), got int8 \(3, 6\)"):
        Memory.from_file(tmp_path / FILE, SPEC)


def test_a_head_adds_what_it_was_taught_of_defects() -> None:
    items, stored = features(50, 6), features(8, 8, 6, seed=1)
    head = np.arange(7, dtype=np.float32) / 8
    added = make_memory(items, head=head).evidence(TurnedFeatures(stored)) - make_memory(items).evidence(
        TurnedFeatures(stored)
    )
    assert added == pytest.approx(stored.astype(np.float32) @ head[:6] + head[6], abs=1e-3)


def test_a_head_for_other_features() -> None:
    with pytest.raises(ValueError, match=r"head must be float32 \(7,\), got float32 \(6,\)"):
        make_memory(features(50, 6), head=np.ones(6, np.float32))


def test_a_part_is_turned_before_the_model_sees_it_and_the_map_is_turned_back() -> None:
    image = np.full((1, 64, 64, 3), 200, np.uint8)
    image[0, 10:60, 40:46] = 40
    image[0, 10:14, 36:50] = 40
    for upright in (False, True):
        seen = TurnedFeatures.of(image, lambda pixels: (pixels[0] // 2).astype(np.int8), upright=upright)
        rows = (seen.stored[:, :, 0] < 50).any(1).sum()
        assert rows < 20 if upright else rows == 50
        found = seen.linear(np.array([1, 0, 0, 0], np.float32))
        assert np.abs(found - image[0, :, :, 0] // 2).mean() < 4
