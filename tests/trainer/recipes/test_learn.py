"""The two ways to a model: who judges whom, and what comes out."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
from fixtures_bundle import TinyModel, make_image
from fixtures_trainer import SIDE, gray_input, make_sample, make_samples, run

from device.bundle import bundle as bundles
from device.bundle.bundle import Pooling
from device.image.geometry import Size
from device.inspection.detector import pool
from trainer import config
from trainer.data import sizing
from trainer.data.dataset import load
from trainer.data.tiling import Tiles, cuts
from trainer.network.export import Int8Model
from trainer.network.features import inputs
from trainer.network.network import Head, scaled
from trainer.recipes import learn
from trainer.training.logbook import Logbook


def samples_of(good, bad):
    return [SimpleNamespace(label=0, number=n) for n in range(good)] + [
        SimpleNamespace(label=1, number=n) for n in range(bad)
    ]


@pytest.mark.parametrize(
    ("good", "bad", "count", "expected"),
    [
        (100, 100, 40, (20, 20)),
        (100, 5, 40, (35, 5)),
        (3, 100, 40, (3, 37)),
        (3, 4, 40, (3, 4)),
        (100, 100, 5, (3, 2)),
        (100, 100, 2, (1, 1)),
    ],
)
def test_half_of_the_representative_images_are_defective(good, bad, count, expected):
    chosen = learn.representative(samples_of(good, bad), count)
    assert tuple(sum(one.label == label for one in chosen) for label in (0, 1)) == expected


def test_representative_images_are_from_all_over_the_set():
    chosen = learn.representative(samples_of(100, 100), 10)
    assert [one.number for one in chosen] == [0, 20, 40, 60, 80] * 2


# ---- the probe


@pytest.fixture(scope="module")
def learned(textures, weights_file, fast_config):
    """In this process what the fixture `fitted` did in another."""
    keras.utils.clear_session()  # the names of layers, which are counted, are in the file
    settings = config.load(fast_config)
    samples = load(textures, test_share=settings.split.test_share).train
    specs = sizing.candidates(samples, settings.input, SIDE)
    return learn.by_probe(samples, specs, settings, str(weights_file), 0)


def test_every_image_is_judged_by_int8_and_by_float(learned, textures):
    assert learned.judged == load(textures).train
    assert learned.pooled.shape == learned.pooled_float.shape == (20,)
    assert learned.labels.sum() == 8
    assert np.corrcoef(learned.pooled, learned.pooled_float)[0, 1] > 0.75
    assert len(set(learned.pooled)) > 10


def test_the_model_has_one_head(learned):
    model = Int8Model(learned.content)
    image = np.full((1, SIDE, SIDE, 3), 100, np.uint8)
    assert next(model.run(image)).shape == (SIDE // model.stride, SIDE // model.stride, 1)
    assert learned.preprocess == gray_input()


def test_the_judges_are_kept_in_float_and_int8(learned):
    """Two folds, and each image's own judge."""
    judges = learned.judges
    image = np.random.default_rng(1).integers(80, 120, (1, SIDE, SIDE, 3), dtype=np.uint8)
    exact, stored = run(judges.network, scaled(image)), Int8Model(judges.content).run_batch(image)
    assert exact.shape == stored.shape
    assert exact.shape[3] == 2
    assert set(judges.head_of) == {0, 1}
    assert len(judges.head_of) == len(learned.judged)
    assert run(learned.network, scaled(image)).shape[3] == 1


def test_the_record_says_how_it_was_chosen(learned):
    record = learned.record
    assert (record["recipe"], record["judged_by"]) == ("probe", "2-fold cross-validation")
    assert record["chosen"] == record["candidates"][0]
    assert record["chosen"]["pooling_share"] == learned.pooling.share
    assert 4 < len(record["candidates"]) <= learn.SHOWN


def test_the_same_seed_gives_the_same_model(learned, fitted):
    """Byte for byte, from another process."""
    assert bundles.load(fitted.out).model_path.read_bytes() == learned.content


def test_each_image_is_judged_by_the_head_that_has_not_seen_it(tmp_path, monkeypatch):
    """Of heads that say their own number, an image gets that of its fold; on padding they say nonsense.

    Each map is off by a constant of its own, as quantized ones are: what a head says of features is right.
    """
    folds = np.array([0, 1, 2, 2, 1, 0, 0, 1, 2, 0, 1])
    samples = make_samples(tmp_path, [(64, 32)] * len(folds))
    head = Head(("out_relu",), np.zeros((1280, 3), np.float32), np.arange(3, dtype=np.float32))
    spec = gray_input(Size(64, 64), "letterbox")
    size = SimpleNamespace(
        preprocess=spec,
        tiles=Tiles.of(samples, spec),
        features=lambda cuts, views: np.zeros((1, len(folds), 1280), np.float32),
    )
    best = SimpleNamespace(fitted=SimpleNamespace(size=size, heads=head), pooling=Pooling("top", 0.5))
    search = SimpleNamespace(samples=samples, fold_of=folds)
    monkeypatch.setattr(learn, "BATCH_PX", 4 * 64 * 64)
    batches = []

    def run(tensors):
        batches.append(len(tensors))
        maps = np.tile(np.float32([0.25, 0.5, 2.0]), (len(tensors), 8, 8, 1))  # off by 0.25, -0.5 and 0
        maps[:, :2] = maps[:, 6:] = 99.0
        return maps

    np.testing.assert_allclose(learn._pooled(run, best, search), folds, atol=1e-6)
    assert batches == [4, 4, 3]


# ---- from random weights (the whole of it: test_fit.py)


def test_the_pooling_that_ranks_best_is_taken(tmp_path, tiny_model: TinyModel):
    """Bright spots on parts that are darker the larger the spot: the mean says nothing, the top all."""
    samples = []
    for number in range(12):
        label = number % 2
        image = make_image(spot=(8, 8, 8, 8) if label else None, seed=number) - np.uint8(4 * label)
        path = tmp_path / f"{number}.png"
        sample = make_sample(path, (SIDE, SIDE), number, label=label)
        assert cv2.imwrite(str(path), image)
        samples.append(sample)
    settings = config.load(None)
    pooling, pooled = learn._best_pooling(Int8Model(tiny_model.content), samples, gray_input(), settings)
    assert pooling.kind == "top"
    assert pooled[1::2].min() > pooled[::2].max() + 5


def test_images_are_judged_by_their_worst_tile(tmp_path, fast_config):
    """Trained on 24 tiles of 12 images, and a fold of the images is judged."""
    settings = config.load(fast_config)
    settings = replace(settings, scratch=replace(settings.scratch, epochs=1))
    samples = make_samples(tmp_path, [(2 * SIDE, SIDE)] * 12)
    spec = replace(gray_input(), tiles=Size(SIDE, SIDE))
    found = learn.from_scratch(samples, spec, settings, 0, Logbook())
    assert len(found.judged) == 6
    assert found.pooled.shape == found.pooled_float.shape == (6,)
    assert found.record["chosen"]["tiles_px"] == [SIDE, SIDE]
    model = Int8Model(found.content)
    [one] = inputs(found.judged[:1], spec, "testing")
    logits = [pool(model.evidence(tensor), found.pooling) for tensor in cuts(one)]
    assert len(logits) == 2
    assert found.pooled[0] == max(logits)
