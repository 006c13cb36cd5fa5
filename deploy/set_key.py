"""Sets one key of a station's configuration, and leaves every other character of the file as it is.

    python3 deploy/set_key.py FILE SECTION KEY VALUE

VALUE is a string. The file is replaced in one step, with its mode and owner; it is not touched where the key
has this value already. Exit codes: 0 done; 1 the file cannot be read or written, is no TOML, or has a form in
which the key cannot be set without changing something else: then it says what to write by hand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any


class KeyNotSet(Exception):
    """Why the key could not be set; the file is as it was."""


def set_key(path: Path, section: str, key: str, value: str) -> bool:
    """Make [section] key = "value" in a TOML file. False: it was so already. Raises KeyNotSet, OSError."""
    text = path.read_text("utf-8")
    before = _parsed(path, text)
    wanted = {**before, section: {**before.get(section, {}), key: value}}
    if before == wanted:
        return False
    changed = _with_key(text, section, f"{key} = {json.dumps(value, ensure_ascii=False)}", key)
    if _parsed(path, changed) != wanted:
        raise KeyNotSet(f'{path}: cannot be changed safely; write in [{section}]: {key} = "{value}"')
    _replace(path, changed)
    return True


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KeyNotSet(f"{path}: {error}") from None


def _with_key(text: str, section: str, line: str, key: str) -> str:
    """The text with this line in place of the key's own, behind the section's head, or in a new section."""
    head = re.search(rf"^\[\s*{re.escape(section)}\s*\][^\n]*\n?", text, re.MULTILINE)
    if head is None:
        return f"{text.rstrip()}\n\n[{section}]\n{line}\n"
    begin = head.end()
    following = re.compile(r"^\[", re.MULTILINE).search(text, begin)
    end = following.start() if following else len(text)
    own = re.compile(rf"^{re.escape(key)}\s*=[^\n]*", re.MULTILINE).search(text, begin, end)
    if own is not None:
        return f"{text[: own.start()]}{line}{text[own.end() :]}"
    newline = "" if head.group().endswith("\n") else "\n"
    return f"{text[:begin]}{newline}{line}\n{text[begin:]}"


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with fresh.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    shutil.copymode(path, fresh)
    status = path.stat()
    os.chown(fresh, status.st_uid, status.st_gid)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def main() -> int:
    """The command; returns its exit code."""
    file, section, key, value = sys.argv[1:]
    try:
        set_key(Path(file), section, key, value)
    except (KeyNotSet, OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
