"""The probe finds what was planted, and is not taken in by what only seen images show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fixtures_network import PlantedBackbone, numbered
from fixtures_trainer import SIDE, gray_input

from device.bundle.bundle import Pooling
from device.errors import DataError
from trainer import config
from trainer.data.tiling import GOOD, MACS_PER_PX, PERHAPS, UNCLEAR, Tiles
from trainer.network.features import evidence
from trainer.network.network import CANDIDATE_CUTS, CHANNELS, STRIDES
from trainer.recipes import probe
from trainer.recipes.probe import Candidate
from trainer.scoring.quality import Quality, ap_error

CONFIG = replace(config.load(None).probe, strengths=[0.1, 1.0], pooling_shares=[1.0, 0.1], finalists=1)
CUTS = tuple(STRIDES)


def make_search(samples, plant, *, views=("as is",), k=4, settings=CONFIG):
    backbone = PlantedBackbone(plant)
    size = probe.InputSize(gray_input(), backbone, samples, views)
    return probe.Search([size], samples, settings, k, seed=0), backbone


def pooled_mean(search, head):
    """Of each image, the mean of one head's map."""
    backbone = search.sizes[0].backbone
    maps = [
        evidence(list(backbone.run(np.full((1, SIDE, SIDE, 3), number, np.uint8))), head)
        for number in range(len(search.samples))
    ]
    return np.array([values.mean() for values in maps])


# ---- the choice


@pytest.mark.parametrize("informative", CUTS)
def test_the_choice_uses_the_cut_that_knows(tmp_path, informative):
    labels = [0, 1] * 20
    channels = np.zeros(CHANNELS[informative])
    channels[:120] = 3.0

    def plant(number, cut):
        return channels * labels[number] if cut == informative else 0.0

    best, compared = probe.choose(make_search(numbered(tmp_path, labels), plant)[0])
    assert informative in best.fitted.cuts
    assert best.quality.ap > 0.99
    for judged in compared:
        if informative not in judged.fitted.cuts:
            assert judged.quality.ap < 0.85
    assert compared[0] is best
    merits = [judged.quality.merit for judged in compared]
    assert merits == sorted(merits, reverse=True)


def test_everything_that_was_asked_for_is_compared(tmp_path):
    """Every cut with every pooling; the finalist with mirrored copies; the best with the other strength."""
    labels = [0, 1] * 8
    search, _ = make_search(
        numbered(tmp_path, labels), lambda number, _: labels[number], views=("as is", "mirrored")
    )
    _, compared = probe.choose(search)
    assert {one.fitted.mask_weight for one in compared} == {0.0}  # there are no masks
    tried = {(one.fitted.cuts, one.fitted.views, one.fitted.strength) for one in compared}
    plain = {cuts for cuts, views, strength in tried if (views, strength) == (1, 1.0)}
    assert plain == set(CANDIDATE_CUTS)
    assert len({cuts for cuts, views, _ in tried if views == 2}) == 1
    assert [strength for *_, strength in tried if strength != 1.0] == [0.1]
    assert {one.pooling for one in compared} == {Pooling("mean", 1.0), Pooling("top", 0.1)}
    assert len(compared) == len(tried) * 2


def test_only_a_few_cells_that_know_call_for_the_top_of_the_map(tmp_path):
    """Half of the images have noise all over that the defect's one cell stands out of, but not its mean."""
    labels = [0, 1] * 20
    level = np.random.default_rng(2).normal(0, 0.4, len(labels))

    def plant(number, cut):
        if cut != "block_6_expand_relu":
            return 0.0
        values = np.full((8, 8, CHANNELS[cut]), level[number])
        values[3, 3] += 6.0 * labels[number]
        return values

    settings = replace(CONFIG, pooling_shares=[1.0, 0.01])
    search, _ = make_search(numbered(tmp_path, labels), plant, settings=settings)
    fitted = search.fit(search.sizes[0], ("block_6_expand_relu",), 1, 1.0)
    by_pooling = {one.pooling.kind: one.quality for one in search.judge([fitted])}
    assert by_pooling["top"].separation > 1.5 * by_pooling["mean"].separation


