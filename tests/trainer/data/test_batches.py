"""Batches: what an epoch holds, that its number alone decides it, and that memory and disk give the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import active_count

import cv2
import numpy as np
import pytest
from fixtures_trainer import SIDE, gray_input, make_sample, make_samples

from device.bundle.bundle import PreprocessSpec
from device.errors import ConfigError, FrameError
from device.image.geometry import Box, Size
from trainer.config import SamplingConfig
from trainer.data.augment import Augmentation
from trainer.data.batches import Batch, Batches, cell_truth

GRID = (SIDE // 8, SIDE // 8)
SIZE = Size(SIDE, SIDE)
COLUMNS = ("pixels", "labels", "cells", "weights", "indices")
EVERYTHING = Augmentation(True, True, True, 20.0, 0.1, 0.1, 0.1, 0.2)


@pytest.fixture
def samples(tmp_path: Path) -> list:
    """16 good ones and 4 defective ones, of which three have a mask: the upper left quarter."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[: SIDE // 2, : SIDE // 2] = 255
    assert cv2.imwrite(str(tmp_path / "mask.png"), mask)
    found = []
    for number in range(20):
        fields = {"label": 1, "mask": tmp_path / "mask.png" if number < 19 else None} if number > 15 else {}
        found.append(make_sample(tmp_path / f"{number:02d}.png", (SIDE, SIDE), number, **fields))
    return found


def read(samples: list, **options) -> Batches:
    return Batches.read(samples, gray_input(), GRID, 8, 1, **options)


def together(batches, name: str) -> np.ndarray:
    return np.concatenate([getattr(batch, name) for batch in batches])


def share(value: float, weights: str = "none") -> SamplingConfig:
    return SamplingConfig(value, weights)


# ---- how often each image comes


@pytest.mark.parametrize(
    ("defective_share", "good", "defective"),
    [(0.0, 16, 4), (0.5, 16, 16), (0.2, 16, 4), (0.8, 16, 64), (0.1, 36, 4), (1 / 3, 16, 8)],
)
def test_an_epoch_by_hand(samples, defective_share, good, defective):
    batches = read(samples, sampling=share(defective_share))
    labels = together(batches.epoch(1), "labels")
    assert ((labels == 0).sum(), (labels == 1).sum()) == (good, defective)
    assert len(batches) == len(list(batches.epoch(2))) == -(-(good + defective) // 8)


def test_repeated_images_come_equally_often(samples):
    indices = together(read(samples, sampling=share(0.45)).epoch(3), "indices")
    times = np.bincount(indices, minlength=20)
    assert (times[:16] == 1).all()
    assert set(times[16:]) <= {3, 4}  # 13 of 4 images
    assert times[16:].sum() == 13


def test_weights_of_classes_by_hand(samples):
    batch_of = {
        name: read(samples, sampling=share(0.0, name)) for name in ("none", "balanced")
    }  # 16 good, 4 defective
    labels = together(batch_of["balanced"].epoch(1), "labels")
    weights = together(batch_of["balanced"].epoch(1), "weights")
    assert weights[labels == 0] == pytest.approx([20 / 32] * 16)
    assert weights[labels == 1] == pytest.approx([20 / 8] * 4)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())
    assert set(together(batch_of["none"].epoch(1), "weights")) == {1.0}


def test_one_label_alone_is_shown_as_it_is(samples):
    batches = read(samples, sampling=share(0.5, "balanced")).part(np.arange(20) < 16)
    batch_labels, weights = (together(batches.epoch(1), name) for name in ("labels", "weights"))
    assert len(batch_labels) == 16
    assert set(weights) == {1.0}


# ---- the same again


@pytest.mark.parametrize("augmentation", [Augmentation(), EVERYTHING])
def test_an_epoch_can_be_seen_again(samples, augmentation):
    batches = read(samples, augmentation=augmentation)
    for name in COLUMNS:
        first, again = (together(batches.epoch(3), name) for _ in range(2))
        np.testing.assert_array_equal(first, again)
    orders = [
        tuple(together(one.epoch(epoch), "indices"))
        for one in (batches, replace(batches, seed=2))
        for epoch in (1, 2)
    ]
    assert len(set(orders)) == 4


@pytest.mark.parametrize("augmentation", [Augmentation(), EVERYTHING])
def test_what_does_not_fit_in_memory_is_streamed_to_the_same_result(samples, augmentation, caplog):
    caplog.set_level("INFO")
    needed = 20 * SIDE * SIDE + 3 * SIDE * SIDE // 8  # one gray channel, a bit a pixel of each mask
    kept = read(samples, augmentation=augmentation, cache_bytes=needed)
    assert kept.images.cached
    assert not caplog.text
    streamed = read(samples, augmentation=augmentation, cache_bytes=needed - 1)
    assert not streamed.images.cached
    assert "they are decoded anew in every epoch" in caplog.text
    for name in COLUMNS:
        for turn in ("epoch", "judge"):
            given = [getattr(one, turn)(*([2] if turn == "epoch" else [])) for one in (kept, streamed)]
            np.testing.assert_array_equal(*(together(one, name) for one in given))


