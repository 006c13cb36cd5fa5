"""The dense head: its layers, and a map whose mean is its logit, in float and in int8."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from fixtures_trainer import SIDE

from trainer.network import dense_head, network
from trainer.network.export import Int8Model, to_int8
from trainer.network.network import HEAD, block_of, called, scaled


@pytest.fixture(scope="module")
def model(narrow) -> keras.Model:
    """As after some training: no BatchNorm of the head stands at its beginning."""
    found = dense_head.trainable(narrow, 0.3)
    rng = np.random.default_rng(0)
    for units in dense_head.UNITS:
        layer = found.get_layer(f"dense_{units}_norm")
        low, high = ((0.5, -0.5, 0.1, 0.5), (1.5, 0.5, 0.5, 2.0))
        layer.set_weights([rng.uniform(*pair, units) for pair in zip(low, high, strict=True)])
    return found


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (12, 1, 1, 3)) + rng.integers(-60, 60, (12, SIDE, SIDE, 3))
    return np.clip(images, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def shipped(model, pixels) -> keras.Model:
    fed = called(network.halves(model, HEAD)[0], scaled(pixels))
    return dense_head.with_map(model, fed, np.asarray(model(scaled(pixels)))[:, 0])


def test_the_layers_of_the_recipe(model):
    kinds = [type(layer).__name__ for layer in model.layers if layer.name.startswith("dense_")]
    block = ["Dense", "BatchNormalization", "Dropout"]
    assert kinds == ["GlobalAveragePooling2D", *block, *block, "Dense"]
    assert [model.get_layer(f"dense_{units}").units for units in dense_head.UNITS] == [64, 32]
    assert model.output_shape == (None, 1)


def test_only_the_heads_own_batchnorms_learn_their_statistics(model):
    copy = keras.models.clone_model(model)
    network.freeze(copy, 10)
    norms = [layer for layer in copy.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.name for layer in norms if layer.trainable} == {"dense_64_norm", "dense_32_norm"}
    assert block_of("dense_64_norm") == HEAD


def test_the_mean_of_the_map_is_the_logit(model, shipped, pixels):
    maps, logits = np.asarray(shipped(scaled(pixels))), np.asarray(model(scaled(pixels)))
    assert maps.shape == (12, 2, 2, 1)
    np.testing.assert_allclose(maps.mean((1, 2, 3)), logits[:, 0], atol=1e-4)
    assert np.ptp(maps, axis=(1, 2)).min() > 0


def test_the_gradient_is_that_of_the_logit(model, pixels):
    """By differences of the head's own layers."""
    head = keras.Model(model.get_layer("dense_64").input, model.output)
    fed = called(network.halves(model, HEAD)[0], scaled(pixels))
    found = dense_head.gradient(model, fed)
    for channel in (0, 100, 1279):
        moved = fed.copy()
        moved[:, channel] += 1e-3
        rise = (np.asarray(head(moved)) - np.asarray(head(fed))).mean() / 1e-3
        assert found[channel] == pytest.approx(rise, abs=2e-3)


def test_int8_keeps_the_logits_and_many_levels():
    """On a backbone of one convolution: 64 cells that are rounded in their own ways."""
    keras.utils.set_random_seed(1)
    image = keras.Input((SIDE, SIDE, 3))
    base = keras.Model(image, [keras.layers.Conv2D(48, 8, 8, activation="relu", name=dense_head.LAST)(image)])
    small = dense_head.trainable(base, 0.3)
    rng = np.random.default_rng(6)
    some = np.kron(rng.integers(0, 256, (24, 8, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    logits = called(small, scaled(some))[:, 0]
    fed = called(network.halves(small, HEAD)[0], scaled(some))
    content = to_int8(dense_head.with_map(small, fed, logits), [one[np.newaxis] for one in some])
    maps = Int8Model(content).run_batch(some)
    assert maps.shape == (24, 8, 8, 1)
    stored = maps.mean((1, 2, 3), dtype=np.float64)
    assert np.corrcoef(stored, logits)[0, 1] > 0.97
    step = Int8Model(content).output_quantization.scale
    assert len(np.unique(np.round(stored / step % 1, 3))) > 12  # not whole steps of int8
