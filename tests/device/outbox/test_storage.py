"""The database as it comes and goes: disks that are full, broken or torn."""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_broker import DEADLINE_S
from fixtures_outbox import PLENTY, damaged, put, start_writer, stored
from fixtures_verdict import verdict, wait_for

from device.errors import StorageError
from device.outbox import outbox as outboxes
from device.outbox import storage
from device.outbox.outbox import FILE_NAME, Outbox
from device.telemetry import journal


def test_a_second_process_is_refused(make_outbox: Callable[..., Outbox], tmp_path: Path) -> None:
    make_outbox()
    with pytest.raises(StorageError, match=r"outbox\.sqlite: another process has it open"):
        Outbox(tmp_path / "state", PLENTY, 1e9).start()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(
    make_outbox: Callable[..., Outbox], tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    first = make_outbox()
    put(first, range(5), "NG")
    for row in first.next(0)[:2]:
        first.done(row.id)
    first.stop()
    (tmp_path / "state" / FILE_NAME).write_bytes(content)
    second = make_outbox()
    assert damaged(tmp_path)
    assert "set aside as" in caplog.text
    assert "3 verdicts that were stored are missing" in caplog.text
    assert (second.stock().lost, second.stock().set_aside, second.stock().durable) == (3, 1, True)
    put(second, range(5, 8))
    assert [row.id for row in second.next(0)] == [6, 7, 8]  # the order goes on
    second.stop()
    third = make_outbox()
    assert (third.stock().lost, third.stock().set_aside) == (3, 1)


def test_what_the_database_says_in_two_lines_is_one_in_the_log(
    make_outbox: Callable[..., Outbox], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state" / FILE_NAME
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("INSERT INTO sqlite_master VALUES ('table', 'a\nb', 'a\nb', 2, 'nothing')")
        database.commit()
    handler = journal.handler()
    logging.getLogger("device.outbox").addHandler(handler)
    try:
        make_outbox()
    finally:
        logging.getLogger("device.outbox").removeHandler(handler)
    [line] = capfd.readouterr().err.splitlines()
    assert "malformed database schema (a\\nb)" in line
    assert "set aside as" in line


def test_only_the_latest_damaged_files_are_kept(make_outbox: Callable[..., Outbox], tmp_path: Path) -> None:
    for _ in range(4):
        make_outbox().stop()
        (tmp_path / "state" / FILE_NAME).write_bytes(b"x" * 4096)
    assert make_outbox().stock().set_aside == storage.KEPT_DAMAGED == len(damaged(tmp_path))


def test_damage_that_shows_at_work_is_set_aside_and_nothing_in_hand_is_lost(
    make_outbox: Callable[..., Outbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = make_outbox()
    put(outbox, range(3), "NG")
    fault = sqlite3.DatabaseError("database disk image is malformed")
    fault.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    faults = iter([fault])
    apply = type(outbox._storage._database).apply

    def faulty(database: object, *arguments: object) -> object:
        for fault in faults:
            raise fault
        return apply(database, *arguments)

    monkeypatch.setattr(type(outbox._storage._database), "apply", faulty)
    outbox.put(verdict(3, "NG"))
    wait_for(lambda: outbox.stock().set_aside == 1)
    wait_for(lambda: stored(outbox) == [3])
    assert outbox.stock().lost == 3
    assert outbox.generation == 1


def test_a_folder_that_cannot_be_written_costs_durability_only(
    make_outbox: Callable[..., Outbox],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(storage, "RETRY_DISK_S", 0.0)
    monkeypatch.setattr(outboxes, "SYNC_S", 0.05)
    (tmp_path / "state").write_text("a file where the folder should be")
    outbox = make_outbox()
    put(outbox, range(4), "NG")
    assert outbox.stock().durable is False
    assert "verdicts wait in memory, and are lost with the process" in caplog.text
    assert stored(outbox) == [0, 1, 2, 3]
    (tmp_path / "state").unlink()
    wait_for(lambda: outbox.stock().durable)
    assert stored(outbox) == [0, 1, 2, 3]
    assert outbox.generation == 1
    outbox.stop()
    assert stored(make_outbox()) == [0, 1, 2, 3]


def test_a_full_disk_is_bridged_in_memory(
    make_outbox: Callable[..., Outbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "RETRY_DISK_S", 0.0)
    monkeypatch.setattr(outboxes, "SYNC_S", 0.05)
    outbox = make_outbox()
    put(outbox, range(2), "NG")
    pages = outbox._storage._database._db.execute("PRAGMA page_count").fetchone()[0]
    outbox._storage._database._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own full disk
    put(outbox, range(2, 40), "NG")
    wait_for(lambda: outbox.stock().durable)  # the new connection has no such limit
    assert stored(outbox) == list(range(40))
    assert outbox.stock().lost == 0


def test_torn_files_come_back_whole_or_are_counted(
    make_outbox: Callable[..., Outbox], tmp_path: Path
) -> None:
    """The files of a killed process, cut off at random lengths, as after a power cut on a disk that lies."""
    writer = start_writer(tmp_path / "torn")
    while int(writer.stdout.readline()) < 1500:  # more than one checkpoint
        pass
    writer.kill()
    writer.communicate(timeout=DEADLINE_S)
    files = {path.name: path.read_bytes() for path in (tmp_path / "torn").iterdir()}
    whole = int.from_bytes(files["outbox.mark"][4:12], "little")
    chance = random.Random(6)  # noqa: S311
    folder = tmp_path / "state"
    outcomes = set()
    for name in [FILE_NAME] * 12 + [f"{FILE_NAME}-wal"] * 12:
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for other, content in files.items():
            cut = chance.randrange(len(content)) if other == name else len(content)
            (folder / other).write_bytes(content[:cut])
        outbox = make_outbox()
        found, stock = stored(outbox), outbox.stock()
        outbox.stop()
        assert found == list(range(len(found)))  # the beginning, in order, without a gap
        assert len(found) + stock.lost >= whole  # and what is missing is known by number
        assert stock.durable
        outcomes.add("aside" if stock.set_aside else "lost" if stock.lost else "whole")
    assert outcomes >= {"aside", "lost"}


def test_the_log_says_what_waits_from_before(
    make_outbox: Callable[..., Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    first = make_outbox()
    put(first, range(3))
    first.stop()
    with caplog.at_level(logging.INFO, "device.outbox"):
        make_outbox()
    assert "3 verdicts wait from before" in caplog.text
