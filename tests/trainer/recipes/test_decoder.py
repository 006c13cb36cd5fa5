"""The decoder beside the probe: what ships, what the file says, and when nothing is taught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_network import spotted
from fixtures_trainer import FAST, SIDE, gray_input

from device.bundle.bundle import Pooling
from device.inspection.detector import pool
from trainer import config
from trainer.network.decoder import STEPS
from trainer.network.export import Int8Model, require_all_int8
from trainer.network.features import inputs
from trainer.network.network import scaled
from trainer.recipes import decoder, finetune, learn, probe
from trainer.recipes.learned import TrainedModel
from trainer.scoring.quality import Quality


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> config.TrainerConfig:
    path = tmp_path_factory.mktemp("config") / "fast.toml"
    path.write_text(FAST)
    found = config.load(path)
    return replace(found, decoder=replace(found.decoder, when="auto", folds=3, steps=40, varied=0.3))


@pytest.fixture(scope="module")
def both(spots, settings, weights_file: Path) -> tuple[TrainedModel, probe.Candidate]:
    return learn.probed(spots, [gray_input()], settings, str(weights_file), 0)


@pytest.fixture(scope="module")
def probed(both) -> TrainedModel:
    return both[0]


@pytest.fixture(scope="module")
def rival(probed, settings, weights_file: Path) -> TrainedModel:
    return decoder.taught_beside(probed, settings, str(weights_file), 0)


def test_it_finds_what_it_was_taught_in_images_that_it_has_not_seen(rival):
    assert Quality.of(rival.labels, rival.pooled).ap > 0.95
    assert Quality.of(rival.labels, rival.pooled_float).ap > 0.95
    assert rival.record["recipe"] == "decoder"
    assert rival.record["judged_by"] == "3-fold cross-validation"
    assert rival.record["chosen"]["sharpened"] == rival.pooling.sharpened


def test_fewer_images_teach_it_less(rival, settings):
    """Of three folds, one has half of the images that the folds' decoders know."""
    said = rival.record["learning_curve"]
    assert said["images"] == [4, 8, 16]
    assert 0 < said["ap"][0] <= said["ap"][2] <= 1
    bare = replace(rival, record={}, judges=replace(rival.judges, head_of=rival.judges.head_of % 2))
    two = decoder._with_curve(bare, None, None, settings, 0)  # either fold's decoder knows one half already
    assert two.record == {}


def test_one_whose_training_went_astray_does_not_ship(rival):
    """The folds' decoders may be well while the one to ship is not: it is asked about what it was taught."""
    ap = Quality.of(rival.labels, rival.pooled).ap
    assert decoder.astray(rival, ap) == ""
    swapped = tuple(replace(sample, label=1 - sample.label) for sample in rival.judged)
    assert "ranks the images that taught it" in decoder.astray(replace(rival, judged=swapped), ap)


def test_the_file_is_all_int8_and_its_map_finer_than_int8(rival, spots):
    require_all_int8(rival.content)
    model = Int8Model(rival.content)
    [first, *_] = inputs(spots, gray_input(), "test")
    assert model.stored(first.tensor).shape == (SIDE // 8, SIDE // 8, STEPS)
    step = model.output_quantization.scale
    shown = inputs(spots, gray_input(), "test")
    found = np.concatenate([model.evidence(one.tensor).ravel() for one in shown])
    assert (np.abs(found / step - np.round(found / step)) > 0.1).mean() > 0.3


def test_what_ships_is_what_was_taught(rival, spots):
    model = Int8Model(rival.content)
    prepared = list(inputs(spots, gray_input(), "test"))
    exact = np.asarray(rival.network(scaled(np.concatenate([one.tensor for one in prepared]))))[..., 0]
    rounded = [model.evidence(one.tensor) for one in prepared]
    pairs = np.array([[pool(one, rival.pooling) for one in maps] for maps in (exact, rounded)])
    assert np.corrcoef(pairs)[0, 1] > 0.98


def test_a_decoder_that_was_trained_on_keeps_its_finer_map(rival, spots, settings):
    again = finetune.assembled(rival, rival.judges.folds, rival.pooled_float, settings, from_block=13)
    [first, *_] = inputs(spots, gray_input(), "test")
    assert Int8Model(again.content).stored(first.tensor).shape[2] == STEPS
    assert np.corrcoef(again.pooled, rival.pooled)[0, 1] > 0.98


def test_the_better_one_ships_and_the_record_says_why(
    both, probed, rival, settings, weights_file, monkeypatch
):
    monkeypatch.setattr(decoder, "taught_beside", lambda *_: rival)
    learned = decoder.from_probe(*both, settings, str(weights_file), 0)
    said = learned.record["decoder"]
    better = max(("probe", "decoder"), key=lambda name: said[name]["merit"])
    assert said["shipped"] == better
    assert learned.record["recipe"] == better
    assert (learned.content is probed.content) == (better == "probe")
    assert set(said["decoder"]) == {"ap", "ap_varied", "place", "separation", "merit"}


def test_when_it_is_not_wanted_the_probe_stays(both, probed, settings, weights_file):
    never = replace(settings, decoder=replace(settings.decoder, when="never"))
    learned = decoder.from_probe(*both, never, str(weights_file), 0)
    assert learned.content is probed.content
    assert learned.record["decoder"] == {"shipped": "probe", "not_done": 'when = "never"'}


def test_a_handful_of_images_teaches_nothing(probed, settings):
    few = replace(probed, judged=probed.judged[:8])
    assert decoder.reason_not_to(few, settings) == "4 images of one label are too few"
    assert decoder.reason_not_to(probed, settings) == ""


def test_labels_alone_teach_it_too(tmp_path, settings, weights_file):
    """Without a mask the worst place of an image speaks for it."""
    samples = spotted(tmp_path, 24, masks=False)
    linear = learn.by_probe(samples, [gray_input()], settings, str(weights_file), 0)
    taught = replace(settings, decoder=replace(settings.decoder, folds=2, steps=80, image_weight=1.0))
    found = decoder.taught_beside(linear, taught, str(weights_file), 0)
    assert Quality.of(found.labels, found.pooled).ap > 0.85


class Flat:
    """Decoders whose maps are flat, each at a height of its own."""

    def __init__(self, *heights: float) -> None:
        self.heights = np.array(heights, np.float32)

    def run(self, tensor):
        yield np.broadcast_to(self.heights, (SIDE // 8, SIDE // 8, len(self.heights)))

    def evidence(self, tensor):
        return np.full((SIDE // 8, SIDE // 8), self.heights[0], np.float32)


def test_a_training_that_ends_higher_is_laid_on_the_one_that_ships(probed):
    """Only images that a fold's decoder was taught say how high it is; the defective ones say nothing."""
    fold_of = np.arange(len(probed.judged)) // 2 % 2  # good and defective ones take turns
    shifts = decoder._shifts(Flat(1.0, 3.0), Flat(1.5), probed, fold_of, Pooling("mean", 1.0))
    np.testing.assert_allclose(shifts, [0.5, -1.5], atol=1e-6)
