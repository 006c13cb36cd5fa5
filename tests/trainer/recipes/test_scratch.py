"""Training from random weights: the truth of cells, the batches, the losses, and the epoch that is kept."""

from __future__ import annotations

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from fixtures_trainer import SIDE, gray_input, make_samples

from device.bundle.bundle import Pooling
from device.image.geometry import Size
from trainer import config
from trainer.network.network import STRIDES
from trainer.recipes import scratch
from trainer.scoring.quality import Quality
from trainer.training.logbook import Logbook

CONFIG = replace(config.load(None).scratch, epochs=3, batch_size=4)
STRIDE = STRIDES[scratch.CUT]
CELLS = SIDE // STRIDE


def make_images(good, bad, seed=0):
    """Dark images of noise; a defective one has a bright cell, and its map says where."""
    rng = np.random.default_rng(seed)
    labels = np.array([0] * good + [1] * bad, np.float32)
    pixels = rng.integers(40, 80, (good + bad, SIDE, SIDE, 3), dtype=np.uint8)
    cells = np.zeros((good + bad, CELLS, CELLS), np.float32)
    for index in range(good, good + bad):
        row, column = rng.integers(0, CELLS, 2)
        pixels[index, row * STRIDE : (row + 1) * STRIDE, column * STRIDE : (column + 1) * STRIDE] = 250
        cells[index, row, column] = 1.0
    return scratch.LoadedImages(pixels, labels, cells)


# ---- reading


def test_a_cell_is_as_defective_as_its_share_of_the_mask(tmp_path):
    good, bad, unmarked = make_samples(tmp_path, [(SIDE, SIDE)] * 3)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:STRIDE, : STRIDE // 2] = mask[-STRIDE:, -STRIDE:] = 255
    assert cv2.imwrite(str(tmp_path / "mask.png"), mask)
    samples = [good, replace(bad, mask=tmp_path / "mask.png"), replace(unmarked, label=1)]
    images, _ = scratch.read(samples, gray_input())

    assert images.pixels.shape == (3, SIDE, SIDE, 3)
    assert images.pixels.dtype == np.uint8
    assert list(images.labels) == [0, 1, 1]
    assert not images.cells[0].any()
    assert images.cells[1].sum() == pytest.approx(1.5)
    assert (images.cells[1, 0, 0], images.cells[1, -1, -1]) == (0.5, 1.0)
    assert np.isnan(images.cells[2]).all()


def test_tiles_have_their_own_cells_and_labels(tmp_path):
    """Two tiles side by side, the defect in the second."""
    [good, bad] = make_samples(tmp_path, [(2 * SIDE, SIDE)] * 2)
    mask = np.zeros((SIDE, 2 * SIDE), np.uint8)
    mask[:STRIDE, -STRIDE:] = 255
    assert cv2.imwrite(str(tmp_path / "mask.png"), mask)
    spec = replace(gray_input(), tiles=Size(SIDE, SIDE))
    images, tiles = scratch.read([good, replace(bad, mask=tmp_path / "mask.png")], spec)
    assert images.pixels.shape == (4, SIDE, SIDE, 3)
    assert list(tiles.image) == [0, 0, 1, 1]
    assert list(images.labels) == [0, 0, 0, 1]
    assert [cells.sum() for cells in images.cells] == [0, 0, 0, 1]
    assert images.cells[3, 0, -1] == 1.0


def test_a_part_of_the_images():
    images = make_images(3, 2)
    part = images.part(np.array([True, False, False, False, True]))
    assert list(part.labels) == [0, 1]
    np.testing.assert_array_equal(part.pixels[1], images.pixels[4])
    np.testing.assert_array_equal(part.cells[1], images.cells[4])


# ---- batches


def epoch(batches):
    pairs = [batches[index] for index in range(len(batches))]
    pixels = np.concatenate([inputs for inputs, _ in pairs])
    return pixels, *(np.concatenate([targets[name] for _, targets in pairs]) for name in ("map", "image"))


@pytest.mark.parametrize(("good", "bad"), [(9, 3), (3, 9)])
def test_an_epoch_has_as_many_defective_as_good_images(good, bad):
    batches = scratch.BalancedBatches(make_images(good, bad), 4, seed=0)
    assert len(batches) == 5
    pixels, cells, labels = epoch(batches)
    assert pixels.shape == (18, SIDE, SIDE, 3)
    assert cells.shape == (18, CELLS, CELLS, 1)
    assert labels.shape == (18, 1)
    assert labels.sum() == 9


def test_every_image_is_seen_in_every_epoch():
    images = make_images(7, 2)
    batches = scratch.BalancedBatches(images, 4, seed=0)
    sums = set(images.pixels.sum((1, 2, 3), dtype=np.int64))
    for _ in range(3):
        pixels, *_ = epoch(batches)
        restored = np.round((pixels.astype(np.float64) + 1) * 127.5)
        assert set(restored.sum((1, 2, 3)).astype(np.int64)) == sums
        batches.on_epoch_end()


def test_an_image_and_its_map_are_mirrored_together():
    images = make_images(8, 8)
    before = images.pixels.copy()
    batches = scratch.BalancedBatches(images, 4, seed=0)
    places = set()
    for _ in range(4):
        pixels, cells, _ = epoch(batches)
        bright = pixels.reshape(-1, CELLS, STRIDE, CELLS, STRIDE, 3).mean((2, 4, 5)) > 0.5
        np.testing.assert_array_equal(bright, cells[..., 0] == 1)
        places |= {tuple(np.argwhere(one)[0]) for one in bright if one.any()}
        batches.on_epoch_end()
    assert len(places) > 8  # of 8 places some were mirrored
    np.testing.assert_array_equal(images.pixels, before)


def test_the_seed_decides_the_batches():
    images = make_images(6, 2)
    first, again, other = (scratch.BalancedBatches(images, 4, seed)[0][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


# ---- the whole


def test_the_best_epoch_is_kept_and_shows_the_place(caplog):
    """The weights that come back are those of the epoch that the log calls best."""
    images = make_images(24, 24)
    judged = np.arange(48) % 4 == 0
    with caplog.at_level("INFO"):
        book = Logbook()
        model = scratch.train(images, judged, replace(CONFIG, epochs=4, batch_size=8), 1, book)
    lines = [
        re.match(r"epoch \d+: AP ([\d.]+), d' (-?[\d.]+) on 12 judged", line) for line in caplog.messages
    ]
    epochs = [(float(found[1]), float(found[2])) for found in lines if found]
    assert len(epochs) == 4
    assert [row["val_ap"] for row in book.history] == pytest.approx([ap for ap, _ in epochs], abs=0.001)
    rates = [row["learning_rate"] for row in book.history]
    assert rates[0] > rates[-1] >= 0
    kept = images.part(judged)
    pooled = scratch.pooled_logits(model, kept.pixels, Pooling("top", scratch.TRAINED_SHARE))
    quality = Quality.of(kept.labels.astype(np.int64), pooled)
    best = max(epochs, key=lambda one: Quality(one[0], 0.0, one[1]).merit)
    assert (quality.ap, quality.separation) == pytest.approx(best, abs=0.01)
    assert model.output_shape == (None, CELLS, CELLS, 1)
