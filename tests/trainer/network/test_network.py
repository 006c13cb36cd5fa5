"""The networks: their maps, their heads, and weights that cannot be had."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from fixtures_trainer import make_head, run

from device.errors import ConfigError
from device.image.geometry import Size
from trainer.data.tiling import MACS_PER_PX
from trainer.network import network
from trainer.network.network import CANDIDATE_CUTS, CHANNELS, STRIDES

SIZE = Size(96, 64)


@pytest.fixture(scope="module")
def base(weights_file) -> keras.Model:
    return network.backbone(SIZE, str(weights_file))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (2, SIZE.height, SIZE.width, 3), dtype=np.uint8)


def test_the_backbone_gives_a_map_for_each_stride(base):
    shapes = [
        (None, SIZE.height // STRIDES[cut], SIZE.width // STRIDES[cut], CHANNELS[cut]) for cut in STRIDES
    ]
    assert [tuple(output.shape) for output in base.outputs] == shapes
    assert base.input_shape == (None, SIZE.height, SIZE.width, 3)


def test_what_the_whole_backbone_costs_a_pixel() -> None:
    """The figure with which inputs are compared, counted layer by layer."""
    full = network.tapped(Size(224, 224), "none", ("out_relu",))
    total = 0
    for layer in full.layers:
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        if depthwise or isinstance(layer, keras.layers.Conv2D):
            channels = 1 if depthwise else layer.input.shape[3]
            total += np.prod(layer.output.shape[1:]) * channels * np.prod(layer.kernel_size)
    assert total / 224**2 == pytest.approx(MACS_PER_PX, rel=1e-3)


def test_a_narrower_backbone(images):
    base = network.backbone(SIZE, "none", alpha=0.35)
    assert [tuple(output.shape[1:3]) for output in base.outputs] == [(8, 12), (4, 6), (2, 3)]
    assert base.count_params() < 500_000


@pytest.mark.parametrize("cuts", CANDIDATE_CUTS)
def test_a_head_gives_a_map_on_its_finest_grid(base, cuts):
    stride = network.map_stride(cuts)
    model = network.evidence_model(base, make_head(cuts))
    assert stride == min(STRIDES[cut] for cut in cuts)
    assert model.output_shape == (None, SIZE.height // stride, SIZE.width // stride, 3)


def test_the_head_is_a_dot_product_with_the_channels_of_a_cell(base, images):
    """On one cut, by hand: so that the weights of a cut reach the channels that they were fitted to."""
    head = make_head(("block_13_expand_relu",))
    pixels = network.scaled(images)
    cut = run(base, pixels)[1]
    maps = run(network.evidence_model(base, head), pixels)
    np.testing.assert_allclose(maps, cut @ head.weights + head.bias, rtol=1e-4, atol=1e-4)


def test_of_several_cuts_each_adds_its_share(base, images):
    """One bias, and each cut's weights on its own channels: the sum's mean is the sum of the means."""
    cuts = tuple(CHANNELS)
    head = make_head(cuts)
    pixels = network.scaled(images)
    whole = run(network.evidence_model(base, head), pixels).mean((1, 2))
    ends = np.cumsum([CHANNELS[cut] for cut in cuts])
    total = np.tile(head.bias, (2, 1))
    for cut, features, end in zip(cuts, run(base, pixels), ends, strict=True):
        total += features.mean((1, 2)) @ head.weights[end - CHANNELS[cut] : end]
    np.testing.assert_allclose(whole, total, rtol=1e-3, atol=1e-3)


def test_what_is_typical_centres_the_maps_and_changes_nothing(base, images):
    """int8 has 256 steps for each cut's own map: no constant that another cut takes back may use them up."""
    cuts = tuple(CHANNELS)
    head, pixels = make_head(cuts), network.scaled(images)
    typical = np.concatenate([cut.mean((0, 1, 2)) for cut in run(base, pixels)])
    plain, centred = network.evidence_model(base, head), network.evidence_model(base, head, typical)
    np.testing.assert_allclose(run(centred, pixels), run(plain, pixels), rtol=1e-3, atol=1e-3)
    for cut in cuts[1:]:
        layer = centred.get_layer(f"evidence_{cut}")
        own = keras.Model(centred.input, layer.output)
        np.testing.assert_allclose(run(own, pixels).mean((0, 1, 2)), 0, atol=1e-3)


def test_one_of_several_heads():
    head = make_head(("out_relu",))
    one = head.only(1)
    assert (one.weights.shape, one.bias.shape, one.cuts) == ((1280, 1), (1,), head.cuts)
    np.testing.assert_array_equal(one.weights[:, 0], head.weights[:, 1])
    assert one.bias[0] == head.bias[1]


def test_a_trainable_model_has_one_head_on_one_cut():
    base = network.backbone(SIZE, "none", alpha=0.35)
    model = network.trainable_model(base, "block_13_expand_relu")
    assert model.output_shape == (None, 4, 6, 1)
    names = {layer.name for layer in model.layers}
    assert "evidence_block_13_expand_relu" in names
    assert "out_relu" not in names  # what the cut does not need is not trained, converted or shipped


def test_pixels_in_the_range_of_the_network():
    scaled = network.scaled(np.array([0, 127, 128, 255], np.uint8))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [-1, -1 / 255, 1 / 255, 1], atol=1e-7)


def test_a_cell_looks_a_little_right_of_and_below_its_middle():
    """Half a pixel of its own input for each convolution of stride 2 is the most that it can be."""
    for stride in STRIDES.values():
        assert 0 < network.shift_px(stride) <= (stride - 1) / 2


# ---- weights


def test_weights_from_a_file_are_those_of_the_file(base, weights_file):
    again = network.backbone(SIZE, str(weights_file))
    for ours, theirs in zip(base.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["text.weights.h5", "text.h5", "text.bin"])
def test_a_file_that_holds_no_weights(tmp_path, name):
    path = tmp_path / name
    path.write_text("not weights")
    with pytest.raises(ConfigError) as caught:
        network.backbone(SIZE, str(path))
    message = str(caught.value)
    assert message.startswith(
        f"--weights {path}: must be weights of Keras's MobileNetV2 1.0, include_top=False:"
    )
    assert "\n" not in message
    assert len(message) < 400


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "narrow.weights.h5"
    keras.applications.MobileNetV2(
        weights=None, include_top=False, alpha=0.35, input_shape=(64, 64, 3)
    ).save_weights(path)
    with pytest.raises(
        ConfigError, match=r"narrow\.weights\.h5: must be weights of Keras's MobileNetV2 1\.0"
    ):
        network.backbone(SIZE, str(path))
