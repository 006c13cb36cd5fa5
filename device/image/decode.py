"""From an image file's bytes to its pixels, with the promises that decoders do not keep by themselves.

- EXIF's note of how the camera was held is obeyed, in a WebP too.
- A JPEG whose data end before its image does is damaged, even where the marker of its end was put after them.
- What is transparent keeps its colour, in a TIFF as in a PNG.
- More than 8 bits stay, as uint16: what they mean is not written in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from device.errors import FrameError
from device.image import tiff
from device.image.image_file import FORMATS, fault_of, jpeg_end, promised_pixels

Levels = NDArray[np.uint8] | NDArray[np.uint16]

MOST_PIXELS = 2**27  # twice the largest camera of a Pi; a small file must not become gigabytes
FILLER = bytes((37 * index + 11) % 251 for index in range(64))  # no marker, and nothing that repeats
HOLE = 128  # what libjpeg puts where data are missing, in every channel
_TURNS = {  # EXIF's orientations: (transposed, rows reversed, columns reversed)
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def decoded(content: bytes, source: str) -> Levels:
    """RGB, (H, W, 3), uint8 or uint16. `source`: what to call the file. Raises FrameError."""
    fault = fault_of(content)
    if fault:
        raise FrameError(f"{source}: {fault}")
    if (pixels := promised_pixels(content)) > MOST_PIXELS:
        raise FrameError(f"{source}: must have at most {MOST_PIXELS} pixels, its header promises {pixels}")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH  # ANYDEPTH: so that 16 bits are seen, and not cut to 8
    if _is_webp(content):
        flags |= cv2.IMREAD_IGNORE_ORIENTATION  # versions differ in whether they obey it
    if tiff.is_tiff(content):
        content = tiff.with_colours_kept(content)
    image = _pixels(content, flags, source)
    if image is None:
        raise FrameError(f"{source}: {_why_not(content)}")
    if image.dtype not in (np.uint8, np.uint16):
        raise FrameError(f"{source}: must have 8 or 16 bits a channel, got {image.dtype}")
    if content.startswith(b"\xff\xd8") and _ends_in_gray(image):
        _require_no_hole(content, image, flags, source)
    cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return _turned(image, _webp_orientation(content)) if _is_webp(content) else image


def _pixels(content: bytes, flags: int, source: str) -> Levels | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)  # type: ignore[return-value]
    except cv2.error as error:  # more pixels than OpenCV's limit
        raise FrameError(f"{source}: cannot be decoded: {error.err}") from None


def _why_not(content: bytes) -> str:
    """Of a file that is whole as far as can be told."""
    other = (
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if tiff.is_tiff(content)
        else None
    )
    if other is not None and other.dtype not in (np.uint8, np.uint16):
        return f"must have 8 or 16 bits a channel, got {other.dtype}"
    return f"damaged: begins like {FORMATS}, but cannot be decoded"


# ---- JPEG


def _ends_in_gray(image: Levels) -> bool:
    """Whether what was decoded last may be a hole; EXIF may have turned it to any corner."""
    return any((corner == HOLE).all() for corner in _corners(image))


def _corners(image: Levels) -> Iterator[Levels]:
    """As much of them as the last block of 8x8 px shows."""
    height, width = ((side - 1) % 8 + 1 for side in image.shape[:2])
    side = min(height, width)
    for rows in (slice(side), slice(-side, None)):
        for columns in (slice(side), slice(-side, None)):
            yield image[rows, columns]


def _require_no_hole(content: bytes, image: Levels, flags: int, source: str) -> None:
    """Raises FrameError where bytes put before the end change the picture: then it was not complete."""
    end = jpeg_end(content)
    longer = _pixels(content[:end] + FILLER + content[end:], flags, source)
    if longer is None or longer.shape != image.shape or not np.array_equal(longer, image):
        raise FrameError(f"{source}: damaged JPEG: its data end before its image does, though EOI follows")


# ---- WebP


def _is_webp(content: bytes) -> bool:
    return content.startswith(b"RIFF") and content[8:12] == b"WEBP"


def _webp_orientation(content: bytes) -> int:
    """EXIF's orientation 1..8 of a WebP; 1 where there is none, or none that can be read."""
    at = 12
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        if kind == b"EXIF":
            return _orientation(content[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    return 1


def _orientation(exif: bytes) -> int:
    found = tiff.orientation(exif) if tiff.is_tiff(exif) else 1
    return found if found in _TURNS else 1


def _turned(image: Levels, orientation: int) -> Levels:
    """The image as it was seen, for EXIF's orientation."""
    transposed, rows, columns = _TURNS.get(orientation, (False, False, False))
    if transposed:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: -1 if rows else 1, :: -1 if columns else 1])
