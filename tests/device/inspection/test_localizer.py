"""Regions on the frame, and the evidence map over it."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from fixtures_bundle import make_frame
from fixtures_part import shot

from device.bundle.calibration import (
    GoodMaps,
    Level,
    LocalizationSpec,
    PreprocessSpec,
    ReferenceSpec,
    ScoreCalibration,
)
from device.bundle.reference import GoldenReference
from device.image.geometry import Box, Letterbox, Size
from device.inspection.detector import Prediction
from device.inspection.localizer import MAX_REGIONS, Localizer, _background, evidence_in_frame
from device.inspection.preprocess import ModelInput, Preprocessor
from device.inspection.verdict import Region

TARGET = Size(256, 256)
SAME = ScoreCalibration(1.0, 0.0)  # a score is the sigmoid of the evidence
OTSU = LocalizationSpec("otsu", 1, 5.0, 40.0, 0.0)


def flat_input(source: Size, resize: str = "letterbox", level: int = 100) -> ModelInput:
    image = np.full((source.height, source.width, 3), level, np.uint8)
    return input_of(image, resize)


def input_of(image: np.ndarray, resize: str = "letterbox") -> ModelInput:
    return Preprocessor(PreprocessSpec(TARGET, resize, "rgb", 0)).prepare(make_frame(image))


def evidence_with(cells: dict[tuple[int, int], float], shape: tuple[int, int] = (16, 16)) -> np.ndarray:
    """-6 everywhere but in these cells (row, column)."""
    evidence = np.full(shape, -6, np.float32)
    for cell, value in cells.items():
        evidence[cell] = value
    return evidence


def locate(
    evidence: np.ndarray, model_input: ModelInput, spec: LocalizationSpec = OTSU
) -> tuple[Region, ...]:
    return Localizer(spec, SAME).locate(model_input, Prediction(evidence, 0.0, 0.5))


def frame_box_of_cell(
    cell: tuple[int, int], shape: tuple[int, int], placement: Letterbox
) -> tuple[float, ...]:
    """(x0, y0, x1, y1) of what cell (i, j) covers, in frame px."""
    (i, j), (rows, columns) = cell, shape
    height, width = placement.target.height / rows, placement.target.width / columns
    return (
        (j * width - placement.offset_x) / placement.scale_x,
        (i * height - placement.offset_y) / placement.scale_y,
        ((j + 1) * width - placement.offset_x) / placement.scale_x,
        ((i + 1) * height - placement.offset_y) / placement.scale_y,
    )


PLACES = [
    (Size(256, 256), "letterbox"),
    (Size(1000, 400), "letterbox"),
    (Size(333, 777), "letterbox"),
    (Size(1000, 400), "stretch"),
    (Size(100, 60), "stretch"),
    (Size(100, 61), "letterbox"),
]


# ---- the map over the frame


@pytest.mark.parametrize(("source", "resize"), PLACES)
@pytest.mark.parametrize("shape", [(16, 16), (9, 13)])
def test_the_map_over_the_frame_has_its_peak_where_the_cell_is(
    source: Size, resize: str, shape: tuple[int, int]
) -> None:
    placement = flat_input(source, resize).placement
    cell = (shape[0] // 2, shape[1] // 2 + 1)
    over_frame = evidence_in_frame(evidence_with({cell: 4.0}, shape), placement)
    assert over_frame.shape == (source.height, source.width)
    assert over_frame.dtype == np.float32
    y, x = np.unravel_index(over_frame.argmax(), over_frame.shape)
    x0, y0, x1, y1 = frame_box_of_cell(cell, shape, placement)
    assert x + 0.5 == pytest.approx((x0 + x1) / 2, abs=0.6 / placement.scale_x + 0.5)
    assert y + 0.5 == pytest.approx((y0 + y1) / 2, abs=0.6 / placement.scale_y + 0.5)


@pytest.mark.parametrize(("source", "resize"), PLACES)
def test_the_map_over_the_frame_is_straight_where_the_map_is(source: Size, resize: str) -> None:
    """Bilinear means that a ramp over the cells stays the same ramp over the frame, at every pixel."""
    placement = flat_input(source, resize).placement
    rows, columns = 16, 16
    ramp = np.add.outer(3.0 * np.arange(rows), np.arange(columns)).astype(np.float32)
    over_frame = evidence_in_frame(ramp, placement)
    x = (np.arange(source.width) + 0.5) * placement.scale_x + placement.offset_x
    y = (np.arange(source.height) + 0.5) * placement.scale_y + placement.offset_y
    column, row = x * columns / TARGET.width - 0.5, y * rows / TARGET.height - 0.5
    expected = np.add.outer(3.0 * row, column)
    inside = np.ix_(
        _between_centres(row, placement.offset_y, placement.content.height, TARGET.height / rows, rows),
        _between_centres(
            column, placement.offset_x, placement.content.width, TARGET.width / columns, columns
        ),
    )
    assert over_frame[inside] == pytest.approx(expected[inside], abs=0.05)


def _between_centres(at: np.ndarray, offset: int, length: int, cell_px: float, cells: int) -> np.ndarray:
    """Where on an axis both neighbouring cells lie on the image."""
    first = math.ceil(offset / cell_px - 0.5)
    last = min(cells - 1, math.ceil((offset + length) / cell_px - 0.5) - 1)
    found: np.ndarray = np.flatnonzero((at >= first + 0.1) & (at <= last - 0.1))
    return found


def test_the_same_size_gives_the_cells_themselves() -> None:
    evidence = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    placement = Letterbox.fit(Size(16, 16), Size(16, 16), "stretch")
    assert np.array_equal(evidence_in_frame(evidence, placement), evidence)


def test_padding_has_no_influence_on_the_map() -> None:
    placement = flat_input(Size(512, 200)).placement  # rows 78..178 of 256
    evidence = np.full((16, 16), 9, np.float32)
    evidence[5:11] = -6  # centres at 88 .. 168
    assert (evidence_in_frame(evidence, placement) == -6).all()


# ---- regions by evidence


@pytest.mark.parametrize(("source", "resize"), PLACES)
@pytest.mark.parametrize("cut", ["otsu", -1.0])
def test_a_region_lies_on_its_cell(source: Size, resize: str, cut: float | str) -> None:
    model_input = flat_input(source, resize)
    cell = (8, 6)
    regions = locate(evidence_with({cell: 4.0}), model_input, LocalizationSpec(cut, 1, 5.0, 40.0, 0.0))
    assert len(regions) == 1
    [region] = regions
    x0, y0, x1, y1 = frame_box_of_cell(cell, (16, 16), model_input.placement)
    box = region.box
    width, height = x1 - x0, y1 - y0
    assert box.x + box.width / 2 == pytest.approx((x0 + x1) / 2, abs=0.26 * width + 1)
    assert box.y + box.height / 2 == pytest.approx((y0 + y1) / 2, abs=0.26 * height + 1)
    assert 0.5 * width - 2 <= box.width <= 1.6 * width + 2
    assert 0.5 * height - 2 <= box.height <= 1.6 * height + 2
    assert region.method == "evidence"
    assert 0.3 * box.area_px <= region.area_px <= box.area_px


def test_boxes_are_finer_than_a_cell() -> None:
    """A weaker neighbour draws the box to its side by less than a cell."""
    model_input = flat_input(TARGET)
    boxes = [
        locate(evidence_with({(8, 8): 4.0, (8, 9): weaker}), model_input)[0].box for weaker in (-6.0, -2.0)
    ]
    assert boxes[0].x == boxes[1].x
    assert 0 < boxes[1].width - boxes[0].width < 16


def test_the_score_is_that_of_the_strongest_cell() -> None:
    regions = locate(
        evidence_with({(3, 3): 2.0, (3, 4): 1.0, (11, 12): 4.0, (12, 12): 3.0}), flat_input(TARGET)
    )
    assert [region.score for region in regions] == [
        pytest.approx(1 / (1 + math.exp(-4))),
        pytest.approx(1 / (1 + math.exp(-2))),
    ]
    assert regions[0].box.y > regions[1].box.y


def test_the_score_is_on_the_bundle_s_own_curve_and_the_order_that_of_the_evidence() -> None:
    """Cells of 400 and 900 would both be 1.000 by themselves; the place with more evidence comes first."""
    evidence = evidence_with({(3, 3): 400.0, (11, 12): 900.0})
    curve = ScoreCalibration(0.04, -20.0)
    first, second = Localizer(OTSU, curve).locate(flat_input(TARGET), Prediction(evidence, 0.0, 0.5))
    assert (first.score, second.score) == (curve.score(900.0), curve.score(400.0))
    assert second.score < 0.05
    assert first.box.y > second.box.y


def test_diagonal_neighbours_are_one_region() -> None:
    assert len(locate(evidence_with({(4, 4): 4.0, (5, 5): 4.0, (6, 6): 4.0}), flat_input(TARGET))) == 1


def test_what_lies_in_a_ring_belongs_to_it() -> None:
    evidence = np.full((16, 16), -6, np.float32)
    evidence[3:12, 3:12] = 3
    evidence[4:11, 4:11] = -6
    evidence[7, 7] = 4
    [region] = locate(evidence, flat_input(TARGET), LocalizationSpec(0.0, 1, 5.0, 40.0, 0.0))
    assert region.box.width == pytest.approx(9 * 16, abs=16)
    assert region.area_px < 0.7 * region.box.area_px


def test_evidence_on_padding_makes_no_region() -> None:
    model_input = flat_input(Size(512, 200))
    evidence = evidence_with({(0, 8): 9.0, (15, 3): 9.0, (8, 8): 4.0})
    [region] = locate(evidence, model_input)
    assert region.score == pytest.approx(1 / (1 + math.exp(-4)))
    assert 80 < region.box.y + region.box.height / 2 < 150


def test_a_region_at_the_border_stays_on_the_frame() -> None:
    model_input = flat_input(Size(1000, 400))
    [region] = locate(evidence_with({(i, 15): 4.0 for i in range(16)}), model_input)
    assert (region.box.x + region.box.width, region.box.y, region.box.height) == (1000, 0, 400)


def test_small_regions_are_dropped_by_their_area_in_frame_px() -> None:
    evidence = evidence_with({(3, 3): 4.0, **{(i, j): 4.0 for i in range(9, 13) for j in range(9, 13)}})
    model_input = flat_input(Size(512, 512))
    small, large = sorted(region.area_px for region in locate(evidence, model_input))
    assert small == pytest.approx(32 * 32, rel=0.4)
    assert large == pytest.approx(16 * 32 * 32, rel=0.2)
    for least, found in ((small, 2), (small + 1, 1), (large, 1)):
        spec = LocalizationSpec("otsu", least, 5.0, 40.0, 0.0)
        assert len(locate(evidence, model_input, spec)) == found


def test_the_number_of_regions_is_bounded() -> None:
    evidence = np.full((32, 32), -6, np.float32)
    evidence[::3, ::3] = 4
    regions = locate(evidence, flat_input(TARGET))
    assert len(regions) == MAX_REGIONS


def test_a_map_finer_than_the_grid() -> None:
    evidence = evidence_with({(128, 64): 4.0}, (256, 256))
    [region] = locate(evidence, flat_input(TARGET))
    assert region.box == Box(64, 128, 1, 1)


def test_an_image_thinner_than_a_cell() -> None:
    [region] = locate(evidence_with({(i, 4): 4.0 for i in range(16)}), flat_input(Size(2000, 20)))
    assert (region.box.y, region.box.height) == (0, 20)
    assert region.box.x + region.box.width / 2 == pytest.approx(4.5 / 16 * 2000, abs=40)


# ---- regions by difference


def test_without_evidence_the_difference_is_looked_at() -> None:
    image = np.full((256, 256, 3), 100, np.uint8)
    cv2.rectangle(image, (60, 120), (69, 129), (200, 200, 200), cv2.FILLED)
    evidence = np.full((16, 16), -2, np.float32)
    evidence[7, 4] = -1  # below the cut, and where the spot is
    [region] = locate(evidence, input_of(image), LocalizationSpec(0.0, 4, 5.0, 40.0, 0.0))
    assert region.method == "difference"
    assert region.box == Box(60, 120, 10, 10)
    assert region.score == pytest.approx(1 / (1 + math.exp(1)))


@pytest.mark.parametrize(("source", "resize"), PLACES)
def test_the_difference_lies_on_the_frame(source: Size, resize: str) -> None:
    image = np.full((source.height, source.width, 3), 100, np.uint8)
    spot = Box(source.width // 2, source.height // 3, source.width // 10, source.height // 8)
    image[spot.y : spot.y + spot.height, spot.x : spot.x + spot.width] = 10
    spec = LocalizationSpec(0.0, 4, 24.0, 50.0, 0.0)
    [region] = locate(np.full((16, 16), -2, np.float32), input_of(image, resize), spec)
    model_px = max(source.width, source.height) / 256
    margin = 4 * model_px + 1
    assert region.box.x == pytest.approx(spot.x, abs=margin)
    assert region.box.y == pytest.approx(spot.y, abs=margin)
    assert region.box.width == pytest.approx(spot.width, abs=2 * margin)
    assert region.box.height == pytest.approx(spot.height, abs=2 * margin)


def test_neither_evidence_nor_difference_is_no_region() -> None:
    flat = np.full((16, 16), 3, np.float32)
    assert locate(flat, flat_input(TARGET)) == ()
    assert locate(flat, flat_input(Size(100, 40)), LocalizationSpec(4.0, 1, 5.0, 40.0, 0.0)) == ()


@pytest.mark.parametrize("sigma_px", [5.0, 8.0, 15.5, 30.7, 100.0])
@pytest.mark.parametrize("shape", [(512, 512), (333, 517), (40, 700), (3, 900)])
def test_the_background_is_the_gaussian_s(sigma_px: float, shape: tuple[int, int]) -> None:
    """Within 2 levels, of a picture with edges, a slope and noise; a difference counts from 24 on."""
    rng = np.random.default_rng(3)
    image = rng.normal(120, 20, shape) + np.linspace(-50, 50, shape[1])
    image[: shape[0] // 2, : shape[1] // 3] += 60
    gray = image.clip(0, 255).astype(np.uint8)
    exact = cv2.GaussianBlur(gray, (0, 0), sigma_px)
    assert cv2.absdiff(_background(gray, sigma_px), exact).max() <= 2


def test_padding_makes_no_difference() -> None:
    """Black padding beside a light image is an edge, and no defect."""
    assert locate(np.zeros((16, 16), np.float32), flat_input(Size(512, 200), level=220)) == ()


# ---- a cell that looks beside its own middle


def test_the_shift_moves_the_map_and_the_regions_right_and_down() -> None:
    """By 8 px of the input, which on a frame of twice its size are 16."""
    model_input = flat_input(Size(512, 512))
    evidence = evidence_with({(8, 6): 4.0})
    there = np.argwhere(evidence_in_frame(evidence, model_input.placement) > 3).mean(0)
    moved = np.argwhere(evidence_in_frame(evidence, model_input.placement, 8.0) > 3).mean(0)
    assert moved - there == pytest.approx([16, 16], abs=0.5)

    [plain] = locate(evidence, model_input, LocalizationSpec(-1.0, 1, 5.0, 40.0, 0.0))
    [shifted] = locate(evidence, model_input, LocalizationSpec(-1.0, 1, 5.0, 40.0, 8.0))
    assert (shifted.box.x, shifted.box.y) == (plain.box.x + 16, plain.box.y + 16)
    assert (shifted.box.width, shifted.box.height) == (plain.box.width, plain.box.height)
    assert shifted.score == plain.score


def test_the_shift_leaves_no_hole_at_the_edge() -> None:
    placement = flat_input(Size(256, 256)).placement
    evidence = evidence_with({(0, 0): 4.0})
    assert evidence_in_frame(evidence, placement, 8.0)[0, 0] == 4.0


# ---- the golden reference


def part_input(image: np.ndarray) -> ModelInput:
    spec = PreprocessSpec(Size(256, 256), "stretch", "gray", 0)
    return Preprocessor(spec).prepare(make_frame(np.repeat(image[:, :, np.newaxis], 3, axis=2)))


MEAN = shot(noise=0).astype(np.float32)
FLAT = Prediction(np.full((16, 16), -4.0, np.float32), -4.0, 0.02)
WITH_REFERENCE = LocalizationSpec("otsu", 16, 15.0, 24.0, 0.0, ReferenceSpec(8.0, 0.3))


def with_reference(spec: LocalizationSpec = WITH_REFERENCE) -> Localizer:
    return Localizer(spec, SAME, GoldenReference(MEAN, np.full_like(MEAN, 4.0)))


def test_what_the_evidence_does_not_show_the_reference_does() -> None:
    image = shot(3.0, 2.0, spot=(160, 140), gain=1.1)
    regions = with_reference().locate(part_input(image), FLAT)
    assert {region.method for region in regions} == {"reference"}
    centres = [(r.box.x + r.box.width / 2, r.box.y + r.box.height / 2) for r in regions]
    assert any(centre == pytest.approx((163, 142), abs=4) for centre in centres)


def test_the_evidence_speaks_first() -> None:
    evidence = FLAT.evidence.copy()
    evidence[2, 3] = 5.0
    regions = with_reference().locate(part_input(shot(spot=(160, 140))), Prediction(evidence, 0.0, 0.5))
    assert {region.method for region in regions} == {"evidence"}


def test_a_part_in_another_place_is_compared_with_its_background_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    localizer = with_reference()
    image = np.roll(shot(), (90, 70), (0, 1))
    with caplog.at_level(logging.DEBUG, "device.inspection.localizer"):
        first, second = (localizer.locate(part_input(image), FLAT) for _ in range(2))
    assert first == second
    assert {region.method for region in first} == {"difference"}
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]
    assert "not compared with the golden reference: the part lies elsewhere (" in caplog.messages[0]


def test_a_frame_of_another_size_is_not_compared(caplog: pytest.LogCaptureFixture) -> None:
    image = np.full((100, 100, 3), 50, np.uint8)
    assert with_reference().locate(input_of(image, "letterbox"), FLAT) == ()
    wide = np.full((100, 200, 3), 50, np.uint8)
    assert with_reference().locate(input_of(wide, "letterbox"), FLAT) == ()
    assert "the frame is (128, 256) on the model's input, not (256, 256)" in caplog.messages[-1]


# ---- on the scale of good images


AT_EDGES = tuple(tuple(6.0 if row * column == 0 else 0.0 for column in range(16)) for row in range(16))
KNOWN = GoodMaps(-6.0, -2.0, 0.4, Level(AT_EDGES))
BY_GOOD = LocalizationSpec(-2.0, 1, 5.0, 40.0, 0.0, good=KNOWN)
SQUARE = flat_input(Size(256, 256))


def test_a_ring_below_the_usual_does_not_make_the_whole_image_a_region() -> None:
    """The dark ring about a strong defect stretches the map's own range: Otsu's rule takes all the rest."""
    evidence = evidence_with({(8, 8): 1.0, (8, 9): 1.0})
    evidence[6:11, 6:12] = np.where(evidence[6:11, 6:12] == -6, -16, evidence[6:11, 6:12])
    [wrong], [right] = locate(evidence, SQUARE), locate(evidence, SQUARE, BY_GOOD)
    assert wrong.box.area_px > 0.9 * 256 * 256
    assert right.box.area_px < 60 * 40
    assert right.box.x <= 8 * 16 + 8 < right.box.x + right.box.width


def test_what_good_images_show_at_the_edge_is_no_region() -> None:
    evidence = evidence_with({(0, 0): -0.5, (0, 7): -0.5, (5, 0): -0.5, (9, 9): 2.0})
    [region] = locate(evidence, SQUARE, BY_GOOD)
    assert region.box.x <= 9 * 16 + 8 < region.box.x + region.box.width
    assert len(locate(evidence, SQUARE, replace(BY_GOOD, good=GoodMaps(-6.0, -2.0, 0.4)))) == 4


def test_each_region_goes_down_from_its_own_peak() -> None:
    evidence = evidence_with({(4, 4): 40.0, (12, 12): 2.0})
    evidence[3:6, 3:6] = np.maximum(evidence[3:6, 3:6], 0.0)  # the halo of a strong defect
    strong, weak = locate(evidence, SQUARE, BY_GOOD)
    assert (strong.score, weak.score) == (pytest.approx(KNOWN.standing(40.0)), pytest.approx(0.75))
    assert max(strong.box.width, strong.box.height) <= 28
    flat = replace(BY_GOOD, good=replace(KNOWN, share=0.0))
    assert locate(evidence, SQUARE, flat)[0].box.width > strong.box.width


def test_an_image_that_is_ng_for_its_sum_shows_its_peak() -> None:
    evidence = evidence_with({(8, 8): -3.0})
    [region] = locate(evidence, SQUARE, BY_GOOD)
    assert region.score == pytest.approx(KNOWN.standing(-3.0))
    assert region.score < 0.5
    assert region.box.x <= 8 * 16 + 8 < region.box.x + region.box.width


def test_padding_is_no_edge() -> None:
    """The first row of the image counts as its edge, not the first of the canvas."""
    wide = flat_input(Size(512, 200))  # rows 5..10 of 16 are on the image
    evidence = evidence_with({(5, 8): -0.5, (8, 8): 1.0})
    [region] = locate(evidence, wide, BY_GOOD)
    assert region.score == pytest.approx(KNOWN.standing(1.0))
