"""Passwords that config.toml does not hold: a file's first line, or the unit's systemd credential.

[mqtt] and [camera] have a `password_file`. Without one, the credential `mqtt-password` or `camera-password`
(LoadCredential= in the unit) counts where there is a user name for it; an empty credential is none.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, urlsplit

from device.errors import ConfigError

LONGEST_BYTES = 65_535  # that MQTT can carry


def read(section: str, file: str, folder: Path) -> str | None:
    """The password of [section] for its user; None without any.

    `file`: its password_file, seen from `folder`. Raises ConfigError: the file gives none.
    """
    if file:
        return _first_line(section, folder / file)
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / f"{section}-password"
    try:
        return _first_line(section, credential) if credential.stat().st_size else None
    except FileNotFoundError:
        return None


def of_camera(source: str, file: str, folder: Path) -> str:
    """The camera's source, an address with a user name alone, with the password put in.

    Raises ConfigError: password_file gives no password, the source has no user name for it, or is no address.
    """
    try:
        parts = urlsplit(source) if "://" in source else None
    except ValueError as error:
        raise ConfigError(f"[camera] source: must be an address: {error}, got {source!r}") from None
    if parts is None or not parts.username or parts.password is not None:
        if file:
            raise ConfigError(
                "[camera] password_file: needs a source with a user name alone, rtsp://USER@HOST/..."
            )
        return source
    password = read("camera", file, folder)
    if password is None:
        return source
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


def _first_line(section: str, path: Path) -> str:
    where = f"[{section}] password_file: {path}"
    try:
        first = path.read_text("utf-8-sig").partition("\n")[0].rstrip("\r")
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: must be UTF-8 text") from None
    if not first:
        raise ConfigError(f"{where}: must hold the password on its first line, got nothing")
    if (length := len(first.encode())) > LONGEST_BYTES:
        raise ConfigError(f"{where}: must hold at most {LONGEST_BYTES} bytes on its first line, got {length}")
    return first
