"""From the frame to the model's input."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures_bundle import make_frame, make_image

from device.bundle.calibration import PreprocessSpec
from device.image.geometry import Box, Size
from device.inspection.framing import Framing
from device.inspection.preprocess import ModelInput, Preprocessor


def prepare(image: np.ndarray, size: Size, resize: str = "letterbox", colour: str = "rgb") -> ModelInput:
    return Preprocessor(PreprocessSpec(size, resize, colour, 114)).prepare(make_frame(image))


def test_the_right_size_is_not_copied() -> None:
    image = make_image(width=32, height=24)
    prepared = prepare(image, Size(32, 24))
    assert prepared.tensor.shape == (1, 24, 32, 3)
    assert np.shares_memory(prepared.tensor, image)


def test_a_framing_of_a_larger_image_becomes_contiguous() -> None:
    image = make_image(width=64, height=64)[:, 10:42]
    prepared = prepare(image, Size(32, 64))
    assert prepared.tensor.flags.c_contiguous
    assert np.array_equal(prepared.tensor[0], image)


def test_letterbox_pads_with_the_calibrated_level() -> None:
    image = np.full((50, 100, 3), 200, np.uint8)
    prepared = prepare(image, Size(64, 64))
    assert prepared.placement.content == Box(0, 16, 64, 32)
    assert (prepared.tensor[0, :16] == 114).all()
    assert (prepared.tensor[0, 48:] == 114).all()
    assert (prepared.tensor[0, 16:48] == 200).all()
    assert prepared.content.shape == (32, 64, 3)
    assert np.shares_memory(prepared.content, prepared.tensor)


def test_inputs_do_not_share_their_padding() -> None:
    preprocessor = Preprocessor(PreprocessSpec(Size(64, 64), "letterbox", "rgb", 114))
    first = preprocessor.prepare(make_frame(np.full((50, 100, 3), 10, np.uint8)))
    preprocessor.prepare(make_frame(np.full((100, 50, 3), 90, np.uint8)))
    assert (first.content == 10).all()


def test_stretch_fills_the_input() -> None:
    prepared = prepare(make_image(width=100, height=50), Size(64, 64), "stretch")
    assert prepared.placement.content == Box(0, 0, 64, 64)


def test_shrinking_keeps_what_is_thinner_than_a_pixel() -> None:
    """A line of one px, shrunk by 8, stays with an eighth of its contrast; sampling would lose it."""
    image = np.zeros((512, 512, 3), np.uint8)
    image[:, 259] = 240
    for resize in ("letterbox", "stretch"):
        tensor = prepare(image, Size(64, 64), resize).tensor
        assert tensor[0, :, 32].tolist() == [[30, 30, 30]] * 64
        assert tensor.sum() == 64 * 30 * 3


def test_a_stretch_that_shrinks_one_side_and_grows_the_other() -> None:
    image = np.zeros((32, 512, 3), np.uint8)
    image[:, 259] = 240
    tensor = prepare(image, Size(64, 64), "stretch").tensor
    assert (tensor[0, :, 32] == 30).all()


def test_gray_is_luma_in_three_channels() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:] = (255, 0, 0)
    tensor = prepare(image, Size(16, 16), colour="gray").tensor
    assert tensor.tolist() == np.full((1, 16, 16, 3), 76, np.uint8).tolist()  # 0.299 * 255


def test_gray_leaves_gray_alone() -> None:
    image = make_image(width=16, height=16)
    assert np.array_equal(prepare(image, Size(16, 16), colour="gray").tensor[0], image)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 3000), (3000, 1), (63, 65), (64, 64), (7, 7)])
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("colour", ["rgb", "gray"])
def test_any_size_fits(width: int, height: int, resize: str, colour: str) -> None:
    image = np.full((height, width, 3), 77, np.uint8)
    prepared = prepare(image, Size(64, 64), resize, colour)
    assert prepared.tensor.shape == (1, 64, 64, 3)
    assert (prepared.content == 77).all()


def test_a_model_input_checks_itself() -> None:
    framing = Framing.of(Size(8, 8), PreprocessSpec(Size(8, 8), "stretch", "rgb", 0))
    with pytest.raises(ValueError, match=r"must be uint8 \(8, 8\), with 3 .*, got float32 \(8, 8, 3\)"):
        ModelInput(np.zeros((8, 8, 3), np.float32), framing)
    for shape in ((8, 9), (8, 8, 1)):
        with pytest.raises(ValueError, match="got uint8"):
            ModelInput(np.zeros(shape, np.uint8), framing)


def test_gray_has_one_channel_until_the_model_is_shown_it() -> None:
    image = make_image(width=20, height=10)
    prepared = prepare(image, Size(16, 16), colour="gray")
    assert prepared.canvas.shape == (16, 16)
    assert prepared.content.shape == prepared.luma().shape == (8, 16)
    assert np.array_equal(prepared.luma(slice(2, 5)), prepared.luma()[2:5])
    assert np.array_equal(prepared.tensor[0], np.dstack([prepared.canvas] * 3))


def test_there_is_no_one_tensor_of_a_frame_in_tiles() -> None:
    spec = PreprocessSpec(Size(32, 32), "stretch", "rgb", 114, tiles=Size(32, 32))
    prepared = Preprocessor(spec).prepare(make_frame(make_image(width=64, height=32)))
    assert [prepared.cut(tile).shape for tile in prepared.framing.tiles] == [(1, 32, 32, 3)] * 2
    with pytest.raises(ValueError, match="values to unpack"):
        _ = prepared.tensor
