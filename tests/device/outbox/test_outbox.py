"""The outbox: threads, loss rules, and disks that are full, broken or torn."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_broker import DEADLINE_S
from fixtures_daemon import REPOSITORY
from fixtures_verdict import verdict, wait_for

from device.errors import StorageError
from device.outbox import outbox as outboxes
from device.outbox.database import Refusal
from device.outbox.outbox import FILE_NAME, Outbox

PLENTY = 1_000_000_000


@pytest.fixture
def make_outbox(tmp_path: Path) -> Iterator[Callable[..., Outbox]]:
    """Outboxes that have been started, in one folder; those that a test leaves open are stopped."""
    made: list[Outbox] = []

    def make(max_bytes: int = PLENTY, max_age_s: float = 1e9) -> Outbox:
        made.append(Outbox(tmp_path / "state", max_bytes, max_age_s))
        made[-1].start()
        return made[-1]

    yield make
    for outbox in made:
        outbox.stop()


def stored(outbox: Outbox) -> list[int]:
    """The seq of every row that is to be delivered."""
    found, after_id = [], 0
    while rows := outbox.next(after_id):
        found += [json.loads(row.payload)["seq"] for row in rows]
        after_id = rows[-1].id
    return found


def put(outbox: Outbox, seqs: range, name: str = "OK", **changes: object) -> None:
    """Put verdicts, and wait until they are stored."""
    before = outbox.last_id
    for seq in seqs:
        outbox.put(verdict(seq, name, **changes))
    wait_for(lambda: outbox.last_id >= before + len(seqs))


def damaged(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "state").glob(f"{FILE_NAME}.damaged-*Z"))


def test_what_is_stored_outlives_the_outbox_and_keeps_its_order(make_outbox: Callable[..., Outbox]) -> None:
    first = make_outbox()
    put(first, range(700))  # more than one read and one commit
    assert stored(first) == list(range(700))
    first.stop()
    second = make_outbox()
    put(second, range(700, 710), "NG")
    assert stored(second) == list(range(710))
    assert second.stock().waiting == 710


def test_what_is_done_does_not_come_again(make_outbox: Callable[..., Outbox]) -> None:
    outbox = make_outbox()
    put(outbox, range(10))
    for row in outbox.next(0)[:4]:
        outbox.done(row.id)
    assert stored(outbox) == list(range(4, 10))  # at once, whether it is deleted yet or not
    assert outbox.stock().waiting == 6
    wait_for(lambda: not outbox._settled)
    assert stored(outbox) == list(range(4, 10))  # and after its deletion
    outbox.stop()
    assert stored(make_outbox()) == list(range(4, 10))


def test_what_is_refused_is_kept_aside_until_the_next_start(make_outbox: Callable[..., Outbox]) -> None:
    outbox = make_outbox()
    put(outbox, range(3), "NG")
    outbox.refuse(Refusal(outbox.next(0)[1].id, 2, "Not authorized"))
    assert stored(outbox) == [0, 2]
    wait_for(lambda: outbox.stock().refused == 1)
    assert stored(outbox) == [0, 2]
    assert outbox.stock().waiting == 2
    outbox.stop()
    assert stored(make_outbox()) == [0, 1, 2]


def test_the_loss_rule_and_its_counts(
    make_outbox: Callable[..., Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    row_bytes = len(verdict(0).to_json()) + 64
    outbox = make_outbox(max_bytes=10 * row_bytes)
    put(outbox, range(6), "NG")
    put(outbox, range(6, 12), "OK")
    put(outbox, range(12, 20), "NG")
    stock = outbox.stock()
    assert stock.dropped["OK"] == 6
    assert stock.waiting_bytes <= 10 * row_bytes
    assert stock.dropped["NG"] == 14 - stock.waiting
    assert caplog.text.count("full: verdicts are dropped") == 1
    outbox.stop()
    assert make_outbox().stock().dropped == stock.dropped


def test_old_verdicts_are_dropped_where_their_time_is_known(
    make_outbox: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "_AGE_EVERY_S", 0.0)
    monkeypatch.setattr(outboxes, "clock_synced", lambda: True)
    outbox = make_outbox(max_age_s=3600)
    outbox.put(verdict(0, clock_synced=False))  # of 2023, or so it thinks
    outbox.put(verdict(1, clock_synced=True))
    wait_for(lambda: outbox.stock().dropped["OK"] == 1)
    assert stored(outbox) == [0]


def test_age_means_nothing_before_the_clock_is_set(
    make_outbox: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "_AGE_EVERY_S", 0.0)
    monkeypatch.setattr(outboxes, "clock_synced", lambda: False)
    outbox = make_outbox(max_age_s=3600)
    put(outbox, range(5))
    put(outbox, range(5, 10))
    assert stored(outbox) == list(range(10))


def test_a_disk_that_stands_still_blocks_nobody_and_the_loss_is_counted(
    make_outbox: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outboxes, "HAND_OVER_LIMIT", 10)
    outbox = make_outbox()
    with outbox._in_use:  # the storing thread waits, as it does for a disk
        outbox.put(verdict(0))
        wait_for(lambda: not outbox._handed)
        for seq in range(1, 16):
            outbox.put(verdict(seq, "NG" if seq % 2 else "OK"))
        assert outbox.stock().dropped == {"OK": 5, "MARGINAL": 0, "ERROR": 0, "NG": 0}
    wait_for(lambda: outbox.last_id == 11)
    assert stored(outbox) == [0, 1, 3, 5, 7, 9, 11, 12, 13, 14, 15]
    assert "the disk stands still" in caplog.text
    outbox.stop()
    assert make_outbox().stock().dropped["OK"] == 5


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


def test_only_the_latest_damaged_files_are_kept(make_outbox: Callable[..., Outbox], tmp_path: Path) -> None:
    for _ in range(4):
        make_outbox().stop()
        (tmp_path / "state" / FILE_NAME).write_bytes(b"x" * 4096)
    assert make_outbox().stock().set_aside == outboxes.KEPT_DAMAGED == len(damaged(tmp_path))


def test_damage_that_shows_at_work_is_set_aside_and_nothing_in_hand_is_lost(
    make_outbox: Callable[..., Outbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = make_outbox()
    put(outbox, range(3), "NG")
    fault = sqlite3.DatabaseError("database disk image is malformed")
    fault.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    faults = iter([fault])
    apply = type(outbox._database).apply

    def faulty(database: object, *arguments: object) -> object:
        for fault in faults:
            raise fault
        return apply(database, *arguments)

    monkeypatch.setattr(type(outbox._database), "apply", faulty)
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
    monkeypatch.setattr(outboxes, "RETRY_DISK_S", 0.0)
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
    monkeypatch.setattr(outboxes, "RETRY_DISK_S", 0.0)
    monkeypatch.setattr(outboxes, "SYNC_S", 0.05)
    outbox = make_outbox()
    put(outbox, range(2), "NG")
    pages = outbox._database._db.execute("PRAGMA page_count").fetchone()[0]
    outbox._database._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own full disk
    put(outbox, range(2, 40), "NG")
    wait_for(lambda: outbox.stock().durable)  # the new connection has no such limit
    assert stored(outbox) == list(range(40))
    assert outbox.stock().lost == 0


_WRITER = """
import sys
import time
from dataclasses import replace
from pathlib import Path
from device.outbox.outbox import Outbox
from device.inspection.verdict import Verdict
def tell(rows):
    if rows:
        print(rows[-1].id, flush=True)
