"""Reviews: who said what, that the last word counts, and that the image stays."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY, run_device
from fixtures_disk import fill
from fixtures_image_store import SIZE, opened, picture

from device.archive import image_store
from device.archive.image_store import Quotas
from device.archive.review import BEFORE, FILE, Review, _last_words, review, reviews
from device.errors import ReviewError, StorageError


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder whose archive has the events a-0 to a-4."""
    store = opened(tmp_path / "archive")
    for number in range(5):
        store.put(picture(f"a-{number}"))
    return tmp_path


def words(state: Path) -> list[dict[str, str]]:
    """All that were said, in order."""
    with closing(sqlite3.connect(state / FILE)) as database:
        names = ("event_id", "label", "by", "note", "ts")
        rows = database.execute(f"SELECT {', '.join(names)} FROM words ORDER BY id").fetchall()  # noqa: S608
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_a_word_is_recorded_and_the_image_pinned(state: Path) -> None:
    done = review(state, "a-1", "ng", "Ada", "a scratch, top left")
    assert done.image == state / "archive/2026-03-04/a-1.jpg"
    assert done.image.with_suffix(".pinned").exists()
    assert done.previous is None
    [said] = words(state)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("ts"))
    assert said == {"event_id": "a-1", "label": "ng", "by": "Ada", "note": "a scratch, top left"}
    assert reviews(state) == {"a-1": done.review}


def test_a_note_that_is_no_unicode_is_refused(state: Path) -> None:
    """As of a terminal that speaks another code, and of a line of reviews.jsonl that a card has damaged."""
    with pytest.raises(ReviewError, match="must be of texts"):
        review(state, "a-1", "ok", "Ada", "Geh\udce4use")
    line = {"event_id": "a-1", "label": "ok", "by": "\ud800", "note": "", "ts": "2026"}
    (state / BEFORE).write_text(json.dumps(line))
    assert reviews(state) == {}


def test_reviewed_images_leave_room_for_others(state: Path) -> None:
    """What nobody has seen yet is kept, however much is reviewed; who has a word already may say another."""
    most = 6 * SIZE // 2
    store = opened(state / "archive", Quotas(2 * most, 90, 0))
    for number in range(3):
        review(state, f"a-{number}", "ng", "Eve", most_pinned_bytes=most)
    with pytest.raises(ReviewError, match=r"half of \[archive\] max_bytes: export them"):
        review(state, "a-3", "ng", "Eve", most_pinned_bytes=most)
    review(state, "a-0", "ok", "Ada", most_pinned_bytes=most)
    assert list(reviews(state)) == ["a-0", "a-1", "a-2"]
    for number in range(20):
        assert store.put(picture(f"b-{number}")) is None


def test_the_last_word_counts_and_the_first_is_not_lost(state: Path) -> None:
    first = review(state, "a-1", "ng", "Ada").review
    review(state, "a-2", "ok", "Ada")
    done = review(state, "a-1", "ok", "Bob")
    assert done.previous == first
    assert {event_id: said.label for event_id, said in reviews(state).items()} == {"a-1": "ok", "a-2": "ok"}
    assert len(words(state)) == 3


@pytest.mark.parametrize("event_id", ["b-0", "../a-0", "", "a-0.jpg", "x" * 200])
def test_an_unknown_event_is_an_error_and_leaves_no_trace(state: Path, event_id: str) -> None:
    with pytest.raises(ReviewError) as caught:
        review(state, event_id, "ok", "Ada")
    assert event_id in str(caught.value)
    assert not (state / FILE).exists()
    assert list(state.rglob("*.pinned")) == []


def test_what_no_review_can_be(state: Path) -> None:
    with pytest.raises(ReviewError, match="label: must be ok, ng, unsure, got 'bad'"):
        review(state, "a-1", "bad", "Ada")
    with pytest.raises(ReviewError, match="note: must have at most 1000 characters, got 1001"):
        review(state, "a-1", "ok", "Ada", "x" * 1001)


def test_without_an_archive_there_is_no_event(tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match="a-1: no image of this event in"):
        review(tmp_path, "a-1", "ok", "Ada")
    assert reviews(tmp_path) == {}


