"""The archive: what it keeps, that nothing waits for it, and what it says when it cannot keep."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_broker import DEADLINE_S
from fixtures_bundle import make_frame, make_image
from fixtures_disk import remount

from device.archive import archive, image_store
from device.archive.archive import Archive, ArchiveState, is_sampled
from device.bundle.bundle import Bundle
from device.config import ArchiveConfig
from device.image.frame import Frame, read_image
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Verdict

CONFIG = ArchiveConfig(
    max_bytes=10**9,
    max_days=90,
    min_free_bytes=0,
    ok_ratio=0.0,
    format="png",
    jpeg_quality=95,
    queue_bytes=10**7,
    publish_image_max_bytes=0,
)
GOOD, DEFECTIVE = None, (24, 24, 16, 16)

Inspect = Callable[..., tuple[Frame, Verdict]]


@pytest.fixture(scope="module")
def inspect(tiny_bundle: Bundle) -> Inspect:
    """A frame with a spot, and the verdict of a real model on it."""
    pipeline = Pipeline(tiny_bundle, "press-4", "0123456789abcdef")

    def inspected(seq: int, spot: tuple[int, int, int, int] | None = DEFECTIVE) -> tuple[Frame, Verdict]:
        frame = make_frame(make_image(seed=seq, spot=spot), seq)
        return frame, pipeline.inspect(frame)

    return inspected


class Voice:
    """What would be published."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []

    def __call__(self, topic: str, payload: bytes) -> None:
        self.messages.append((topic, payload))


@pytest.fixture
def voice() -> Voice:
    return Voice()


@pytest.fixture
def make_archive(tmp_path: Path, voice: Voice) -> Iterator[Callable[..., Archive]]:
    """Archives in the test's folder, or another; stopped at the end."""
    made: list[Archive] = []

    def make(state: Path = tmp_path, *, start: bool = True, **changes: object) -> Archive:
        made.append(Archive(state, replace(CONFIG, **changes), voice))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


def kept(state: Path) -> list[str]:
    return sorted(path.name for path in (state / "archive").glob("*/*") if path.suffix in (".jpg", ".png"))


def wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


def test_what_is_found_is_kept_and_what_is_good_is_not(
    inspect: Inspect, make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    keeper = make_archive()
    for seq, spot in enumerate((GOOD, DEFECTIVE, GOOD, DEFECTIVE)):
        keeper.keep(*inspect(seq, spot))
    keeper.stop()
    assert kept(tmp_path) == ["0123456789abcdef-00000001.png", "0123456789abcdef-00000003.png"]
    frame, verdict = inspect(3)
    image = image_store.find(tmp_path / "archive", verdict.event_id)
    assert image is not None
    assert np.array_equal(read_image(image)[0], frame.image)
    beside = Verdict.from_json(image.with_suffix(".json").read_bytes())
    assert (beside.event_id, beside.verdict, beside.regions) == (verdict.event_id, "NG", verdict.regions)
    assert keeper.state.reason is None
    assert (keeper.state.kept, keeper.state.images, keeper.state.failed, keeper.state.skipped) == (2, 2, 0, 0)


def test_marginal_images_are_kept_and_frames_that_were_not_judged_cannot_be(
    inspect: Inspect, make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    keeper = make_archive()
    frame, verdict = inspect(0, GOOD)
    keeper.keep(frame, replace(verdict, verdict="MARGINAL"))
    keeper.keep(frame, replace(verdict, verdict="ERROR", score=None, event_id="error-1"))
    keeper.stop()
    assert kept(tmp_path) == [f"{verdict.event_id}.png"]


def test_the_share_of_good_ones_is_the_same_ones_each_time(
    inspect: Inspect,
    make_archive: Callable[..., Archive],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("device.archive.archive.STOP_S", 120.0)  # a loaded disk syncs slowly
    frame, verdict = inspect(0, GOOD)
    ids = [f"0123456789abcdef-{number:08d}" for number in range(200)]
    for folder in (tmp_path / "one", tmp_path / "two"):
        keeper = make_archive(folder, ok_ratio=0.1)
        for event_id in ids:
            keeper.keep(frame, replace(verdict, event_id=event_id))
        keeper.stop()
    assert kept(tmp_path / "one") == kept(tmp_path / "two")
    assert 10 <= len(kept(tmp_path / "one")) <= 30


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0), (0.01, 200), (0.5, 10_000), (1.0, 20_000)])
def test_a_share_is_that_share(ratio: float, expected: int) -> None:
    found = sum(is_sampled(f"{number:032x}-{number:08d}", ratio) for number in range(20_000))
    assert abs(found - expected) <= 4 * (20_000 * ratio * (1 - ratio)) ** 0.5


