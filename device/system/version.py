"""Which version this is, and of which commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

from device import __version__

_ROOT = Path(__file__).resolve().parents[2]
_STAMP = Path(__file__).with_name("commit.txt")  # made when a wheel is built (setup.py)


def described() -> str:
    """As `0.2.0 (commit 0123abcd)`; without the commit where neither a checkout nor a wheel tells it."""
    commit = _stamped() or _of_checkout()
    return f"{__version__} (commit {commit})" if commit else __version__


def _stamped() -> str:
    try:
        return _STAMP.read_text("ascii").strip()
    except OSError:
        return ""


def _of_checkout() -> str:
    if not (_ROOT / ".git").exists():  # an installation that lies in somebody else's checkout is not of it
        return ""
    command = ("git", "-C", str(_ROOT), "rev-parse", "--short=8", "HEAD")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
