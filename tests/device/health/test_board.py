"""The board's sensors, read from folders that look like /sys and /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fixtures_board import FakeBoard
from fixtures_disk import abort

from device.health.board import Board, Disk, MemoryUse, ThrottleBits


def test_a_pi_is_read(tmp_path: Path) -> None:
    fake = FakeBoard(tmp_path)
    fake.set(temperature_c=61.5, throttled="50005", resident_kib=81_920, available_kib=1_048_576)
    reading = fake.board().read()
    assert reading.temperature_c == 61.5
    assert reading.throttled == ThrottleBits(0x50005)
    assert reading.memory == MemoryUse(80 * 1024**2, 1024**3)


def test_the_hottest_zone_counts_and_a_zone_that_refuses_does_not(tmp_path: Path) -> None:
    fake = FakeBoard(tmp_path)
    fake.set(temperature_c=50)
    for name, text in (("thermal_zone1", "72000"), ("thermal_zone2", ""), ("thermal_zone3", "none")):
        zone = tmp_path / "sys/class/thermal" / name
        zone.mkdir()
        (zone / "temp").write_text(text)
    assert fake.board().read().temperature_c == 72


def test_a_machine_without_sensors_says_so(tmp_path: Path) -> None:
    reading = Board(tmp_path, root=tmp_path / "nothing").read()
    assert (reading.temperature_c, reading.throttled, reading.memory) == (None, None, None)


def test_this_machine_is_read() -> None:
    reading = Board(Path(__file__)).read()
    assert reading.memory is not None
    assert reading.memory.resident_bytes > 10 * 1024**2
    assert reading.disk is not None
    assert 0 < reading.disk.free_ratio < 1


@pytest.mark.parametrize("text", ["", "zz", "-1", "100000000"])
def test_a_word_that_is_none_is_not_believed(tmp_path: Path, text: str) -> None:
    fake = FakeBoard(tmp_path)
    fake.set(throttled=text)
    assert fake.board().read().throttled is None


def test_the_disk_of_a_folder_that_is_not_there_yet_is_its_parents(tmp_path: Path) -> None:
    found = Board(tmp_path / "a" / "b").read().disk
    whole = os.statvfs(tmp_path)
    assert found is not None
    assert found.total_bytes == whole.f_blocks * whole.f_frsize


def test_a_card_that_the_kernel_has_stopped_writing_to_is_read_only(card: Path) -> None:
    """Newer kernels leave the mount rw and say `emergency_ro`; older ones make it ro."""
    state = card / "state"
    state.mkdir()
    board = Board(state)
    assert board.read().disk.read_only is False
    abort(card)
    assert board.read().disk.read_only is True


def test_a_disk_that_cannot_be_asked_is_unknown(tmp_path: Path) -> None:
    def refuse(path: Path) -> os.statvfs_result:
        raise OSError(5, "Input/output error")

    assert Board(tmp_path, statvfs=refuse).read().disk is None


def test_ratios() -> None:
    assert Disk(100, 25, 0, 0, read_only=False).free_ratio == 0.25
    assert Disk(100, 25, 0, 0, read_only=False).free_inodes_ratio == 1.0  # btrfs counts none
    assert Disk(0, 0, 8, 2, read_only=False).free_ratio == 0.0
    assert Disk(0, 0, 8, 2, read_only=False).free_inodes_ratio == 0.25


@pytest.mark.parametrize(
    ("bits", "now", "since"),
    [(0x0, (False, False), (False, False)), (0x1, (True, False), (False, False))]
    + [(bit, (False, True), (False, False)) for bit in (0x2, 0x4, 0x8)]
    + [(0x10000, (False, False), (True, False))]
    + [(bit, (False, False), (False, True)) for bit in (0x20000, 0x40000, 0x80000)],
)
def test_the_bits_of_the_firmware(bits: int, now: tuple[bool, bool], since: tuple[bool, bool]) -> None:
    word = ThrottleBits(bits)
    assert (word.under_voltage, word.slowed) == now
    assert (word.had_under_voltage, word.was_slowed) == since


def test_no_word_is_longer_than_32_bits() -> None:
    with pytest.raises(ValueError, match="32-bit"):
        ThrottleBits(1 << 32)
