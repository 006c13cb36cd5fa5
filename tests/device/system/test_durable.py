"""Files that survive: replaced whole, on a real disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from device.errors import StorageError
from device.system import durable


def test_a_file_takes_the_place_of_another_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    durable.write(path, b"one")
    before = path.open("rb")
    durable.write(path, b"two")
    assert before.read() == b"one"  # whoever reads has the old one to its end
    before.close()
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_what_was_there_stays_when_the_write_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    durable.write(path, b"one")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match="file: cannot be written: No space left on device"):
        durable.write(path, b"two")
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_removing_what_is_not_there_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write(path, b"one")
    durable.remove(path)
    durable.remove(path)
    assert not path.exists()
    path.mkdir()
    with pytest.raises(StorageError, match="file: cannot be removed: "):
        durable.remove(path)


def test_a_file_that_is_made_has_the_time_that_it_was_given(tmp_path: Path) -> None:
    durable.create(tmp_path / "file", b"one", 1_700_000_000_123_456_789)
    assert (tmp_path / "file").stat().st_mtime_ns == 1_700_000_000_123_456_789
    with pytest.raises(FileNotFoundError):
        durable.create(tmp_path / "nowhere" / "file", b"one")


def test_a_line_is_added_and_what_a_power_cut_left_is_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    durable.append(path, b"one")
    durable.append(path, b"two")
    assert path.read_bytes() == b"one\ntwo\n"
    path.write_bytes(b"one\nhal")
    durable.append(path, b"two")
    assert path.read_bytes() == b"one\nhal\ntwo\n"


def test_a_new_file_lasts_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    durable.append(tmp_path / "file", b"one")
    durable.append(tmp_path / "file", b"two")
    assert synced == [tmp_path]


def test_folders_that_are_made_last_with_those_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    durable.make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    synced.clear()
    durable.make_folder(tmp_path / "a" / "b")
    assert synced == []
    (tmp_path / "a" / "link").symlink_to(tmp_path)
    durable.sync_folders(tmp_path / "a")
    assert synced == [tmp_path / "a", tmp_path / "a" / "b"]


def test_two_folders_change_places(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    durable.exchange(one, other)
    assert ((one / "name").read_text(), (other / "name").read_text()) == ("other", "one")
    with pytest.raises(OSError, match="No such file"):
        durable.exchange(one, tmp_path / "missing")


def test_a_state_file_tells_the_first_failure_aloud_and_the_rest_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = durable.StateFile(tmp_path / "state", "it goes on in memory")
    assert file.write(b"one")

    def full(path: Path, content: bytes) -> None:
        raise StorageError(f"{path}: cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write", full)
        assert [file.write(b"two"), file.write(b"two")] == [False, False]
    assert file.write(b"two")
    assert (tmp_path / "state").read_bytes() == b"two"
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]
    assert caplog.text.count("No space left on device; it goes on in memory") == 2
