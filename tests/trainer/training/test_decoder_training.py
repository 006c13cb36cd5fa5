"""Decoders side by side: who learns from what, and what stops it."""

from __future__ import annotations

import numpy as np
import pytest

from device.errors import TrainingError
from device.image.geometry import Size
from trainer.network.decoder import Normalization
from trainer.training.decoder_training import DecoderSchedule, taught
from trainer.training.lessons import Lesson

CUT = "block_6_expand_relu"
USUAL = {CUT: Normalization(np.zeros(192, np.float32), np.full(192, 30, np.float32))}
SIDE = 32


def lesson(number: int) -> Lesson:
    """Fold 0 teaches that one channel is a defect, fold 1 that another one is."""
    rng = np.random.default_rng(number)
    stored = rng.integers(-30, 30, (8, 4, 4, 192), dtype=np.int8)
    fold_of, labels = np.repeat([0, 1], 4), np.tile([0, 0, 1, 1], 2)
    cells = np.zeros((8, 4, 4, 1), np.float32)
    for index in np.flatnonzero(labels):
        stored[index, 1, 2, fold_of[index]] = 127
        stored[index, 1, 2, 2:60] = 100 if fold_of[index] else -100
        cells[index, 1, 2] = 1
    return Lesson([stored], cells, labels[:, np.newaxis].astype(np.float32), fold_of[:, np.newaxis] == [0, 1])


def shown(decoder, fold: int) -> float:
    """How far the defects of a fold stand out of the rest, on features that were not shown."""
    found = lesson(999)
    maps = np.asarray(decoder(list(found.stored), training=False))[..., 0]
    own = found.unseen[:, fold] & (found.labels[:, 0] == 1)
    return float(maps[own][:, 1, 2].mean() - maps[own].mean())


def test_a_fold_s_decoder_has_not_seen_its_fold():
    course = DecoderSchedule(60, 5e-3, 0.3)
    decoders = taught(map(lesson, range(60)), 2, (CUT,), Size(SIDE, SIDE), USUAL, course)
    assert len(decoders) == 3
    assert shown(decoders[2], 0) > 3
    assert shown(decoders[2], 1) > 3
    assert shown(decoders[0], 1) > shown(decoders[0], 0) + 2
    assert shown(decoders[1], 0) > shown(decoders[1], 1) + 2


def test_a_loss_that_is_no_number_is_named():
    broken = lesson(0)
    broken.labels[0] = np.nan
    with pytest.raises(TrainingError, match=r"lower \[decoder\] learning_rate"):
        taught([broken], 2, (CUT,), Size(SIDE, SIDE), USUAL, DecoderSchedule(2, 1e-3, 0.3))
