"""What a model says of its judged images as another day would show them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import TinyModel
from fixtures_trainer import learned_spots

from trainer.bundle import rehearsal
from trainer.bundle.rehearsal import SLIGHT, Rehearsal
from trainer.data.changes import gained
from trainer.recipes.learned import TrainedModel


@pytest.fixture
def learned(tmp_path: Path, tiny_model: TinyModel) -> TrainedModel:
    found: TrainedModel = learned_spots(tmp_path, tiny_model, 24)
    return found


def test_what_was_said_unseen_is_moved_by_what_the_change_does(learned: TrainedModel) -> None:
    kinder = Rehearsal(replace(learned, pooled=learned.pooled + 3.0))
    plain = Rehearsal(learned)
    brighter = gained(1.4)
    assert np.allclose(kinder.under(brighter).logits, plain.under(brighter).logits + 3.0)
    assert np.allclose(plain.under(gained(1.0)).logits, plain.usual.logits)
    assert plain.under(brighter).logits.mean() > plain.usual.logits.mean() + 0.1  # it looks for bright spots


def test_each_slight_change_is_tried_on_some_of_either_label(
    learned: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "IMAGES", 5)
    found = rehearsal.slightly_changed(learned)
    assert [labels.tolist() for labels, _ in found] == [[0] * 5 + [1] * 5] * len(SLIGHT)
    good = replace(learned, judged=learned.judged[::2], pooled=learned.pooled[::2])
    assert set(good.labels) == {0}
    assert rehearsal.slightly_changed(good) == []