verdict = Verdict.from_json(sys.argv[2])
outbox = Outbox(Path(sys.argv[1]), 10**9, 10**9, tell)
outbox.start()
begin = outbox.last_id
for seq in range(begin, 10**9):
    outbox.put(replace(verdict, seq=seq, verdict=("OK", "NG")[seq % 2]))
    while len(outbox._handed) > 50:
        time.sleep(0.0005)  # the outbox's own thread wants the lock
"""


def start_writer(folder: Path) -> subprocess.Popen[str]:
    """A process that stores verdicts as fast as it can, and prints the id of the latest that is stored."""
    command = (sys.executable, "-c", _WRITER, str(folder), verdict(0).to_json())
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def test_kill_9_at_random_moments_loses_nothing_that_was_stored(
    make_outbox: Callable[..., Outbox], tmp_path: Path
) -> None:
    chance = random.Random(5)  # noqa: S311
    told = 0
    for _ in range(6):
        writer = start_writer(tmp_path / "state")
        lines = [writer.stdout.readline() for _ in range(chance.randint(1, 60))]
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.communicate(timeout=DEADLINE_S)[0]
        told = int(("".join(lines) + rest).split()[-1])
    outbox = make_outbox()
    found = stored(outbox)
    assert len(found) >= told > 0
    assert found == list(range(len(found)))
    assert (outbox.stock().lost, outbox.stock().set_aside) == (0, 0)


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


def test_only_what_must_last_waits_for_the_disk(make_outbox: Callable[..., Outbox]) -> None:
    outbox = make_outbox()
    levels = []
    sync = type(outbox._database)._sync

    def note(database: object, *, full: bool) -> None:
        levels.append(full)
        sync(database, full=full)

    outbox._database._sync = lambda *, full: note(outbox._database, full=full)
    put(outbox, range(1), "OK")
    assert levels == [False]
    put(outbox, range(1, 2), "ERROR")
    assert levels[-1] is True
    put(outbox, range(2, 3), "OK")
    wait_for(lambda: levels[-2:] == [False, True])  # within SYNC_S


def test_the_storing_thread_tells_what_it_has_stored(tmp_path: Path) -> None:
    told: list[int] = []
    come = threading.Event()

    def tell(rows: list) -> None:
        told.extend(row.id for row in rows)
        if len(told) == 100:
            come.set()

    outbox = Outbox(tmp_path, PLENTY, 1e9, tell)
    outbox.start()
    for seq in range(100):
        outbox.put(verdict(seq))
    assert come.wait(DEADLINE_S)
    outbox.stop()
    assert told == list(range(1, 101))


def test_what_is_being_stored_is_counted_throughout(make_outbox: Callable[..., Outbox]) -> None:
    """Or a service that is told to stop at this moment would leave it for its next start."""
    outbox = make_outbox()
    with outbox._in_use:  # the commit cannot go on
        outbox.put(verdict(0))
        wait_for(lambda: not outbox._handed)
        assert (outbox.stock().waiting, outbox.unstored) == (1, 1)
        assert outbox.stock().waiting_bytes > len(verdict(0).to_json())
    wait_for(lambda: outbox.last_id == 1)
    assert (outbox.stock().waiting, outbox.unstored) == (1, 0)


def test_the_log_says_what_waits_from_before(
    make_outbox: Callable[..., Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    first = make_outbox()
    put(first, range(3))
    first.stop()
    with caplog.at_level(logging.INFO, "device.outbox.outbox"):
        make_outbox()
    assert "3 verdicts wait from before" in caplog.text
