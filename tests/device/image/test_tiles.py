"""Tiles over a canvas."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device.image.geometry import Box, Size
from device.image.tiles import STEP, canvas_size, cover

contents = st.builds(Size, st.integers(1, 3000), st.integers(1, 3000))
tiles = st.builds(
    Size, st.integers(1, 16).map(lambda n: n * STEP), st.integers(1, 16).map(lambda n: n * STEP)
)
overlaps = st.floats(0, 0.5)


def test_a_canvas_of_the_tile_s_size_is_one_tile_whatever_the_size() -> None:
    assert cover(Size(50, 70), Size(50, 70), 0.25) == (Box(0, 0, 50, 70),)


def test_twelve_megapixels_in_four_by_four() -> None:
    canvas = canvas_size(Size(4056, 3040), Size(1024, 768))
    assert canvas == Size(4064, 3040)
    found = cover(canvas, Size(1024, 768), 0.0)
    assert len(found) == 16
    assert sorted({tile.x for tile in found}) == [0, 992, 2016, 3040]


@given(contents, tiles)
def test_the_canvas_holds_the_image_and_a_tile_and_no_step_more(content: Size, tile: Size) -> None:
    canvas = canvas_size(content, tile)
    assert canvas.width % STEP == canvas.height % STEP == 0
    assert canvas.width >= max(content.width, tile.width)
    assert canvas.width < max(content.width + STEP, tile.width + 1)
    assert canvas.height >= max(content.height, tile.height)
    assert canvas.height < max(content.height + STEP, tile.height + 1)


@given(contents, tiles, overlaps)
def test_every_pixel_is_in_a_tile_and_no_tile_leaves_the_canvas(
    content: Size, tile: Size, overlap: float
) -> None:
    canvas = canvas_size(content, tile)
    times = np.zeros((canvas.height // STEP, canvas.width // STEP), int)
    for box in cover(canvas, tile, overlap):
        assert (box.width, box.height) == (tile.width, tile.height)
        assert box.x % STEP == box.y % STEP == 0
        assert box.clipped(canvas) == box
        times[box.y // STEP : (box.y + box.height) // STEP, box.x // STEP : (box.x + box.width) // STEP] += 1
    assert times.min() >= 1


@given(contents, tiles, overlaps)
def test_neighbours_share_what_was_asked_for(content: Size, tile: Size, overlap: float) -> None:
    """As far as whole steps allow: a tile always moves by one step or more."""
    canvas = canvas_size(content, tile)
    found = cover(canvas, tile, overlap)
    starts = sorted({box.x for box in found})
    for left, right in pairwise(starts):
        assert 0 < right - left <= max(STEP, tile.width * (1 - overlap))
    assert len(found) == len(set(found)) == len(starts) * len({box.y for box in found})
