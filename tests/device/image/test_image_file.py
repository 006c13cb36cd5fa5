"""Image files that are whole, cut off, and damaged."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from device.image.image_file import fault_of, page_count

JPEG_KINDS = {
    "baseline": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 2],
}


def photo(width: int = 61, height: int = 43) -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.0)


def encoded(suffix: str, params: list[int] | None = None) -> bytes:
    done, content = cv2.imencode(suffix, photo(), params or [])
    assert done
    return content.tobytes()


WHOLE = {
    ".png": encoded(".png"),
    ".bmp": encoded(".bmp"),
    ".webp": encoded(".webp"),
    ".tiff": encoded(".tiff"),
    **{f".jpg {kind}": encoded(".jpg", params) for kind, params in JPEG_KINDS.items()},
}
CHECKED_TO_THE_END = [kind for kind in WHOLE if kind != ".tiff"]


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_file_has_no_fault(kind: str) -> None:
    assert fault_of(WHOLE[kind]) is None


@pytest.mark.parametrize("kind", CHECKED_TO_THE_END)
def test_bytes_after_the_end_are_no_fault(kind: str) -> None:
    assert fault_of(WHOLE[kind] + b"\0" * 100) is None


@pytest.mark.parametrize("kind", CHECKED_TO_THE_END)
def test_every_truncation_is_found(kind: str) -> None:
    content = WHOLE[kind]
    missed = [length for length in range(len(content)) if fault_of(content[:length]) is None]
    assert missed == []


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind.startswith(".jpg")])
def test_the_end_of_a_thumbnail_is_not_the_end(kind: str) -> None:
    """A camera puts a small JPEG, with its own EOI, into the header of the large one."""
    content, thumbnail = WHOLE[kind], encoded(".jpg")
    exif = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = content[:2] + exif + content[2:]
    assert fault_of(with_thumbnail) is None
    assert (
        fault_of(with_thumbnail[: len(exif) + 200])
        == f"truncated JPEG: ends at byte {len(exif) + 200} without EOI"
    )


def test_a_file_whose_end_was_never_written() -> None:
    """After a power cut a file can have its full length and zeros at the end."""
    for kind in CHECKED_TO_THE_END:
        if kind in (".bmp", ".webp"):  # nothing in them tells zeros from black
            continue
        content = WHOLE[kind]
        assert fault_of(content[: len(content) // 2] + b"\0" * (len(content) - len(content) // 2)) is not None


def test_every_flipped_byte_of_a_png_is_found() -> None:
    content = WHOLE[".png"]
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 0x10
        assert fault_of(bytes(flipped)) is not None, at


def test_messages_say_what_was_found() -> None:
    png, bmp = WHOLE[".png"], WHOLE[".bmp"]
    assert fault_of(b"") == "is empty"
    assert fault_of(b"hello, world") == (
        "is not a PNG, JPEG, BMP, TIFF or WebP image: begins with 68 65 6c 6c 6f 2c 20 77"
    )
    assert fault_of(png[:-5]) == f"truncated PNG: ends at byte {len(png) - 5} without IEND"
    assert fault_of(bmp[:-7]) == f"truncated BMP: has {len(bmp) - 7} of {len(bmp)} bytes"
    assert fault_of(bmp[:20]) == "truncated BMP: ends at byte 20, inside its header"


def test_a_bmp_whose_header_does_not_tell_its_length() -> None:
    content = WHOLE[".bmp"]
    silent = content[:2] + b"\0\0\0\0" + content[6:]
    assert fault_of(silent) is None
    assert fault_of(silent[:-1]) is not None


# ---- more pictures than one


def animated_png(frames: int) -> bytes:
    body = b"acTL" + struct.pack(">II", frames, 0)
    chunk = struct.pack(">I", 8) + body + struct.pack(">I", zlib.crc32(body))
    content = encoded(".png")
    return content[:33] + chunk + content[33:]  # after IHDR


def animated_webp(frames: int) -> bytes:
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes(10)
    chunks += (b"ANMF" + struct.pack("<I", 17) + bytes(18)) * frames  # of odd length: one byte to fill up
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def test_frames_of_an_animation_are_counted_and_of_a_plain_image_there_is_one():
    assert page_count(animated_png(4)) == 4
    assert page_count(animated_webp(3)) == 3
    assert {kind: page_count(content) for kind, content in WHOLE.items()} == dict.fromkeys(WHOLE, 1)