def test_masks_tell_how_well_the_place_is_shown(tmp_path):
    labels = [0, 1] * 10
    here = np.zeros((8, 8, 1))
    here[2:4, 4:6] = 3.0

    def plant(number, cut):
        if not labels[number] or cut != "block_6_expand_relu":
            return 0.0
        return here * (np.arange(CHANNELS[cut]) < 60)

    search, _ = make_search(numbered(tmp_path, labels, masks=True), plant)
    fine, coarse = (
        search.judge([search.fit(search.sizes[0], (cut,), 1, 1.0)])[0].quality.place
        for cut in ("block_6_expand_relu", "out_relu")
    )
    assert fine > 0.9
    assert coarse < 0.75


def test_masks_teach_the_head_where_a_defect_is(tmp_path):
    """Every defective image has a mark as well, far from the mask and stronger: good for the label alone."""
    labels = [0, 1] * 20
    shown = np.zeros((8, 8, 192))
    shown[6:, :2, :60] = 3.0
    shown[2:4, 4:6, 100:160] = 1.0

    def plant(number, cut):
        return shown if cut == "block_6_expand_relu" and labels[number] else 0.0

    search, _ = make_search(numbered(tmp_path, labels, masks=True), plant)
    fitted = {
        weight: search.fit(search.sizes[0], ("block_6_expand_relu",), 1, 1.0, weight) for weight in (0.0, 1.0)
    }
    found = {weight: search.judge([one])[0].quality for weight, one in fitted.items()}
    assert found[0.0].place < 0.6
    assert found[1.0].place > 0.9
    assert found[1.0].ap > 0.99


def test_cells_of_a_fold_teach_only_the_other_folds(tmp_path):
    labels = [0, 1] * 8
    search, _ = make_search(numbered(tmp_path, labels, masks=True), lambda number, _: labels[number])
    [size] = search.sizes
    known = size.cells(CANDIDATE_CUTS[0], 1)
    fitted = search.fit(size, CANDIDATE_CUTS[0], 1, 1.0, 1.0)
    for fold in range(4):
        others = search.fold_of != fold
        own = known.part(others)
        assert set(own.tile) == set(np.flatnonzero(others))
        seen = size.features(CANDIDATE_CUTS[0], 1)[:, others]
        weights, _ = probe._fit(seen, search.labels[others], 1.0, own, 1.0)
        np.testing.assert_array_equal(fitted.heads.weights[:, fold], weights)


def test_without_masks_there_is_no_place(tmp_path):
    labels = [0, 1] * 6
    search, _ = make_search(numbered(tmp_path, labels), lambda number, _: labels[number])
    [judged, _] = search.judge([search.fit(search.sizes[0], CANDIDATE_CUTS[0], 1, 1.0)])
    assert judged.quality.place == 0.0


# ---- nobody judges what he has seen


