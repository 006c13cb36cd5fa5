"""One key of a configuration is set, and nothing else of it changes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY

SIGNERS = "/etc/edgevision/allowed_signers"


def set_key(path: Path, value: str = SIGNERS) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, str(REPOSITORY / "deploy/set_key.py"), str(path), "bundle", "signers", value)
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('[bundle]\nsigners = ""\n', f'[bundle]\nsigners = "{SIGNERS}"\n'),
        (
            '# mine\n[bundle] # theirs\npath = "x"  # y\n\n[mqtt]\nhost = "h"\n',
            f'# mine\n[bundle] # theirs\nsigners = "{SIGNERS}"\npath = "x"  # y\n\n[mqtt]\nhost = "h"\n',
        ),
        ('[mqtt]\nhost = "h"', f'[mqtt]\nhost = "h"\n\n[bundle]\nsigners = "{SIGNERS}"\n'),
        ("[bundle]", f'[bundle]\nsigners = "{SIGNERS}"\n'),
        ("", f'\n\n[bundle]\nsigners = "{SIGNERS}"\n'),
        (
            '[x]\nsigners = ""\n[bundle]\nkeep = 3\n',
            f'[x]\nsigners = ""\n[bundle]\nsigners = "{SIGNERS}"\nkeep = 3\n',
        ),
    ],
)
def test_set_and_the_rest_is_kept(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(before)
    path.chmod(0o640)
    for _ in range(2):
        assert set_key(path).returncode == 0
        assert path.read_text() == after
        assert path.stat().st_mode & 0o777 == 0o640
    assert tomllib.loads(after)["bundle"]["signers"] == SIGNERS
    assert [file.name for file in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    "text",
    [
        'bundle = {signers = ""}\n',
        'bundle.signers = ""\n',
        '[bundle]\nsigners = """\nx\n"""\n',
        "[bundle\n",
    ],
)
def test_what_cannot_be_set_safely_is_left_and_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    done = set_key(path)
    assert (done.returncode, path.read_text()) == (1, text)
    assert done.stderr.startswith(f"error: {path}: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert set_key(tmp_path / "no.toml").returncode == 1
