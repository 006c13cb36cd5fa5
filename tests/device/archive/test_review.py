"""Reviews: who said what, that the last word counts, and that the image stays."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY, run_device
from fixtures_disk import fill
from fixtures_image_store import SIZE, opened, picture

from device.archive import image_store
from device.archive.image_store import Quotas
from device.archive.review import Review, review, reviews
from device.errors import ReviewError, StorageError


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder whose archive has the events a-0 to a-4."""
    store = opened(tmp_path / "archive")
    for number in range(5):
        store.put(picture(f"a-{number}"))
    return tmp_path


def test_a_word_is_recorded_and_the_image_pinned(state: Path) -> None:
    done = review(state, "a-1", "ng", "Ada", "a scratch, top left")
    assert done.image == state / "archive/2026-03-04/a-1.jpg"
    assert done.image.with_suffix(".pinned").exists()
    assert done.previous is None
    [line] = (state / "reviews.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("ts"))
    assert said == {"event_id": "a-1", "label": "ng", "by": "Ada", "note": "a scratch, top left"}
    assert reviews(state) == {"a-1": done.review}


def test_the_last_word_counts_and_the_first_is_not_lost(state: Path) -> None:
    first = review(state, "a-1", "ng", "Ada").review
    review(state, "a-2", "ok", "Ada")
    done = review(state, "a-1", "ok", "Bob")
    assert done.previous == first
    assert {event_id: said.label for event_id, said in reviews(state).items()} == {"a-1": "ok", "a-2": "ok"}
    assert len((state / "reviews.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("event_id", ["b-0", "../a-0", "", "a-0.jpg", "x" * 200])
def test_an_unknown_event_is_an_error_and_leaves_no_trace(state: Path, event_id: str) -> None:
    with pytest.raises(ReviewError) as caught:
        review(state, event_id, "ok", "Ada")
    assert event_id in str(caught.value)
    assert not (state / "reviews.jsonl").exists()
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


def test_a_line_that_a_power_cut_ended_early_costs_itself_alone(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = review(state, "a-1", "ng", "Ada").review
    path = state / "reviews.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event_id":"a-2","lab')
    last = review(state, "a-3", "ok", "Ada").review
    assert reviews(state) == {"a-1": first, "a-3": last}
    assert "reviews.jsonl line 2: left out" in caplog.text


@pytest.mark.parametrize(
    "line", ["[]", "{}", '{"event_id":1,"label":"ok","by":"","note":"","ts":""}', "\xff"]
)
def test_a_damaged_line_is_left_out(state: Path, line: str) -> None:
    last = review(state, "a-3", "ok", "Ada").review
    path = state / "reviews.jsonl"
    path.write_bytes(line.encode("latin-1") + b"\n" + path.read_bytes())
    assert reviews(state) == {"a-3": last}


def test_a_disk_that_takes_nothing_is_told(small_disk: Path) -> None:
    opened(small_disk / "archive").put(picture("a-1"))
    fill(small_disk)
    with pytest.raises(StorageError, match=r"a-1: the review cannot be recorded: .*No space left"):
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
    said = [Review(**json.loads(line)).by for line in (state / "reviews.jsonl").read_text().splitlines()]
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
