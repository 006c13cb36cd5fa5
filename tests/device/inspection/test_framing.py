"""How frames of one size are looked at, and which cells count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.bundle.calibration import PreprocessSpec
from device.errors import BundleError, ConfigError
from device.image.geometry import Box, Letterbox, Polygon, Size
from device.image.region_of_interest import RegionOfInterest
from device.inspection.framing import Framing, canvas_shape, content_cells, counted_cells, counted_in_tiles

SIZE = Size(64, 64)
CELLS = (8, 8)
PLAIN = PreprocessSpec(SIZE, "letterbox", "rgb", 114)


def rectangle(x: int, y: int, width: int, height: int) -> Polygon:
    return Polygon(((x, y), (x + width, y), (x + width, y + height), (x, y + height)))


def spec(**changes: object) -> PreprocessSpec:
    return PreprocessSpec(SIZE, "letterbox", "rgb", 114, **changes)


def counted(framing: Framing, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[counted_cells(framing, shape)] = True
    return mask


def test_a_plain_frame_is_one_tile() -> None:
    framing = Framing.of(Size(640, 480), PLAIN)
    assert framing.tiles == (Box(0, 0, 64, 64),)
    assert framing.placement == Letterbox.fit(Size(640, 480), SIZE, "letterbox")
    assert framing.seen is None
    assert not framing.tiled
    assert (
        counted_cells(framing, CELLS) == (slice(1, 7), slice(0, 8)) == content_cells(framing.placement, CELLS)
    )


def test_the_box_of_the_region_is_cut_out() -> None:
    framing = Framing.of(Size(640, 480), PLAIN, RegionOfInterest((rectangle(100, 200, 64, 64),)))
    assert framing.placement.region == Box(100, 200, 64, 64)
    assert (framing.placement.scale_x, framing.placement.content) == (1.0, Box(0, 0, 64, 64))
    assert counted(framing, CELLS).all()
    assert framing.placement.inverse(Box(8, 16, 8, 8)) == Box(108, 216, 8, 8)


def test_the_bundle_s_own_region_is_cut_out_and_the_station_s_masks_it() -> None:
    """The model was trained on that cut, so its scale stays."""
    station = RegionOfInterest((rectangle(100, 200, 32, 64),))
    framing = Framing.of(Size(640, 480), spec(roi=(rectangle(100, 200, 64, 64),)), station)
    assert framing.placement.region == Box(100, 200, 64, 64)
    assert counted(framing, CELLS)[:, :4].all()
    assert not counted(framing, CELLS)[:, 4:].any()


def test_a_cell_counts_from_half_its_area_on() -> None:
    for width, last in ((11, False), (12, True), (13, True)):
        framing = Framing.of(SIZE, PLAIN, RegionOfInterest(ignore=(rectangle(width, 0, 64 - width, 64),)))
        assert counted(framing, CELLS)[:, 1].all() == last
        assert counted(framing, CELLS)[:, 0].all()
        assert not counted(framing, CELLS)[:, 2:].any()


def test_of_a_region_smaller_than_half_a_cell_the_cell_that_shows_most_counts() -> None:
    roi = (rectangle(0, 0, 1, 1), rectangle(20, 28, 3, 3), rectangle(63, 63, 1, 1))
    found = counted(Framing.of(SIZE, PLAIN, RegionOfInterest(roi)), CELLS)
    assert np.argwhere(found).tolist() == [[3, 2]]


def test_nothing_left_to_look_at() -> None:
    station = RegionOfInterest((rectangle(0, 0, 10, 10),), (rectangle(0, 0, 20, 20),))
    with pytest.raises(ConfigError, match="roi, ignore: nothing of a frame of 64x64 px is left to see"):
        Framing.of(SIZE, PLAIN, station)


def test_polygons_for_another_frame_say_whose_they_are() -> None:
    far = (rectangle(0, 0, 65, 64),)
    with pytest.raises(
        ConfigError, match=r"^\[inspection\] roi: every corner must lie in the frame of 64x64"
    ):
        Framing.of(SIZE, PLAIN, RegionOfInterest(far))
    with pytest.raises(BundleError, match=r"^calibration\.json: preprocess\.ignore: every corner must"):
        Framing.of(SIZE, spec(ignore=far))


def test_tiles_keep_their_scale_whatever_the_frame() -> None:
    tiled = spec(tiles=Size(128, 128), overlap=0.0)
    framing = Framing.of(Size(1280, 640), tiled)
    assert (framing.placement.scale_x, framing.placement.scale_y) == (0.5, 0.5)
    assert framing.placement.target == Size(640, 320)
    assert len(framing.tiles) == 50
    small = Framing.of(Size(60, 40), tiled)
    assert small.placement.content == Box(0, 0, 30, 20)
    assert small.tiles == (Box(0, 0, 64, 64),)
    assert np.argwhere(counted(small, CELLS)).max(0).tolist() == [1, 3]


def test_a_tile_in_which_nothing_counts_is_not_run() -> None:
    station = RegionOfInterest((rectangle(0, 0, 10, 10), rectangle(182, 182, 10, 10)))
    framing = Framing.of(Size(192, 192), spec(tiles=SIZE), station)
    assert len(framing.tiles) == 9
    assert [tile for tile, _, _ in counted_in_tiles(framing, CELLS)] == [framing.tiles[0], framing.tiles[8]]


@given(
    st.builds(Size, st.integers(1, 700), st.integers(1, 700)),
    st.sampled_from([None, Size(64, 64), Size(100, 60)]),
    st.floats(0, 0.5),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600), st.integers(1, 300)), max_size=2),
)
def test_every_cell_that_counts_is_in_a_tile(
    size: Size, tiles: Size | None, overlap: float, masks: list[tuple[int, int, int]]
) -> None:
    inside = [(x, y, side) for x, y, side in masks if x + side <= size.width and y + side <= size.height]
    ignore = tuple(rectangle(x, y, side, side) for x, y, side in inside)
    try:
        framing = Framing.of(size, spec(tiles=tiles, overlap=overlap), RegionOfInterest(ignore=ignore))
    except ConfigError:
        assert view_is_covered(size, ignore)
        return
    shape = canvas_shape(framing, CELLS)
    reached = np.zeros(shape, bool)
    for tile, place, cells in counted_in_tiles(framing, CELLS):
        assert reached[place].shape == CELLS
        assert tile in framing.tiles
        reached[place][cells] = True
    assert np.array_equal(reached, counted(framing, shape))
    assert reached.any()


def view_is_covered(size: Size, ignore: tuple[Polygon, ...]) -> bool:
    return RegionOfInterest(ignore=ignore).mask(size).mean() < 0.5
