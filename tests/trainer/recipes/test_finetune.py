"""Fine-tuning from the probe: what it starts from, what ships, and what an interrupt leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fixtures_network import CPU, POOLING, evidence_of
from fixtures_trainer import gray_input

from device.inspection.detector import pool
from trainer import config
from trainer.data.batches import Batches
from trainer.network.export import Int8Model
from trainer.network.features import inputs
from trainer.network.network import scaled
from trainer.recipes import finetune, learn
from trainer.recipes.learned import Judges, TrainedModel
from trainer.scoring.quality import Quality
from trainer.training.logbook import Logbook

LABELS = np.arange(24) % 2
FOLDS = np.arange(24) // 2 % 2


@pytest.fixture(scope="module")
def settings():
    found = config.load(None)
    tuned = replace(
        found.finetune,
        when="always",
        epochs=2,
        head_epochs=1,
        from_block=4,
        gamma=0.0,
        mask_weight=0.5,
        learning_rate=2e-3,
        head_learning_rate=1e-2,
    )
    return replace(found, finetune=tuned, quantization=replace(found.quantization, images=8))


def pooled_of(maps):
    return np.array([pool(values, POOLING) for values in maps])


@pytest.fixture(scope="module")
def probed(narrow, spots, settings):
    """As the probe leaves it, but for its heads, which nobody fitted: there is much to gain."""
    model, both = evidence_of(narrow), evidence_of(narrow, heads=2, seed=1)
    content, judges = (learn.quantized(one, spots, gray_input(), settings) for one in (model, both))
    pixels = np.concatenate([one.tensor for one in inputs(spots, gray_input(), "test")])
    own = (np.arange(24), slice(None), slice(None), FOLDS)
    exact, stored = (
        maps[own] for maps in (np.asarray(both(scaled(pixels))), Int8Model(judges).run_batch(pixels))
    )
    return TrainedModel(
        content=content,
        network=model,
        preprocess=gray_input(),
        pooling=POOLING,
        judged=tuple(spots),
        pooled=pooled_of(stored),
        pooled_float=pooled_of(exact),
        judges=Judges(both, judges, FOLDS),
        record={"recipe": "probe", "judged_by": "2-fold cross-validation", "chosen": {"views": "as is"}},
    )


@pytest.fixture(scope="module")
def tuned(probed, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "checkpoint"
    learned = finetune.from_probe(probed, settings, CPU, 0, folder, Logbook())
    assert not folder.exists()
    return learned


def test_without_a_gpu_it_is_not_done_and_says_so(probed, settings, tmp_path, caplog):
    usual = replace(settings, finetune=replace(settings.finetune, when="gpu"))
    with caplog.at_level("INFO"):
        learned = finetune.from_probe(probed, usual, CPU, 0, tmp_path / "checkpoint", Logbook())
    assert learned.content is probed.content
    assert learned.record["fine_tuning"]["shipped"] == "probe"
    assert (
        'fine-tuning: not done: when = "gpu", and there is none. [finetune] when = "always" trains'
        in caplog.text
    )
    assert "up to 9 epochs" in caplog.text
    assert not (tmp_path / "checkpoint").exists()


def test_what_ranks_unseen_images_better_ships(probed, tuned):
    said = tuned.record["fine_tuning"]
    assert (said["shipped"], tuned.record["recipe"]) == ("fine-tuned", "probe, fine-tuned")
    assert said["fine_tuned"]["int8_ap"] > said["probe"]["int8_ap"]
    assert said["fine_tuned"]["int8_ap"] == pytest.approx(Quality.of(LABELS, tuned.pooled).ap, abs=1e-5)
    assert [line["epoch"] for line in tuned.record["history"]] == [0, 1, 2, 3]
    assert said["best_epoch"] > 0


def test_what_ships_is_what_was_trained(tuned, spots):
    """The float network, its int8 file and the judges agree about the same images."""
    prepared = list(inputs(spots, gray_input(), "test"))
    pixels = np.concatenate([one.tensor for one in prepared])
    shipped = np.asarray(tuned.network(scaled(pixels)))[..., 0]
    stored = Int8Model(tuned.content).run_batch(pixels)[..., 0]
    assert np.corrcoef(pooled_of(shipped), pooled_of(stored))[0, 1] > 0.98
    beside = np.asarray(tuned.judges.network(scaled(pixels)))
    assert beside.shape[3] == 2
    own = pooled_of(beside[np.arange(24), :, :, FOLDS])
    np.testing.assert_allclose(own, tuned.pooled_float, atol=1e-2)
    assert np.corrcoef(own, tuned.pooled)[0, 1] > 0.98


def test_where_int8_says_no_the_probe_ships(probed, settings, tmp_path, caplog):
    """Its float networks are better; but int8 of the probe already ranks without a fault."""
    perfect = replace(probed, pooled=LABELS * 8.0 - 4.0 + 0.01 * np.arange(24))
    with caplog.at_level("INFO"):
        learned = finetune.from_probe(perfect, settings, CPU, 0, tmp_path / "checkpoint", Logbook())
    said = learned.record["fine_tuning"]
    assert said["probe"]["int8_ap"] == 1.0
    assert said["fine_tuned"]["int8_ap"] <= 1.0
    if said["shipped"] == "probe":
        assert learned.content is probed.content
        assert "the probe's model ships" in caplog.text
    else:  # as good, and its merit is greater
        assert said["fine_tuned"]["int8_ap"] == 1.0


def test_an_interrupt_leaves_the_epochs_that_were_done(probed, settings, tmp_path, monkeypatch, caplog):
    epoch, done = Batches.epoch, []

    def interrupted(self, index):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(index)
        return epoch(self, index)

    folder = tmp_path / "checkpoint"
    monkeypatch.setattr(Batches, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finetune.from_probe(probed, settings, CPU, 0, folder, Logbook())
    assert f"interrupted: the same command goes on from the last epoch ({folder})" in caplog.text
    assert {"fold-0.npz", "fold-1.npz"} <= {path.name for path in folder.iterdir()}
