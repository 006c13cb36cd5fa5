"""--qat: from where it starts, and that it ships only what is better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fixtures_network import CPU, POOLING, evidence_of
from fixtures_trainer import gray_input

from trainer import config
from trainer.network.export import require_all_int8
from trainer.recipes import learn, quantize_aware
from trainer.recipes.learned import Judges, TrainedModel
from trainer.training.logbook import Logbook

LABELS = np.arange(24) % 2
FOLDS = np.arange(24) // 2 % 2


@pytest.fixture(scope="module")
def settings():
    found = config.load(None)
    qat = replace(found.qat, epochs=1, learning_rate=2e-3)
    finetune = replace(found.finetune, from_block=4, gamma=0.0, mask_weight=0.5)
    return replace(found, qat=qat, finetune=finetune, quantization=replace(found.quantization, images=8))


@pytest.fixture(scope="module")
def standing(narrow, spots, settings):
    """A model that ranks nothing: whatever was trained ranks better."""
    model = evidence_of(narrow)
    content = learn.quantized(model, spots, gray_input(), settings)
    nothing = np.zeros(24)
    judges = Judges(evidence_of(narrow, heads=2, seed=1), content, FOLDS)
    record = {"recipe": "probe", "judged_by": "folds", "chosen": {"views": "as is"}}
    return TrainedModel(content, model, gray_input(), POOLING, tuple(spots), nothing, nothing, judges, record)


def test_what_ranks_better_in_int8_ships(standing, settings, tmp_path):
    learned = quantize_aware.improved(standing, settings, CPU, 0, tmp_path / "checkpoint", Logbook())
    said = learned.record["quantization_aware"]
    assert said["shipped"] == "quantization-aware"
    assert said["quantization_aware"]["int8_ap"] > said["post_training"]["int8_ap"]
    require_all_int8(learned.content)
    require_all_int8(learned.judges.content)
    assert learned.content != standing.content
    assert not (tmp_path / "checkpoint").exists()


def test_what_stands_stays_where_it_is_better(standing, settings, tmp_path):
    perfect = replace(standing, pooled=LABELS * 1e6)
    learned = quantize_aware.improved(perfect, settings, CPU, 0, tmp_path / "checkpoint", Logbook())
    assert learned.record["quantization_aware"]["shipped"] == "post-training"
    assert learned.content is standing.content
