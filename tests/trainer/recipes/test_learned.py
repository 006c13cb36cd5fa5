"""What every way to learn comes to."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from fixtures_trainer import SIDE, make_samples

from trainer.recipes.learned import TrainedModel


def test_the_labels_are_those_of_the_judged_images(tmp_path):
    judged = tuple(make_samples(tmp_path, [(SIDE, SIDE)] * 4))
    values = {field.name: None for field in fields(TrainedModel)} | {"judged": judged}
    learned = TrainedModel(**values)
    np.testing.assert_array_equal(learned.labels, [sample.label for sample in judged])
    assert len(set(learned.labels)) == 2
    assert learned.memory is None
