"""A small file system that can really be full, or read-only."""

from __future__ import annotations

import contextlib
import shutil
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


def abort(folder: Path) -> None:
    """What the kernel does to ext4 by itself when the card answers with errors: no more writing."""
    remount(folder, "abort")


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 16 MB on a loop device, with a journal, as an SD card's; skipped where there can be none."""
    image, folder = tmp_path / "card.img", tmp_path / "card"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16_000_000)
    for command in (("mkfs.ext4", "-q", str(image)), ("mount", "-o", "loop", str(image), str(folder))):
        if shutil.which(command[0]) is None:
            pytest.skip(f"no {command[0]} (e2fsprogs)")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no loop device can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(("umount", str(folder)), check=True)


@pytest.fixture
def small_disk(make_disk: Callable[..., Path]) -> Path:
    """One of them."""
    return make_disk()
