"""From a folder that somebody else may write to, to a draft of a bundle that nobody else can touch.

Only what the manifest lists is taken, and its signature: plain files, by descriptor, none through a link,
none larger than listed. Nothing of it is run. What is checked is the copy, so that a change after the check
changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from device.bundle import manifest, store
from device.errors import BundleError, EdgeVisionError, StorageError
from device.system.durable import sync_folders

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
LARGEST_BYTES = (
    256 * 1024 * 1024
)  # of a bundle; a MobileNetV2 in int8 has 1 to 4 MB, its golden images some more
MOST_FILES = 200
_MANIFEST_BYTES = 256 * 1024
_SIGNATURE_BYTES = 16 * 1024
_CHUNK_BYTES = 1 << 20


def take(incoming: Path, name: str, models: Path, vouch: Callable[[Path], object]) -> Path:
    """A draft in `models` with the files of the bundle `incoming/name`, each as its manifest says, synced.

    `vouch` is asked first, of a folder with the manifest and its signature alone: a stranger's bundle takes
    no room. The caller renames or removes it. Raises BundleError naming the file: not a plain file, larger
    than it should be, damaged, missing; StorageError where the disk does not take it. No draft is left then.
    """
    if not re.fullmatch(NAME, name):
        raise BundleError(f"bundle name: must be 1..128 letters, digits, '.', '_' or '-', got {name!r}")
    draft = store.draft_path(models, name)
    try:
        draft.mkdir()
        _copy_bundle(incoming / name, draft, vouch)
        manifest.verify(draft)
    except EdgeVisionError:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise StorageError(f"{draft}: cannot be written: {error.strerror or error}") from error
    return draft


def _copy_bundle(source: Path, draft: Path, vouch: Callable[[Path], object]) -> None:
    """The manifest, the signature where there is one, and what the first lists; all of it synced."""
    _copy(source, manifest.FILE, draft, _MANIFEST_BYTES)
    with contextlib.suppress(_Missing):  # whether there must be one is for `vouch` to say
        _copy(source, manifest.SIGNATURE_FILE, draft, _SIGNATURE_BYTES)
    vouch(draft)
    entries = manifest.read(draft / manifest.FILE)
    total = sum(entry.size_bytes for entry in entries.values())
    if len(entries) > MOST_FILES or total > LARGEST_BYTES:
        raise BundleError(
            f"{source / manifest.FILE}: must list at most {MOST_FILES} files, {LARGEST_BYTES} bytes in all, "
            f"lists {len(entries)}, {total} bytes"
        )
    for entry in entries.values():
        _copy(source, entry.path, draft, entry.size_bytes)
    sync_folders(draft)


class _Missing(BundleError):
    """A file is not there."""


def _copy(source: Path, path: str, draft: Path, most_bytes: int) -> None:
    """One plain file of at most `most_bytes`, whatever is done to it meanwhile."""
    target = draft / path
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open_inside(source, path)
    with os.fdopen(descriptor, "rb") as read, target.open("xb") as written:
        _require_plain(source / path, os.fstat(descriptor))
        left = most_bytes
        while chunk := read.read(min(_CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise BundleError(f"{source / path}: must have at most {most_bytes} bytes, has more")
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())


def _require_plain(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path}: must be a plain file")
    if status.st_nlink != 1:  # the same file under another name, perhaps one that its sender may not read
        raise BundleError(f"{path}: must be a file of its own, has {status.st_nlink} names")


def _open_inside(folder: Path, path: str) -> int:
    """A descriptor of folder/path for reading; neither `folder`, its parent nor a part of path is a link."""
    *folders, file = (folder.name, *path.split("/"))
    with contextlib.ExitStack() as opened:
        try:
            at = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            opened.callback(os.close, at)
            for inner in folders:
                at = os.open(inner, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                opened.callback(os.close, at)
            return os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        except OSError as error:
            raise _fault(error, folder / path) from None


def _fault(error: OSError, path: Path) -> BundleError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return BundleError(f"{path}: must be a plain file in plain folders, a link is on the way")
    kind = _Missing if error.errno == errno.ENOENT else BundleError
    return kind(f"{path}: cannot be read: {error.strerror}")
