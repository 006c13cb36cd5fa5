"""A word that nobody can guess, the same after a restart: for names that others must not take."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
from pathlib import Path

from device.errors import StorageError
from device.system import durable

log = logging.getLogger(__name__)

_WORD = re.compile(r"[0-9a-f]{8}")


def drawn(path: Path) -> str:
    """Eight hex digits, kept in `path`. Where the disk does not keep them, they are others the next time."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if _WORD.fullmatch(known := path.read_text("ascii").strip()):
            return known
    word = secrets.token_hex(4)
    try:
        durable.write(path, f"{word}\n".encode())
    except StorageError as error:
        log.warning("%s: what was drawn is for this session alone", error)
    return word
