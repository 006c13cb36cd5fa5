"""The bridge's configuration: bridge.toml over default.toml, checked, as frozen values."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from device.errors import ConfigError
from device.settings import (
    Matching,
    OneOf,
    Tables,
    Within,
    from_folder,
    from_folder_or_none,
    frozen,
    key,
    limits,
    load_tables,
    or_none,
    section,
)

DEFAULT_PATH = Path(__file__).with_name("default.toml")
CREDENTIALS = {  # what systemd's LoadCredential= may give in place of a file that is named
    ("mqtt", "password_file"): "mqtt-password",
    ("http", "token_file"): "http-token",
    ("webhooks", "secret_file"): "webhook-secret",
}
NAME = r"[A-Za-z0-9._-]{1,64}"
EVENTS = ("OK", "NG", "MARGINAL", "ERROR", "status")

_HOST = Matching(r"\S+", "a host name or an address")
_PORT = Within(1, 65535)
_LEAST_TOKEN = 16
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with
_PASSWORD, _TOKEN, _SECRET = CREDENTIALS


def _units(value: Any, folder: Path) -> dict[int, str]:
    """The station of each unit."""
    pairs = (entry.split("=", 1) for entry in value)
    return {int(unit): station for unit, station in pairs}


def _once(value: Any, folder: Path) -> tuple[str, ...]:
    """Each of an array once, in its order."""
    return tuple(dict.fromkeys(value))


@dataclass(frozen=True, slots=True)
class BrokerTlsConfig:
    """How to trust the broker, and how to be trusted. `ca_file` None: the authorities of the system."""

    ca_file: Path | None = key("", read=from_folder_or_none)
    cert_file: Path | None = key("", read=from_folder_or_none)
    key_file: Path | None = key("", read=from_folder_or_none)


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """[mqtt], and the password that is in its file; `tls` None: in clear."""

    host: str = key("localhost", _HOST)
    port: int = key(1883, _PORT)
    prefix: str = key(
        "edgevision",
        Matching(
            r"[^\s/+#$][^\s/+#]*(/[^\s/+#]+)*",
            "topic levels separated by single slashes, without spaces, +, # or a leading $",
        ),
    )
    client_id: str = key("", Matching(r"[^\x00\s]{0,100}", "at most 100 characters without spaces"))
    keepalive_s: int = key(5, Within(5, 3600))
    username: str | None = key("", read=or_none)
    password_file: Path | None = key("", read=from_folder_or_none)
    password: str | None = field(default=None, repr=False)
    tls: BrokerTlsConfig | None = key(False, read=or_none)


@dataclass(frozen=True, slots=True)
class ModbusConfig:
    """[modbus]; `units`: the station of each unit"""

    enabled: bool = key(False)
    host: str = key("127.0.0.1", _HOST)
    port: int = key(1502, _PORT)
    units: dict[int, str] = key(
        [], Matching(rf"\d{{1,3}}={NAME}", 'a unit and a station, "1=press-4"'), _units
    )
    trigger_timeout_s: float = key(2.0, Within(0.05, 60))


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """[http], and the token that is in its file"""

    enabled: bool = key(False)
    host: str = key("127.0.0.1", _HOST)
    port: int = key(8100, _PORT)
    token_file: Path | None = key("", read=from_folder_or_none)
    token: str | None = field(default=None, repr=False)
    recent_events: int = key(100, Within(1, 10_000))
    pictures_mib: int = key(32, Within(0, 10_000))
    trigger_rate_hz: float = key(1.0, Within(0.01, 1000))


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """[metrics]"""

    enabled: bool = key(False)
    host: str = key("127.0.0.1", _HOST)
    port: int = key(9108, _PORT)


@dataclass(frozen=True, slots=True)
class WebhooksConfig:
    """[webhooks], and the secret's bytes that are in its file"""

    urls: tuple[str, ...] = key([], Matching(r"https?://\S+", "an address, http:// or https://"), _once)
    events: tuple[str, ...] = key(["NG", "MARGINAL", "ERROR", "status"], OneOf(EVENTS), frozen)
    secret_file: Path | None = key("", read=from_folder_or_none)
    secret: bytes = field(default=b"", repr=False)
    state: Path = key("/var/lib/edgevision-bridge", Matching(r".+", "a path"), from_folder)
    max_waiting: int = key(100_000, Within(1, 10_000_000))
    timeout_s: float = key(10.0, Within(0.1, 60))


@dataclass(frozen=True, slots=True)
class BridgeLogConfig:
    """[log]"""

    level: str = key("info", OneOf(("debug", "info", "warning", "error")))


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """What bridge.toml says; see default.toml for the meaning of each value."""

    mqtt: BrokerConfig
    modbus: ModbusConfig
    http: HttpConfig
    metrics: MetricsConfig
    webhooks: WebhooksConfig
    log_level: str


SECTIONS: dict[str, tuple[type, ...]] = {
    "mqtt": (BrokerConfig, BrokerTlsConfig),
    "modbus": (ModbusConfig,),
    "http": (HttpConfig,),
    "metrics": (MetricsConfig,),
    "webhooks": (WebhooksConfig,),
    "log": (BridgeLogConfig,),
}
LIMITS = limits(SECTIONS)


