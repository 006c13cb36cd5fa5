"""The logbook, read back as TensorBoard reads it."""

from __future__ import annotations

import pytest
import tensorflow as tf

from device.errors import StorageError
from trainer.training.logbook import FIRST, Logbook


def read(folder):
    """{(tag, step): value} of the one file, whose first record names the version."""
    [path] = folder.glob("events.out.tfevents.*")
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert events[0].file_version == FIRST
    return {
        (value.tag, event.step): value.simple_value for event in events[1:] for value in event.summary.value
    }


def test_what_is_noted_is_kept_and_written(tmp_path):
    book = Logbook(tmp_path / "logs")
    book.note("fold-1", 1, {"loss": 0.5, "val_ap": 0.75})
    book.note("fold-2", 1, {"loss": 1.0})
    book.note("fold-1", 2, {"loss": 0.25, "val_ap": 0.875})
    expected = {("loss", 1): 0.5, ("val_ap", 1): 0.75, ("loss", 2): 0.25, ("val_ap", 2): 0.875}
    assert read(tmp_path / "logs" / "fold-1") == expected  # before the book is closed: one can watch
    assert read(tmp_path / "logs" / "fold-2") == {("loss", 1): 1.0}
    assert book.history[0] == {"run": "fold-1", "epoch": 1, "loss": 0.5, "val_ap": 0.75}
    assert len(book.history) == 3


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    book = Logbook()
    book.note("head", 1, {"loss": 1})
    assert book.history == [{"run": "head", "epoch": 1, "loss": 1.0}]
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_that_is_noted_again_counts_once():
    book = Logbook()
    for loss in (3.0, 2.0):
        book.note("head", 1, {"loss": loss})
    assert [row["loss"] for row in book.history] == [2.0]


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "logs").write_text("mine")
    with pytest.raises(StorageError, match=r"--logs .*/logs: cannot be written: "):
        Logbook(tmp_path / "logs").note("head", 1, {"loss": 1.0})