def test_words_of_the_version_before_are_read_in_once(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damaged lines and one that a power cut ended early cost themselves alone."""
    old = {"event_id": "a-1", "label": "ng", "by": "Ada", "note": "", "ts": "2026-01-01T00:00:00.000Z"}
    damaged = [
        "[]",
        "{}",
        '{"event_id":1,"label":"ok","by":"","note":"","ts":""}',
        "\xff",
        '{"event_id":"a-2","lab',
    ]
    lines = [json.dumps(old), json.dumps({**old, "label": "unsure"}), *damaged]
    (state / BEFORE).write_bytes("\n".join(lines).encode("latin-1"))
    assert reviews(state) == {"a-1": Review(**{**old, "label": "unsure"})}
    assert caplog.text.count("left out") == len(damaged)
    assert not (state / BEFORE).exists()
    assert (state / f"{BEFORE}.imported").exists()
    (state / f"{BEFORE}.imported").rename(state / BEFORE)  # as if the power had gone before it was renamed
    assert review(state, "a-1", "ok", "Bob").previous == Review(**{**old, "label": "unsure"})
    assert len(words(state)) == 3


def test_they_are_bounded_and_the_last_words_stay(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device.archive.review.MOST_WORDS", 8)
    review(state, "a-1", "ng", "Ada")
    for number in range(20):
        review(state, "a-2", "ok", str(number))
    assert len(words(state)) == 8
    assert [said.by for said in reviews(state).values()] == ["Ada", "19"]


def test_a_review_does_not_read_all_others(state: Path) -> None:
    """A hundred thousand words before it cost it nothing that can be felt."""
    review(state, "a-1", "ng", "Ada")
    with closing(sqlite3.connect(state / FILE)) as database:
        rows = ((f"b-{number}", "ok", "Ada", "x" * 500, "") for number in range(99_000))
        database.executemany("INSERT INTO words (event_id, label, by, note, ts) VALUES (?, ?, ?, ?, ?)", rows)
        database.commit()
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1

        database.set_progress_handler(count, 1000)
        assert _last_words(database, "a-1")["a-1"].by == "Ada"
        assert steps == 0  # fewer than 1000 instructions of SQLite


def test_a_database_that_is_none_is_told(state: Path) -> None:
    (state / FILE).write_bytes(b"x" * 5000)
    with pytest.raises(StorageError, match="a-1: the review cannot be recorded: file is not a database"):
        review(state, "a-1", "ok", "Ada")
    with pytest.raises(StorageError, match=r"reviews\.db: cannot be read: file is not a database"):
        reviews(state)


def test_a_disk_that_takes_nothing_is_told(small_disk: Path) -> None:
    opened(small_disk / "archive").put(picture("a-1"))
    fill(small_disk)
    with pytest.raises(
        StorageError, match=r"a-1: the review cannot be recorded: .*(No space left|disk is full)"
    ):
        review(small_disk, "a-1", "ok", "Ada")
    assert reviews(small_disk) == {}


def test_many_at_once_lose_nothing(state: Path) -> None:
    """Four processes review while the store's own removes: every word is there, every reviewed image too."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom device.archive.review import review\n"
        "for number in range(25):\n"
        "    review(Path(sys.argv[1]), f'a-{number % 5}', 'ok', f'{sys.argv[2]} {number}')\n"
    )
    writers = [
        subprocess.Popen((sys.executable, "-c", program, str(state), str(name)), cwd=REPOSITORY)
        for name in range(4)
    ]
    for number in range(5):
        review(state, f"a-{number}", "ok", "first")
    store = opened(state / "archive", Quotas(8 * SIZE, 90, 0))
    number = 0
    while any(writer.poll() is None for writer in writers):
        store.put(picture(f"b-{number}"))
        number += 1
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    said = [word["by"] for word in words(state)]
    assert sorted(said) == sorted(["first"] * 5 + [f"{name} {n}" for name in range(4) for n in range(25)])
    assert all(image_store.find(state / "archive", f"a-{n}") for n in range(5))


def test_the_command_says_what_it_did(state: Path) -> None:
    (state / "config.toml").write_text('[station]\nstate = "."\n')
    given = ("review", "a-1", "--config", state / "config.toml")
    done = run_device(*given, "--label", "ng", "--by", "Ada", "--note", "scratch")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"a-1: ng, by Ada; {state}/archive/2026-03-04/a-1.jpg is kept\n"
    done = run_device(*given, "--label", "ok", SUDO_USER="bob")
    assert done.stdout.startswith("a-1: ok, by bob (before: ng, by Ada); ")
    done = run_device("review", "b-7", "--label", "ok", "--config", state / "config.toml")
    assert (done.returncode, done.stdout) == (11, "")
    assert done.stderr.startswith(f"error: b-7: no image of this event in {state}/archive: kept are NG")
