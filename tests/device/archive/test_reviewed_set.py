"""Reviewed images as a data set: what goes in, what is left out, which belong together."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_bundle import make_frame, make_image
from fixtures_daemon import run_device

from device.archive import image_store
from device.archive.encode import png
from device.archive.image_store import ImageStore, Quotas, StoredImage
from device.archive.review import review
from device.archive.reviewed_set import export
from device.bundle.bundle import Bundle
from device.errors import ReviewError, StorageError
from device.inspection.pipeline import Pipeline
from trainer.data import dataset as datasets
from trainer.layouts.layouts import read_layout

START = 1_790_000_000_000_000_000
S = 10**9


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def keep(state: Path, tiny_bundle: Bundle):
    """Put an image with the verdict of a real model into the archive; its event id."""
    store = ImageStore(state / "archive", Quotas(10**9, 90, 0))
    store.open()
    pipelines = {name: Pipeline(tiny_bundle, "press-4", name) for name in ("session1", "session2")}

    def kept(seq: int, session: str = "session1", at_s: float = 0.0, **fields: object) -> str:
        frame = make_frame(
            make_image(seed=seq, spot=(24, 24, 16, 16)), seq, captured_ns=START + int(at_s * S)
        )
        verdict = replace(pipelines[session].inspect(frame), **fields)
        store.put(
            StoredImage(
                verdict.event_id, verdict.captured_ns, True, png(frame.image), ".png", verdict.to_json()
            )
        )
        return verdict.event_id

    return kept


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def groups(folder: Path) -> dict[str, int]:
    """How many images each group has."""
    return Counter(row["group"] for row in rows(folder))


def test_what_was_said_is_written_with_copies_of_the_images(state: Path, keep, tmp_path: Path) -> None:
    ids = [keep(seq, trigger="gpio") for seq in range(5)]
    for event_id, label in zip(ids, ("ok", "ng", "unsure", "ng", "ng"), strict=True):
        review(state, event_id, label, "Ada")
    review(state, ids[4], "ok", "Ada")  # the last word
    done = export(state, tmp_path / "set", 10.0)
    assert str(done) == (
        f"{tmp_path}/set/manifest.csv: 4 images (2 ok, 2 ng) in 4 groups;"
        " left out: 1 unsure, 0 without an image"
    )
    labels = {row["path"]: row["label"] for row in rows(tmp_path / "set")}
    assert labels == {
        f"images/{ids[number]}.png": label for number, label in ((0, "ok"), (1, "ng"), (3, "ng"), (4, "ok"))
    }
    for path in labels:
        original = image_store.find(state / "archive", Path(path).stem)
        assert original is not None
        assert (tmp_path / "set" / path).read_bytes() == original.read_bytes()
        verdict = json.loads((tmp_path / "set/verdicts" / f"{Path(path).stem}.json").read_text())
        assert verdict["event_id"] == Path(path).stem
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_trainer_reads_it(state: Path, keep, tmp_path: Path) -> None:
    for seq in range(8):
        review(state, keep(seq, trigger="gpio"), "ng" if seq % 2 else "ok", "Ada")
    manifest = export(state, tmp_path / "set", 10.0).manifest
    listing = read_layout(manifest, "csv")
    assert listing.problems == ()
    assert sum(entry.label for entry in listing.entries) == 4
    dataset = datasets.load(manifest)
    assert dataset.problems == ()
    assert {sample.split for sample in dataset.samples} == {"train", "test"}


def test_a_part_is_a_group_whenever_it_came(state: Path, keep, tmp_path: Path) -> None:
    ids = [
        keep(1, at_s=0, part_id="A"),
        keep(2, at_s=1, part_id="B"),
        keep(3, session="session2", at_s=9000, part_id="A"),
    ]
    for event_id in ids:
        review(state, event_id, "ok", "Ada")
    export(state, tmp_path / "set", 10.0)
    assert groups(tmp_path / "set") == {"part A": 2, "part B": 1}


def test_a_triggered_image_without_a_part_is_a_group_of_its_own(state: Path, keep, tmp_path: Path) -> None:
    for seq in range(3):
        review(state, keep(seq, at_s=seq, trigger="gpio"), "ok", "Ada")
    assert export(state, tmp_path / "set", 10.0).groups == 3


def test_images_of_a_free_camera_are_together_as_long_as_they_are_near(
    state: Path, keep, tmp_path: Path
) -> None:
    """At 0, 8, 16 | 30 | 41, 50 s; and another session at 8 s."""
    ids = [keep(seq, at_s=at_s) for seq, at_s in enumerate((0, 8, 16, 30, 41, 50))]
    ids.append(keep(0, session="session2", at_s=8))
    for event_id in reversed(ids):  # whatever the order of the reviews
        review(state, event_id, "ok", "Ada")
    done = export(state, tmp_path / "set", 10.0)
    assert groups(tmp_path / "set") == {ids[0]: 3, ids[3]: 1, ids[4]: 2, ids[6]: 1}
    assert done.groups == 4


def test_images_that_are_gone_are_counted(state: Path, keep, tmp_path: Path) -> None:
    ids = [keep(seq, trigger="gpio") for seq in range(3)]
    for event_id in ids:
        review(state, event_id, "ok", "Ada")
    for number, gone in ((0, ".png"), (1, ".json")):
        image = image_store.find(state / "archive", ids[number])
        assert image is not None
        image.with_suffix(gone).unlink()
    done = export(state, tmp_path / "set", 10.0)
    assert (done.ok, done.missing) == (1, 2)


def test_nothing_to_export_is_an_error(state: Path, keep, tmp_path: Path) -> None:
    review(state, keep(0), "unsure", "Ada")
    with pytest.raises(ReviewError, match="1 events reviewed, 1 of them unsure, 0 without an image"):
        export(state, tmp_path / "set", 10.0)
    assert not (tmp_path / "set").exists()


def test_what_is_there_is_never_overwritten(state: Path, keep, tmp_path: Path) -> None:
    review(state, keep(0), "ok", "Ada")
    (tmp_path / "set").mkdir()
    with pytest.raises(StorageError, match=r"set: cannot be written: .*set exists already"):
        export(state, tmp_path / "set", 10.0)
    assert list((tmp_path / "set").iterdir()) == []


def test_a_disk_that_is_full_gets_no_half_set(state: Path, keep, small_disk: Path) -> None:
    for seq in range(10):
        review(state, keep(seq), "ok", "Ada")
    (small_disk / "other").write_bytes(bytes(40_000))
    with pytest.raises(StorageError, match="No space left"):
        export(state, small_disk / "set", 10.0)
    assert [path.name for path in small_disk.iterdir()] == ["other"]


def test_the_command(state: Path, keep, tmp_path: Path) -> None:
    review(state, keep(0), "ok", "Ada")
    review(state, keep(1, at_s=3), "ok", "Ada")
    (state / "config.toml").write_text('[station]\nstate = "."\n')
    given = ("export", "--reviewed", tmp_path / "set", "--config", state / "config.toml")
    done = run_device(*given, "--apart", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 images (2 ok, 0 ng) in 2 groups" in done.stdout
    done = run_device(*given)
    assert done.returncode == 9
    assert "exists already" in done.stderr
