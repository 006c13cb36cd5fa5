"""The three kinds of map: each on its own, and compared with masks."""

from __future__ import annotations

from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
from fixtures_bundle import make_calibration, make_frame, make_image
from fixtures_trainer import Fitted, make_sample

from device.bundle.calibration import Pooling, ReferenceSpec
from device.bundle.reference import GoldenReference
from device.image.geometry import Size
from device.inspection.preprocess import Preprocessor
from trainer import localization
from trainer.localization import LocalizationEstimate, LocalizationFigures
from trainer.recipes.learned import Judges

SIDE, CELL = 64, 8
SPEC = make_calibration().localization  # cut 40 gray levels, no reference
PREPROCESS = make_calibration().preprocess


def network(heads: int = 1) -> keras.Model:
    """The mean of each cell of 8 x 8 px, by head 0; twice that by head 1, and so on."""
    image = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(image, keras.layers.Conv2D(heads, CELL, strides=CELL)(image))
    kernel = np.full((CELL, CELL, 3, heads), 1 / (CELL * CELL * 3)) * np.arange(1, heads + 1)
    model.set_weights([kernel, np.zeros(heads)])
    return model


def seen(spot=(24, 32, 8, 8), preprocess=PREPROCESS, **size):
    return Preprocessor(preprocess).prepare(make_frame(make_image(spot=spot, **size)))


# ---- the gradient


def test_the_gradient_of_the_top_cell_lies_on_it():
    found = localization.gradient_of(network(), seen(), Pooling("top", 0.01), 0)
    assert found.shape == (SIDE, SIDE)
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert (24 <= x < 32, 32 <= y < 40) == (True, True)
    assert found[36, 28] == pytest.approx(1 / 192, rel=0.02)  # blurred only at the cell's edge
    assert found[10, 10] == 0


def test_the_gradient_of_the_mean_is_everywhere_and_the_heads_differ():
    flat = localization.gradient_of(network(2), seen(), Pooling("mean", 1.0), 0)
    np.testing.assert_allclose(flat, 1 / 192 / 64, rtol=1e-4)
    double = localization.gradient_of(network(2), seen(), Pooling("mean", 1.0), 1)
    np.testing.assert_allclose(double, 2 * flat, rtol=1e-4)


def test_padding_moves_nothing():
    """A wide image lies in the middle rows; what is brighter above it does not count."""
    found = localization.gradient_of(network(), seen(height=32), Pooling("mean", 1.0), 0)
    assert found[:10].max() == 0
    assert found[32].min() > 0


def test_each_image_has_the_gradient_of_its_own_judge():
    judges = Judges(network(2), b"", np.array([1, 0]))
    saliency = localization.of_judges(judges, Pooling("mean", 1.0))
    assert saliency is not None
    np.testing.assert_allclose(saliency(0, seen()), 2 * saliency(1, seen()), rtol=1e-4)


def test_tiles_have_their_own_gradients():
    """A frame of two tiles: the spot in the right one is the only thing that moves its top cell."""
    tiled = replace(PREPROCESS, tiles=Size(SIDE, SIDE))
    given = seen((88, 32, 8, 8), tiled, width=2 * SIDE)
    assert len(given.framing.tiles) == 2
    found = localization.gradient_of(network(), given, Pooling("top", 0.01), 0)
    assert found.shape == (SIDE, 2 * SIDE)
    assert found[36, 92] == pytest.approx(1 / 192, rel=0.02)
    assert found[36, 80] == 0


# ---- the difference


def test_the_difference_is_in_units_of_the_cut():
    """A white spot on dark gray, and a background that is almost its mean."""
    found = localization.difference(seen((24, 32, 4, 4)), SPEC, None)
    assert found.max() == pytest.approx((255 - 50) / 40, rel=0.2)
    assert found[32:36, 24:28].min() > 4 > found[20:28].max()


def test_the_difference_from_the_reference_where_the_image_is_aligned():
    gray = np.random.default_rng(5).integers(0, 255, (SIDE, SIDE)).astype(np.uint8)
    reference = GoldenReference(gray.astype(np.float32), np.full((SIDE, SIDE), 5.0, np.float32))
    spec = replace(SPEC, reference=ReferenceSpec(4.0, 0.3))
    same = Preprocessor(PREPROCESS).prepare(make_frame(np.repeat(gray[:, :, np.newaxis], 3, axis=2)))
    assert localization.difference(same, spec, reference).max() < 0.1
    other = seen((24, 32, 4, 4))
    background = localization.difference(other, SPEC, None)
    np.testing.assert_array_equal(localization.difference(other, spec, reference), background)


# ---- boxes


def square(x, y, side, value=1.0, ground=0.0):
    values = np.full((SIDE, SIDE), ground, np.float32)
    values[y : y + side, x : x + side] = value
    return values


@pytest.mark.parametrize(
    ("found", "expected"), [((10, 10), 1.0), ((14, 10), 4 / 12), ((18, 10), 0.0), ((40, 40), 1.0)]
)
def test_the_box_is_compared_with_the_part_it_fits_best(found, expected):
    """Masked parts: 8 x 8 px at 10, 10 and at 40, 40."""
    mask = (square(10, 10, 8) + square(40, 40, 8)) > 0
    assert localization.box_iou(square(*found, 8), mask) == pytest.approx(expected)


