"""Cached features, and heads on them, are what the networks compute."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from fixtures_trainer import SIDE, gray_input, make_head, make_sample, run

from device.image.frame import frame_from_file
from device.image.geometry import Size
from device.inspection.preprocess import Preprocessor
from trainer.data import tiling
from trainer.data.dataset import load
from trainer.network import features, network
from trainer.network.export import Int8Model
from trainer.network.network import CANDIDATE_CUTS, CHANNELS, STRIDES

MOVED = ("as is", "mirrored", "turned")
ALL_VIEWS = [view for name in MOVED for view in features.VIEWS[name]]


@pytest.fixture(scope="module")
def base(weights_file):
    return network.backbone(Size(96, 64), str(weights_file))


@pytest.fixture(scope="module")
def pixels():
    images = np.random.default_rng(6).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    return network.scaled(images)


@pytest.fixture(scope="module")
def cuts(base, pixels):
    """Of one image, as Int8Model.run gives them."""
    return [cut[0] for cut in run(base, pixels)]


# ---- heads on cuts


@pytest.mark.parametrize("chosen", CANDIDATE_CUTS)
def test_evidence_is_what_the_model_computes(base, pixels, cuts, chosen):
    head = make_head(chosen)
    maps = run(network.evidence_model(base, head), pixels)[0]
    found = features.evidence(cuts, head)
    assert found.dtype == np.float32
    assert found.shape == maps.shape
    np.testing.assert_allclose(found, maps, rtol=1e-3, atol=1e-3)
    assert maps.std() > 0.1


@pytest.mark.parametrize("chosen", CANDIDATE_CUTS)
def test_the_mean_of_the_map_is_the_head_on_the_mean_features(cuts, chosen):
    """What lets whole candidates be fitted on a few thousand numbers an image."""
    head = make_head(chosen)
    means = np.concatenate([cut.mean((0, 1)) for cut in cuts])
    expected = features.channels_of(means, chosen) @ head.weights + head.bias
    np.testing.assert_allclose(features.evidence(cuts, head).mean((0, 1)), expected, rtol=1e-3, atol=1e-3)


def test_channels_of_some_cuts():
    every = np.concatenate([np.full(CHANNELS[cut], stride) for cut, stride in STRIDES.items()])
    for chosen in CANDIDATE_CUTS:
        found = features.channels_of(np.stack([every, every]), chosen)
        assert found.shape == (2, sum(CHANNELS[cut] for cut in chosen))
        assert set(found[0]) == {STRIDES[cut] for cut in chosen}


# ---- views


def test_the_views_are_the_eight_symmetries_of_the_square():
    image = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(1, 4, 4, 3)
    seen = {view(image).tobytes() for view in ALL_VIEWS}
    assert len(seen) == 8
    assert image.tobytes() in seen
    assert {one(other(image)).tobytes() for one, other in product(ALL_VIEWS, ALL_VIEWS)} == seen
    for view in ALL_VIEWS:
        assert np.unique(view(image)).size == image.size  # every pixel once


def test_mirrors_keep_the_shape_of_an_oblong_image():
    image = np.zeros((1, 2, 4, 3), np.uint8)
    for name in ("as is", "mirrored"):
        assert {view(image).shape for view in features.VIEWS[name]} == {(1, 2, 4, 3)}


@pytest.mark.parametrize(
    ("megapixels", "turn", "expected"),
    [
        (79, True, 2),  # 100 images of 0.1 Mpx: 40 for the mirrored ones, 80 with the turned
        (80, True, 3),
        (80, False, 2),
        (39, True, 1),
        (1, True, 1),  # the images themselves are always seen
    ],
)
def test_views_keep_to_a_budget_of_pixels(megapixels, turn, expected):
    spec = gray_input(Size(400, 250))
    names = features.view_names(100, spec, turn=turn, max_megapixels=megapixels)
    assert names == MOVED[:expected]


def test_other_light_is_every_level_times_a_gain():
    """Nothing moves, black stays black, and what is too bright is white, not dark."""
    image = np.tile(np.array([0, 20, 100, 250], np.uint8), (1, 2, 3, 1)).transpose(0, 1, 3, 2)
    found = [view(image)[0, 0, :, 0].tolist() for view in features.VIEWS[features.LIT]]
    assert found == [[0, 15, 75, 188], [0, 26, 130, 255]]
    for view in features.VIEWS[features.LIT]:
        assert view(image).shape == image.shape
        assert view(image).dtype == np.uint8


@pytest.mark.parametrize(("megapixels", "expected"), [(20, True), (19, False)])
def test_copies_in_other_light_keep_to_the_budget_as_well(megapixels, expected):
    assert features.may_be_lit(100, gray_input(Size(400, 250)), megapixels) is expected


# ---- extraction


def test_an_image_goes_in_as_on_the_device(textures):
    samples = load(textures).train[:3]
    spec = gray_input(Size(96, 32))
    found = list(features.inputs(samples, spec, "testing"))
    for sample, one in zip(samples, found, strict=True):
        expected = Preprocessor(spec).prepare(frame_from_file(sample.path, 0))
        np.testing.assert_array_equal(one.tensor, expected.tensor)


def test_features_are_the_means_of_each_view(textures, int8_backbone):
    backbone, samples, spec = Int8Model(int8_backbone), load(textures).train[:2], gray_input()
    found = features.extract(backbone, samples, spec, "turned").means
    assert found.shape == (4, 2, sum(CHANNELS.values()))
    for index, one in enumerate(features.inputs(samples, spec, "testing")):
        for row, view in enumerate(features.VIEWS["turned"]):
            maps = backbone.run(np.ascontiguousarray(view(one.tensor)))
            expected = np.concatenate([cut.mean((0, 1)) for cut in maps])
            np.testing.assert_allclose(found[row, index], expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(found[0], found[1])  # the network is not blind to how an image lies


def test_what_the_backbone_saw_is_kept_while_there_is_room(int8_backbone):
    model = Int8Model(int8_backbone)
    computed = []

    class Counted:
        real = staticmethod(model.real)

        def outputs(self, tensor):
            computed.append(tensor)
            return model.outputs(tensor)

    kept = features.CachingModel(Counted(), room=2)
    images = np.random.default_rng(4).integers(0, 256, (3, 1, SIDE, SIDE, 3), dtype=np.uint8)
    for _ in range(2):
        for image in images:
            for found, expected in zip(kept.run(image), model.run(image), strict=True):
                np.testing.assert_array_equal(found, expected)
    assert len(computed) == 4  # the third image had no room
    assert model.output_bytes == sum(one.nbytes for one in model.outputs(images[0]))


def test_padding_counts_for_nothing(tmp_path, int8_backbone):
    """Of an image half as high as the input, the middle half of the rows counts."""
    backbone, sample = Int8Model(int8_backbone), make_sample(tmp_path / "0.png", (SIDE, SIDE // 2), 0)
    spec = gray_input(resize="letterbox")
    [[found]] = features.extract(backbone, [sample], spec, "as is").means
    [one] = features.inputs([sample], spec, "testing")
    expected = [
        cut[cut.shape[0] // 4 : cut.shape[0] * 3 // 4].mean((0, 1)) for cut in backbone.run(one.tensor)
    ]
    fine = CHANNELS["block_6_expand_relu"] + CHANNELS["block_13_expand_relu"]
    np.testing.assert_allclose(found[:fine], np.concatenate(expected[:2]), rtol=1e-5, atol=1e-5)


def test_tiles_are_rows_whose_padding_counts_for_nothing_however_they_are_turned(tmp_path, int8_backbone):
    """An image of three quarters of two tiles: the second begins at the middle, and both are padded below."""
    backbone = Int8Model(int8_backbone)
    sample = make_sample(tmp_path / "0.png", (SIDE * 3 // 2, SIDE // 2), 0)
    spec = replace(gray_input(), tiles=Size(SIDE, SIDE), overlap=0.5)
    found = features.extract(backbone, [sample], spec, "turned").means
    assert found.shape == (4, 2, sum(CHANNELS.values()))
    [one] = features.inputs([sample], spec, "testing")
    assert [(box.x, box.y) for box in one.framing.tiles] == [(0, 0), (SIDE // 2, 0)]
    for row, tensor in enumerate(tiling.cuts(one)):
        for index in (0, 2):  # of these views the image is on the left
            view = features.VIEWS["turned"][index]
            fine, middle, _ = backbone.run(np.ascontiguousarray(view(tensor)))
            cells = (cut[:, : cut.shape[1] // 2].mean((0, 1)) for cut in (fine, middle))
            expected = np.concatenate(list(cells))
            np.testing.assert_allclose(found[index, row, : len(expected)], expected, rtol=1e-5, atol=1e-5)
