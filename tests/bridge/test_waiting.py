"""Events on the disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from deploy.bridge.waiting import FILE, Event, EventQueue
from device.errors import StorageError

A, B = "http://a", "http://b"


def events(*names: str) -> list[Event]:
    return [Event(name, f"body of {name}".encode()) for name in names]


def ids(waiting: EventQueue, url: str) -> list[str]:
    """All that wait for an address, in order; they are gone afterwards."""
    found = []
    while (row := waiting.first(url)[0]) is not None:
        found.append(row.event.id)
        waiting.remove(row)
    return found


def test_each_address_gets_all_in_order_and_forgets_by_itself(tmp_path: Path) -> None:
    waiting = EventQueue(tmp_path, 100)
    assert waiting.add((A, B), events("1", "2", "3")) == 0
    assert ids(waiting, A) == ["1", "2", "3"]
    assert waiting.first(B) == (waiting.first(B)[0], 3)
    assert ids(waiting, B) == ["1", "2", "3"]
    waiting.close()


def test_they_outlive_the_process(tmp_path: Path) -> None:
    first = EventQueue(tmp_path, 100)
    first.add((A,), events("1", "2"))
    row, _ = first.first(A)
    assert row is not None
    assert row.event.body == b"body of 1"
    first.remove(row)
    first.close()
    second = EventQueue(tmp_path, 100)
    assert ids(second, A) == ["2"]
    second.close()


def test_an_event_that_comes_twice_waits_once(tmp_path: Path) -> None:
    waiting = EventQueue(tmp_path, 100)
    waiting.add((A,), events("1", "2"))
    waiting.add((A,), events("2", "3"))
    assert ids(waiting, A) == ["1", "2", "3"]
    waiting.close()


def test_the_oldest_give_way_and_are_counted(tmp_path: Path) -> None:
    waiting = EventQueue(tmp_path, 3)
    assert waiting.add((A, B), events("1", "2")) == 0
    assert waiting.add((A,), events("3", "4", "5")) == 2
    assert ids(waiting, A) == ["3", "4", "5"]
    assert ids(waiting, B) == ["1", "2"]
    waiting.close()


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"webhooks\.sqlite"):
        EventQueue(tmp_path / "file", 3)


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("no database " * 100)
    with pytest.raises(StorageError, match="not a database"):
        EventQueue(tmp_path, 3)


def test_what_is_added_is_on_the_disk(tmp_path: Path) -> None:
    waiting = EventQueue(tmp_path, 3)
    waiting.add((A,), events("1"))
    other = sqlite3.connect(tmp_path / FILE)
    assert other.execute("SELECT id FROM event").fetchall() == [("1",)]
    other.close()
    waiting.close()
