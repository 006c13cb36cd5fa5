"""The outbox: threads, loss rules, and disks that are full, broken or torn."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_broker import DEADLINE_S
from fixtures_outbox import PLENTY, put, start_writer, stored
from fixtures_verdict import verdict, wait_for

from device.outbox import outbox as outboxes
from device.outbox.database import Refusal
from device.outbox.outbox import Outbox


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
    wait_for(lambda: not outbox._recent.settled)
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
    monkeypatch.setattr("device.outbox.unstored.LIMIT", 10)
    outbox = make_outbox()
    with outbox._storage._in_use:  # the storing thread waits, as it does for a disk
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


def test_only_what_must_last_waits_for_the_disk(make_outbox: Callable[..., Outbox]) -> None:
    outbox = make_outbox()
    levels = []
    sync = type(outbox._storage._database)._sync

    def note(database: object, *, full: bool) -> None:
        levels.append(full)
        sync(database, full=full)

    outbox._storage._database._sync = lambda *, full: note(outbox._storage._database, full=full)
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
    with outbox._storage._in_use:  # the commit cannot go on
        outbox.put(verdict(0))
        wait_for(lambda: not outbox._handed)
        assert (outbox.stock().waiting, outbox.unstored) == (1, 1)
        assert outbox.stock().waiting_bytes > len(verdict(0).to_json())
    wait_for(lambda: outbox.last_id == 1)
    assert (outbox.stock().waiting, outbox.unstored) == (1, 0)
