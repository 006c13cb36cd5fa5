"""The decoder beside the memory of good parts: judged on kinds of defects that it was not taught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_network import spotted
from fixtures_trainer import FAST, SIDE, gray_input

from trainer import config
from trainer.network.decoder import STEPS
from trainer.network.export import Int8Model, require_all_int8
from trainer.recipes import good_decoder, good_only
from trainer.recipes.good_only import KINDS, MemoryModel


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> config.TrainerConfig:
    path = tmp_path_factory.mktemp("config") / "fast.toml"
    path.write_text(FAST)
    found = config.load(path)
    return replace(
        found,
        decoder=replace(found.decoder, when="auto", steps=12, batch_size=1),
        good_only=replace(found.good_only, input_px=SIDE, made_defects=12, folds=2, sigmas=[1.0]),
    )


@pytest.fixture(scope="module")
def remembered(settings, weights_file: Path, tmp_path_factory) -> MemoryModel:
    good = [one for one in spotted(tmp_path_factory.mktemp("good"), 32) if one.label == 0]
    return good_only.learn(good, [gray_input()], settings.good_only, str(weights_file), 0)


@pytest.fixture(scope="module")
def learned(remembered, settings, weights_file) -> MemoryModel:
    return good_decoder.from_memory(remembered, settings, str(weights_file), 0)


def test_both_are_judged_and_the_better_ships(remembered, learned):
    said = learned.record["decoder"]
    assert said["shipped"] in ("memory", "decoder")
    assert set(said) == {"shipped", "memory", "decoder"}
    assert (learned.memory is None) == (said["shipped"] == "decoder")
    assert len(learned.pooled) == len(remembered.judged) == 16
    assert len(learned.made) == len(remembered.made) == 12


def test_each_block_of_images_has_made_defects_of_one_kind(remembered, settings):
    few, how = good_only.to_be_made(remembered.judged, settings.good_only, 0, on_part=False)
    assert len(few) == 12
    assert how.kinds is not None
    assert set(how.kinds.tolist()) == set(range(KINDS))
    assert (np.diff(how.kinds) >= 0).all()  # blocks follow one another


def test_the_decoder_s_file_is_one_that_the_device_reads(remembered, settings, weights_file):
    rival = good_decoder.taught_beside(remembered, settings, str(weights_file), 0)
    require_all_int8(rival.content)
    tensor = next(iter(good_only.shown(remembered.judged, gray_input(), None)))
    assert Int8Model(rival.content).stored(tensor).shape == (SIDE // 8, SIDE // 8, STEPS)
    assert rival.memory is None
    assert rival.record["recipe"] == "decoder, from good parts only"


def test_when_it_is_not_wanted_the_memory_stays(remembered, settings, weights_file):
    never = replace(settings, decoder=replace(settings.decoder, when="never"))
    learned = good_decoder.from_memory(remembered, never, str(weights_file), 0)
    assert learned.memory is remembered.memory
    assert learned.record["decoder"] == {"shipped": "memory", "not_done": 'when = "never"'}
