"""Images on a real disk: pairs, quotas, order, pins, power cuts, a full disk and a read-only one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY
from fixtures_disk import fill, remount
from fixtures_image_store import DAY_NS, IMAGE, NOON, SIZE, opened, picture

from device.archive import image_store
from device.archive.image_store import Quotas


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def ids(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.rglob("*.jpg"))


# ---- pairs


def test_an_image_and_its_verdict_lie_in_the_folder_of_their_day(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.put(picture("a-1")) is None
    assert store.put(picture("a-2", NOON + DAY_NS)) is None
    assert files(tmp_path) == {
        "2026-03-04/a-1.jpg",
        "2026-03-04/a-1.json",
        "2026-03-05/a-2.jpg",
        "2026-03-05/a-2.json",
    }
    assert (tmp_path / "2026-03-04/a-1.jpg").read_bytes() == IMAGE
    assert (store.images, store.size_bytes) == (2, 2 * SIZE)
    assert image_store.find(tmp_path, "a-2") == tmp_path / "2026-03-05/a-2.jpg"


def test_what_is_on_the_disk_is_counted_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for number in range(5):
        store.put(picture(f"a-{number}", NOON + number % 2 * DAY_NS))
    again = opened(tmp_path)
    assert (again.images, again.size_bytes) == (store.images, store.size_bytes) == (5, 5 * SIZE)


def test_heat_lies_beside_its_image_is_counted_and_goes_with_it(tmp_path: Path) -> None:
    store = opened(tmp_path, Quotas(3 * SIZE + 900, 90, 0))
    store.put(picture("hot", heat=bytes(900)))
    store.put(picture("cold"))
    hot = image_store.find(tmp_path, "hot")
    assert image_store.heat_beside(hot) == bytes(900)
    assert image_store.heat_beside(hot.with_stem("cold")) is None
    assert store.size_bytes == opened(tmp_path).size_bytes == 2 * SIZE + 900
    (tmp_path / "2026-03-04/orphan.heat").write_bytes(b"of a power cut")
    (tmp_path / "2026-03-04/.hot.heat").write_bytes(b"half")
    again = opened(tmp_path, Quotas(2 * SIZE, 90, 0))
    assert again.size_bytes == 2 * SIZE + 900
    again.put(picture("new"))
    assert files(tmp_path) == {
        f"2026-03-04/{name}.{end}" for name in ("cold", "new") for end in ("jpg", "json")
    }
    assert again.size_bytes == 2 * SIZE


def test_what_a_power_cut_leaves_is_removed_and_nothing_else(tmp_path: Path) -> None:
    opened(tmp_path).put(picture("whole"))
    day = tmp_path / "2026-03-04"
    for name in ("no-verdict.jpg", "no-image.json", ".draft.jpg", ".draft.json", ".other.jpg", "notes.txt"):
        (day / name).write_bytes(b"half")
    (tmp_path / "2026-03-05").mkdir()
    (tmp_path / "2026-03-05/alone.jpg").write_bytes(b"half")
    store = opened(tmp_path)
    assert files(tmp_path) == {
        "2026-03-04/whole.jpg",
        "2026-03-04/whole.json",
        "2026-03-04/notes.txt",
    }
    assert not (tmp_path / "2026-03-05").exists()
    assert (store.images, store.size_bytes) == (1, SIZE)


def test_a_process_that_is_killed_at_any_moment_leaves_whole_pairs(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from fixtures_image_store import opened, picture, Quotas\n"
        "store = opened(Path(sys.argv[1]), Quotas(60_000, 90, 0))\n"
        "for number in range(10**9):\n"
        "    store.put(picture(f'a-{number:09d}', image=bytes(range(256)) * 10))\n"
        "    print(number, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    for least in (3, 40, 77):
        command = (sys.executable, "-c", program, str(tmp_path))
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            while int(process.stdout.readline()) < least:
                pass
            process.kill()
        store = opened(tmp_path)
        found = {path.stem for path in tmp_path.rglob("*.jpg")}
        assert found == {path.stem for path in tmp_path.rglob("*.json")}
        assert len(found) == store.images >= 3
        assert all(path.read_bytes() == bytes(range(256)) * 10 for path in tmp_path.rglob("*.jpg"))
        assert store.size_bytes <= 60_000


@pytest.mark.parametrize("event_id", ["../../etc/passwd", "a/b", ".hidden", "", "a.b", "x" * 129])
def test_what_is_no_event_id_is_no_path(tmp_path: Path, event_id: str) -> None:
    opened(tmp_path).put(picture("a"))
    assert image_store.find(tmp_path, event_id) is None
    assert image_store.pin(tmp_path, event_id) is None
    with pytest.raises(ValueError, match="event_id must be"):
        picture(event_id)


# ---- quotas


def test_the_oldest_make_room(tmp_path: Path) -> None:
    store = opened(tmp_path, Quotas(4 * SIZE, 90, 0))
    for number in range(10):
        assert store.put(picture(f"z-{9 - number}", NOON + number * DAY_NS // 3)) is None
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.*") if path.is_file()) <= 4 * SIZE
    assert ids(tmp_path) == ["z-0", "z-1", "z-2", "z-3"]  # the last four that came
    assert (store.images, store.removed) == (4, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2026-03-06", "2026-03-07"]


def test_the_order_holds_when_the_clock_is_set_back_and_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that was two years ahead, then right, then at its start: what came first goes first."""
    hours = 3600 * 10**9
    clock_ns = [NOON, NOON + 730 * DAY_NS, NOON + hours, NOON + 2 * hours, 0, NOON + 3 * hours]
    for number, now_ns in enumerate(clock_ns):
        monkeypatch.setattr(time, "time_ns", lambda now_ns=now_ns: now_ns)
        opened(tmp_path, Quotas(6 * SIZE, 90, 0)).put(picture(f"a-{number}", now_ns))
    assert len(list(tmp_path.iterdir())) == 3  # the folders are those of the clock as it was
    for number in range(5):
        opened(tmp_path, Quotas(6 * SIZE, 90, 0)).put(picture(f"b-{number}", now_ns))
        assert ids(tmp_path)[0] == f"a-{number + 1}"


