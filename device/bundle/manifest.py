"""manifest.json of a bundle: the name, size and SHA-256 of every file in it.

    {"schema_version": 1, "files": [{"path": "model.tflite", "size_bytes": 861000, "sha256": "..."}, ...]}

Paths are relative, with "/" between plain names; manifest.json and its signature do not list themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from device.errors import BundleError
from device.schemas import strict_json

FILE = "manifest.json"
SIGNATURE_FILE = "manifest.json.sig"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One file: its path in the bundle, its size in bytes, the SHA-256 of its content in hex."""

    path: str
    size_bytes: int
    sha256: str


def of_contents(files: Mapping[str, bytes]) -> str:
    """The text of manifest.json for these files (path in the bundle: content).

    Raises BundleError for a path that a manifest may not list.
    """
    entries = [_entry(path, data) for path, data in sorted(files.items())]
    content = {"schema_version": SCHEMA_VERSION, "files": [asdict(entry) for entry in entries]}
    _checked(content, FILE)
    return json.dumps(content, indent=2) + "\n"


def verify(folder: Path) -> dict[str, ManifestEntry]:
    """The entries by path, after comparing every file under `folder` with them.

    Raises BundleError naming the file: the manifest is not as it should be, a file is missing, not listed,
    not plain (a link, a device), or differs in size or content.
    """
    entries = read(folder / FILE)
    found = set(_files(folder, folder)) - {FILE, SIGNATURE_FILE}
    for path in sorted(found - entries.keys()):
        raise BundleError(f"{folder / path}: not listed in {FILE}")
    for path in sorted(entries.keys() - found):
        raise BundleError(f"{folder / path}: missing, but listed in {FILE}")
    for entry in entries.values():
        _compare(folder / entry.path, entry)
    return entries


def _entry(path: str, content: bytes) -> ManifestEntry:
    return ManifestEntry(path, len(content), hashlib.sha256(content).hexdigest())


def read(path: Path) -> dict[str, ManifestEntry]:
    """The entries of a manifest by path, compared with no file. Raises BundleError naming the field."""
    if path.is_symlink():
        raise BundleError(f"{path}: must be a plain file, is a link")
    if path.exists() and not path.is_file():  # a pipe would keep its reader waiting
        raise BundleError(f"{path}: must be a plain file, is something else")
    try:
        content = strict_json.parse(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from None
    return _checked(content, str(path))


def _checked(content: Any, source: str) -> dict[str, ManifestEntry]:
    """The entries of a manifest's content, by path."""
    try:
        strict_json.check(content, strict_json.schema("manifest"))
    except ValueError as error:
        raise BundleError(f"{source}: {error}") from None
    entries: dict[str, ManifestEntry] = {}
    for number, item in enumerate(content["files"]):
        entry = ManifestEntry(**item)
        if entry.path in entries:
            raise BundleError(f"{source}: files[{number}].path: must be listed only once, got {entry.path}")
        if entry.path in (FILE, SIGNATURE_FILE):
            raise BundleError(f"{source}: files[{number}].path: must not be {entry.path}")
        entries[entry.path] = entry
    return entries


def _files(folder: Path, root: Path) -> Iterator[str]:
    """The paths of all plain files under a folder, from `root`. Anything else but a folder is refused."""
    try:
        with os.scandir(folder) as scan:
            items = sorted(scan, key=lambda item: item.name)
    except OSError as error:
        raise BundleError(f"{folder}: cannot be listed: {error.strerror}") from None
    for item in items:
        if item.is_dir(follow_symlinks=False):
            yield from _files(Path(item.path), root)
        elif item.is_file(follow_symlinks=False):
            yield Path(item.path).relative_to(root).as_posix()
        else:
            kind = "a link" if item.is_symlink() else "something else"
            raise BundleError(f"{item.path}: must be a plain file, is {kind}")


def _compare(path: Path, entry: ManifestEntry) -> None:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{path}: must be a plain file")
            if status.st_size != entry.size_bytes:
                raise BundleError(f"{path}: must have {entry.size_bytes} bytes, has {status.st_size}")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from None
    if digest != entry.sha256:
        raise BundleError(f"{path}: damaged or changed: must have sha256 {entry.sha256}, has {digest}")
