"""Whether an image file is whole, told from its bytes.

Many decoders, OpenCV's among them in many of its versions, take a file that was cut off without a word: the
missing rows are gray, black, or the row above. An inspection must not pass such rows as good, so the end of
the file is looked for before it is decoded.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap

import numpy as np
from numpy.typing import NDArray

from device.image import tiff

FORMATS = "a PNG, JPEG, BMP, TIFF or WebP image"
IMAGE_SUFFIXES = frozenset({".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_JPEG_END, _JPEG_BARE, _JPEG_SCAN, _JPEG_INTERVAL = 0xD9, 0x01, 0xDA, 0xDD
_JPEG_PROGRESSIVE = 0xC2
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {
    0xC4,
    0xC8,
    0xCC,
}  # frames of every kind
_JPEG_FRAMES = (0xC0, 0xC1, _JPEG_PROGRESSIVE)  # in which the coefficients are Huffman-coded
_BMP_CORE = struct.pack("<I", 12)  # the length of the oldest kind of header
_BMP_PLAIN = (0, 3)  # compressions whose rows have a fixed length: none, bit fields


def fault_of(content: bytes) -> str | None:
    """What is wrong with an image file, from all its bytes; None where it is whole as far as can be told.

    PNG: every chunk with its checksum, to IEND. JPEG: every marker, to EOI, all restart intervals, all scans
    of a progressive one (a scan that ends early is left to device.image.decode). BMP and WebP: the length
    that the header promises. TIFF is left to its decoder, which notices. Bytes after the end are no fault.
    """
    if not content:
        return "is empty"
    for magic, check in _CHECKS.items():
        if content.startswith(magic):
            return check(content)
    return f"is not {FORMATS}: begins with {content[:8].hex(' ')}"


def promised_pixels(content: bytes) -> int:
    """How many pixels the header of a whole image file promises; 0 where it does not tell."""
    if content.startswith(_PNG):
        return _product(content, ">II", 16)
    if content.startswith(b"\xff\xd8"):
        frames = (one.body for one in _jpeg_segments(content) if one.marker in _JPEG_SIZES)
        return _product(next(frames, b""), ">HH", 1)
    if content.startswith(b"BM"):
        return _product(content, "<HH" if content[14:18] == _BMP_CORE else "<ii", 18)
    return tiff.promised_pixels(content) if tiff.is_tiff(content) else _webp_pixels(content)


def page_count(content: bytes | mmap) -> int:
    """Pages of a TIFF or frames of an animation, of which readers take the first; 1 of any other image."""
    if tiff.is_tiff(content):
        return tiff.page_count(content)
    if content[: len(_PNG)] == _PNG:
        before = content[: content.find(b"IDAT")]
        at = before.find(b"acTL")
        return 1 if at < 0 else struct.unpack_from(">I", before, at + 4)[0]
    return max(1, sum(kind == b"ANMF" for kind in _webp_chunks(content)))


def _webp_chunks(content: bytes | mmap) -> Iterator[bytes]:
    at = 12
    while content[8:12] == b"WEBP" and at + 8 <= len(content):
        yield content[at : at + 4]
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + length + length % 2


def _product(content: bytes, form: str, at: int) -> int:
    """Of the two numbers at byte `at`; 0 where the content ends before."""
    if len(content) < at + struct.calcsize(form):
        return 0
    width, height = struct.unpack_from(form, content, at)
    return abs(int(width) * int(height))


def _webp_pixels(content: bytes) -> int:
    """Of the canvas, or of the one picture where there is none."""
    kind, header = content[12:16], content[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        width, height = (int.from_bytes(header[at : at + 3], "little") + 1 for at in (4, 7))
    elif kind == b"VP8L":
        sides = int.from_bytes(header[1:5], "little")
        width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", header, 6))
    return width * height


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
    segments = list(_jpeg_segments(content))
    if not segments or segments[-1].marker != _JPEG_END:
        return f"truncated JPEG: ends at byte {len(content)} without EOI"
    frame = next((one for one in segments if one.marker in _JPEG_FRAMES and len(one.body) >= 6), None)
    if frame is None:
        return None
    if frame.marker == _JPEG_PROGRESSIVE:
        return _progressive_fault(frame.body, segments)
    return _restart_fault(content, frame.body, segments)


def jpeg_end(content: bytes) -> int:
    """Where the EOI marker of a whole JPEG begins, byte."""
    return next(segment.at for segment in _jpeg_segments(content) if segment.marker == _JPEG_END)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A marker of a JPEG at byte `at`, and what follows it up to the next one but the entropy-coded data."""

    marker: int
    at: int
    body: bytes


def _jpeg_segments(content: bytes) -> Iterator[_Segment]:
    """All of them up to EOI; none after one that is cut off."""
    markers, at = _jpeg_markers(content), 2
    while (index := int(np.searchsorted(markers, at))) < len(markers):
        at = int(markers[index]) + 2
        marker = content[at - 1]
        if marker in (_JPEG_END, _JPEG_BARE):
            yield _Segment(marker, at - 2, b"")
            if marker == _JPEG_END:
                return
            continue
        if at + 2 > len(content):
            return
        length = struct.unpack_from(">H", content, at)[0]
        yield _Segment(marker, at - 2, content[at + 2 : at + length])
        at += length


def _jpeg_markers(content: bytes) -> NDArray[np.intp]:
    """Where 0xff is followed by a marker; stuffed bytes, fill bytes and restarts belong to the data."""
    levels = np.frombuffer(content, np.uint8)
    before = np.flatnonzero(levels[:-1] == 0xFF)
    after = levels[before + 1]
    marks: NDArray[np.intp] = before[(after != 0) & (after != 0xFF) & ((after < 0xD0) | (after > 0xD7))]
    return marks


def _progressive_fault(frame: bytes, segments: Sequence[_Segment]) -> str | None:
    """Each scan brings some bits of some coefficients: all of them must have come."""
    components = {frame[at] for at in range(6, len(frame) - 2, 3)}
    missing = {(component, k): True for component in components for k in range(64)}
    for segment in segments:
        body = segment.body
        if segment.marker != _JPEG_SCAN or not body or len(body) < 4 + 2 * body[0]:
            continue
        first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
        for component in body[1 : 1 + 2 * body[0] : 2]:
            missing.update({(component, k): bits & 15 > 0 for k in range(first, min(last, 63) + 1)})
    lacking = sum(missing.values())
    return f"damaged JPEG: {lacking} of its {len(missing)} coefficients are not complete" if lacking else None


def _restart_fault(content: bytes, frame: bytes, segments: Sequence[_Segment]) -> str | None:
    """With restart markers, as many as the image has intervals (one scan of all components)."""
    interval = next(
        (struct.unpack(">H", one.body[:2])[0] for one in segments if one.marker == _JPEG_INTERVAL), 0
    )
    scans = [one for one in segments if one.marker == _JPEG_SCAN]
    if not interval or len(scans) != 1:
        return None
    height, width = struct.unpack_from(">HH", frame, 1)
    across, down = (max(sampling) for sampling in zip(*((s >> 4, s & 15) for s in frame[7::3]), strict=True))
    if len(frame) == 9:  # one component is not interleaved: its blocks are counted one by one
        across = down = 1
    wanted = -(-(-(-width // (8 * across)) * -(-height // (8 * down))) // interval)
    found = len(_JPEG_RESTART.findall(content, scans[0].at, segments[-1].at)) + 1
    return f"damaged JPEG: has {found} of {wanted} restart intervals" if height and found < wanted else None


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
