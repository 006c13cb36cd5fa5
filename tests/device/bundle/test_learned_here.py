"""What was learned here is known again; what was not, or was changed, is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.bundle import learned_here
from device.errors import StorageError


def make_bundle(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "manifest.json").write_text(content)
    return folder


def test_a_recorded_bundle_is_known_until_its_manifest_changes(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ours, other = make_bundle(tmp_path / "ours", "a"), make_bundle(tmp_path / "other", "b")
    assert not learned_here.learned_here(state, ours)
    learned_here.record(state, ours)
    assert learned_here.learned_here(state, ours)
    assert not learned_here.learned_here(state, other)
    (ours / "manifest.json").write_text("changed")
    assert not learned_here.learned_here(state, ours)
    assert not learned_here.learned_here(state, tmp_path / "missing")


def test_half_a_line_hides_no_other(tmp_path: Path) -> None:
    first, second = make_bundle(tmp_path / "first", "a"), make_bundle(tmp_path / "second", "b")
    learned_here.record(tmp_path, first)
    with (tmp_path / learned_here.FILE).open("a") as file:
        file.write('{"ts": "2026\n[1]\n')
    learned_here.record(tmp_path, second)
    assert learned_here.learned_here(tmp_path, first)
    assert learned_here.learned_here(tmp_path, second)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StorageError, match="state"):
        learned_here.record(tmp_path / "state", make_bundle(tmp_path / "b", "a"))
