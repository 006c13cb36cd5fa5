"""Which bundles this station has learned itself, so that they are known where others need a signature.

<state>/learned.jsonl has a line for each: when it was made, its name, and the SHA-256 of its manifest.json,
which holds the digests of all its files. Who can write to this folder can change the models as well.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from device.bundle import manifest
from device.system import clock, durable

FILE = "learned.jsonl"


def record(state: Path, bundle: Path) -> None:
    """Remember a bundle that was learned here; it is on the disk when this returns. Raises StorageError."""
    now = clock.stamp()
    line = json.dumps({"ts": now, "bundle": bundle.name, "manifest_sha256": _digest(bundle)})
    durable.append(state / FILE, line.encode())


def learned_here(state: Path, bundle: Path) -> bool:
    """Whether the bundle is one of those, unchanged as far as its manifest goes."""
    try:
        lines = (state / FILE).read_text("utf-8").splitlines()
        wanted = _digest(bundle)
    except (OSError, UnicodeDecodeError):
        return False
    return any(_digest_in(line) == wanted for line in lines)


def _digest(bundle: Path) -> str:
    return hashlib.sha256((bundle / manifest.FILE).read_bytes()).hexdigest()


def _digest_in(line: str) -> object:
    """Of a line; None for one that a power cut left half written."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found.get("manifest_sha256") if isinstance(found, dict) else None
