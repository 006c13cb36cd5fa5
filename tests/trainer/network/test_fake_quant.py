"""Networks that round as their int8 file does: held to that file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from fixtures_network import evidence_of

from trainer.network import fake_quant
from trainer.network.export import Int8Model, to_int8
from trainer.network.network import halves, scaled


@pytest.fixture(scope="module")
def pixels(feed) -> np.ndarray:
    return np.concatenate([batch.pixels for batch in feed.judge()])[:8]


@pytest.fixture(scope="module")
def model(narrow) -> keras.Model:
    return evidence_of(narrow)


@pytest.fixture(scope="module")
def plain(model) -> keras.Model:
    return fake_quant.folded(model)


@pytest.fixture(scope="module")
def known(plain, pixels):
    return fake_quant.ranges(plain, (scaled(one[np.newaxis]) for one in pixels))


@pytest.fixture(scope="module")
def rounding(plain, known) -> keras.Model:
    return fake_quant.simulated(plain, known)


def test_folding_changes_nothing_but_the_layers(model, plain, pixels):
    kinds = {type(layer).__name__ for layer in plain.layers}
    assert "BatchNormalization" not in kinds
    assert plain.count_params() < model.count_params()
    given, expected = (np.asarray(one(scaled(pixels))) for one in (plain, model))
    np.testing.assert_allclose(given, expected, atol=2e-3)


def test_a_range_holds_what_was_seen_and_zero(plain, known, pixels):
    assert known["block_1_expand_relu"][0] == 0.0
    assert 0.0 < known["block_1_expand_relu"][1] <= 6.0
    low, high = known["evidence_block_6_expand_relu"]
    maps = np.asarray(plain(scaled(pixels)))
    assert (low, high) == (
        pytest.approx(min(0, maps.min()), abs=1e-4),
        pytest.approx(max(0, maps.max()), abs=1e-4),
    )
    assert {"block_2_add", "block_1_project_BN", "Conv1_relu"} <= set(known)
    assert "block_1_expand_BN" not in known  # the file has no such tensor: it is one with its ReLU


def test_it_rounds_as_the_int8_file_does(plain, rounding, pixels):
    """It moves the maps by as much, if not cell by cell the same way, and leaves as few values."""
    content = to_int8(plain, [one[np.newaxis] for one in pixels])
    stored = Int8Model(content).run_batch(pixels)
    exact, found = (np.asarray(one(scaled(pixels))) for one in (plain, rounding))
    moved, expected = np.abs(found - exact).mean(), np.abs(stored - exact).mean()
    assert 0.4 * expected < moved < 2.5 * expected
    assert len(np.unique(found)) <= 256


def test_gradients_pass_the_rounding(rounding, pixels):
    rounding.compile(keras.optimizers.SGD(1e-3), loss="mse")
    before = rounding.get_layer("block_3_project").get_weights()[0].copy()
    rounding.train_on_batch(scaled(pixels), np.ones((8, 8, 8, 1), np.float32))
    assert np.abs(rounding.get_layer("block_3_project").get_weights()[0] - before).max() > 0


def test_its_variables_are_those_of_the_folded_network(plain, rounding):
    assert [one.shape for one in rounding.variables] == [one.shape for one in plain.variables]
    assert [one.name for one in rounding.layers if "rounded" not in one.name] == [
        one.name for one in plain.layers
    ]


def test_it_can_be_parted_before_a_block(rounding, pixels):
    first, second = halves(rounding, 4)
    whole, parted = np.asarray(rounding(scaled(pixels))), np.asarray(second(first(scaled(pixels))))
    np.testing.assert_allclose(parted, whole, atol=1e-4)


def test_weights_have_255_steps_in_each_channel():
    kernel = np.random.default_rng(0).normal(0, [0.1, 3.0], (3, 3, 5, 2)).astype(np.float32)
    found = np.asarray(fake_quant._rounded_kernel(kernel, axis=3))
    for channel in range(2):
        step = np.abs(kernel[..., channel]).max() / 127
        steps = found[..., channel] / step
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
        assert np.abs(found[..., channel] - kernel[..., channel]).max() <= step * 0.51
