"""Which cells are defective by a mask, and what they are like."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.network import cells
from trainer.network.cells import DEFECTIVE, GOOD, UNCLEAR, Cells
from trainer.network.features import evidence
from trainer.network.network import CHANNELS, STRIDES, Head

SIDE, STRIDE = 96, 8
GRID = (SIDE // STRIDE, SIDE // STRIDE)
ALL = np.ones(GRID, np.bool_)


def mask(x, y, width, height):
    marked = np.zeros((SIDE, SIDE), np.uint8)
    marked[y : y + height, x : x + width] = 1
    return marked


def test_a_cell_is_defective_where_what_it_looks_at_is():
    """Cells look 2 px right of and below their middle: these four see the mask whole."""
    found = cells.truth(mask(34, 42, 16, 16), ALL)
    assert [tuple(place) for place in np.argwhere(found == DEFECTIVE)] == [(5, 4), (5, 5), (6, 4), (6, 5)]
    assert (found[3:9, 2:8][found[3:9, 2:8] != DEFECTIVE] == UNCLEAR).all()
    outside = found.copy()
    outside[3:9, 2:8] = GOOD
    assert (outside == GOOD).all()


def test_of_a_hair_the_cell_that_shows_the_most_of_it_is_defective():
    found = cells.truth(mask(34, 42, 3, 1) | mask(66, 42, 1, 1), ALL)
    assert [tuple(place) for place in np.argwhere(found == DEFECTIVE)] == [(5, 4)]
    assert found[5, 8] == UNCLEAR


def test_without_a_defect_all_that_counts_is_good():
    counted = ALL.copy()
    counted[:3] = False
    found = cells.truth(mask(0, 0, 0, 0), counted)
    assert (found[3:] == GOOD).all()
    assert (found[:3] == UNCLEAR).all()


def test_a_cell_that_does_not_count_is_no_example():
    counted = np.zeros(GRID, np.bool_)
    assert (cells.truth(mask(34, 42, 16, 16), counted) == UNCLEAR).all()


def test_a_head_says_of_a_sampled_cell_what_its_map_says_there():
    """The coarser cuts are interpolated as in the map."""
    rng = np.random.default_rng(2)
    cuts = [
        rng.normal(size=(SIDE // stride, SIDE // stride, CHANNELS[cut])).astype(np.float32)
        for cut, stride in STRIDES.items()
    ]
    head = Head(tuple(STRIDES), rng.normal(size=(2048, 1)).astype(np.float32), np.zeros(1, np.float32))
    known = cells.truth(mask(0, 0, 0, 0), ALL)
    found = cells.sampled(cuts, known, 1000, 7, rng)
    assert found.rows.shape == (GRID[0] * GRID[1], 2048)
    assert (found.tile == 7).all()
    expected = np.sort(evidence(cuts, head).ravel())
    np.testing.assert_allclose(np.sort((found.rows @ head.weights).ravel()), expected, rtol=1e-3, atol=1e-3)


def test_as_many_good_cells_as_defective_ones_at_most():
    rng = np.random.default_rng(3)
    cut = np.arange(GRID[0] * GRID[1], dtype=np.float32).reshape(*GRID, 1)
    known = cells.truth(mask(34, 42, 16, 16), ALL)
    found = cells.sampled([cut], known, 3, 0, rng)
    assert (len(found.rows), int(found.defective.sum())) == (6, 3)
    assert {int(value) for value in found.rows[found.defective, 0]} <= {64, 65, 76, 77}


def test_parts_are_put_together_and_taken_apart():
    one, other = (
        Cells(np.full((2, 3), tile, np.float32), np.array([bad, bad]), np.full(2, tile, np.intp))
        for tile, bad in ((0, False), (1, True))
    )
    both = Cells.of([one, other])
    assert both.tell
    assert not one.tell
    second = both.part(np.array([False, True]))
    assert second.rows.tolist() == [[1.0] * 3] * 2
    assert second.defective.all()
    assert not Cells.of([]).tell


@pytest.mark.parametrize("counts", [(0, 0), (4, 0)])
def test_nothing_is_told_without_both_kinds(counts):
    good, bad = counts
    defective = np.array([False] * good + [True] * bad, np.bool_)
    assert not Cells(np.zeros((good + bad, 1), np.float32), defective, np.zeros(good + bad, np.intp)).tell
