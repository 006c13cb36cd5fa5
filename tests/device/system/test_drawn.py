"""Words that nobody can guess."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from device.system.drawn import drawn


def test_a_word_stays_and_no_two_are_alike(tmp_path: Path) -> None:
    word = drawn(tmp_path / "state" / "word")
    assert re.fullmatch("[0-9a-f]{8}", word)
    assert drawn(tmp_path / "state" / "word") == word
    assert drawn(tmp_path / "other") != word


@pytest.mark.parametrize("damage", [b"", b"../../x", b"\xff\xfe", b"0a1b2c3d4e"])
def test_a_damaged_one_is_drawn_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "word").write_bytes(damage)
    word = drawn(tmp_path / "word")
    assert re.fullmatch("[0-9a-f]{8}", word)
    assert drawn(tmp_path / "word") == word


def test_where_nothing_is_kept_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "word").mkdir()
    with caplog.at_level(logging.WARNING):
        assert drawn(tmp_path / "word") != drawn(tmp_path / "word")
    assert "what was drawn is for this session alone" in caplog.text
