"""What is known of the tiles of an image, and what tiles say of an image together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_trainer import make_sample, make_samples, with_mask

from device.bundle.bundle import PreprocessSpec
from device.image.frame import frame_from_file
from device.image.geometry import Size
from device.inspection.preprocess import Preprocessor
from trainer.data import tiling
from trainer.data.dataset import Sample
from trainer.data.tiling import DEFECTIVE, GOOD, PERHAPS, UNCLEAR, Tiles

SPEC = PreprocessSpec(Size(64, 64), "stretch", "gray", 114, tiles=Size(128, 128), overlap=0.0)
WIDE = (512, 128)  # four such tiles in a row


def truth(sample: Sample, spec: PreprocessSpec = SPEC) -> list[int]:
    return list(Tiles.of([sample], spec).truth)


# ---- what is known of a tile


def test_a_whole_image_is_one_tile_with_its_own_label(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [WIDE] * 3)
    tiles = Tiles.of(samples, replace(SPEC, tiles=None))
    assert list(tiles.image) == [0, 1, 2]
    assert list(tiles.truth) == [0, 1, 0]


def test_all_tiles_of_a_good_image_are_good(tmp_path: Path) -> None:
    assert truth(make_sample(tmp_path / "0.png", WIDE, 0)) == [GOOD] * 4


def test_nobody_knows_which_tile_of_an_unmasked_image_is_defective(tmp_path: Path) -> None:
    assert truth(make_sample(tmp_path / "0.png", WIDE, 0, label=1)) == [PERHAPS] * 4


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(10, 10, 8, 8)], [DEFECTIVE, GOOD, GOOD, GOOD]),
        ([(124, 10, 8, 8)], [DEFECTIVE, DEFECTIVE, GOOD, GOOD]),  # half in each
        ([(121, 10, 8, 8)], [DEFECTIVE, UNCLEAR, GOOD, GOOD]),  # an eighth in the second
        ([(300, 10, 8, 8), (10, 10, 30, 30)], [DEFECTIVE, GOOD, UNCLEAR, GOOD]),  # a crumb of the mask
        ([(300, 10, 20, 20), (10, 10, 30, 30)], [DEFECTIVE, GOOD, DEFECTIVE, GOOD]),  # two defects
        ([(0, 0, 512, 20)], [DEFECTIVE] * 4),
    ],
)
def test_a_mask_tells_which_tiles_are_defective(
    tmp_path: Path, boxes: list[tuple[int, int, int, int]], expected: list[int]
) -> None:
    sample = make_sample(tmp_path / "0.png", WIDE, 0)
    assert truth(with_mask(sample, *boxes)) == expected


def test_tiles_are_those_that_the_device_cuts(tmp_path: Path) -> None:
    """Of images of two sizes, with overlap; the bright spot is in the tiles that count as defective."""
    spec = replace(SPEC, overlap=0.3)
    samples = [
        with_mask(make_sample(tmp_path / f"{number}.png", size, number), (150, 60, 10, 10))
        for number, size in enumerate([(300, 200), (420, 150)])
    ]
    for sample in samples:
        image = np.full((sample.size.height, sample.size.width), 90, np.uint8)
        image[60:70, 150:160] = 255
        assert cv2.imwrite(str(sample.path), image)
    tiles = Tiles.of(samples, spec)
    prepared = [Preprocessor(spec).prepare(frame_from_file(sample.path, 0)) for sample in samples]
    tensors = [tensor for one in prepared for tensor in tiling.cuts(one)]
    assert len(tensors) == len(tiles)
    assert list(tiles.image) == [0] * len(prepared[0].framing.tiles) + [1] * len(prepared[1].framing.tiles)
    seen = np.array([int((tensor[0, :, :, 0] > 200).sum()) for tensor in tensors])
    for image in (0, 1):
        own = tiles.image == image
        assert DEFECTIVE in tiles.truth[own]
        greatest = seen[own].max()
        np.testing.assert_array_equal(tiles.truth[own] == GOOD, seen[own] == 0)
        np.testing.assert_array_equal(tiles.truth[own] == DEFECTIVE, seen[own] >= 0.25 * greatest)


# ---- what tiles say together


def test_an_image_is_as_bad_as_its_worst_tile() -> None:
    tiles = Tiles(np.array([0, 0, 1, 2, 2, 2]), np.zeros(6, np.int8))
    values = np.array([1.0, 3.0, -2.0, 5.0, 4.0, 6.0])
    assert list(tiles.greatest(values)) == [3.0, -2.0, 6.0]
    apart = np.array([False, False, True, True, True, True])  # without the first image
    assert list(tiles.part(apart).greatest(values[apart])) == [-2.0, 6.0]


def test_the_worst_tile_speaks_for_an_image_whose_defect_nobody_marked() -> None:
    truth = np.array([GOOD, UNCLEAR, DEFECTIVE, PERHAPS, PERHAPS, PERHAPS, PERHAPS], np.int8)
    tiles = Tiles(np.array([0, 0, 0, 1, 1, 2, 2]), truth)
    chosen = tiles.with_worst(np.array([9.0, 9.0, -9.0, 1.0, 2.0, 0.5, -1.0]))
    assert list(np.flatnonzero(chosen)) == [0, 2, 4, 5]
    assert list(np.flatnonzero(tiles.clear)) == [0, 2, 3, 4, 5, 6]


def test_the_quantizer_sees_defective_tiles_and_other_places() -> None:
    truth = np.array([GOOD, DEFECTIVE, GOOD, GOOD, GOOD, GOOD, PERHAPS, PERHAPS], np.int8)
    tiles = Tiles(np.array([0, 0, 1, 1, 2, 2, 3, 3]), truth)
    assert [tiles.example(image) for image in range(4)] == [1, 1, 0, 1]


# ---- masks


def test_a_mask_lies_on_the_canvas_as_the_image_does(tmp_path: Path) -> None:
    """An image of half the height in a letterbox: the mask has the same margins, and none on the padding."""
    sample = with_mask(make_sample(tmp_path / "0.png", (128, 64), 0), (64, 0, 64, 64))
    spec = PreprocessSpec(Size(64, 64), "letterbox", "gray", 114)
    mask = tiling.mask_on_canvas(sample, tiling.framing_of(sample.size, spec).placement)
    assert mask is not None
    expected = np.zeros((64, 64), np.bool_)
    expected[16:48, 32:] = True
    np.testing.assert_array_equal(mask, expected)
    unknown = replace(sample, mask=None)
    assert tiling.mask_on_canvas(unknown, tiling.framing_of(sample.size, spec).placement) is None


def test_the_record_says_what_one_input_shows() -> None:
    assert tiling.describe(SPEC) == {"input_px": [64, 64], "tiles_px": [128, 128], "overlap": 0.0}
    assert tiling.describe(replace(SPEC, tiles=None)) == {"input_px": [64, 64]}
