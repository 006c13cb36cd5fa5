"""Which version this is: of a checkout, of a wheel, and of neither."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from device import __version__
from device.system import version


def test_a_checkout_names_its_commit() -> None:
    if not (version._ROOT / ".git").exists():
        pytest.skip("not in a checkout")
    assert re.fullmatch(rf"{re.escape(__version__)} \(commit [0-9a-f]{{8,}}\)", version.described())


def test_a_wheel_names_the_commit_that_it_was_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = tmp_path / "commit.txt"
    stamp.write_text("0123abcd\n")
    monkeypatch.setattr(version, "_STAMP", stamp)
    assert version.described() == f"{__version__} (commit 0123abcd)"


def test_without_either_the_version_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "_ROOT", tmp_path)
    assert version.described() == __version__
