"""The learning rate against a table made by hand."""

from __future__ import annotations

import keras
import pytest

from trainer.training.schedule import WarmUpCosine, warm_up_steps

# peak 0.8, 4 steps of warm-up, 12 steps: then half of 1 + cos of eighths of a half turn
TABLE = {
    0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8,
    4: 0.8, 5: 0.7695518, 6: 0.6828427, 8: 0.4, 10: 0.1171573, 11: 0.0304482, 12: 0.0, 20: 0.0,
}  # fmt: skip


@pytest.mark.parametrize("step", TABLE)
def test_the_rate_by_hand(step):
    assert float(WarmUpCosine(0.8, 4, 12)(step)) == pytest.approx(TABLE[step], abs=1e-6)


def test_without_warm_up_it_begins_at_its_peak():
    assert float(WarmUpCosine(0.5, 0, 10)(0)) == 0.5


@pytest.mark.parametrize(
    ("steps", "share", "expected"), [(100, 0.1, 10), (5, 0.1, 1), (1, 0.1, 0), (3, 1.0, 2)]
)
def test_the_length_of_the_warm_up(steps, share, expected):
    assert warm_up_steps(steps, share) == expected
    WarmUpCosine(1.0, expected, steps)


def test_a_warm_up_that_never_ends_is_refused():
    with pytest.raises(ValueError, match="warm_up must be 0 <= warm_up < steps, got 12 of 12 steps"):
        WarmUpCosine(0.8, 12, 12)


def test_an_optimizer_takes_its_rate_from_it():
    optimizer = keras.optimizers.SGD(WarmUpCosine(0.8, 4, 12))
    assert float(optimizer.learning_rate) == pytest.approx(0.2)
