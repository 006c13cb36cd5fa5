"""The outbox's SQLite file, one transaction after the other."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from device.outbox.database import MEMORY, ROW_BYTES, Changes, Database, ForeignDatabase, OutboxEntry, Refusal

PLENTY = 1_000_000_000


def entry(word: str = "OK", payload: str = "x" * 36, captured_s: float | None = None) -> OutboxEntry:
    return OutboxEntry("session", word, 0.0, captured_s, payload)


def entries(words: str) -> list[OutboxEntry]:
    """One for each letter: o, m, e, n."""
    names = {"o": "OK", "m": "MARGINAL", "e": "ERROR", "n": "NG"}
    return [entry(names[letter]) for letter in words]


def words(database: Database) -> str:
    return "".join(found.word[0].lower() for _, found in database.everything())


@pytest.fixture(params=["disk", "memory"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    opened = Database(tmp_path / "outbox.sqlite" if request.param == "disk" else MEMORY)
    yield opened
    opened.close()


def test_rows_come_back_in_order_until_they_are_done(database: Database) -> None:
    rows = database.apply(Changes(entries("onm")), PLENTY)
    assert [row.id for row in rows] == [1, 2, 3]
    assert [row.due for row in rows] == [1, 3, 3]
    assert database.after(0, 10) == rows
    assert database.after(1, 1) == rows[1:2]
    database.apply(Changes(done=[2, 77]), PLENTY)
    assert database.after(0, 10) == [rows[0], rows[2]]
    assert (database.content.rows.total(), database.content.size_bytes) == (2, 2 * (36 + ROW_BYTES))


def test_ids_are_never_used_twice(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        database = Database(tmp_path / "outbox.sqlite")
        [row] = database.apply(Changes(entries("o")), PLENTY)
        assert row.id == expected
        database.apply(Changes(done=[row.id]), PLENTY)
        database.close()


def test_the_oldest_ok_is_dropped_first_and_ng_last(database: Database) -> None:
    row_bytes = 36 + ROW_BYTES
    database.apply(Changes(entries("nomeno")), 6 * row_bytes)
    assert words(database) == "nomeno"
    database.apply(Changes(entries("n")), 6 * row_bytes)
    assert words(database) == "nmenon"  # the first OK
    database.apply(Changes(entries("m")), 5 * row_bytes)
    assert words(database) == "nennm"  # the other OK, and the first MARGINAL
    database.apply(Changes(entries("oo")), 4 * row_bytes)
    assert words(database) == "nenn"  # the new ones are the least
    database.apply(Changes(entries("nn")), 4 * row_bytes)
    assert words(database) == "nnnn"  # ERROR, and then the oldest NG
    assert database.content.dropped == {"OK": 4, "MARGINAL": 2, "ERROR": 1, "NG": 1}
    assert [row_id for row_id, _ in database.everything()] == [5, 7, 11, 12]
    assert database.content.size_bytes == 4 * row_bytes


def test_what_is_under_way_is_spared(database: Database) -> None:
    database.apply(Changes(entries("ooo"), spared_up_to=2), 100)
    assert [row_id for row_id, _ in database.everything()] == [1, 2]


def test_what_is_too_old_is_dropped_where_its_time_is_known(database: Database) -> None:
    times = [None, 100.0, 200.0, 300.0, 100.0]
    database.apply(Changes([entry("NG", captured_s=time) for time in times]), PLENTY)
    database.apply(Changes(older_than_s=250.0), PLENTY)
    assert [row_id for row_id, _ in database.everything()] == [
        1,
        4,
        5,
    ]  # up to the first that is young enough
    assert database.content.dropped["NG"] == 2


def test_counts_outlive_the_file_s_closing(tmp_path: Path) -> None:
    database = Database(tmp_path / "outbox.sqlite")
    database.apply(Changes(entries("ooon")), 250)
    database.count_lost(5, 20)
    database.close()
    again = Database(tmp_path / "outbox.sqlite")
    assert again.content == database.content
    assert (again.content.dropped["OK"], again.content.lost, again.content.last_id) == (2, 5, 20)
    again.close()


def test_what_the_broker_refuses_is_kept_aside_until_the_next_opening(tmp_path: Path) -> None:
    database = Database(tmp_path / "outbox.sqlite")
    database.apply(Changes(entries("nn")), PLENTY)
    database.apply(Changes(refusals=[Refusal(1, 2, "Not authorized")]), PLENTY)
    assert [row.id for row in database.after(0, 10)] == [2]
    assert database.content.refused == 1
    database.close()
    again = Database(tmp_path / "outbox.sqlite")
    assert [(row.id, row.due) for row in again.after(0, 10)] == [(1, 2), (2, 3)]  # the inspection was taken
    assert again.content.refused == 0
    again.close()


def test_a_transaction_that_fails_changes_nothing(database: Database) -> None:
    database.apply(Changes(entries("o")), PLENTY)
    before = database.content.copy()
    broken = OutboxEntry("session", "NG", 0.0, None, None)  # a payload must be there
    with pytest.raises((sqlite3.Error, TypeError)):
        database.apply(Changes([*entries("o"), broken], done=[1]), PLENTY)
    assert database.content == before
    assert words(database) == "o"


def test_rows_move_from_memory_to_the_disk_under_their_ids(tmp_path: Path) -> None:
    memory = Database(MEMORY)
    memory.count_lost(0, 10)
    memory.apply(Changes(entries("on")), PLENTY)
    disk = Database(tmp_path / "outbox.sqlite")
    disk.apply(Changes(entries("o")), PLENTY)
    disk.adopt(memory.everything(), memory.content)
    assert [row.id for row in disk.after(0, 10)] == [1, 11, 12]
    assert disk.content.last_id == 12
    memory.close()
    disk.close()


def test_two_processes_cannot_share_it(tmp_path: Path) -> None:
    first = Database(tmp_path / "outbox.sqlite")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Database(tmp_path / "outbox.sqlite")
    first.close()


def test_another_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ForeignDatabase, match="no outbox of version 1"):
        Database(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_is_not_touched(tmp_path: Path, version: int) -> None:
    path = tmp_path / "outbox.sqlite"
    Database(path).close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {version}")
    newer.close()
    with pytest.raises(ForeignDatabase, match="no outbox of version 1"):
        Database(path)


def test_space_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    database = Database(path)
    rows = database.apply(Changes([entry(payload="x" * 1000) for _ in range(20_000)]), PLENTY)
    database.apply(Changes(done=[row.id for row in rows]), PLENTY)
    for _ in range(10):
        database.give_back()
    database.close()
    assert path.stat().st_size < 6_000_000
