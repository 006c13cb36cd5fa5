"""Whether an image file is whole, told from its bytes.

Many decoders, OpenCV's among them in many of its versions, take a file that was cut off without a word: the
missing rows are gray, black, or the row above. An inspection must not pass such rows as good, so the end of
the file is looked for before it is decoded.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable

FORMATS = "a PNG, JPEG, BMP, TIFF or WebP image"
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # stuffed bytes and restarts belong to the data
_JPEG_END, _JPEG_BARE = 0xD9, 0x01
_BMP_PLAIN = (0, 3)  # compressions whose rows have a fixed length: none, bit fields


def fault_of(content: bytes) -> str | None:
    """What is wrong with an image file, from all its bytes; None where it is whole as far as can be told.

    PNG: every chunk with its checksum, to IEND. JPEG: every marker, to EOI. BMP and WebP: the length that the
    header promises. TIFF is left to its decoder, which notices. Bytes after the end are no fault.
    """
    if not content:
        return "is empty"
    for magic, check in _CHECKS.items():
        if content.startswith(magic):
            return check(content)
    return f"is not {FORMATS}: begins with {content[:8].hex(' ')}"


def _png_fault(content: bytes) -> str | None:
    at = len(_PNG)
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if end > len(content):
            break
        (checksum,) = struct.unpack_from(">I", content, end - 4)
        if zlib.crc32(memoryview(content)[at + 4 : end - 4]) != checksum:
            return f"damaged PNG: the chunk at byte {at} does not match its checksum"
        if kind == b"IEND":
            return None
        at = end
    return f"truncated PNG: ends at byte {len(content)} without IEND"


def _jpeg_fault(content: bytes) -> str | None:
    at = 2
    while found := _JPEG_MARKER.search(content, at):
        marker = found[1][0]
        if marker == _JPEG_END:
            return None
        at = found.end()
        if marker != _JPEG_BARE:
            if at + 2 > len(content):
                break
            at += struct.unpack_from(">H", content, at)[0]
    return f"truncated JPEG: ends at byte {len(content)} without EOI"


def _bmp_fault(content: bytes) -> str | None:
    if len(content) < 34:
        return f"truncated BMP: ends at byte {len(content)}, inside its header"
    promised, pixels_at, header = struct.unpack_from("<2xI4xII", content)
    if header >= 40:
        width, height, bits, compression = struct.unpack_from("<ii2xHI", content, 18)
        if compression in _BMP_PLAIN:
            promised = pixels_at + (width * bits + 31) // 32 * 4 * abs(height)
    return _too_short("BMP", content, promised)


def _webp_fault(content: bytes) -> str | None:
    if len(content) < 12:
        return f"truncated WebP: ends at byte {len(content)}, inside its header"
    return _too_short("WebP", content, struct.unpack_from("<I", content, 4)[0] + 8)


def _tiff_fault(content: bytes) -> str | None:
    return None


def _too_short(name: str, content: bytes, promised: int) -> str | None:
    if len(content) < promised:
        return f"truncated {name}: has {len(content)} of {promised} bytes"
    return None


_CHECKS: dict[bytes, Callable[[bytes], str | None]] = {
    _PNG: _png_fault,
    b"\xff\xd8\xff": _jpeg_fault,
    b"BM": _bmp_fault,
    b"RIFF": _webp_fault,
    b"II*\0": _tiff_fault,
    b"MM\0*": _tiff_fault,
}
