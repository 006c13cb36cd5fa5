"""Changes of single keys in a configuration file that a person has written: its comments and its order stay.

The outcome is read back before it takes the place of the old file: it must say what the old one said with
these changes, and must be a configuration that the service takes. The old file is kept beside the new one.
"""

from __future__ import annotations

import re
import secrets
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from device import config
from device.errors import ConfigError, StorageError
from device.system import durable

Changes = Mapping[str, Mapping[str, Any]]
"""{section: {key: value}}"""

_HEADER = re.compile(r"^\s*\[([^\[\]]+)\]\s*(#.*)?$")


def as_toml(changes: Changes) -> str:
    """The changes by themselves, to be read or pasted."""
    return "\n".join(
        "\n".join([f"[{section}]", *(f"{key} = {_value(value)}" for key, value in keys.items())]) + "\n"
        for section, keys in changes.items()
        if keys
    )


def edited(text: str, changes: Changes) -> str:
    """The text with these keys set. Raises ConfigError: it is written in a way that this cannot edit."""
    lines = text.splitlines()
    for section, keys in changes.items():
        for key, value in keys.items():
            lines = _with_key(lines, section, key, f"{key} = {_value(value)}")
    found = "\n".join(lines) + "\n"
    try:
        is_right = tomllib.loads(found) == _merged(_read(text), changes)
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise ConfigError(
            f"this file is written in a way that cannot be edited by program; put in:\n{as_toml(changes)}"
        )
    return found


def write(path: Path, changes: Changes) -> Path:
    """Set the keys in the file, in one step; the old file, as it is kept.

    Raises ConfigError where the service would not take the outcome, StorageError. Nothing has changed then.
    """
    try:
        text = path.read_text("utf-8")
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    content = edited(text, changes)
    draft = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.toml")
    kept = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}.old")
    try:
        durable.write(draft, content.encode())
        draft.chmod(mode)
        try:
            config.load(draft)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(draft), str(path))) from None
        durable.write(kept, text.encode())
        kept.chmod(mode)
        draft.replace(path)
        durable.sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return kept


def _with_key(lines: list[str], section: str, key: str, line: str) -> list[str]:
    """With `line` in place of the one that sets the key, or at the top of its section, or in a new one."""
    top = next((at for at, text in enumerate(lines) if _section(text) == section), None)
    if top is None:
        return [*lines, *([""] if lines and lines[-1].strip() else []), f"[{section}]", line]
    end = next((at for at in range(top + 1, len(lines)) if _section(lines[at]) is not None), len(lines))
    setting = re.compile(rf"^\s*{re.escape(key)}\s*=")
    for at in range(top + 1, end):
        if setting.match(lines[at]):
            return [*lines[:at], line + _comment(lines[at]), *lines[_last(lines, at, end) + 1 :]]
    return [*lines[: top + 1], line, *lines[top + 1 :]]


def _section(line: str) -> str | None:
    header = _HEADER.match(line)
    return header.group(1).strip() if header else None


def _last(lines: list[str], first: int, end: int) -> int:
    """The last line of a value that begins in `first`: arrays may go on."""
    for last in range(first, end):
        try:
            tomllib.loads("\n".join(lines[first : last + 1]))
        except tomllib.TOMLDecodeError:
            continue
        return last
    raise ConfigError(f"line {first + 1}: the value does not end within its section")


def _comment(line: str) -> str:
    """What stands behind a number or an array without texts, with the blanks before it."""
    found = re.search(r"(\s+#.*)$", line) if '"' not in line and "'" not in line else None
    return found.group(1) if found else ""


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def _read(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not TOML: {error}") from error


def _merged(tables: dict[str, Any], changes: Changes) -> dict[str, Any]:
    merged = {**tables}
    for section, keys in changes.items():
        if keys:
            merged[section] = {
                **merged.get(section, {}),
                **{key: _plain(value) for key, value in keys.items()},
            }
    return merged


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
