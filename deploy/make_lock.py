"""Renews deploy/lock/: the exact wheels of a station and of the bridge, for each Python and machine.

    .venv/bin/python deploy/make_lock.py     with uv beside it or on PATH, and the package index that pip uses

A line for each package, with the digest of the one wheel that such a machine takes. deploy/install.sh gives
pip the file with --require-hashes: a package that was exchanged on the way, or at its source, is refused.
Read what changed (git diff deploy/lock), and run the tests, before it is committed.

Exit codes: 0 done; 1 something does not resolve to wheels, or uv is missing; nothing was written then.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "deploy/lock"
LISTS = {"station": "requirements-pi.txt", "bridge": "deploy/bridge/requirements.txt"}
PYTHONS = ("3.11", "3.13")  # Debian Bookworm's and Trixie's
GLIBC = 36  # 2.36 is Bookworm's, and runs on Trixie
MACHINES = ("aarch64", "x86_64")
# numpy is Debian's own, against which its picamera2 is built: pip keeps what apt has put there.
# backports-strenum 1.3 is for Python up to 3.10, which uv overlooks.
CONSTRAINTS = {
    "3.11": "numpy==1.24.2\nbackports-strenum<1.3\n",
    "3.13": "numpy==2.2.4\nbackports-strenum<1.3\n",
}


def main() -> int:
    """The command; returns its exit code."""
    try:
        made = {
            f"{name}-{python}-{machine}.txt": lock(LISTS[name], python, machine)
            for name, python, machine in itertools.product(LISTS, PYTHONS, MACHINES)
        }
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}\n{getattr(error, 'stderr', '')}".strip(), file=sys.stderr)
        return 1
    LOCKS.mkdir(exist_ok=True)
    for file, text in made.items():
        (LOCKS / file).write_text(text)
    return 0


def lock(requirements: str, python: str, machine: str) -> str:
    """The lines of one file. Raises CalledProcessError: it does not resolve to wheels."""
    head = f"# {requirements} on Python {python}, {machine}. Made by deploy/make_lock.py; do not edit.\n"
    return head + "".join(wheels(pins(requirements, python, machine), python, machine))


def pins(requirements: str, python: str, machine: str) -> list[str]:
    """NAME==VERSION of everything that is needed there; uv reads markers as that machine does."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(CONSTRAINTS[python])
        constraints.flush()
        target = ("--python-version", python, "--python-platform", f"{machine}-manylinux_2_{GLIBC}")
        quiet = ("--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:", "--python", "python3")
        command = ("uv", "pip", "compile", *quiet, *target, "-c", constraints.name, str(ROOT / requirements))
        return said(*command).split()


def wheels(pinned: list[str], python: str, machine: str) -> list[str]:
    """A line for each, with the digest of the wheel that pip takes there."""
    tags = [f"manylinux_2_{glibc}_{machine}" for glibc in range(GLIBC, 16, -1)]
    platforms = [part for tag in (*tags, f"manylinux2014_{machine}") for part in ("--platform", tag)]
    abis = [part for abi in (f"cp{python.replace('.', '')}", "abi3", "none") for part in ("--abi", abi)]
    command = (
        *(sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--report", "-", "--no-deps"),
        *(
            "--ignore-installed",
            "--ignore-requires-python",
            "--target",
            "/nonexistent",
            "--only-binary=:all:",
            "--implementation",
            "cp",
        ),
        *("--python-version", python, *platforms, *abis, *pinned),
    )
    found = json.loads(said(*command))["install"]
    lines = ((one["metadata"], one["download_info"]["archive_info"]["hashes"]["sha256"]) for one in found)
    return sorted(f"{meta['name']}=={meta['version']} --hash=sha256:{digest}\n" for meta, digest in lines)


def said(*command: str) -> str:
    """What a command prints. Raises CalledProcessError, OSError."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