def test_a_picture_of_a_buffer_that_is_filled_again_is_the_one_that_was_judged(
    inspect: Inspect, make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    """The archive's thread has not begun when the camera takes its buffer back."""
    frame, verdict = inspect(0)
    buffer = frame.image.copy()
    keeper = make_archive(start=False)
    keeper.keep(replace(frame, image=buffer[:, :, :]), verdict)
    buffer[:] = 7
    keeper.start()
    keeper.stop()
    image = image_store.find(tmp_path / "archive", verdict.event_id)
    assert image is not None
    assert np.array_equal(read_image(image)[0], frame.image)


def test_a_full_queue_costs_the_newest_and_is_counted(
    inspect: Inspect, make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    frame, _ = inspect(0)
    keeper = make_archive(start=False, queue_bytes=3 * frame.image.nbytes)
    for seq in range(5):
        keeper.keep(*inspect(seq))
    assert keeper.state.skipped == 2
    keeper.start()
    keeper.stop()
    assert [name[-5] for name in kept(tmp_path)] == ["0", "1", "2"]
    assert keeper.state.kept == 3


def test_an_image_that_is_larger_than_the_queue_is_taken_alone(
    inspect: Inspect, make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    keeper = make_archive(start=False, queue_bytes=0)
    keeper.keep(*inspect(0))
    keeper.keep(*inspect(1))
    keeper.start()
    keeper.stop()
    assert (keeper.state.kept, keeper.state.skipped) == (1, 1)


def test_without_a_quota_nothing_is_written(
    inspect: Inspect, make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    keeper = make_archive(tmp_path / "state", max_bytes=0)
    keeper.keep(*inspect(0))
    keeper.stop()
    assert not (tmp_path / "state").exists()
    assert keeper.state == ArchiveState(None, 0, 0, 0, 0, 0, 0)


def test_jpegs_are_near_the_image(
    inspect: Inspect, make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    keeper = make_archive(format="jpeg")
    frame, verdict = inspect(0)
    keeper.keep(frame, verdict)
    keeper.stop()
    assert kept(tmp_path) == [f"{verdict.event_id}.jpg"]
    found = read_image(tmp_path / "archive" / "2026-09-21" / f"{verdict.event_id}.jpg")[0]
    assert np.abs(found.astype(int) - frame.image).mean() < 3


# ---- disks


def test_a_disk_that_fills_is_told_once_and_so_is_its_end(
    inspect: Inspect,
    make_archive: Callable[..., Archive],
    small_disk: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    keeper = make_archive(small_disk)
    (small_disk / "other").write_bytes(bytes(60_000))
    for seq in range(3):
        keeper.keep(*inspect(seq))
    wait(lambda: keeper.state.failed == 3)
    assert "min_free_bytes = 0, and no image that is left may be removed" in str(keeper.state.reason)
    assert caplog.text.count("the image is not kept, inspection goes on") == 1
    (small_disk / "other").unlink()
    keeper.keep(*inspect(3))
    wait(lambda: keeper.state.kept == 1)
    assert keeper.state.reason is None
    assert caplog.text.count("images are kept again") == 1
    keeper.stop()


def test_a_read_only_disk_is_told_and_comes_back(
    inspect: Inspect, make_archive: Callable[..., Archive], small_disk: Path
) -> None:
    remount(small_disk, "ro")
    keeper = make_archive(small_disk)
    wait(lambda: keeper.state.reason)
    assert keeper.state.reason == f"{small_disk}/archive: Read-only file system"
    keeper.keep(*inspect(0))
    wait(lambda: keeper.state.failed == 1)
    remount(small_disk, "rw")
    keeper.keep(*inspect(1))
    wait(lambda: keeper.state.kept == 1)
    assert keeper.state.reason is None
    keeper.stop()


def test_a_state_folder_that_is_a_file_is_told(
    inspect: Inspect, make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("no folder")
    keeper = make_archive(tmp_path / "state")
    keeper.keep(*inspect(0))
    keeper.stop()
    assert keeper.state.reason == f"{tmp_path}/state/archive: Not a directory"


def test_a_folder_that_a_person_removed_is_made_again(
    inspect: Inspect, make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    keeper = make_archive()
    keeper.keep(*inspect(0))
    wait(lambda: keeper.state.kept == 1)
    subprocess.run(("rm", "-r", str(tmp_path / "archive")), check=True)
    for seq in range(1, 3):
        keeper.keep(*inspect(seq))
    keeper.stop()
    assert keeper.state.kept >= 2
    assert (keeper.state.images, keeper.state.reason) == (1, None)


@pytest.mark.parametrize("synced", [True, False])
def test_only_a_clock_that_is_right_makes_images_old(
    inspect: Inspect,
    make_archive: Callable[..., Archive],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    synced: bool,
) -> None:
    monkeypatch.setattr(archive, "clock_synced", lambda: synced)
    first = make_archive()
    first.keep(*inspect(0))  # its frame is of 2026
    first.stop()
    monkeypatch.setattr(archive, "datetime", Later)
    make_archive().stop()
    assert len(kept(tmp_path)) == (0 if synced else 1)


class Later(datetime):
    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return datetime(2031, 1, 1, tzinfo=UTC)


# ---- beside inspection


def test_nobody_waits_for_a_slow_disk(
    inspect: Inspect, make_archive: Callable[..., Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs: keep() returns, stop() gives up, and what is lost is counted."""
    hanging = threading.Event()
    monkeypatch.setattr(archive.ImageStore, "put", lambda store, picture: hanging.wait(DEADLINE_S) and None)
    monkeypatch.setattr(archive, "STOP_S", 0.05)
    frame, verdict = inspect(0)
    keeper = make_archive(queue_bytes=3 * frame.image.nbytes)
    begin = time.monotonic()
    for _ in range(1000):
        keeper.keep(frame, verdict)
    keeper.stop()
    assert time.monotonic() - begin < DEADLINE_S / 2
    assert keeper.state.skipped in (999, 1000)  # the thread holds one of them, or has not taken it yet
    hanging.set()


def test_its_thread_yields_to_the_others(make_archive: Callable[..., Archive]) -> None:
    keeper = make_archive()
    thread = keeper._thread.native_id
    wait(lambda: niceness(thread) == archive._NICENESS)
    assert niceness(threading.get_native_id()) < archive._NICENESS


def niceness(thread: int | None) -> int:
    fields = Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()
    return int(fields[16])


# ---- pictures in messages


def test_small_copies_of_what_is_found_are_published(
    inspect: Inspect, make_archive: Callable[..., Archive], voice: Voice, tmp_path: Path
) -> None:
    keeper = make_archive(publish_image_max_bytes=1000, max_bytes=0)
    keeper.keep(*inspect(0, GOOD))
    keeper.keep(*inspect(1, DEFECTIVE))
    keeper.stop()
    (topic, payload), (beside, heat) = voice.messages
    assert (topic, beside) == ("image/0123456789abcdef-00000001", "heat/0123456789abcdef-00000001")
    assert len(payload) <= 1000
    assert len(heat) < 20_000, "however large the image"
    picture = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] == picture.shape[1]
    assert not (tmp_path / "archive").exists()


def test_the_heat_of_a_defect_is_kept_beside_it_and_lies_where_the_defect_is(
    inspect: Inspect, make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    keeper = make_archive(ok_ratio=1.0)
    keeper.keep(*inspect(1, GOOD))
    frame, verdict = inspect(2, (40, 8, 16, 16))
    keeper.keep(frame, verdict)
    keeper.stop()
    [heat] = (tmp_path / "archive").glob("*/*.heat")
    assert heat.stem == verdict.event_id, "and none of the good one"
    opacity = cv2.imdecode(np.frombuffer(heat.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)[:, :, 3]
    down, right = np.unravel_index(opacity.argmax(), opacity.shape)
    height, width = frame.image.shape[:2]
    assert 40 <= right * width / opacity.shape[1] <= 56
    assert 8 <= down * height / opacity.shape[0] <= 24
    pictures = archive.kept_pictures(tmp_path, verdict.event_id, 20_000)
    assert list(pictures) == [f"image/{verdict.event_id}", f"heat/{verdict.event_id}"]
    assert archive.kept_pictures(tmp_path, "nobody-00000001", 20_000) == {}
