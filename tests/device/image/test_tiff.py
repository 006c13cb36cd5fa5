"""What is read of a TIFF beside its pixels, and what a damaged one does."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from device.image import tiff


def pages(count: int) -> bytes:
    done, content = cv2.imencodemulti(".tiff", [np.full((8, 8), level, np.uint8) for level in range(count)])
    assert done
    return content.tobytes()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_pages_are_counted(count: int) -> None:
    assert tiff.page_count(pages(count)) == count


def test_a_thumbnail_is_no_page() -> None:
    entry = struct.pack("<HHII", 254, 4, 1, 1)
    content = pages(1)
    at = struct.unpack_from("<I", content, 4)[0]
    end = at + 2 + 12 * struct.unpack_from("<H", content, at)[0]
    linked = content[:end] + struct.pack("<I", len(content)) + content[end + 4 :]
    assert tiff.page_count(linked + struct.pack("<H", 1) + entry + struct.pack("<I", 0)) == 1


def test_pages_in_a_circle_end() -> None:
    content = pages(1)
    at = struct.unpack_from("<I", content, 4)[0]
    end = at + 2 + 12 * struct.unpack_from("<H", content, at)[0]
    assert tiff.page_count(content[:end] + struct.pack("<I", at) + content[end + 4 :]) == 1


def test_directories_that_lie_in_one_another_end() -> None:
    """Each begins four bytes after the one before, and has 10,000 entries."""
    count, room = 10_000, 12 * 10_000
    content = bytearray(
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", count) * (room // 2 + 2 * count + 4)
    )
    for at in range(8, 8 + 4 * count, 4):
        struct.pack_into("<I", content, at + 2 + room, at + 4)
    assert len(list(tiff._pages(bytes(content)))) < 3


def test_a_directory_at_the_very_end_counts() -> None:
    """Where another follows need not be said."""
    entries = struct.pack("<HHII", 256, 4, 1, 3) + struct.pack("<HHII", 257, 4, 1, 5)
    assert tiff.promised_pixels(b"II*\0" + struct.pack("<IH", 8, 2) + entries) == 15


@pytest.mark.parametrize("kind", [3, 4, 16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tags", [(256, 257), (322, 323)])
def test_the_size_is_told_by_its_directory(order: str, kind: int, tags: tuple[int, int]) -> None:
    begin = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, 2)
    elsewhere = struct.pack(order + "QQ", 60_000, 50_000)
    at = len(begin) + 2 * 12 + 4
    entries = b""
    for tag, value, place in zip(tags, (60_000, 50_000), (at, at + 8), strict=True):
        said = place if kind == 16 else value
        entries += struct.pack(order + "HHI", tag, kind, 1)
        entries += struct.pack(order + ("H2x" if kind == 3 else "I"), said)
    content = begin + entries + struct.pack(order + "I", 0) + elsewhere
    assert tiff.promised_pixels(content) == 60_000 * 50_000


def test_damaged_files_raise_nothing() -> None:
    """Any byte changed, any length: a TIFF comes from outside."""
    extra = struct.pack("<HHII", 338, 3, 4, 30) + struct.pack("<HHII", 274, 3, 1, 6)
    small = b"II*\0" + struct.pack("<IH", 8, 2) + extra + struct.pack("<I4H", 0, 2, 2, 2, 2)
    rng = np.random.default_rng(0)
    for trial in range(4000):
        content = (small, pages(2))[trial % 2]
        damaged = bytearray(content[: rng.integers(4, len(content) + 1)])
        for at in rng.integers(4, max(5, len(damaged)), 6):
            if at < len(damaged):
                damaged[at] = rng.integers(256)
        tiff.page_count(bytes(damaged))
        tiff.orientation(bytes(damaged))
        tiff.promised_pixels(bytes(damaged))
        assert len(tiff.with_colours_kept(bytes(damaged))) == len(damaged)


def test_other_files_are_none() -> None:
    assert tiff.is_tiff(b"MM\0*\0\0\0\0")
    assert not tiff.is_tiff(b"\x89PNG")
