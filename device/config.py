"""The device's configuration: config.toml over default.toml, checked, as frozen values."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device.errors import ConfigError
from device.settings import Limits, Matching, OneOf, Tables, Within, load_tables

DEFAULT_PATH = Path(__file__).with_name("default.toml")

_NAME = r"[A-Za-z0-9._-]{1,64}"
_LEVELS = Matching(
    r"[^\s/+#$][^\s/+#]*(/[^\s/+#]+)*",
    "topic levels separated by single slashes, without spaces, +, # or a leading $",
)
COMMANDS = ("trigger", "rebirth", "reload", "threshold", "model", "rollback", "review")
LIMITS: Limits = {
    ("station", "name"): Matching(f"({_NAME})?", 'empty, or 1..64 letters, digits, ".", "_" or "-"'),
    ("station", "state"): Matching(r".+", "a path"),
    ("station", "runtime"): Matching(r".+", "a path"),
    ("bundle", "path"): Matching(r".+", "a path"),
    ("model", "threads"): Within(1, 64, or_zero=True),
    ("model", "runtime"): OneOf(("auto", "ai-edge-litert", "tflite-runtime")),
    ("camera", "kind"): OneOf(("replay",)),
    ("camera", "source"): Matching(r".+", "a path"),
    ("camera", "rate_hz"): Within(0.05, 1000, or_zero=True),
    ("camera", "timeout_s"): Within(0.1, 60),
    ("camera", "max_failures"): Within(1, 1000),
    ("mqtt", "host"): Matching(r"\S+", "a host name or an address"),
    ("mqtt", "port"): Within(1, 65535),
    ("mqtt", "prefix"): _LEVELS,
    ("mqtt", "client_id"): Matching(r"[^\x00\s]{0,128}", "at most 128 characters without spaces"),
    ("mqtt", "keepalive_s"): Within(5, 3600),
    ("mqtt", "queue_limit"): Within(1, 1_000_000),
    ("commands", "allow"): OneOf(COMMANDS),
    ("commands", "rate_hz"): Within(0.01, 1000),
    ("home_assistant", "prefix"): _LEVELS,
    ("log", "level"): OneOf(("debug", "info", "warning", "error")),
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """[model]; `threads` None: see interpreter.py."""

    threads: int | None
    runtime: str


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """[camera]"""

    kind: str
    source: Path
    rate_hz: float
    loop: bool
    timeout_s: float
    max_failures: int


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """[mqtt], with the password in place of its file"""

    host: str
    port: int
    prefix: str
    client_id: str
    keepalive_s: int
    username: str | None
    password: str | None = field(repr=False)
    queue_limit: int


@dataclass(frozen=True, slots=True)
class CommandsConfig:
    """[commands]"""

    enabled: bool
    allow: tuple[str, ...]
    rate_hz: float


@dataclass(frozen=True, slots=True)
class HomeAssistantConfig:
    """[home_assistant]"""

    enabled: bool
    prefix: str


@dataclass(frozen=True, slots=True)
class Config:
    """What config.toml says; see default.toml for the meaning of each value."""

    path: Path
    station: str
    state: Path
    runtime: Path
    bundle: Path
    model: ModelConfig
    camera: CameraConfig
    mqtt: MqttConfig
    commands: CommandsConfig
    home_assistant: HomeAssistantConfig
    password_file: Path | None
    log_level: str


def load(path: Path) -> Config:
    """The configuration in a file. Raises ConfigError with every problem of the file, one a line."""
    tables = load_tables(DEFAULT_PATH, path, LIMITS, lambda tables: _conflicts(tables, path.parent))
    return _config(path, tables)


def _conflicts(tables: Tables, folder: Path) -> list[str]:
    """What is legal key by key and cannot be together, and a password file that gives no password."""
    problems = []
    rate_hz, timeout_s = tables["camera"]["rate_hz"], tables["camera"]["timeout_s"]
    if rate_hz and timeout_s <= 1 / rate_hz:
        problems.append(
            f"[camera] timeout_s: must be more than 1/rate_hz = {1 / rate_hz:g}, got {timeout_s:g}"
        )
    if tables["commands"]["enabled"] and not tables["commands"]["allow"]:
        problems.append("[commands] allow: must name one command or more where they are enabled, got []")
    if tables["mqtt"]["password_file"] and not tables["mqtt"]["username"]:
        problems.append("[mqtt] password_file: needs a username beside it")
    try:
        _read_password(tables["mqtt"], folder)
    except ConfigError as error:
        problems.append(str(error))
    return problems


def _read_password(mqtt: dict[str, Any], folder: Path) -> str | None:
    """The first line of the password file; None without one. Raises ConfigError when it gives no password."""
    if not mqtt["password_file"]:
        return None
    path = folder / str(mqtt["password_file"])
    try:
        first = path.read_text("utf-8").partition("\n")[0].rstrip("\r")
    except OSError as error:
        raise ConfigError(f"[mqtt] password_file: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"[mqtt] password_file: {path}: must be UTF-8 text") from None
    if not first:
        raise ConfigError(
            f"[mqtt] password_file: {path}: must hold the password on its first line, got nothing"
        )
    return first


def _config(path: Path, tables: Tables) -> Config:
    folder = path.parent
    station = tables["station"]["name"] or _host_name()
    model, camera, mqtt = tables["model"], tables["camera"], tables["mqtt"]
    password_file = mqtt["password_file"]
    return Config(
        path=path,
        station=station,
        state=folder / tables["station"]["state"],
        runtime=folder / tables["station"]["runtime"],
        bundle=folder / tables["bundle"]["path"],
        model=ModelConfig(threads=model["threads"] or None, runtime=model["runtime"]),
        camera=CameraConfig(**{**camera, "source": folder / camera["source"]}),
        mqtt=MqttConfig(
            host=mqtt["host"],
            port=mqtt["port"],
            prefix=mqtt["prefix"],
            client_id=mqtt["client_id"] or f"edgevision-{station}",
            keepalive_s=mqtt["keepalive_s"],
            username=mqtt["username"] or None,
            password=_read_password(mqtt, folder),
            queue_limit=mqtt["queue_limit"],
        ),
        commands=CommandsConfig(**{**tables["commands"], "allow": tuple(tables["commands"]["allow"])}),
        home_assistant=HomeAssistantConfig(**tables["home_assistant"]),
        password_file=folder / password_file if password_file else None,
        log_level=tables["log"]["level"],
    )


def _host_name() -> str:
    """The machine's host name, as a topic level."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "edgevision"
