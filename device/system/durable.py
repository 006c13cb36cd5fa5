"""Files that are there after a power cut: whole, with the content before or after a change, never half."""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import tempfile
from pathlib import Path

from device.errors import StorageError

log = logging.getLogger(__name__)

_HERE = -100  # AT_FDCWD: paths are from the working folder
_RENAME_EXCHANGE = 2  # renameat2(2)


def require_folder(folder: Path, named: str) -> None:
    """A folder that can be written to, made where it is missing: known now, not after the long part.

    Raises StorageError, which calls it `named`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(f"{named}: cannot be written: {error.strerror}") from None


def write(path: Path, content: bytes) -> None:
    """Put a file in place of the one before it, in one step; it is on the disk when this returns.

    Its folder is made where it is missing. Raises StorageError; what was there is untouched then.
    """
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        make_folder(path.parent)
        try:
            create(fresh, content)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def create(path: Path, content: bytes, modified_ns: int | None = None) -> None:
    """Write a file that nobody reads yet; its content is on the disk when this returns, its name is not.

    `modified_ns`: when it was changed last, instead of now. Raises OSError.
    """
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        if modified_ns is not None:
            os.utime(file.fileno(), ns=(modified_ns, modified_ns))
        os.fsync(file.fileno())


class StateFile:
    """A file that is written again and again. A failure is told, the first aloud, the rest quietly."""

    def __init__(self, path: Path, consequence: str) -> None:
        """`consequence` of a failure, for the log."""
        self._path = path
        self._consequence = consequence
        self._failed = False

    def write(self, content: bytes) -> bool:
        """Whether it is on the disk now, in place of what was there."""
        try:
            write(self._path, content)
        except StorageError as error:
            log.log(logging.DEBUG if self._failed else logging.WARNING, "%s; %s", error, self._consequence)
            self._failed = True
            return False
        self._failed = False
        return True


def append(path: Path, line: bytes) -> None:
    """Add a line to a file, which is made where it is missing; it is on the disk when this returns.

    What a power cut left of the line before becomes a line of its own. Raises StorageError.
    """
    try:
        make_folder(path.parent)
        with path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if not end:
            sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def remove(path: Path) -> None:
    """Remove a file where there is one; it is gone for good when this returns. Raises StorageError."""
    try:
        path.unlink()
        sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path}: cannot be removed: {error.strerror or error}") from error


def exchange(one: Path, other: Path) -> None:
    """Give each of two paths what the other has, in one step: neither is ever missing. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def make_folder(folder: Path) -> None:
    """A folder, and those above it where they are missing, with their names on the disk. Raises OSError."""
    try:
        folder.mkdir()
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        if folder.is_dir():
            return
        raise
    sync_folder(folder.parent)


def sync_folders(folder: Path) -> None:
    """The names in a folder and in all below it, links not followed. Raises OSError."""
    for inner, _, _ in os.walk(folder):
        sync_folder(Path(inner))


def sync_folder(folder: Path) -> None:
    """A name in a folder, new or gone, survives a power cut only once the folder itself is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