def test_a_head_never_judges_what_it_was_trained_on(tmp_path):
    """Each group has a channel of its own: who saw the group knows its label, who did not knows nothing."""
    groups = [number // 2 for number in range(48)]
    labels = [group % 2 for group in groups]

    def plant(number, cut):
        fingerprint = np.zeros(CHANNELS[cut])
        if cut == "block_13_expand_relu":
            fingerprint[groups[number]] = 50.0
        return fingerprint

    search, _ = make_search(numbered(tmp_path, labels, groups), plant)
    fitted = search.fit(search.sizes[0], ("block_13_expand_relu",), 1, 1.0)
    seen = Quality.of(search.labels, pooled_mean(search, search.fit_on_all(fitted)))
    assert seen.ap == 1.0
    for judged in search.judge([fitted]):
        assert judged.quality.ap < 0.75
    best, _ = probe.choose(search)
    assert best.quality.ap < 0.8


def test_each_fold_has_a_head_that_was_trained_on_the_others(tmp_path):
    labels = [0, 1] * 8
    search, _ = make_search(numbered(tmp_path, labels), lambda number, _: labels[number])
    fitted = search.fit(search.sizes[0], CANDIDATE_CUTS[0], 1, 1.0)
    features = search.sizes[0].features(CANDIDATE_CUTS[0], 1)
    assert fitted.heads.weights.shape == (CHANNELS["block_6_expand_relu"], 4)
    for fold in range(4):
        others = search.fold_of != fold
        weights, bias = probe._fit(features[:, others], search.labels[others], 1.0)
        np.testing.assert_array_equal(fitted.heads.weights[:, fold], weights)
        assert fitted.heads.bias[fold] == bias


def test_images_of_a_group_are_judged_by_the_same_head(tmp_path):
    groups = [number // 3 for number in range(24)]
    search, _ = make_search(numbered(tmp_path, [group % 2 for group in groups], groups), lambda *_: 0.0)
    assert len({(group, fold) for group, fold in zip(groups, search.fold_of, strict=True)}) == len(
        set(groups)
    )
    assert set(search.fold_of) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("good", "bad", "k", "expected"), [(20, 20, 5, 5), (20, 3, 5, 3), (2, 9, 5, 2), (9, 1, 5, 2)]
)
def test_as_many_folds_as_groups_of_the_rarer_label(tmp_path, good, bad, k, expected):
    assert probe.fold_count(numbered(tmp_path, [0] * good + [1] * bad), k) == expected


def test_one_group_of_defective_images_is_too_few(tmp_path):
    samples = numbered(tmp_path, [0] * 6 + [1] * 3, groups=[0, 1, 2, 3, 4, 5, 6, 6, 6])
    with pytest.raises(DataError, match=r"needs 2 or more groups of defective images, found 1"):
        make_search(samples, lambda *_: 0.0)


# ---- one fit


def planted_rows(images=40, seed=3):
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    rows = rng.normal(5, [1.0, 10.0, 0.1, 1.0], (images, 4)).astype(np.float32)
    rows[:, 1] += 15 * labels
    return rows, labels


def test_a_head_works_on_features_as_they_are():
    """Fitted on standardized ones, so that a channel's unit does not matter, and turned back."""
    rows, labels = planted_rows()
    weights, bias = probe._fit(rows[np.newaxis], labels, 1.0)
    assert weights.dtype == np.float32
    logits = rows @ weights + bias
    assert ((logits > 0) == labels).mean() > 0.75
    scale = np.array([1.0, 0.01, 100.0, 1.0], np.float32)
    again, _ = probe._fit((rows * scale)[np.newaxis], labels, 1.0)
    np.testing.assert_allclose(again * scale, weights, rtol=0.05, atol=0.02)


def test_a_view_counts_as_a_share_of_its_image():
    rows, labels = planted_rows()
    once, bias = probe._fit(rows[np.newaxis], labels, 1.0)
    thrice, bias_of_three = probe._fit(np.stack([rows] * 3), labels, 1.0)
    np.testing.assert_allclose(thrice, once, rtol=2e-2, atol=1e-3)
    assert bias_of_three == pytest.approx(bias, abs=0.05)


def test_few_defective_images_weigh_as_much_as_many_good_ones():
    rows, labels = planted_rows(200)
    few = np.flatnonzero((labels == 0) | (np.arange(200) < 20))
    weights, bias = probe._fit(rows[np.newaxis, few], labels[few], 1.0)
    logits = rows @ weights + bias
    assert (logits[labels == 1] > 0).mean() > 0.6


def test_the_defective_tile_of_an_unmasked_image_is_found():
    """Of four tiles one is defective; nobody says which, and three of four examples are wrong at first."""
    rng = np.random.default_rng(5)
    image = np.repeat(np.arange(80), 4)
    truth = np.where(image % 2 == 1, PERHAPS, GOOD).astype(np.int8)
    rows = rng.normal(0, 1, (len(image), 6)).astype(np.float32)
    defective = (image % 2 == 1) & (np.arange(len(image)) % 4 == image % 3)
    rows[defective, 2] += 5.0
    tiles = Tiles(image, truth)
    weights, bias = probe._fit_to_tiles(rows[np.newaxis], tiles, 1.0)
    logits = rows @ weights + bias
    assert ((logits > 0) == defective).mean() > 0.97
    naive, naive_bias = probe._fit(rows[np.newaxis], (truth > 0).astype(np.int64), 1.0)
    assert ((rows @ naive + naive_bias > 0) == defective).mean() < 0.9


def test_an_unclear_tile_teaches_nothing():
    rows, labels = planted_rows()
    odd = np.arange(len(labels)) < 10
    truth = np.where(odd, UNCLEAR, labels).astype(np.int8)
    tiles = Tiles(np.arange(len(labels)), truth)
    found = probe._fit_to_tiles(rows[np.newaxis], tiles, 1.0)
    expected = probe._fit(rows[np.newaxis, ~odd], labels[~odd], 1.0)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1] == expected[1]


