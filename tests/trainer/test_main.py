"""python -m trainer: what it lists is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import trainer
from trainer.__main__ import COMMANDS, main

ROOT = Path(trainer.__file__).parent


def test_every_command_is_listed() -> None:
    modules = [path for path in ROOT.glob("*.py") if not path.stem.startswith("__")]
    commands = {
        path.stem
        for path in modules
        if re.search(r'^if __name__ == "__main__"', path.read_text(), re.MULTILINE)
    }
    packages = {path.parent.name for path in ROOT.glob("*/__main__.py")}
    assert commands | packages == COMMANDS.keys()


def test_without_a_command_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    for name, text in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", said, re.MULTILINE)
