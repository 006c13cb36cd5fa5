"""How a canvas that is larger than the model's input is covered by tiles of that input's size."""

from __future__ import annotations

from itertools import product

from device.image.geometry import Box, Size

STEP = (
    32  # px: tiles begin at multiples of it, so that the cells of their maps (8, 16 or 32 px) lie on one grid
)


def canvas_size(content: Size, tile: Size) -> Size:
    """The least canvas for an image of this size: a tile or more, and sides that whole steps reach."""
    return Size(_stepped(content.width, tile.width), _stepped(content.height, tile.height))


def _stepped(length: int, tile: int) -> int:
    return max(tile, -(-length // STEP) * STEP)


def cover(canvas: Size, tile: Size, overlap: float) -> tuple[Box, ...]:
    """Tiles over the whole canvas, row by row, evenly spread.

    Neighbours share `overlap` (0..0.5) of the tile's side or more. The sides of both sizes are multiples of
    STEP, and the canvas is no smaller than the tile.
    """
    columns = _starts(canvas.width, tile.width, overlap)
    rows = _starts(canvas.height, tile.height, overlap)
    return tuple(Box(x, y, tile.width, tile.height) for y, x in product(rows, columns))


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where the tiles begin along one side."""
    left = (length - tile) // STEP
    stride = max(1, int(tile * (1 - overlap) / STEP))
    count = -(-left // stride)
    return [index * left // count * STEP for index in range(count)] + [left * STEP]
