"""A network that is taught: what changes, what must not, and that its state is all of it."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from fixtures_network import CPU, GRID, POOLING, evidence_of

from device.errors import TrainingError
from device.inspection.detector import pool
from trainer.network import network
from trainer.network.network import block_of, scaled
from trainer.recipes.finetune import CachedFeed
from trainer.training.learner import Learner, Phase, Teaching, TopMean

TEACHING = Teaching(POOLING, gamma=0.0, alpha=0.5, mask_weight=0.5)
PHASE = Phase(4, from_block=3, learning_rate=3e-3, warm_up_share=0.1)


@pytest.fixture(scope="module")
def model(narrow) -> keras.Model:
    return evidence_of(narrow)


@pytest.fixture(scope="module")
def learner(model, feed) -> Learner:
    return Learner(model, PHASE, TEACHING, len(feed), CPU)


def pixels_of(feed):
    return np.concatenate([batch.pixels for batch in feed.judge()])


def variables(model):
    return [np.array(variable) for variable in model.variables]


def learn(learner, feed, *epochs):
    return [learner.epoch(feed.epoch(epoch), len(feed)) for epoch in epochs]


def test_it_learns_and_only_what_may_train_changes(learner, model, feed):
    learner.begin(variables(model))
    lines = learn(learner, feed, 1, 2, 3, 4)
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert {"loss", "image_loss", "map_loss", "image_f1", "image_ap"} <= set(lines[0])
    changed, frozen = set(), set()
    for ours, before in zip(learner.network.layers, model.layers, strict=True):
        for new, old in zip(ours.get_weights(), before.get_weights(), strict=True):
            (changed if (new != old).any() else frozen).add(ours.name)
    assert all(block_of(name) >= PHASE.from_block for name in changed)
    assert not any("BN" in name for name in changed)
    assert {"block_3_expand", "block_5_project", "evidence_block_6_expand_relu"} <= changed


def test_the_template_stays_as_it_was(learner, model, feed):
    before = variables(model)
    learn(learner, feed, 1)
    for new, old in zip(variables(model), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_state_put_back_goes_on_to_the_same_result(learner, model, feed):
    learner.begin(variables(model))
    learn(learner, feed, 1)
    state = learner.state
    [straight] = learn(learner, feed, 2)
    after = learner.state
    learn(learner, feed, 3)
    learner.resume(state)
    [resumed] = learn(learner, feed, 2)
    assert resumed["loss"] == pytest.approx(straight["loss"], rel=1e-5)
    for new, old in zip(learner.state, after, strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)


def test_to_begin_forgets_what_the_optimizer_gathered(learner, model, feed):
    learner.begin(variables(model))
    [first] = learn(learner, feed, 1)
    learner.begin(variables(model))
    [again] = learn(learner, feed, 1)
    assert again["loss"] == pytest.approx(first["loss"], rel=1e-5)


def test_maps_are_judged_as_the_network_gives_them(learner, model, feed):
    learner.begin(variables(model))
    maps = learner.judge(list(feed.judge()), 3)
    assert maps.shape == (24, *GRID)
    np.testing.assert_allclose(maps, np.asarray(model(scaled(pixels_of(feed))))[..., 0], atol=1e-3)


def test_features_of_frozen_layers_teach_the_same(model, feed):
    """Computed once and looked up, instead of in every step."""
    phase = replace(PHASE, from_block=4)
    plain = Learner(model, phase, TEACHING, len(feed), CPU)
    cached = Learner(model, phase, TEACHING, len(feed), CPU, cached_from=4)
    seen = CachedFeed.of(feed, network.halves(model, 4)[0])
    for one in (plain, cached):
        one.begin(variables(model))
    [[expected], [found]] = learn(plain, feed, 1), learn(cached, seen, 1)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    for new, old in zip(cached.network.variables, plain.network.variables, strict=True):
        np.testing.assert_allclose(new, old, atol=2e-4)


def test_images_weigh_what_they_are_said_to_weigh(learner, model, feed):
    """Batches of weight 0 teach the image nothing, only the map."""
    unweighted = (replace(batch, weights=np.zeros_like(batch.weights)) for batch in feed.epoch(1))
    learner.begin(variables(model))
    assert learner.epoch(unweighted, len(feed))["image_loss"] == 0.0


def test_a_loss_that_is_no_number(learner, model, feed):
    broken = variables(model)
    broken[0] = broken[0] * np.nan
    learner.begin(broken)
    with pytest.raises(TrainingError, match=r"the loss is nan, no number, at a peak rate of 0\.003: lower"):
        learn(learner, feed, 1)


def test_a_batch_that_does_not_fit(learner, feed):
    def greedy():
        yield next(feed.epoch(1))
        raise MemoryError("RESOURCE_EXHAUSTED: OOM when allocating tensor")

    with pytest.raises(TrainingError, match=r"batch_size = 8: a batch of 8 .* of 64x64x3 .* memory; try 4"):
        learner.epoch(greedy(), len(feed))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_weights_and_losses_exact(precision, model, feed):
    learner = Learner(model, PHASE, TEACHING, len(feed), replace(CPU, precision=precision))
    learner.begin(variables(model))
    assert {variable.dtype for variable in learner.network.trainable_variables} == {"float32"}
    assert {layer.compute_dtype for layer in learner.network.layers[1:]} == {precision.removeprefix("mixed_")}
    maps = learner.judge(list(feed.judge()), 3)
    np.testing.assert_allclose(maps, np.asarray(model(scaled(pixels_of(feed))))[..., 0], atol=0.3)
    lines = learn(learner, feed, 1, 2, 3)
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize("share", [1.0, 0.1, 0.001])
def test_the_image_is_judged_as_the_device_pools(share):
    maps = np.random.default_rng(0).normal(0, 1, (3, 20, 15, 1)).astype(np.float32)
    pooling = replace(POOLING, share=share) if share < 1 else replace(POOLING, kind="mean", share=1.0)
    expected = [pool(one[:, :, 0], pooling) for one in maps]
    np.testing.assert_allclose(np.asarray(TopMean(share)(maps))[:, 0], expected, rtol=1e-5, atol=1e-6)
