"""The decoder: what is taught on stored features is what ships behind the backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from fixtures_trainer import SIDE, gray_input

from device.image.geometry import Size
from trainer.data.dataset import load
from trainer.network import network
from trainer.network.decoder import STEPS, Decoder, Normalization, decoded, finer, folded, trainable
from trainer.network.export import Int8Model, to_int8
from trainer.network.features import inputs

CUTS = ("block_6_expand_relu", "block_13_expand_relu")


@pytest.fixture(scope="module")
def tensors(textures: Path) -> list[np.ndarray]:
    return [one.tensor for one in inputs(load(textures).train[:8], gray_input(), "test")]


@pytest.fixture(scope="module")
def base(weights_file: Path) -> keras.Model:
    return network.tapped(Size(SIDE, SIDE), str(weights_file), CUTS)


@pytest.fixture(scope="module")
def backbone(base: keras.Model, tensors: list[np.ndarray]) -> Int8Model:
    return Int8Model(to_int8(base, tensors))


@pytest.fixture(scope="module")
def stored(backbone: Int8Model, tensors: list[np.ndarray]) -> dict[str, np.ndarray]:
    seen = zip(*(backbone.outputs(tensor) for tensor in tensors), strict=True)
    return {cut: np.stack(maps) for cut, maps in zip(CUTS, seen, strict=True)}


@pytest.fixture(scope="module")
def taught(stored: dict[str, np.ndarray]) -> tuple[keras.Model, dict[str, Normalization]]:
    """Random, but with statistics in its BatchNorm."""
    keras.utils.set_random_seed(1)
    usual = {cut: Normalization.of(list(maps)) for cut, maps in stored.items()}
    model = trainable(CUTS, Size(SIDE, SIDE), usual, dropout=0.0)
    normalized = model.get_layer("normalized")
    rng = np.random.default_rng(2)
    normalized.set_weights([rng.uniform(0.5, 2, one.shape) for one in normalized.get_weights()])
    return model, usual


@pytest.fixture(scope="module")
def decoder(taught: tuple[keras.Model, dict[str, Normalization]], backbone: Int8Model) -> Decoder:
    return folded(*taught, dict(zip(CUTS, backbone.quantizations, strict=True)))


def test_a_channel_that_hardly_varies_is_not_blown_up():
    rng = np.random.default_rng(0)
    maps = rng.integers(-50, 50, (4, 4, 3), dtype=np.int8)
    maps[:, :, 0] = 7
    usual = Normalization.of([maps])
    assert usual.mean[0] == 7
    assert usual.spread[0] == pytest.approx(0.1 * np.median(maps.reshape(-1, 3).std(0)), rel=0.01)


def test_plain_convolutions_say_what_was_taught(taught, decoder, backbone, stored):
    """On the real numbers that the stored ones stand for."""
    model, _ = taught
    expected = np.asarray(model([stored[cut] for cut in CUTS], training=False))
    real = [
        (stored[cut].astype(np.float32) - one.zero_point) * np.float32(one.scale)
        for cut, one in zip(CUTS, backbone.quantizations, strict=True)
    ]
    inner = network.tapped(Size(SIDE, SIDE), "none", CUTS)
    behind = keras.Model(inner.outputs, decoded(inner, [decoder]).output)
    found = np.asarray(behind(real, training=False))
    assert found.shape == expected.shape == (8, SIDE // 8, SIDE // 8, 1)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_decoders_side_by_side_are_each_itself(base, decoder, tensors):
    other = replace(decoder, evidence=replace(decoder.evidence, bias=decoder.evidence.bias + 1))
    pixels = network.scaled(np.concatenate(tensors))
    both, alone = (np.asarray(decoded(base, some)(pixels)) for some in ([decoder, other], [decoder]))
    assert both.shape[3] == 2
    np.testing.assert_allclose(both[..., :1], alone, atol=1e-4)
    np.testing.assert_allclose(both[..., 1] - both[..., 0], 1, atol=1e-4)


def test_the_int8_file_is_finer_than_int8_and_says_the_same(base, decoder, tensors):
    exact = np.asarray(decoded(base, [decoder])(network.scaled(np.concatenate(tensors))))[..., 0]
    step = float(np.ptp(exact)) / 255
    fine = Int8Model(to_int8(finer(decoded(base, [decoder]), step), tensors))
    plain = Int8Model(to_int8(decoded(base, [decoder]), tensors))
    finely, plainly = (np.stack([one.evidence(tensor) for tensor in tensors]) for one in (fine, plain))
    assert fine.stored(tensors[0]).shape[2] == STEPS
    assert len(np.unique(np.round(finely / (step / STEPS)))) > len(np.unique(plainly))
    alike = [float(np.corrcoef(one.ravel(), exact.ravel())[0, 1]) for one in (finely, plainly)]
    assert alike[0] > max(0.9, alike[1] - 0.001)


def test_a_decoder_on_the_finest_cut_alone(weights_file, tensors):
    first = CUTS[:1]
    base = network.tapped(Size(SIDE, SIDE), str(weights_file), first)
    int8 = Int8Model(to_int8(base, tensors))
    usual = {first[0]: Normalization.of([int8.outputs(tensor)[0] for tensor in tensors])}
    model = trainable(first, Size(SIDE, SIDE), usual, dropout=0.1)
    found = decoded(base, [folded(model, usual, dict(zip(first, int8.quantizations, strict=True)))])
    assert found.output_shape[1:] == (SIDE // 8, SIDE // 8, 1)


def test_the_backbone_is_trained_on_from_where_the_decoder_leaves_it(base, decoder):
    """The halves part before the first block that the decoder looks at."""
    model = decoded(base, [decoder])
    first, second = network.halves(model, 13)
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, SIDE, SIDE, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(second(first(pixels))), np.asarray(model(pixels)), atol=1e-4)
