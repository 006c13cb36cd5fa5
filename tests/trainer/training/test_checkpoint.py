"""Checkpoints: complete or not there, and of this training alone."""

from __future__ import annotations

import numpy as np
import pytest

from device.errors import StorageError
from trainer.training.checkpoint import Checkpoints

ARRAYS = [np.float32([[1, 2], [3, 4]]), np.int64(7), np.arange(12, dtype=np.uint32)]


def test_what_was_saved_comes_back(tmp_path):
    first = Checkpoints(tmp_path / "a", "mark")
    assert first.load("fold-0") is None
    first.save("fold-0", ARRAYS, {"logs": [{"loss": 0.5}]})
    arrays, about = Checkpoints(tmp_path / "a", "mark").load("fold-0")
    assert about == {"logs": [{"loss": 0.5}]}
    for array, expected in zip(arrays, ARRAYS, strict=True):
        assert array.dtype == np.asarray(expected).dtype
        np.testing.assert_array_equal(array, expected)


def test_more_than_ten_arrays_keep_their_order(tmp_path):
    checkpoints = Checkpoints(tmp_path / "a", "mark")
    checkpoints.save("fold-0", [np.int64(number) for number in range(230)], {})
    assert [int(array) for array in checkpoints.load("fold-0")[0]] == list(range(230))


def test_those_of_another_training_are_not_taken(tmp_path):
    Checkpoints(tmp_path / "a", "mark").save("fold-0", ARRAYS, {})
    assert Checkpoints(tmp_path / "a", "another").load("fold-0") is None


def test_what_is_kept_stays(tmp_path):
    checkpoints = Checkpoints(tmp_path / "a", "mark")
    for number in (1, 2, 3):
        checkpoints.save("fold-0", [np.int64(number)], {"epoch": number})
        if number < 3:
            checkpoints.keep("fold-0", "best-0")
    assert checkpoints.load("fold-0")[1] == {"epoch": 3}
    assert checkpoints.load("best-0")[1] == {"epoch": 2}


def test_a_half_written_state_is_none(tmp_path):
    """As a kill leaves it: the file beside, and the one before still in place."""
    checkpoints = Checkpoints(tmp_path / "a", "mark")
    checkpoints.save("fold-0", ARRAYS, {"epoch": 1})
    (tmp_path / "a" / "fold-0.new").write_bytes(b"PK half")
    again = Checkpoints(tmp_path / "a", "mark")
    assert again.load("fold-0")[1] == {"epoch": 1}
    again.save("fold-0", ARRAYS, {"epoch": 2})
    assert again.load("fold-0")[1] == {"epoch": 2}


def test_a_full_disk(small_disk):
    checkpoints = Checkpoints(small_disk / "a", "mark")
    checkpoints.save("fold-0", ARRAYS, {"epoch": 1})
    with pytest.raises(
        StorageError, match=r"fold-0.npz: cannot be written: No space left on device; .*goes on"
    ):
        checkpoints.save("fold-0", [np.zeros(2**28, np.uint8)], {"epoch": 2})
    assert checkpoints.load("fold-0")[1] == {"epoch": 1}
    assert sorted(path.name for path in (small_disk / "a").iterdir()) == ["fold-0.npz", "mark"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(StorageError, match="cannot be written"):
        Checkpoints(tmp_path / "a", "mark")
    assert (tmp_path / "a").read_text() == "mine"


def test_nothing_is_left_when_the_training_is_done(tmp_path):
    checkpoints = Checkpoints(tmp_path / "a", "mark")
    checkpoints.save("fold-0", ARRAYS, {})
    checkpoints.remove()
    assert list(tmp_path.iterdir()) == []