def test_features_are_extracted_once_and_only_where_asked_for(tmp_path):
    samples = numbered(tmp_path, [0, 1] * 3)
    backbone = PlantedBackbone(lambda *_: 0.0)
    size = probe.InputSize(gray_input(), backbone, samples, ("as is", "mirrored", "turned"))
    assert size.features(CANDIDATE_CUTS[0], 1).shape == (1, 6, 192)
    assert backbone.runs == 6
    assert size.features(CANDIDATE_CUTS[3], 2).shape == (4, 6, 2048)
    assert size.features(CANDIDATE_CUTS[1], 1).shape == (1, 6, 576)
    assert backbone.runs == 24
    assert size.features(CANDIDATE_CUTS[0], 1, lit=True).shape == (3, 6, 192)
    assert backbone.runs == 36


# ---- how good


def candidate(name: str, pooled: list[float], place: float) -> Candidate:
    """As many good images as defective ones after them; only its name tells how it was fitted."""
    found, labels = np.array(pooled), np.repeat([0, 1], len(pooled) // 2)
    return Candidate(name, Pooling("mean", 1.0), Quality.of(labels, found, place), found)


class Lit:
    """A search whose candidate does so well in other light, and that says what was asked of it."""

    def __init__(self, found: Candidate) -> None:
        self.found, self.asked = found, []

    def fit(self, *settings, lit):
        self.asked.append((*settings, lit))

    def judge(self, fitted):
        return [self.found] * len(fitted)

    ranked = staticmethod(list)


def in_light(pooled: list[float], place: float, lit: bool) -> Candidate:
    size = probe.InputSize.__new__(probe.InputSize)
    size.lit = True
    fitted = probe.FittedHeads(size, CANDIDATE_CUTS[0], 2, 1.0, 0.1, lit, None)
    return replace(candidate("", pooled, place), fitted=fitted)


def test_copies_in_other_light_are_taken_where_the_merit_is_greater_though_the_place_is_not():
    good, bad = list(range(10)), list(range(20, 30))
    plain = in_light([*good, 4.5, *bad[1:]], 0.80, lit=False)
    better, worse = (
        in_light([*good, *bad], 0.78, lit=True),
        in_light([*good, 4.5, 5.5, *bad[2:]], 0.8, lit=True),
    )
    search = Lit(better)
    assert probe._in_the_better_light(search, [plain]) == ([better], [plain])
    assert search.asked == [(plain.fitted.size, CANDIDATE_CUTS[0], 2, 1.0, 0.1, True)]
    assert probe._in_the_better_light(Lit(worse), [plain]) == ([plain], [worse])
    plain.fitted.size.lit = False
    assert probe._in_the_better_light(Lit(better), [plain]) == ([plain], [])


def test_of_those_that_rank_alike_the_one_that_shows_the_place_is_best():
    """Eight defects are hard for all. B takes others of them for good than A; C is worse at each of them.

    C is within the error that A has alone: so few hard images make it large, and as large for both.
    """
    good, hard, easy = list(range(20)), [1.5 + 2 * index for index in range(8)], list(range(30, 42))
    a = ("A", [*good, *hard, *easy])
    b = ("B", [*good, *(one - 2 * (at in (1, 4)) for at, one in enumerate(hard[::-1])), *easy])
    c = ("C", [*good, *(one - 2 for one in hard), *easy])
    labels, groups = np.repeat([0, 1], 20), [str(index) for index in range(40)]

    def order(*places: float) -> str:
        found = [candidate(*one, place) for one, place in zip((a, b, c), places, strict=True)]
        aps = [one.quality.ap for one in found]
        assert aps[0] > aps[1] > aps[2] > aps[0] - ap_error(labels, found[0].pooled, groups)
        assert found[0].quality.merit > found[1].quality.merit
        return "".join(one.fitted for one in probe.ranked(found, labels, groups))

    assert order(0.3, 0.35, 1.0) == "BAC"
    assert order(0.5, 0.5, 1.0) == "ABC"
    assert order(0.0, 0.0, 0.0) == "ABC"  # no masks: by merit


def test_what_rounding_moves_does_not_choose_a_worse_ranking():
    """The worse one points better; both logits are moved as much as another machine's rounding moves them."""
    good, hard, easy = list(range(20)), [1.5 + 2 * index for index in range(8)], list(range(30, 42))
    labels, groups = np.repeat([0, 1], 20), [str(index) for index in range(40)]
    rng = np.random.default_rng(0)
    for _ in range(5):
        better, worse = (
            np.array([*good, *(one - lower for one in hard), *easy]) + rng.normal(0, 0.1, 40)
            for lower in (0, 2)
        )
        found = [candidate("better", list(better), 0.4), candidate("worse", list(worse), 0.6)]
        assert probe.ranked(found, labels, groups)[0].fitted == "better"


def test_of_sizes_that_judge_alike_the_cheapest_is_taken():
    """Small misses one more, within the error; tiny misses most, and blind shows another place."""
    good, bad = list(range(10)), list(range(20, 30))
    labels, groups = np.array([0] * 10 + [1] * 10), [str(number) for number in range(20)]

    def at(macs: float, pooled: list[float], place: float) -> Candidate:
        size = probe.InputSize.__new__(probe.InputSize)
        size.macs = macs
        fitted = probe.FittedHeads(size, CANDIDATE_CUTS[0], 1, 1.0, 0.0, False, None)
        return replace(candidate("", pooled, place), fitted=fitted)

    large = at(9e9, [*good, 4.5, *bad[1:]], 0.8)
    small = at(1e9, [*good, 4.5, *bad[1:]], 0.79)
    tiny = at(1e8, [*good, *range(5), *bad[5:]], 0.8)
    blind = at(1e8, [*good, 4.5, *bad[1:]], 0.3)
    order = probe.cheapest_first([large, small, blind, tiny], labels, groups)
    assert order == [small, large, blind, tiny]
    assert probe.cheapest_first([large, tiny, blind], labels, groups)[0] is large


def test_an_input_costs_what_its_tiles_cost(tmp_path):
    labels = [0, 1, 0, 1]
    search, _ = make_search(numbered(tmp_path, labels), lambda number, _: labels[number])
    assert search.sizes[0].macs == pytest.approx(SIDE**2 * MACS_PER_PX)


def test_the_record_says_what_was_tried(tmp_path):
    labels = [0, 1] * 6
    search, _ = make_search(numbered(tmp_path, labels), lambda number, _: labels[number])
    judged = search.judge([search.fit(search.sizes[0], CANDIDATE_CUTS[2], 1, 10.0)])[1]
    assert isinstance(judged, Candidate)
    record = judged.describe()
    assert list(record)[:6] == ["input_px", "cuts", "views", "lit", "strength", "mask_weight"]
    assert record["input_px"] == [SIDE, SIDE]
    assert record["cuts"] == ["block_13_expand_relu", "out_relu"]
    assert (record["views"], record["strength"], record["pooling_share"]) == ("as is", 10.0, 0.1)
    assert record["ap"] == round(judged.quality.ap, 4)
