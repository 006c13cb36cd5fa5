"""What is read of a TIFF beside its pixels: how many pages it has, and what its alpha channel means."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import mmap

Content = bytes | mmap  # of a file

MOST_PAGES = 10000
_SUBFILE, _ORIENTATION, _EXTRA_SAMPLES = 254, 274, 338
_WIDTHS, _HEIGHTS = (256, 322), (257, 323)  # of the image, and of the tiles that it is read in
_SHORT, _LONG8, _SIGNED8 = 3, 16, 17  # types of numbers; the last two lie elsewhere
_REDUCED = 1  # of _SUBFILE: a thumbnail of another page
_ASSOCIATED, _UNASSOCIATED = 1, 2  # of _EXTRA_SAMPLES: colours are multiplied by alpha already, or not


def is_tiff(content: Content) -> bool:
    """Whether a file begins as a TIFF does."""
    return content[:4] in (b"II*\0", b"MM\0*")


def page_count(content: Content) -> int:
    """The pages of a TIFF, thumbnails not counted."""
    return sum(not _value(content, page, _SUBFILE) & _REDUCED for page in _pages(content))


def with_colours_kept(content: bytes) -> bytes:
    """A TIFF file again, saying that its colours are not to be multiplied by its alpha.

    libtiff blackens what is transparent otherwise, and a PNG of the same pixels would keep their colours.
    """
    patched = bytearray(content)
    for page in _pages(content):
        for at in _entries(content, page, _EXTRA_SAMPLES):
            kind, count = struct.unpack_from(_order(content) + "HI", content, at + 2)
            where = at + 8 if count <= 2 else struct.unpack_from(_order(content) + "I", content, at + 8)[0]
            for sample in range(count if kind == _SHORT else 0):
                place = where + 2 * sample
                if place + 2 > len(content):
                    break
                if struct.unpack_from(_order(content) + "H", content, place)[0] == _UNASSOCIATED:
                    struct.pack_into(_order(content) + "H", patched, place, _ASSOCIATED)
    return bytes(patched)


def orientation(content: Content) -> int:
    """What the first page says of how the camera was held, in EXIF's numbers 1..8; 0 where it does not."""
    return next((_value(content, page, _ORIENTATION) for page in _pages(content)), 0)


def promised_pixels(content: Content) -> int:
    """How many pixels the first page promises, or a tile of it where that is more; 0 without a page."""
    page = next(_pages(content), None)
    return 0 if page is None else _longest(content, page, _WIDTHS) * _longest(content, page, _HEIGHTS)


def _order(content: Content) -> str:
    return "<" if content[:2] == b"II" else ">"


def _pages(content: Content) -> Iterator[int]:
    """Where each page's directory is; none outside of the file, and no more than it has room for."""
    order, seen = _order(content), set[int]()
    at = struct.unpack_from(order + "I", content, 4)[0] if len(content) >= 8 else 0
    left = len(content)
    while 0 < at <= len(content) - 6 and at not in seen and len(seen) < MOST_PAGES:
        end = at + 2 + 12 * struct.unpack_from(order + "H", content, at)[0]
        left -= end - at
        if end > len(content) or left < 0:
            return
        seen.add(at)
        yield at
        if end + 4 > len(content):
            return
        (at,) = struct.unpack_from(order + "I", content, end)


def _entries(content: Content, page: int, tag: int) -> Iterator[int]:
    order = _order(content)
    for at in range(page + 2, page + 2 + 12 * struct.unpack_from(order + "H", content, page)[0], 12):
        if struct.unpack_from(order + "H", content, at)[0] == tag:
            yield at


def _value(content: Content, page: int, tag: int) -> int:
    """Of a tag that holds one number; 0 without it."""
    return next(_numbers(content, page, tag), 0)


def _longest(content: Content, page: int, tags: tuple[int, ...]) -> int:
    return max((number for tag in tags for number in _numbers(content, page, tag)), default=0)


def _numbers(content: Content, page: int, tag: int) -> Iterator[int]:
    """The number of every entry of a tag; a whole file has one of each."""
    order = _order(content)
    for at in _entries(content, page, tag):
        kind, where = struct.unpack_from(order + "H4xI", content, at + 2)
        if kind not in (_LONG8, _SIGNED8):
            yield int(struct.unpack_from(order + ("H" if kind == _SHORT else "I"), content, at + 8)[0])
        elif where + 8 <= len(content):
            yield int(struct.unpack_from(order + "Q", content, where)[0])
