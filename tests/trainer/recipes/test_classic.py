"""The dense head from images to a model that the device can run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fixtures_network import CPU
from fixtures_trainer import gray_input

from device.errors import ConfigError
from device.image.geometry import Size
from trainer import config
from trainer.network.export import require_all_int8
from trainer.recipes import classic
from trainer.training.cross_validation import TrainingResult
from trainer.training.logbook import Logbook


@pytest.fixture(scope="module")
def settings():
    found = config.load(None)
    dense = replace(found.dense, alpha=0.35, epochs=2, learning_rate=1e-2)
    few = replace(found.quantization, images=8)
    return replace(found, dense=dense, quantization=few, split=replace(found.split, folds=2))


def test_it_learns_and_ships_a_map_in_int8(spots, settings, tmp_path):
    """What the map's mean is: test_dense_head.py. How each image is judged: test_cross_validation.py."""
    folder = tmp_path / "checkpoint"
    learned = classic.learn(spots[:12], gray_input(), settings, CPU, "none", 0, folder, Logbook())
    assert not folder.exists()
    assert (learned.record["recipe"], learned.pooling.kind) == ("dense head", "mean")
    assert [line["epoch"] for line in learned.record["history"]] == [0, 1, 2]
    assert learned.record["warnings"] == [] or not learned.record["chosen"]["epoch"]
    require_all_int8(learned.content)
    assert learned.network.output_shape == (None, 2, 2, 1)
    assert learned.judges.network.output_shape == (None, 2, 2, 2)
    assert set(learned.judges.head_of) == {0, 1}
    assert learned.pooled.shape == learned.pooled_float.shape == (12,)
    assert np.isfinite(learned.pooled).all()


@pytest.mark.parametrize(("epoch", "expected"), [(0, [classic.UNTRAINED]), (1, [])])
def test_a_head_that_learned_nothing_does_not_ship_in_silence(caplog, epoch, expected):
    assert classic._warnings(TrainingResult(epoch, [], [], np.zeros(4))) == expected
    assert [line.getMessage() for line in caplog.records if line.levelname == "WARNING"] == expected


def test_tiles_are_refused(spots, settings, tmp_path):
    tiled = replace(gray_input(), tiles=Size(64, 64))
    with pytest.raises(ConfigError, match=r"--head dense: sees whole images only: set \[input\]"):
        classic.learn(spots, tiled, settings, CPU, "none", 0, tmp_path / "checkpoint", Logbook())