def load(path: Path) -> BridgeConfig:
    """The configuration in a file. Raises ConfigError with every problem of the file, one a line."""
    tables = load_tables(DEFAULT_PATH, path, LIMITS, lambda tables: _conflicts(tables, path.parent))
    return _config(tables, path.parent)


def _conflicts(tables: Tables, folder: Path) -> list[str]:
    """What is legal key by key and cannot be together, and files that do not hold what they should."""
    problems = _unit_conflicts(tables["modbus"]) + _tls_conflicts(tables["mqtt"], folder)
    servers = [tables[name]["enabled"] for name in ("modbus", "http", "metrics")]
    if not any(servers) and not tables["webhooks"]["urls"]:
        problems.append(
            "nothing to do: none of [modbus], [http] and [metrics] is enabled, and [webhooks] urls is empty"
        )
    problems += [
        f"[webhooks] urls: must name a host, got {url}"
        for url in tables["webhooks"]["urls"]
        if not _has_host(url)
    ]
    for read in (_password, _token, _secret):
        try:
            read(tables, folder)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _unit_conflicts(modbus: dict[str, Any]) -> list[str]:
    pairs = [entry.split("=", 1) for entry in modbus["units"]]
    problems = [
        f"[modbus] units: must be units 1..255, got {unit}" for unit, _ in pairs if not 1 <= int(unit) <= 255
    ]
    for what, found in (
        ("unit", [str(int(unit)) for unit, _ in pairs]),
        ("station", [station for _, station in pairs]),
    ):
        twice = sorted({one for one in found if found.count(one) > 1})
        problems += [f"[modbus] units: {what} {one} must stand only once" for one in twice]
    if modbus["enabled"] and not pairs:
        problems.append("[modbus] units: must name a station or more where Modbus is enabled, got []")
    return problems


def _tls_conflicts(mqtt: dict[str, Any], folder: Path) -> list[str]:
    problems = []
    for name in ("ca_file", "cert_file", "key_file"):
        if mqtt[name] and not mqtt["tls"]:
            problems.append(f"[mqtt] {name}: needs tls = true")
        elif mqtt[name] and not (folder / mqtt[name]).is_file():
            problems.append(f"[mqtt] {name}: {folder / mqtt[name]}: no such file")
    if bool(mqtt["cert_file"]) != bool(mqtt["key_file"]):
        problems.append("[mqtt] cert_file, key_file: must be given together, or neither")
    return problems


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether what listens there can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _password(tables: Tables, folder: Path) -> str | None:
    if not tables["mqtt"]["username"]:
        if tables["mqtt"]["password_file"]:
            raise ConfigError("[mqtt] password_file: needs a username beside it")
        return None
    return _first_line(tables, _PASSWORD, folder)


def _token(tables: Tables, folder: Path) -> str | None:
    http = tables["http"]
    token = _first_line(tables, _TOKEN, folder)
    if token is None and http["enabled"] and not is_loopback(http["host"]):
        raise ConfigError(
            f"[http] token_file: must name a file where host is not 127.0.0.1, got host {http['host']}"
        )
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise ConfigError(f"[http] token_file: must hold {_LEAST_TOKEN} or more printable ASCII characters")
    return token


def _secret(tables: Tables, folder: Path) -> bytes:
    text = _first_line(tables, _SECRET, folder)
    if text is None:
        if tables["webhooks"]["urls"]:
            raise ConfigError("[webhooks] secret_file: must name a file where there are urls")
        return b""
    expected = f'[webhooks] secret_file: must hold "{_SECRET_PREFIX}" and 24 to 64 bytes in base64'
    try:
        secret = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(expected) from None
    if not text.startswith(_SECRET_PREFIX) or not 24 <= len(secret) <= 64:
        raise ConfigError(expected)
    return secret


def _first_line(tables: Tables, where: tuple[str, str], folder: Path) -> str | None:
    """The first line of the file that a key names, or of systemd's credential; None: there is neither.

    An empty credential is none: the unit names all of them, and few need all.
    """
    part, name = where
    named: str = tables[part][name]
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    credential = Path(given, CREDENTIALS[where]) if given else None
    if named:
        path = folder / named
    elif credential is not None and credential.is_file() and credential.stat().st_size:
        path = credential
    else:
        return None
    try:
        line: str = path.read_text("utf-8").partition("\n")[0].strip()
    except OSError as error:
        raise ConfigError(f"[{part}] {name}: {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"[{part}] {name}: {path}: must be UTF-8 text") from None
    if not line:
        raise ConfigError(f"[{part}] {name}: {path}: the first line is empty")
    return line


def _config(tables: Tables, folder: Path) -> BridgeConfig:
    tls = section(BrokerTlsConfig, tables["mqtt"], folder) if tables["mqtt"]["tls"] else None
    made: dict[str, dict[str, Any]] = {
        "mqtt": {"password": _password(tables, folder), "tls": tls},
        "http": {"token": _token(tables, folder)},
        "webhooks": {"secret": _secret(tables, folder)},
    }
    sections: dict[str, Any] = {
        name: section(kind, tables[name], folder, **made.get(name, {}))
        for name, (kind, *_) in SECTIONS.items()
    }
    return BridgeConfig(log_level=sections.pop("log").level, **sections)