def test_copies_of_one_image_differ(samples):
    batches = read(samples, augmentation=EVERYTHING)
    for number in (1, 2):
        epoch = list(batches.epoch(number))
        indices, pixels = together(epoch, "indices"), together(epoch, "pixels")
        copies = pixels[indices == 16]
        assert len({copy.tobytes() for copy in copies}) == len(copies) > 1


def test_images_are_judged_once_as_they_are_in_their_order(samples):
    part = read(samples, augmentation=EVERYTHING, sampling=share(0.5, "balanced")).part(np.arange(20) >= 5)
    batches = list(part.judge())
    assert together(batches, "indices").tolist() == list(range(5, 20))
    for batch in batches:
        for row, index in enumerate(batch.indices):
            image = cv2.imread(str(samples[index].path), cv2.IMREAD_GRAYSCALE)
            np.testing.assert_array_equal(batch.pixels[row], image[:, :, None].repeat(3, 2))
    assert set(together(batches, "weights")) == {1.0}


# ---- what a row holds


def test_a_row_is_one_image_with_its_label_and_its_cells(samples):
    quarter = np.zeros(GRID)
    quarter[: GRID[0] // 2, : GRID[1] // 2] = 1.0
    for batch in read(samples).epoch(1):
        assert isinstance(batch, Batch)
        assert batch.pixels.dtype == np.uint8
        assert batch.pixels.shape[1:] == (SIDE, SIDE, 3)
        for row, index in enumerate(batch.indices):
            assert batch.labels[row] == samples[index].label
            expected = quarter if 15 < index < 19 else np.full(GRID, np.nan if index == 19 else 0.0)
            np.testing.assert_array_equal(batch.cells[row], expected)


def test_cells_are_moved_with_the_image(samples):
    """A vertical flip or none: the defect is in the upper left or in the lower left."""
    seen = set()
    for batch in read(samples, augmentation=Augmentation(flip_vertical=True)).epoch(1):
        for row, index in enumerate(batch.indices):
            if 15 < index < 19:
                image = cv2.imread(str(samples[index].path), cv2.IMREAD_GRAYSCALE)
                upright = np.array_equal(batch.pixels[row, :, :, 0], image)
                assert batch.cells[row][0 if upright else -1, 0] == 1.0
                assert batch.cells[row].mean() == 0.25
                seen.add(upright)
    assert seen == {True, False}


def test_a_network_without_a_map_needs_no_cells(samples):
    assert next(Batches.read(samples, gray_input(), None, 4, 0).judge()).cells is None


def test_padding_stays_where_it_is(tmp_path):
    samples = make_samples(tmp_path, [(64, 32)] * 4)
    spec = gray_input(SIZE, "letterbox")
    batches = Batches.read(samples, spec, None, 4, 0, augmentation=EVERYTHING)
    [batch] = batches.epoch(1)
    assert (batch.pixels[:, :16] == 114).all()
    assert (batch.pixels[:, 48:] == 114).all()
    assert not (batch.pixels[:, 16:48] == 114).all()


def test_colour_stays_colour(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    sample = make_sample(tmp_path / "a.png", (SIDE, SIDE), 0)
    assert cv2.imwrite(str(sample.path), image)
    spec = PreprocessSpec(SIZE, "stretch", "rgb", 114)
    [batch] = Batches.read([sample], spec, None, 4, 0).judge()
    np.testing.assert_array_equal(batch.pixels[0], image[:, :, ::-1])


def test_a_cell_is_as_defective_as_its_share_of_the_mask():
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:8, :4] = mask[-8:, -8:] = 1
    cells = cell_truth(mask, Box(0, 0, SIDE, SIDE), SIZE, GRID)
    assert cells.sum() == pytest.approx(1.5)
    assert (cells[0, 0], cells[-1, -1]) == (0.5, 1.0)
    assert np.isnan(cell_truth(None, Box(0, 0, SIDE, SIDE), SIZE, GRID)).all()


def test_padding_is_not_defective():
    cells = cell_truth(np.ones((32, SIDE), np.uint8), Box(0, 16, SIDE, 32), SIZE, GRID)
    np.testing.assert_array_equal(cells.mean(1), [0, 0, 1, 1, 1, 1, 0, 0])


# ---- what goes wrong


def test_an_image_that_has_gone_ends_the_epoch_by_name(samples):
    batches = read(samples, cache_bytes=0)
    samples[7].path.unlink()
    with pytest.raises(FrameError, match=r"07\.png: cannot be read"):
        list(batches.judge())


def test_an_epoch_that_is_left_leaves_no_threads(samples):
    before = active_count()
    assert len(list(islice(read(samples, cache_bytes=0).epoch(1), 1))) == 1
    assert active_count() == before


def test_tiles_are_refused(samples):
    spec = replace(gray_input(Size(32, 32)), tiles=Size(32, 32))
    with pytest.raises(ConfigError, match="seen in tiles"):
        Batches.read(samples, spec, None, 4, 0)
