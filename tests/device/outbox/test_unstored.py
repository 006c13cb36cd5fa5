"""What waits for its commit, and what is dropped of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.outbox.database import OutboxEntry
from device.outbox.unstored import UnstoredQueue


def entry(word: str, payload: str = "{}") -> OutboxEntry:
    return OutboxEntry("5e55", word, 0.0, None, payload)


def test_the_oldest_are_taken_and_their_bytes_with_them() -> None:
    queue = UnstoredQueue(Path("outbox.sqlite"))
    entries = [entry("OK"), entry("NG", "{...}"), entry("OK")]
    for one in entries:
        queue.add(one)
    assert queue.size_bytes == sum(one.size_bytes for one in entries)
    assert queue.take(2) == entries[:2]
    assert (len(queue), queue.size_bytes) == (1, entries[2].size_bytes)
    assert queue.take(9) == entries[2:]
    assert not queue


def test_over_the_limit_the_oldest_of_what_is_missed_least_goes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("device.outbox.unstored.LIMIT", 3)
    queue = UnstoredQueue(Path("outbox.sqlite"))
    for word in ("NG", "OK", "MARGINAL", "ERROR", "NG", "NG"):
        queue.add(entry(word))
    assert queue.take_dropped() == {"OK": 1, "MARGINAL": 1, "ERROR": 1}
    assert queue.take_dropped() == {}
    assert [one.word for one in queue.take(9)] == ["NG", "NG", "NG"]
    assert caplog.text.count("the disk stands still") == 1
