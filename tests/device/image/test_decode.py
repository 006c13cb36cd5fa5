"""The promises that decoders do not keep by themselves."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from device.errors import FrameError
from device.image.decode import decoded
from device.image.image_file import promised_pixels

JPEG_KINDS = {
    "baseline": [],
    "gray": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 4],
}
EOI = b"\xff\xd9"


def photo(width: int = 203, height: int = 117) -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def encoded(suffix: str, image: np.ndarray, params: list[int] | None = None) -> bytes:
    done, content = cv2.imencode(suffix, image, params or [])
    assert done
    return content.tobytes()


def jpeg(kind: str) -> bytes:
    image = photo()
    return encoded(".jpg", image[:, :, 0] if kind == "gray" else image, JPEG_KINDS[kind])


def exif(orientation: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, orientation, 0)


def turned_jpeg(content: bytes, orientation: int) -> bytes:
    body = b"Exif\0\0" + exif(orientation)
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]


def turned_webp(content: bytes, orientation: int, prefix: bytes = b"") -> bytes:
    """The extended format: a header that announces EXIF, the picture, and EXIF."""
    height, width = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<IB3x", 10, 8) + sides + content[12:]
    note = prefix + exif(orientation)
    body += b"EXIF" + struct.pack("<I", len(note)) + note + b"\0" * (len(note) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# ---- how the camera was held


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_a_webp_is_turned_as_a_jpeg_is(orientation: int, prefix: bytes) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :20] = 255
    image[20:, 40:] = (0, 0, 255)
    by_jpeg = decoded(turned_jpeg(encoded(".jpg", image), orientation), "a.jpg")
    lossless = encoded(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101])
    by_webp = decoded(turned_webp(lossless, orientation, prefix), "a.webp")
    assert by_webp.shape == by_jpeg.shape
    assert np.abs(by_webp.astype(int) - by_jpeg).mean() < 8


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    content = encoded(".webp", photo())
    assert np.array_equal(decoded(turned_webp(content, orientation), "a"), decoded(content, "a"))


# ---- JPEG


@pytest.mark.parametrize("kind", JPEG_KINDS)
def test_a_whole_jpeg_is_decoded(kind: str) -> None:
    assert decoded(jpeg(kind), "a.jpg").shape == (117, 203, 3)


@pytest.mark.parametrize("kind", JPEG_KINDS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_hole_before_the_end_is_found(kind: str, share: float) -> None:
    content = jpeg(kind)
    with pytest.raises(FrameError, match=r"a\.jpg: damaged JPEG: "):
        decoded(content[: int(len(content) * share)] + EOI, "a.jpg")


@pytest.mark.parametrize("kind", ["baseline", "gray"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_hole_is_found_wherever_the_image_was_turned_to(kind: str, orientation: int) -> None:
    content = jpeg(kind)
    with pytest.raises(FrameError, match="damaged JPEG: its data end before its image does"):
        decoded(turned_jpeg(content[: len(content) // 2] + EOI, orientation), "a.jpg")


@pytest.mark.parametrize("kind", ["baseline", "gray"])
def test_bytes_that_are_missing_in_the_middle_are_noticed(kind: str) -> None:
    content = jpeg(kind)
    middle = len(content) // 2
    with pytest.raises(FrameError, match="damaged JPEG"):
        decoded(content[:middle] + content[middle + len(content) // 8 :], "a.jpg")


@pytest.mark.parametrize("level", [127, 128, 129])
@pytest.mark.parametrize("size", [(64, 64), (61, 43), (1, 1)])
def test_a_gray_image_is_no_hole(level: int, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), level, np.uint8)
    assert decoded(encoded(".jpg", image), "a.jpg").shape == image.shape


# ---- TIFF


def transparent_tiff(order: str, alpha: int) -> bytes:
    """4x4 px of (200, 100, 50), with alpha that is not multiplied in."""
    pixels = bytes([200, 100, 50, alpha]) * 16
    tags = {256: 4, 257: 4, 259: 1, 262: 2, 277: 4, 278: 4, 279: len(pixels), 338: 2}
    bits_at = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags |= {258: bits_at, 273: bits_at + 8}
    content = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    content += struct.pack(order + "H", len(tags))
    for tag, value in sorted(tags.items()):
        long = tag in (258, 273, 279)
        content += struct.pack(order + "HHI", tag, 4 if tag in (273, 279) else 3, 4 if tag == 258 else 1)
        content += struct.pack(order + "I", value) if long else struct.pack(order + "HH", value, 0)
    return content + struct.pack(order + "I4H", 0, 8, 8, 8, 8) + pixels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_what_is_transparent_keeps_its_colour(order: str, alpha: int) -> None:
    assert decoded(transparent_tiff(order, alpha), "a.tif")[0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize("channels", [1, 3])
def test_more_bits_are_kept(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 4096, (6, 5, channels), dtype=np.uint16)
    for suffix in (".png", ".tiff"):
        found = decoded(encoded(suffix, image), "a")
        assert found.dtype == np.uint16
        assert np.array_equal(found, image[:, :, ::-1] if channels == 3 else image.repeat(3, 2))


def test_floats_are_named() -> None:
    with pytest.raises(FrameError, match="a: must have 8 or 16 bits a channel, got float32"):
        decoded(encoded(".tiff", np.ones((8, 8), np.float32)), "a")


def enlarged_tiff(content: bytes) -> bytes:
    """Its directory promises 60,000 px on each side, in strips of one row."""
    changed, at = bytearray(content), struct.unpack_from("<I", content, 4)[0]
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", content, at)[0], 12):
        if struct.unpack_from("<H", content, entry)[0] in (256, 257):
            struct.pack_into("<HII", changed, entry + 2, 4, 1, 60_000)
    return bytes(changed)


def enlarged_webp(content: bytes) -> bytes:
    """Of the largest size without a canvas, 16,383 px; lossless or not."""
    changed = bytearray(content)
    if content[12:16] == b"VP8L":
        struct.pack_into("<I", changed, 21, 16_382 | 16_382 << 14)
    else:
        struct.pack_into("<HH", changed, 26, 16_383, 16_383)
    return bytes(changed)


@pytest.mark.parametrize("quality", [80, 101])
def test_a_webp_that_promises_a_large_image_is_not_unpacked(quality: int) -> None:
    content = enlarged_webp(encoded(".webp", photo(), [cv2.IMWRITE_WEBP_QUALITY, quality]))
    with pytest.raises(FrameError, match="must have at most 134217728 pixels, its header promises 268402689"):
        decoded(content, "x")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff"])
def test_a_small_file_that_promises_a_large_image_is_not_unpacked(suffix: str) -> None:
    """Its header is changed: 60,000 px on each side, which would be ten gigabytes."""
    content = bytearray(encoded(suffix, photo()))
    height, width = 60_000, 60_000
    if suffix == ".png":
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif suffix == ".jpg":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", height, width)
    elif suffix == ".tiff":
        content = bytearray(enlarged_tiff(bytes(content)))
    else:
        content[18:26] = struct.pack("<ii", width, height)
        content[30:34] = struct.pack("<I", 1)  # packed in runs: no length is promised
    with pytest.raises(FrameError, match="must have at most 134217728 pixels, its header promises 36"):
        decoded(bytes(content), "x")


def test_every_kind_tells_its_own_size() -> None:
    for suffix in (".png", ".jpg", ".bmp", ".tiff", ".webp"):
        assert promised_pixels(encoded(suffix, photo())) == 203 * 117
    for kind in JPEG_KINDS:
        assert promised_pixels(jpeg(kind)) == 203 * 117
    lossless = encoded(".webp", photo(), [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert promised_pixels(lossless) == promised_pixels(turned_webp(lossless, 1)) == 203 * 117
    core = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 203, 117, 1, 24)
    assert promised_pixels(core) == 203 * 117
