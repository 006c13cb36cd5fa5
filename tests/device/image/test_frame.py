"""Frames, and images read from files."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import make_frame, make_image

from device.errors import FrameError
from device.image.frame import frame_from_file, read_image
from device.image.geometry import Size


def write(path: Path, image: np.ndarray, params: list[int] | None = None) -> Path:
    assert cv2.imwrite(str(path), image, params or [])
    return path


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((480, 640), np.float32), r"float32 \(480, 640\)"),
        (np.zeros((480, 640), np.uint8), r"uint8 \(480, 640\)"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \(0, 4, 3\)"),
        ([[[1, 2, 3]]], "list"),
    ],
)
def test_a_frame_holds_an_rgb_image(image: np.ndarray, found: str) -> None:
    with pytest.raises(FrameError, match=rf"image must be uint8 \(H, W, 3\), got {found}$"):
        make_frame(image)


def test_a_frame_knows_its_size() -> None:
    assert make_frame(make_image(width=30, height=20)).size == Size(30, 20)
    with pytest.raises(FrameError, match="seq must be >= 0, got -1"):
        make_frame(seq=-1)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp"])
def test_colours_and_digest(tmp_path: Path, suffix: str) -> None:
    bgr = np.zeros((8, 9, 3), np.uint8)
    bgr[:, :, 2] = 200  # red
    bgr[0, 0] = (1, 2, 3)
    params = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []  # 101: lossless
    path = write(tmp_path / f"image{suffix}", bgr, params)
    image, sha256 = read_image(path)
    assert image.dtype == np.uint8
    assert np.array_equal(image, bgr[:, :, ::-1])
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_gray_becomes_three_equal_channels(tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image, _ = read_image(write(tmp_path / "gray.png", gray))
    assert np.array_equal(image, gray[:, :, np.newaxis].repeat(3, axis=2))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    bgra = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    image, _ = read_image(write(tmp_path / "alpha.png", bgra))
    assert np.array_equal(image, bgra[:, :, 2::-1])


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_refused(tmp_path: Path, name: str, channels: int) -> None:
    path = write(tmp_path / name, np.full((6, 5, channels), 4000, np.uint16))
    with pytest.raises(FrameError, match=f"{name}: must have 8 bits a channel, got uint16"):
        read_image(path)


@pytest.mark.parametrize("white", [1023, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_where_it_is_said_what_is_white(
    tmp_path: Path, white: int, channels: int
) -> None:
    levels = np.linspace(0, white, 30).astype(np.uint16).reshape(6, 5, 1).repeat(channels, 2)
    path = write(tmp_path / "deep.png", levels)
    image, _ = read_image(path, white)
    assert np.array_equal(image, np.round(levels * (255 / white)).astype(np.uint8).repeat(3 // channels, 2))
    assert frame_from_file(path, 0, white).image.max() == 255
    assert read_image(path, white // 2)[0].max() == 255  # brighter than white is white
    write(path, np.full((4, 4), 7, np.uint8))
    assert read_image(path, white)[0].max() == 7  # 8 bits stay as they are


def test_a_jpeg_is_turned_as_the_camera_was_held(tmp_path: Path) -> None:
    upright = write(tmp_path / "upright.jpg", np.zeros((10, 20, 3), np.uint8))
    orientation = struct.pack("<HHII", 0x0112, 3, 1, 6)  # turn by 90 degrees
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + orientation + struct.pack("<I", 0)
    exif = b"Exif\0\0" + tiff
    content = upright.read_bytes()
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    assert read_image(turned)[0].shape == (20, 10, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tiff"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = write(tmp_path / f"cut{suffix}", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FrameError, match=rf"cut{suffix}: (is empty|is not a|truncated|damaged)"):
        read_image(path)


def test_a_tiff_whose_directory_comes_first_and_whose_strip_is_cut_off(tmp_path: Path) -> None:
    width, height = 64, 64
    tags = [(256, 3, width), (257, 3, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200)]
    tags += [(277, 3, 1), (278, 3, height), (279, 4, width * height)]
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, n) for tag, kind, n in tags
    )
    header = (b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0)).ljust(200, b"\0")
    path = tmp_path / "strip.tiff"
    path.write_bytes(header + b"\x80" * width * height)
    assert read_image(path)[0].shape == (height, width, 3)
    path.write_bytes(header + b"\x80" * (width * height // 2))
    with pytest.raises(FrameError, match=r"strip.tiff: damaged"):
        read_image(path)


def test_what_is_no_image(tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    with pytest.raises(
        FrameError, match=r"notes.png: is not a PNG, JPEG, BMP, TIFF or WebP image: begins with"
    ):
        read_image(text)
    with pytest.raises(FrameError, match=r"missing.png: cannot be read: No such file or directory"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(FrameError, match="cannot be read: Is a directory"):
        read_image(tmp_path)


def test_a_header_with_nothing_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "hollow.jpg"
    path.write_bytes(b"\xff\xd8\xff\xd9")
    with pytest.raises(FrameError, match=r"hollow.jpg: damaged: begins like"):
        read_image(path)


def test_more_pixels_than_can_be_decoded(tmp_path: Path) -> None:
    content = cv2.imencode(".bmp", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    path = tmp_path / "huge.bmp"
    path.write_bytes(
        content[:18] + struct.pack("<ii", 60_000, 60_000) + content[26:30] + b"\1" + content[31:]
    )
    with pytest.raises(FrameError, match=r"huge.bmp: must have at most \d+ pixels"):
        read_image(path)


def test_a_frame_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "part.png", make_image())
    frame = frame_from_file(path, 7)
    assert (frame.seq, frame.camera, frame.path, frame.size) == (7, "replay", str(path), Size(64, 64))
    assert frame.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert frame.captured_ns > 1_700_000_000 * 10**9


def test_what_is_no_file_or_fits_into_no_memory_is_not_read(tmp_path: Path) -> None:
    pipe, endless, sparse = (tmp_path / name for name in ("pipe.png", "endless.png", "sparse.png"))
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    sparse.touch()
    os.truncate(sparse, 6 * 2**30)
    for path in (pipe, endless):
        with pytest.raises(FrameError, match="must be a file, is a device, a pipe or a socket"):
            read_image(path)
    with pytest.raises(FrameError, match="must have at most 512 MiB, has 6144"):
        read_image(sparse)
