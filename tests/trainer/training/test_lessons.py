"""What teaches a decoder: fresh copies of every fold and label, with the truth of their cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_trainer import SIDE, gray_input, make_sample, with_mask

from device.image.geometry import Size
from trainer.data.augment import Augmentation
from trainer.data.variation import Variation
from trainer.network.export import Int8Model
from trainer.training.lessons import Copies, Exercises, Lessons, cells_of, tensor_of

AS_THEY_ARE = Copies(Augmentation(), 0.0, Variation(), varied=0.0, made=0.0)
ROOM = 10**9
FOLDS = np.arange(8) // 2 % 2


@pytest.fixture
def samples(tmp_path: Path) -> list:
    """Every other one defective; two of these have masks."""
    found = [
        make_sample(tmp_path / f"{seed}.png", (SIDE, SIDE), seed, label=seed % 2, kind=f"{seed % 2}")
        for seed in range(8)
    ]
    for index in (1, 3):
        found[index] = with_mask(found[index], (16, 24, 16, 8))
    return found


def lessons(samples, int8_backbone: bytes, copies: Copies = AS_THEY_ARE, seed: int = 0) -> Lessons:
    exercises = Exercises(samples, gray_input(), ROOM)
    return Lessons(exercises, FOLDS, Int8Model(int8_backbone), copies, 2, seed)


def test_every_fold_gives_as_many_of_both_labels(samples, int8_backbone):
    [lesson] = lessons(samples, int8_backbone).taught(1)
    assert lesson.unseen.tolist() == [[True, False]] * 4 + [[False, True]] * 4
    assert lesson.labels[:, 0].tolist() == [0, 0, 1, 1] * 2
    assert [maps.shape for maps in lesson.stored] == [(8, 8, 8, 192), (8, 4, 4, 576), (8, 2, 2, 1280)]
    assert all(maps.dtype == np.int8 for maps in lesson.stored)
    assert lesson.cells.shape == (8, 8, 8, 1)


def test_images_of_more_than_8_bits_are_scaled_as_the_input_says(samples, int8_backbone):
    plain = Exercises(samples, gray_input(), ROOM).of(0)[0]
    for sample in samples:
        cv2.imwrite(str(sample.path), cv2.imread(str(sample.path)).astype(np.uint16) * 16)
    deep = Exercises(samples, replace(gray_input(), white_level=4080), ROOM).of(0)[0]
    assert (plain == deep).all()


def test_the_truth_is_known_of_good_images_and_of_masks(samples, int8_backbone):
    found = list(lessons(samples, int8_backbone).taught(6))
    labels = np.concatenate([lesson.labels[:, 0] for lesson in found])
    cells = np.concatenate([lesson.cells[..., 0] for lesson in found])
    assert (cells[labels == 0] == 0).all()
    known = ~np.isnan(cells[labels == 1]).any((1, 2))
    assert 0 < known.mean() < 1
    assert (cells[labels == 1][known].max((1, 2)) > 0.5).all()


def test_the_same_seed_teaches_the_same(samples, int8_backbone):
    varied = replace(AS_THEY_ARE, augmentation=Augmentation(flip_horizontal=True), varied=1.0)
    one, two = (list(lessons(samples, int8_backbone, varied).taught(4)) for _ in range(2))
    for first, second in zip(one, two, strict=True):
        assert all((a == b).all() for a, b in zip(first.stored, second.stored, strict=True))
    other = list(lessons(samples, int8_backbone, varied, seed=1).taught(4))
    assert any((a.stored[0] != b.stored[0]).any() for a, b in zip(one, other, strict=True))


def test_a_copy_is_never_the_same_twice(samples, int8_backbone):
    varied = replace(AS_THEY_ARE, varied=1.0)
    taught = lessons(samples[:4] * 2, int8_backbone, varied).taught(4)
    found = np.concatenate([one.stored[0] for one in taught])
    assert len({maps.tobytes() for maps in found}) > 24  # of 32


def test_made_defects_have_a_known_place(samples, int8_backbone):
    copies = replace(AS_THEY_ARE, made=1.0)
    [lesson] = lessons(samples, int8_backbone, copies).taught(1)
    made = lesson.cells[lesson.labels[:, 0] == 1]
    assert not np.isnan(made).any()
    assert (made.max((1, 2, 3)) > 0).all()


def test_a_fold_is_not_taught_the_kind_that_it_is_judged_by(samples, int8_backbone):
    """Of made defects apart, some more are kept from it than those of its own images; of good ones none."""
    copies = replace(AS_THEY_ARE, made=1.0, apart=True)
    found = list(lessons(samples, int8_backbone, copies).taught(8))
    unseen, bad = (
        np.concatenate(parts)
        for parts in zip(*((one.unseen, one.labels[:, 0] == 1) for one in found), strict=True)
    )
    assert (unseen[~bad].sum(1) == 1).all()
    assert unseen[bad].sum(1).max() == 2
    assert (unseen[bad].sum(1) == 1).any()


def test_images_that_are_kept_are_those_that_are_read_anew(samples):
    kept, read = (Exercises(samples, gray_input(), room) for room in (ROOM, 0))
    for index in range(len(samples)):
        (one, one_mask), (other, other_mask) = kept.of(index), read.of(index)
        assert (one == other).all()
        assert one_mask is other_mask or (one_mask == other_mask).all()


def test_an_image_of_more_than_8_bits_teaches_as_the_device_sees_it(tmp_path):
    sample = make_sample(tmp_path / "deep.png", (SIDE, SIDE), 1)
    levels = np.random.default_rng(1).integers(0, 4096, (SIDE, SIDE), dtype=np.uint16)
    assert cv2.imwrite(str(sample.path), levels)
    spec = replace(gray_input(), white_level=4095)
    pixels, _ = Exercises([sample], spec, ROOM).of(0)
    assert np.abs(pixels.astype(int) - levels / 4095 * 255).max() <= 1


def test_an_exercise_is_a_tile_where_images_are_seen_in_tiles(tmp_path):
    sample = with_mask(make_sample(tmp_path / "wide.png", (128, 64), 5), (100, 20, 20, 20))
    spec = replace(gray_input(), tiles=Size(SIDE, SIDE))
    exercises = Exercises([sample], spec, ROOM)
    masks = [exercises.of(index)[1] for index in range(len(exercises.tiles))]
    assert [int(mask.sum()) for mask in masks if mask is not None][-1] == 400
    assert exercises.tiles.truth.tolist()[0] == 0


def test_of_a_defect_thinner_than_any_cell_its_best_cell_is_defective():
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 33] = 1
    cells = cells_of(mask, (8, 8))
    assert cells.max() >= 0.25
    assert (cells > 0).sum() == 8


def test_a_gray_image_is_shown_in_three_channels():
    gray = np.arange(16, dtype=np.uint8).reshape(4, 4)
    tensor = tensor_of(gray)
    assert tensor.shape == (1, 4, 4, 3)
    assert (tensor[0, :, :, 2] == gray).all()
