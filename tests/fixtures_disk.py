"""A small file system that can really be full, or read-only."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def remount(folder: Path, option: str) -> None:
    """ "ro" or "rw"."""
    subprocess.run(("mount", "-o", f"remount,{option}", str(folder)), check=True)


def fill(folder: Path, what: str = "bytes") -> None:
    """With one file, or with many empty ones, until the disk takes no more."""
    with contextlib.suppress(OSError), (folder / "other").open("wb", buffering=0) as other:
        for number in range(1000):
            if what == "bytes":
                other.write(bytes(4096))
            else:
                (folder / f"empty-{number}").touch()
        raise AssertionError(f"{folder} is larger than it should be")


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """File systems of 64 kB (16 pages), with further options of tmpfs; skipped where none may be mounted."""
    mounted: list[Path] = []

    def make(*options: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ("mount", "-t", "tmpfs", "-o", ",".join(("size=64k", *options)), "tmpfs", str(folder))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(("umount", str(folder)), check=True)


@pytest.fixture
def small_disk(make_disk: Callable[..., Path]) -> Path:
    """One of them."""
    return make_disk()
