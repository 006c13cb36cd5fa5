"""The distance of features to those of good parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device.calibration import MemorySpec
from device.errors import BundleError
from device.memory import FILE, Memory

SPEC = MemorySpec("nearest", 6, 700, relative=False, sigma_cells=0.0, centre=0.0, spread=1.0)


def features(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def memory(items: np.ndarray, **changes: object) -> Memory:
    return Memory(items, replace(SPEC, channels=items.shape[1], items=len(items), **changes))


@pytest.mark.parametrize(("height", "width", "rows"), [(40, 33, 700), (5, 7, 1), (64, 64, 3)])
def test_distances_are_those_to_the_nearest_row(height: int, width: int, rows: int) -> None:
    items, stored = features(rows, 6), features(height, width, 6, seed=1)
    found = memory(items).distances(stored)
    differences = stored.astype(np.int64)[:, :, np.newaxis] - items.astype(np.int64)
    expected = np.sqrt((differences**2).sum(3).min(2))
    assert found.dtype == np.float32
    assert np.array_equal(found, expected.astype(np.float32))


def test_distances_are_exact_at_the_ends_of_int8() -> None:
    items = np.full((2, 256), -128, np.int8)
    stored = np.full((1, 1, 256), 127, np.int8)
    assert memory(items).distances(stored)[0, 0] == np.float32(255 * 16)


def test_a_frame_leaves_nothing_behind_for_the_next() -> None:
    kept = memory(features(700, 6))
    first, second = features(9, 9, 6, seed=2), features(20, 11, 6, seed=3)
    expected = kept.distances(first).copy()
    kept.distances(second)
    assert np.array_equal(kept.distances(first), expected)


def test_by_position_each_cell_has_a_row_of_its_own() -> None:
    items, stored = features(20, 6), features(4, 5, 6, seed=1)
    found = memory(items, kind="position").distances(stored)
    differences = stored.astype(np.int64) - items.reshape(4, 5, 6)
    assert np.array_equal(found, np.sqrt((differences**2).sum(2)).astype(np.float32))


def test_evidence_is_centred_and_scaled() -> None:
    items, stored = features(50, 6), features(8, 8, 6, seed=1)
    plain = memory(items).distances(stored)
    found = memory(items, centre=30.0, spread=4.0).evidence(stored)
    assert found == pytest.approx((plain - 30) / 4, rel=1e-6)


def test_relative_distances_do_not_know_how_strong_the_image_is() -> None:
    items, stored = np.zeros((1, 3), np.int8), np.ones((8, 8, 3), np.int8)
    stored[3, 4] = 10
    kept = memory(items, relative=True)
    assert kept.evidence(stored)[3, 4] == pytest.approx(10)
    assert kept.evidence(stored * 3)[3, 4] == pytest.approx(10)


def test_a_flat_image_has_no_infinite_evidence() -> None:
    kept = memory(np.zeros((1, 3), np.int8), relative=True)
    assert np.isfinite(kept.evidence(np.zeros((4, 4, 3), np.int8))).all()


def test_smoothing_spreads_a_peak() -> None:
    items, stored = np.zeros((1, 3), np.int8), np.zeros((9, 9, 3), np.int8)
    stored[4, 4] = 90
    found = memory(items, sigma_cells=1.0).evidence(stored)
    assert found.argmax() == 40
    assert found[4, 4] < memory(items).evidence(stored)[4, 4] / 4
    assert found[4, 5] > 0


@pytest.mark.parametrize("items", [features(700, 5), features(699, 6), features(700, 6).astype(np.uint8)])
def test_rows_that_are_not_what_the_calibration_says(items: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"items must be int8 \(700, 6\), got"):
        Memory(items, SPEC)


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    kept = memory(features(700, 6))
    (tmp_path / FILE).write_bytes(kept.to_bytes())
    assert np.array_equal(Memory.from_file(tmp_path / FILE, SPEC).items, kept.items)


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
    with pytest.raises(BundleError, match=r"must hold \{'items': 'int8'\} or .*, got \{'items': 'float64'\}"):
        Memory.from_file(tmp_path / FILE, SPEC)


def test_a_file_of_another_size(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(memory(features(3, 6)).to_bytes())
    with pytest.raises(BundleError, match=r"items must be int8 \(700, 6\), got int8 \(3, 6\)"):
        Memory.from_file(tmp_path / FILE, SPEC)


def test_a_head_adds_its_own_word_and_travels_along(tmp_path: Path) -> None:
    items, stored = features(50, 6), features(8, 8, 6, seed=1)
    head = np.linspace(-0.5, 0.5, 7, dtype=np.float32)
    plain = memory(items)
    headed = Memory(items, plain.spec, head)
    expected = plain.evidence(stored) + stored.astype(np.float64) @ head[:-1].astype(np.float64) + head[-1]
    assert headed.evidence(stored) == pytest.approx(expected, rel=1e-5)
    (tmp_path / FILE).write_bytes(headed.to_bytes())
    back = Memory.from_file(tmp_path / FILE, plain.spec)
    assert back.head is not None
    assert np.array_equal(back.head, head)
    with pytest.raises(ValueError, match=r"head must be \(7,\) finite numbers, got \(6,\)"):
        Memory(items, plain.spec, head[:-1])
