"""Pictures as they come, or a fault; never the one before."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from fixtures_camera import write_film

from device.camera.video import AvVideo, DeviceVideo, JpegVideo, Video, of_device, open_stream
from device.errors import FrameError

GOP = 10


def h264(
    first: int, count: int, side: int = 64, pixels: str = "yuv420p", *, noise: bool = True
) -> list[bytes]:
    """Packets of pictures whose gray level is five times their number; every tenth is a key frame."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width = codec.height = side
    codec.pix_fmt, codec.time_base = pixels, Fraction(1, 25)
    codec.color_range = ColorRange.JPEG  # all of them: the decoder keeps it where the next mode says none
    codec.options = {"g": str(GOP), "bf": "0", "preset": "ultrafast", "crf": "4", "x264-params": "scenecut=0"}
    packets: list[bytes] = []
    random = np.random.default_rng(0)
    for number in range(first, first + count):
        picture = np.full((side, side, 3), 5 * number if noise else 100, np.uint8)
        if noise:
            picture[:, side // 2 :] = random.integers(0, 255, (side, side // 2, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format=pixels, dst_color_range="JPEG"
        )
        frame.pts, frame.time_base = number, codec.time_base
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets + [bytes(packet) for packet in codec.encode(None)]


def opened(path: Path, packets: list[bytes]) -> Video:
    path.write_bytes(b"".join(packets))
    video = open_stream(str(path), None)
    assert isinstance(video, AvVideo)
    return video


def seen(video: Video) -> list[tuple[int, int] | str]:
    """Of each picture its side and the number that it shows, or what is wrong with it."""
    found: list[tuple[int, int] | str] = []
    while video.grab():
        try:
            picture = video.picture()
            found.append((len(picture), round(float(picture[:, : len(picture) // 4].mean()) / 5)))
        except FrameError as error:
            found.append("drawn over" if video.is_none else str(error))
    video.close()
    return found


def test_every_picture_has_the_size_and_colours_that_it_was_sent_with(tmp_path: Path) -> None:
    modes = [(64, "yuv420p"), (128, "yuv420p"), (64, "gray"), (32, "yuv420p"), (64, "yuv420p")]
    packets = [p for at, (side, pixels) in enumerate(modes) for p in h264(10 * at, 10, side, pixels)]
    expected = [(side, 10 * at + n) for at, (side, _) in enumerate(modes) for n in range(10)]
    assert seen(opened(tmp_path / "modes.h264", packets)) == expected


def test_a_damaged_picture_is_told_and_what_is_drawn_over_it_is_not_believed(tmp_path: Path) -> None:
    packets = h264(0, 3 * GOP)
    packets[14] = packets[14][: len(packets[14]) // 3]
    found = seen(opened(tmp_path / "damaged.h264", packets))
    assert found[:14] == [(64, number) for number in range(14)]
    assert "damaged" in str(found[14]) or "cannot be decoded" in str(found[14])
    assert found[15:20] == ["drawn over"] * 5
    assert found[20:] == [(64, number) for number in range(20, 30)]


def test_a_picture_that_does_not_change_is_no_fault(tmp_path: Path) -> None:
    assert seen(opened(tmp_path / "still.h264", h264(0, 30, noise=False))) == [(64, 20)] * 30


def test_a_film_of_jpegs_is_handed_over_as_it_is(tmp_path: Path) -> None:
    film = write_film(tmp_path / "line.avi", 5)
    video = open_stream(str(film), None)
    assert isinstance(video, JpegVideo)
    assert video.expected == 5
    count = 0
    while video.grab():
        first, second = video.picture(), video.picture()
        assert first.shape == (64, 84, 3)
        assert np.array_equal(first, second)
        assert not np.shares_memory(first, second)
        count += 1
    assert count == 5


def test_without_pyav_its_codecs_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "line.h264"
    path.write_bytes(b"".join(h264(0, 5)))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FrameError, match=r"other codecs need PyAV: .*; install the package av"):
        open_stream(str(path), None)


@pytest.mark.parametrize("name", ["nothing.bin", "sound"])
def test_what_is_no_video_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not a video" * 50)
    assert open_stream(str(tmp_path / name), None) is None


class ScriptedDevice:
    """In place of cv2.VideoCapture of a V4L2 device: what its driver gives, one after the other."""

    def __init__(self, codec: str, buffers: list[tuple[float, np.ndarray | None]]) -> None:
        self._codec = codec
        self._buffers = iter(buffers)
        self._stamp_ms, self._image = 0.0, None
        self.converts = True

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_FOURCC:
            return float(int.from_bytes(self._codec.encode(), "little"))
        assert key == cv2.CAP_PROP_POS_MSEC
        return self._stamp_ms

    def set(self, key: int, value: float) -> bool:
        assert (key, value) == (cv2.CAP_PROP_CONVERT_RGB, 0)
        self.converts = False
        return True

    def grab(self) -> bool:
        self._stamp_ms, self._image = next(self._buffers)
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return self._image is not None, self._image


def test_a_device_that_gives_its_last_buffer_again_is_found_out() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0] = 200  # blue
    video = of_device(
        ScriptedDevice("YUYV", [(5.0, image), (5.0, image), (4.0, image), (6.0, image), (7.0, None)])
    )
    assert isinstance(video, DeviceVideo)
    assert video.grab()
    assert video.picture()[0, 0].tolist() == [0, 0, 200]
    for _ in range(2):  # the same once more, and an older one
        assert video.grab()
        with pytest.raises(FrameError, match="is no later one, by the driver's time"):
            video.picture()
    assert video.grab()
    assert video.picture().shape == (4, 4, 3)
    assert video.grab()
    with pytest.raises(FrameError, match="cannot be decoded"):
        video.picture()


def test_of_a_driver_that_tells_no_time_the_pixels_must_be_others() -> None:
    image, other = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    video = of_device(ScriptedDevice("YUYV", [(0.0, image), (0.0, other), (0.0, other)]))
    assert [video.grab() and video.picture().shape for _ in range(2)] == [(4, 4, 3)] * 2
    assert video.grab()
    with pytest.raises(FrameError, match="is the one before again, pixel for pixel"):
        video.picture()


def test_of_a_device_with_jpeg_the_bytes_themselves_are_looked_at() -> None:
    content = cv2.imencode(".jpg", np.full((8, 16, 3), 90, np.uint8))[1].reshape(1, -1)
    device = ScriptedDevice(
        "MJPG", [(1.0, content), (2.0, content[:, :200]), (3.0, None), (4.0, content), (5.0, content)]
    )
    video = of_device(device)
    assert isinstance(video, JpegVideo)
    assert not device.converts
    assert video.grab()
    assert video.picture().shape == (8, 16, 3)
    assert video.grab()
    with pytest.raises(FrameError, match="truncated JPEG"):
        video.picture()
    assert video.grab()
    with pytest.raises(FrameError, match="is empty"):
        video.picture()
    assert video.grab()
    assert video.picture().shape == (8, 16, 3)
    assert video.grab()
    assert video.is_none
    with pytest.raises(FrameError, match="is the one before again, byte for byte"):
        video.picture()
