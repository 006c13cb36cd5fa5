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
        assert len(tiff.with_colours_kept(bytes(damaged))) == len(damaged)


def test_other_files_are_none() -> None:
    assert tiff.is_tiff(b"MM\0*\0\0\0\0")
    assert not tiff.is_tiff(b"\x89PNG")