def test_the_region_is_the_one_with_the_maximum():
    values = square(4, 4, 20, 0.8) + square(40, 40, 6, 1.0)
    box = localization.region_box(values)
    assert (box.x, box.y, box.width, box.height) == (40, 40, 6, 6)
    flat = localization.region_box(np.zeros((8, 8), np.float32))
    assert flat.area_px == 64


# ---- all of it


@pytest.fixture
def samples(tmp_path):
    """Eight parts, every other one with a spot and its mask; the last defective one without a mask."""
    made = []
    for number in range(8):
        label, path, mask = number % 2, tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png"
        spot = (8 * (number % 5), 24, 8, 8)
        sample = make_sample(
            path, (SIDE, SIDE), number, label=label, mask=mask if label and number != 7 else None
        )
        assert cv2.imwrite(str(path), make_image(spot=spot if label else None, seed=number))
        marked = np.zeros((SIDE, SIDE), np.uint8)
        marked[24:32, spot[0] : spot[0] + 8] = 255
        assert cv2.imwrite(str(mask), marked)
        made.append(sample)
    return made


def looking(samples, say):
    """What say(image) gives as evidence."""
    from device.image.frame import frame_from_file

    def look(index):
        given = Preprocessor(PREPROCESS).prepare(frame_from_file(samples[index].path, index))
        cells = given.tensor.reshape(CELL, CELL, CELL, CELL, 3).mean((1, 3, 4))
        return given, say(cells.astype(np.float32))

    return look


def test_a_map_that_shows_the_spots_beats_one_that_shows_their_negative(samples):
    saliency = localization.of_judges(Judges(network(), b"", np.zeros(8, np.int64)), Pooling("top", 0.01))
    right = localization.compare(samples, looking(samples, lambda cells: cells), saliency, SPEC, None)
    wrong = localization.compare(samples, looking(samples, lambda cells: -cells), None, SPEC, None)
    assert list(right) == ["evidence", "gradient", "difference"]
    assert list(wrong) == ["evidence", "difference"]
    for name, least in (("evidence", 0.99), ("gradient", 0.9), ("difference", 0.9)):
        place = right[name].place
        assert place.own_auroc > least, name
        assert place.pointing_hit_rate == 1.0, name
        assert place.box_iou > 0.4, name
    assert wrong["evidence"].place.pixel_auroc < 0.1
    assert wrong["evidence"].place.pointing_hit_rate == 0.0
    assert wrong["difference"] == right["difference"]
    [_, _, evidence, _, _] = localization.table(right)
    assert evidence.startswith(
        f"| evidence | {right['evidence'].place.pixel_auroc:.3f} \N{PLUS-MINUS SIGN} 0.0"
    )


def test_maps_of_any_scale_are_ranked_as_they_are(samples):
    """An int8 map that is pooled by its mean may reach from -1000 to 1000."""

    def area(by):
        look = looking(samples, lambda cells: by * (cells - 128))
        return localization.compare(samples, look, None, SPEC, None)["evidence"].place.pixel_auroc

    assert area(30.0) == pytest.approx(area(0.1), abs=1e-4)


def test_without_a_mask_nothing_is_defined(samples):
    good = [one for one in samples if one.label == 0]
    found = localization.compare(good, looking(good, lambda cells: cells), None, SPEC, None)
    nothing = LocalizationFigures(None, None, None, None, None)
    assert found["evidence"] == LocalizationEstimate(nothing, nothing)
    assert found["evidence"].words() == ["not defined"] * 5


def test_the_error_of_a_mean_and_of_a_share_are_the_textbook_ones(samples):
    """Maps that hit in two of three images."""

    def look(index):
        given, cells = looking(samples, lambda cells: cells)(index)
        return given, -cells if index == 1 else cells

    found = localization.compare(samples[:6], look, None, SPEC, None)["evidence"]
    assert found.place.pointing_hit_rate == pytest.approx(2 / 3)
    assert found.error.pointing_hit_rate == pytest.approx(np.sqrt(2 / 9 / 3))
    own = [0.0, 1.0, 1.0]
    assert found.place.own_auroc == pytest.approx(np.mean(own), abs=0.01)
    assert found.error.own_auroc == pytest.approx(np.std(own, ddof=1) / np.sqrt(3), abs=0.01)


def test_the_error_of_an_area_is_that_of_leaving_out_images():
    """Of the mean of 0, 1, 2, 3 it is sd / sqrt(4)."""
    values = np.array([0.0, 1.0, 2.0, 3.0])
    without = [float(np.delete(values, index).mean()) for index in range(4)]
    assert localization._jackknifed(without) == pytest.approx(values.std(ddof=1) / 2)
    assert localization._jackknifed([0.5]) is None
    assert localization._jackknifed([0.5, None]) is None


def test_half_of_the_few_are_defective_and_all_have_a_truth(samples):
    assert localization.few(samples, 4) == [0, 1, 3, 4]
    assert localization.few(samples, 100) == [0, 1, 2, 3, 4, 5, 6]


def test_the_command_prints_the_table(fitted: Fitted, capsys):
    given = ["--bundle", str(fitted.out), "--data", str(fitted.data), "--images", "6"]
    assert localization.main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| | pixel AUROC | AUPRO | own AUROC | pointing | box IoU |"
    assert [line.split(" ")[1] for line in lines[2:4]] == ["evidence", "difference"]
    assert lines[4] == "3 defective images with masks, 3 good ones"
