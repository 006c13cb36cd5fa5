"""What is read of a TIFF beside its pixels: how many pages it has, and what its alpha channel means."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MOST_PAGES = 10000
_SUBFILE, _ORIENTATION, _EXTRA_SAMPLES = 254, 274, 338
_REDUCED = 1  # of _SUBFILE: a thumbnail of another page
_ASSOCIATED, _UNASSOCIATED = 1, 2  # of _EXTRA_SAMPLES: colours are multiplied by alpha already, or not


def is_tiff(content: bytes) -> bool:
    """Whether a file begins as a TIFF does."""
    return content[:4] in (b"II*\0", b"MM\0*")


def page_count(content: bytes) -> int:
    """The pages of a TIFF, thumbnails not counted."""
    return sum(not _value(content, page, _SUBFILE) & _REDUCED for page in _pages(content))


def with_colours_kept(content: bytes) -> bytes:
    """The same file, saying that its colours are not to be multiplied by its alpha.

    libtiff blackens what is transparent otherwise, and a PNG of the same pixels would keep their colours.
    """
    patched = bytearray(content)
    for page in _pages(content):
        for at in _entries(content, page, _EXTRA_SAMPLES):
            kind, count = struct.unpack_from(_order(content) + "HI", content, at + 2)
            where = at + 8 if count <= 2 else struct.unpack_from(_order(content) + "I", content, at + 8)[0]
            for sample in range(count if kind == 3 else 0):
                place = where + 2 * sample
                if place + 2 > len(content):
                    break
                if struct.unpack_from(_order(content) + "H", content, place)[0] == _UNASSOCIATED:
                    struct.pack_into(_order(content) + "H", patched, place, _ASSOCIATED)
    return bytes(patched)


def orientation(content: bytes) -> int:
    """What the first page says of how the camera was held, in EXIF's numbers 1..8; 0 where it does not."""
    return next((_value(content, page, _ORIENTATION) for page in _pages(content)), 0)


def _order(content: bytes) -> str:
    return "<" if content[:2] == b"II" else ">"


def _pages(content: bytes) -> Iterator[int]:
    """Where each page's directory is; none that lies outside of the file."""
    order, seen = _order(content), set[int]()
    at = struct.unpack_from(order + "I", content, 4)[0] if len(content) >= 8 else 0
    while 0 < at <= len(content) - 6 and at not in seen and len(seen) < MOST_PAGES:
        end = at + 2 + 12 * struct.unpack_from(order + "H", content, at)[0]
        if end + 4 > len(content):
            return
        seen.add(at)
        yield at
        (at,) = struct.unpack_from(order + "I", content, end)


def _entries(content: bytes, page: int, tag: int) -> Iterator[int]:
    order = _order(content)
    for at in range(page + 2, page + 2 + 12 * struct.unpack_from(order + "H", content, page)[0], 12):
        if struct.unpack_from(order + "H", content, at)[0] == tag:
            yield at


def _value(content: bytes, page: int, tag: int) -> int:
    """Of a tag that holds one number; 0 without it."""
    for at in _entries(content, page, tag):
        kind = struct.unpack_from(_order(content) + "H", content, at + 2)[0]
        return int(struct.unpack_from(_order(content) + ("H" if kind == 3 else "I"), content, at + 8)[0])
    return 0