def test_a_clock_that_is_not_known_to_be_right_does_not_open_an_earlier_day(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.put(picture("first", 0, synced=False))
    store.put(picture("right", NOON))
    store.put(picture("after-boot", 0, synced=False))
    assert image_store.find(tmp_path, "first") == tmp_path / "1970-01-01/first.jpg"
    assert image_store.find(tmp_path, "after-boot") == tmp_path / "2026-03-04/after-boot.jpg"


def test_days_are_counted_from_the_date_that_is_given(tmp_path: Path) -> None:
    store = opened(tmp_path, Quotas(10**9, 7, 0))
    for number in range(10):
        store.put(picture(f"a-{number}", NOON + number * DAY_NS))  # from the 4th to the 13th
    store.expire(date(2026, 3, 13))
    assert ids(tmp_path) == [f"a-{number}" for number in range(2, 10)]
    store.expire(date(2026, 3, 1))  # a clock that went back removes nothing
    assert store.images == 8


def test_what_must_stay_free_stays_free(small_disk: Path) -> None:
    store = opened(small_disk / "archive", Quotas(10**9, 90, 30_000))
    for number in range(12):
        assert store.put(picture(f"a-{number:02d}")) is None
        status = os.statvfs(small_disk)
        assert status.f_bavail * status.f_frsize >= 30_000 - 2 * 4096  # written in whole pages
    assert ids(small_disk)[-1] == "a-11"
    assert 2 <= store.images < 5


def test_many_images_are_counted_quickly_and_remembered_as_a_line_a_day(tmp_path: Path) -> None:
    for day in range(1, 6):
        folder = tmp_path / f"2026-01-{day:02d}"
        folder.mkdir()
        for number in range(1000):
            for suffix in (".jpg", ".json"):
                os.close(os.open(folder / f"a-{day}-{number:05d}{suffix}", os.O_CREAT | os.O_WRONLY))
    begin = time.process_time()
    store = opened(tmp_path, Quotas(SIZE, 90, 0))
    assert store.images == 5000
    assert time.process_time() - begin < 0.5  # of processor time; 10 s for 100,000
    assert len(store._index) == 5
    store.put(picture("new"))
    assert len(store._oldest) <= image_store._BATCH


# ---- pins


def test_a_pinned_image_stays(tmp_path: Path) -> None:
    store = opened(tmp_path, Quotas(3 * SIZE, 7, 0))
    for number in range(3):
        store.put(picture(f"a-{number}"))
    assert image_store.pin(tmp_path, "a-0") == tmp_path / "2026-03-04/a-0.jpg"
    for number in range(3, 6):
        assert store.put(picture(f"a-{number}", NOON + DAY_NS)) is None
    assert ids(tmp_path) == ["a-0", "a-4", "a-5"]
    store.expire(date(2027, 1, 1))
    assert ids(tmp_path) == ["a-0"]


def test_a_pin_that_comes_while_images_are_removed_is_seen(tmp_path: Path) -> None:
    store = opened(tmp_path, Quotas(3 * SIZE, 90, 0))
    for number in range(4):
        store.put(picture(f"a-{number}"))
    assert [kept.event_id for kept in store._oldest] == ["a-1", "a-2"]  # the next to go
    image_store.pin(tmp_path, "a-1")
    store.put(picture("a-4"))
    assert ids(tmp_path) == ["a-1", "a-3", "a-4"]


def test_where_all_is_pinned_there_is_no_room_until_a_pin_is_taken_away(tmp_path: Path) -> None:
    store = opened(tmp_path, Quotas(2 * SIZE, 90, 0))
    for number in range(2):
        store.put(picture(f"a-{number}"))
        image_store.pin(tmp_path, f"a-{number}")
    reason = store.put(picture("b-0"))
    assert reason == f"max_bytes = {2 * SIZE} is reached, and no image that is left may be removed"
    assert ids(tmp_path) == ["a-0", "a-1"]
    (tmp_path / "2026-03-04/a-0.pinned").unlink()
    store = opened(tmp_path, Quotas(2 * SIZE, 90, 0))
    assert store.put(picture("b-0")) is None
    assert ids(tmp_path) == ["a-1", "b-0"]


def test_nothing_is_there_to_be_pinned(tmp_path: Path) -> None:
    assert image_store.pin(tmp_path / "archive", "a") is None
    (tmp_path / "2026-03-04").mkdir()
    (tmp_path / "2026-03-04/a.jpg").write_bytes(IMAGE)  # its verdict is not there yet
    assert image_store.pin(tmp_path, "a") is None
    assert not (tmp_path / "2026-03-04/a.pinned").exists()


def test_images_that_a_person_removed_are_not_waited_for(tmp_path: Path) -> None:
    store = opened(tmp_path, Quotas(3 * SIZE, 90, 0))
    for number in range(3):
        store.put(picture(f"a-{number}"))
    for path in (tmp_path / "2026-03-04").iterdir():
        path.unlink()
    assert store.put(picture("b-0")) is None
    assert (ids(tmp_path), store.images, store.size_bytes) == (["b-0"], 1, SIZE)


# ---- disks


def test_a_full_disk_is_told_and_leaves_no_half_pair(small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(40_000))
    store = opened(small_disk / "archive")
    reason = store.put(picture("a", image=bytes(20_000)))
    assert reason is not None
    assert reason.endswith("min_free_bytes = 0, and no image that is left may be removed")
    assert files(small_disk / "archive") == set()
    (small_disk / "other").unlink()
    assert store.put(picture("a", image=bytes(20_000))) is None


def test_a_disk_that_fills_while_an_image_is_written_leaves_no_half_pair(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another process is quicker: there seemed to be room."""
    (small_disk / "other").write_bytes(bytes(40_000))
    store = opened(small_disk / "archive")
    monkeypatch.setattr(store, "_lack", lambda needed_bytes: None)
    with pytest.raises(OSError) as caught:
        store.put(picture("a", image=bytes(30_000)))
    assert caught.value.errno == errno.ENOSPC
    assert files(small_disk / "archive") == set()
    assert (store.images, store.size_bytes) == (0, 0)


@pytest.mark.parametrize(("what", "option"), [("bytes", "nr_inodes=1000"), ("files", "nr_inodes=24")])
def test_on_a_disk_that_others_filled_the_oldest_still_make_room(
    make_disk: Callable[..., Path], what: str, option: str
) -> None:
    disk = make_disk(option)
    store = opened(disk / "archive")
    for number in range(4):
        store.put(picture(f"a-{number}"))
    fill(disk, what)
    assert store.put(picture("b-0")) is None
    assert "b-0" in ids(disk)
    assert store.removed >= 1


def test_a_read_only_disk_is_told_and_can_be_read(small_disk: Path) -> None:
    store = opened(small_disk / "archive")
    store.put(picture("a"))
    remount(small_disk, "ro")
    with pytest.raises(OSError) as caught:
        store.put(picture("b"))
    assert caught.value.errno == errno.EROFS
    assert image_store.find(small_disk / "archive", "a") is not None
    with pytest.raises(OSError):
        image_store.pin(small_disk / "archive", "a")
    remount(small_disk, "rw")
    assert store.put(picture("b")) is None
