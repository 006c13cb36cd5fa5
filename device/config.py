"""The device's configuration: config.toml over default.toml, checked, as frozen values."""

from __future__ import annotations

import re
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device import passwords
from device.bundle import manifest
from device.errors import ConfigError
from device.image.geometry import Polygon
from device.image.region_of_interest import RegionOfInterest
from device.settings import (
    Matching,
    OneOf,
    Tables,
    Within,
    from_folder,
    from_folder_or_none,
    frozen,
    key,
    keys,
    limits,
    load_tables,
    or_none,
    section,
)

DEFAULT_PATH = Path(__file__).with_name("default.toml")
# Users of the broker that are no stations, as deploy/mosquitto/acl has them.
ROLES = frozenset({"bridge", "dashboard", "engineer", "homeassistant", "operator", "quality"})

_NAME = r"[A-Za-z0-9._-]{1,64}"
_LEVELS = Matching(
    r"(?=.{1,256}$)[^\s\x00-\x1f/+#$][^\s\x00-\x1f/+#]*(/[^\s\x00-\x1f/+#]+)*",
    "topic levels separated by single slashes, without spaces, +, # or a leading $, 256 characters at most",
)
_PATH = Matching(r"(?!~).+", "a path, and not with a ~, which stands for another home in each program")
_PATH_OR_NONE = Matching(f"({_PATH.pattern})?", f"empty, or {_PATH.expected}")
_HOST = Matching(
    r"[^\s:/]+|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*(%[^\s/]+)?",
    "a host name or an address by itself (its port is [mqtt] port)",
)
COMMANDS = (
    "trigger",
    "rebirth",
    "reload",
    "threshold",
    "model",
    "rollback",
    "review",
    "picture",
    "acknowledge",
)
_FAULT_SECONDS = r"(?:stall|slow):\d{1,4}(?:\.\d{1,3})?"
_FAULT_SIZE = r"size:[1-9]\d{0,4}x[1-9]\d{0,4}"
FAULT = rf"(\d{{1,9}}|\d{{1,3}}(?:\.\d{{1,4}})?%):({_FAULT_SECONDS}|drop|fail|die|black|{_FAULT_SIZE})"
FAULT_EXPECTED = '"WHEN:WHAT" as "120:stall:2.0", "7:drop" or "1.5%:fail" (device/camera/faults.py)'
_PIN = Within(0, 27)  # GPIO0 to GPIO27 lead to the header of every Pi
_PIN_OR_NONE = Within(-1, 27)
_REPLAY, _OPENCV, _PICAMERA = ("replay",), ("opencv",), ("picamera2",)  # what only some cameras can do
_LIVE = (*_OPENCV, *_PICAMERA)


def _polygons(value: Any, folder: Path) -> tuple[Polygon, ...]:
    """Raises ValueError naming the first that is none."""
    polygons = []
    for number, corners in enumerate(value, start=1):
        try:
            polygons.append(Polygon(tuple((x, y) for x, y in corners)))
        except (TypeError, ValueError) as error:
            found = f"polygon {number} must be a list of 3 corners [x, y] or more, got {corners}"
            raise ValueError(found) from error
    return tuple(polygons)


def _source(value: Any, folder: Path) -> str:
    """What has a scheme ("rtsp://...") is an address, anything else a path."""
    return value if "://" in value else str(folder / value)


@dataclass(frozen=True, slots=True)
class StationConfig:
    """[station]"""

    name: str = key("", Matching(f"({_NAME})?", 'empty, or 1..64 letters, digits, ".", "_" or "-"'))
    state: Path = key("/var/lib/edgevision", _PATH, from_folder)
    runtime: Path = key("/run/edgevision", _PATH, from_folder)


@dataclass(frozen=True, slots=True)
class BundlesConfig:
    """[bundle]; `signers` None: nobody has to sign."""

    path: Path = key("/var/lib/edgevision/models", _PATH, from_folder)
    signers: Path | None = key("", _PATH_OR_NONE, from_folder_or_none)
    allow_learned: bool = key(False)
    keep: int = key(5, Within(2, 100))


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """[model]; `threads` None: see interpreter.py."""

    threads: int | None = key(0, Within(1, 64, or_zero=True), or_none)
    runtime: str = key("auto", OneOf(("auto", "ai-edge-litert", "tflite-runtime")))
    latency_budget_ms: float = key(0.0, Within(0.001, 60_000, or_zero=True))


@dataclass(frozen=True, slots=True)
class VerdictConfig:
    """[verdict]"""

    votes_needed: int = key(1, Within(1, 100))
    votes_of: int = key(1, Within(1, 100))
    hysteresis_ratio: float = key(0.0, Within(0, 0.9))
    unfamiliar: str = key("marginal", OneOf(("marginal", "judge")))

    @property
    def doubts(self) -> bool:
        """Whether a picture that the bundle says it cannot judge is MARGINAL."""
        return self.unfamiliar == "marginal"


@dataclass(frozen=True, slots=True)
class InspectionConfig:
    """[inspection]"""

    roi: tuple[Polygon, ...] = key([], Within(0, 65535), _polygons)
    ignore: tuple[Polygon, ...] = key([], Within(0, 65535), _polygons)

    @property
    def region(self) -> RegionOfInterest:
        """What is looked at."""
        return RegionOfInterest(self.roi, self.ignore)


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """[camera]"""

    kind: str = key("replay", OneOf(("replay", "opencv", "picamera2")))
    source: str = key(
        "/var/lib/edgevision/images", Matching(_PATH.pattern, f"an address, or {_PATH.expected}"), _source
    )
    password_file: Path | None = key("", _PATH_OR_NONE, from_folder_or_none, only=_OPENCV)
    number: int = key(0, Within(0, 7), only=_PICAMERA)
    width_px: int = key(0, Within(16, 16384, or_zero=True), only=_LIVE)
    height_px: int = key(0, Within(16, 16384, or_zero=True), only=_LIVE)
    rate_hz: float = key(0.0, Within(0.05, 1000, or_zero=True))
    loop: bool = key(False, only=_REPLAY)
    timeout_s: float = key(5.0, Within(0.1, 60))
    max_failures: int = key(5, Within(1, 1000))
    stream: str = key("main", OneOf(("main", "lores")), only=_PICAMERA)
    lores_width_px: int = key(640, Within(16, 16384), only=_PICAMERA)
    lores_height_px: int = key(480, Within(16, 16384), only=_PICAMERA)
    exposure_us: int = key(0, Within(1, 200_000_000, or_zero=True), only=_LIVE)
    gain_ratio: float = key(0.0, Within(1, 64, or_zero=True), only=_PICAMERA)
    colour_gains: tuple[float, ...] = key([0.0, 0.0], Within(0.1, 32, or_zero=True), frozen, only=_PICAMERA)
    mirror: bool = key(False, only=_PICAMERA)
    flip: bool = key(False, only=_PICAMERA)
    latency_ms: float = key(100.0, Within(0, 10_000), only=_OPENCV)
    reopen_s: float = key(60.0, Within(1, 86_400, or_zero=True), only=_OPENCV)
    mode_change: str = key("ERROR", OneOf(("ERROR", "MARGINAL")))
    faults: tuple[str, ...] = key([], Matching(FAULT, FAULT_EXPECTED), frozen, only=_REPLAY)
    fault_seed: int = key(0, Within(0, 2**31), only=_REPLAY)


@dataclass(frozen=True, slots=True)
class TriggerConfig:
    """[trigger]"""

    kind: str = key("free-run", OneOf(("free-run", "interval", "gpio", "mqtt")))
    interval_s: float = key(1.0, Within(0.01, 86_400))
    pin: int = key(17, _PIN)
    edge: str = key("falling", OneOf(("rising", "falling")))
    pull: str = key("up", OneOf(("up", "down", "none")))
    debounce_ms: float = key(20.0, Within(0, 10_000))
    queue_limit: int = key(16, Within(1, 1000))
    timeout_s: float = key(1.0, Within(0.05, 60))


@dataclass(frozen=True, slots=True)
class OutputsConfig:
    """[outputs]; a pin of -1 is not used"""

    reject_pin: int = key(-1, _PIN_OR_NONE)
    reject_active: str = key("high", OneOf(("high", "low")))
    reject_on: tuple[str, ...] = key(["NG", "MARGINAL", "ERROR"], OneOf(("NG", "MARGINAL", "ERROR")), frozen)
    reject_after_parts: int = key(0, Within(0, 1000))
    reject_delay_ms: float = key(0.0, Within(0, 600_000))
    reject_pulse_ms: float = key(50.0, Within(1, 10_000))
    busy_pin: int = key(-1, _PIN_OR_NONE)
    busy_active: str = key("high", OneOf(("high", "low")))
    ready_pin: int = key(-1, _PIN_OR_NONE)
    ready_active: str = key("high", OneOf(("high", "low")))


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """How to trust the broker, and how to be trusted. `ca_file` None: the authorities of the system."""

    ca_file: Path | None = key("", _PATH_OR_NONE, from_folder_or_none)
    cert_file: Path | None = key("", _PATH_OR_NONE, from_folder_or_none)
    key_file: Path | None = key("", _PATH_OR_NONE, from_folder_or_none)
    insecure: bool = key(False)


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """[mqtt], and the password that is in its file; `tls` None: in clear. `message_expiry_s` 0: never."""

    host: str = key("localhost", _HOST)
    port: int = key(1_883, Within(1, 65535))
    prefix: str = key("edgevision", _LEVELS)
    client_id: str = key("", Matching(r"[^\x00\s]{0,128}", "at most 128 characters without spaces"))
    protocol: str = key("auto", OneOf(("auto", "5", "3.1.1")))
    keepalive_s: int = key(30, Within(5, 3600))
    username: str | None = key("", Matching(r"[^\x00]{0,1024}", "1024 characters at most"), or_none)
    password_file: Path | None = key("", _PATH_OR_NONE, from_folder_or_none)
    password: str | None = field(default=None, repr=False)
    tls: TlsConfig | None = key(False, read=or_none)
    message_expiry_s: int = key(0, Within(1, 4_294_967_295, or_zero=True))


@dataclass(frozen=True, slots=True)
class OutboxConfig:
    """[outbox]"""

    max_bytes: int = key(1_000_000_000, Within(1_000_000, 1_000_000_000_000))
    max_days: float = key(14.0, Within(0.01, 3650))


@dataclass(frozen=True, slots=True)
class CommandsConfig:
    """[commands]"""

    enabled: bool = key(False)
    allow: tuple[str, ...] = key([], OneOf(COMMANDS), frozen)
    rate_hz: float = key(5.0, Within(0.01, 1000))
    threshold_min: float = key(0.01, Within(0, 1))
    threshold_max: float = key(0.99, Within(0, 1))

    @property
    def taken(self) -> tuple[str, ...]:
        """The commands that the station takes: none unless they are enabled."""
        return self.allow if self.enabled else ()


@dataclass(frozen=True, slots=True)
class HomeAssistantConfig:
    """[home_assistant]"""

    enabled: bool = key(False)
    prefix: str = key("homeassistant", _LEVELS)


@dataclass(frozen=True, slots=True)
class ArchiveConfig:
    """[archive]"""

    max_bytes: int = key(2_000_000_000, Within(1_000_000, 1e15, or_zero=True))
    max_days: int = key(90, Within(1, 36_500))
    min_free_bytes: int = key(500_000_000, Within(0, 1e15))
    ok_ratio: float = key(0.01, Within(0, 1))
    format: str = key("jpeg", OneOf(("jpeg", "png")))
    jpeg_quality: int = key(95, Within(1, 100))
    queue_bytes: int = key(6_000_000, Within(0, 1e10))
    publish_image_max_bytes: int = key(0, Within(1000, 1_000_000, or_zero=True))

    @property
    def most_pinned_bytes(self) -> int:
        """What reviewed images may take, half of the quota: the rest is for what nobody has seen yet."""
        return self.max_bytes // 2 or sys.maxsize


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """[health]"""

    dark_ratio: float = key(0.5, Within(0, 1))
    bright_ratio: float = key(0.5, Within(0, 1))
    focus_ratio: float = key(0.5, Within(0, 1))
    frozen_frames: int = key(10, Within(2, 1000, or_zero=True))
    moved_ratio: float = key(0.03, Within(0.002, 0.5, or_zero=True))
    drift_limit: float = key(12.0, Within(4, 100, or_zero=True))
    skipped_ratio: float = key(0.9, Within(0, 1))
    temperature_warn_c: float = key(75.0, Within(30, 120))
    temperature_alert_c: float = key(80.0, Within(30, 120))
    disk_warn_ratio: float = key(0.1, Within(0, 1))
    disk_alert_ratio: float = key(0.03, Within(0, 1))
    memory_warn_mib: float = key(100.0, Within(0, 100_000))
    resident_warn_mib: float = key(300.0, Within(0, 100_000))
    broker_warn_s: float = key(30.0, Within(1, 1_000_000))
    broker_alert_s: float = key(600.0, Within(1, 1_000_000))
    clock_warn_s: float = key(300.0, Within(0, 1_000_000))


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log]"""

    level: str = key("info", OneOf(("debug", "info", "warning", "error")))


@dataclass(frozen=True, slots=True)
class Config:
    """What config.toml says; see default.toml for the meaning of each value."""

    path: Path
    station: str
    state: Path
    runtime: Path
    bundle: Path
    signers: Path | None
    allow_learned: bool
    keep_bundles: int
    model: ModelConfig
    inspection: InspectionConfig
    verdict: VerdictConfig
    camera: CameraConfig
    trigger: TriggerConfig
    outputs: OutputsConfig
    mqtt: MqttConfig
    outbox: OutboxConfig
    commands: CommandsConfig
    home_assistant: HomeAssistantConfig
    archive: ArchiveConfig
    health: HealthConfig
    log_level: str

    @property
    def offered(self) -> tuple[str, ...]:
        """The commands that it takes and that can do something here: what the station tells others."""
        keeps = self.archive.max_bytes > 0
        several = not (self.bundle / manifest.FILE).exists()  # bundles, and not this one alone
        possible = {
            "trigger": self.trigger.kind != "free-run",
            "review": keeps,
            "picture": keeps and self.archive.publish_image_max_bytes > 0,
            "model": several,
            "rollback": several,
        }
        return tuple(name for name in self.commands.taken if possible.get(name, True))

    @property
    def root(self) -> str:
        """The levels before every topic of the station's own: <prefix>/<station>."""
        return f"{self.mqtt.prefix}/{self.station}"


SECTIONS: dict[str, tuple[type, ...]] = {
    "station": (StationConfig,),
    "bundle": (BundlesConfig,),
    "model": (ModelConfig,),
    "verdict": (VerdictConfig,),
    "inspection": (InspectionConfig,),
    "camera": (CameraConfig,),
    "trigger": (TriggerConfig,),
    "outputs": (OutputsConfig,),
    "mqtt": (MqttConfig, TlsConfig),
    "outbox": (OutboxConfig,),
    "commands": (CommandsConfig,),
    "home_assistant": (HomeAssistantConfig,),
    "archive": (ArchiveConfig,),
    "health": (HealthConfig,),
    "log": (LogConfig,),
}
LIMITS = limits(SECTIONS)


def load(path: Path) -> Config:
    """The configuration in a file. Raises ConfigError with every problem of the file, one a line."""
    tables = load_tables(DEFAULT_PATH, path, LIMITS, lambda tables: _conflicts(tables, path.parent))
    return _config(path, tables)


def _conflicts(tables: Tables, folder: Path) -> list[str]:
    """What is legal key by key and cannot be together, and a password file that gives no password."""
    problems = _camera_conflicts(tables["camera"]) + _pin_conflicts(tables) + _unordered(tables["health"])
    problems += (
        _vote_conflicts(tables["verdict"]) + _command_conflicts(tables["commands"]) + _name_conflicts(tables)
    )
    if tables["commands"]["enabled"] and not tables["commands"]["allow"]:
        problems.append("[commands] allow: must name one command or more where they are enabled, got []")
    if tables["mqtt"]["password_file"] and not tables["mqtt"]["username"]:
        problems.append("[mqtt] password_file: needs a username beside it")
    problems += _tls_conflicts(tables["mqtt"], folder)
    for read, name in ((_mqtt_password, "mqtt"), (_camera_source, "camera")):
        try:
            read(tables[name], folder)
        except ConfigError as error:
            problems.append(str(error))
    for name in keys(InspectionConfig):
        try:
            _polygons(tables["inspection"][name], folder)
        except ValueError as error:
            problems.append(f"[inspection] {name}: {error}")
    return problems


def _vote_conflicts(voting: dict[str, Any]) -> list[str]:
    needed, of = voting["votes_needed"], voting["votes_of"]
    return [f"[verdict] votes_needed: must be at most votes_of = {of}, got {needed}"] if needed > of else []


def _command_conflicts(commands: dict[str, Any]) -> list[str]:
    least, most = commands["threshold_min"], commands["threshold_max"]
    told = f"[commands] threshold_min: must be at most threshold_max = {most:g}, got {least:g}"
    return [told] if least > most else []


def _camera_conflicts(camera: dict[str, Any]) -> list[str]:
    problems = []
    rate_hz, timeout_s = camera["rate_hz"], camera["timeout_s"]
    if rate_hz and timeout_s <= 1 / rate_hz:
        problems.append(
            f"[camera] timeout_s: must be more than 1/rate_hz = {1 / rate_hz:g}, got {timeout_s:g}"
        )
    for name, one in keys(CameraConfig).items():
        if one.only and camera[name] != one.default and camera["kind"] not in one.only:
            kinds = " and ".join(one.only)
            problems.append(f"[camera] {name}: is for kind {kinds}, got kind {camera['kind']}")
    if rate_hz and camera["exposure_us"] * rate_hz > 1e6:
        problems.append(
            f"[camera] exposure_us: must be at most 1e6/rate_hz = {1e6 / rate_hz:g}, "
            f"got {camera['exposure_us']}"
        )
    if bool(camera["width_px"]) != bool(camera["height_px"]):
        problems.append("[camera] width_px: must be given together with height_px, or neither")
    gains = camera["colour_gains"]
    if len(gains) != 2 or any(gains) != all(gains):
        problems.append(f"[camera] colour_gains: must be [red, blue], both above 0 or both 0, got {gains}")
    return problems


def _pin_conflicts(tables: Tables) -> list[str]:
    """A pin that is given two tasks."""
    tasks = {f"[outputs] {key}": tables["outputs"][key] for key in ("reject_pin", "busy_pin", "ready_pin")}
    if tables["trigger"]["kind"] == "gpio":
        tasks["[trigger] pin"] = tables["trigger"]["pin"]
    used: dict[int, str] = {}
    problems = []
    for task, pin in tasks.items():
        if pin in used:
            problems.append(f"{task}: must be another pin than {used[pin]}, got {pin} for both")
        elif pin >= 0:
            used[pin] = task
    return problems


def _unordered(health: dict[str, Any]) -> list[str]:
    """An alert that would come before its own warning."""
    problems = []
    for name, sign, words in (
        ("temperature_{}_c", 1, "at least"),
        ("broker_{}_s", 1, "at least"),
        ("disk_{}_ratio", -1, "at most"),
    ):
        warn, alert = (name.format(word) for word in ("warn", "alert"))
        if sign * health[alert] < sign * health[warn]:
            problems.append(
                f"[health] {alert}: must be {words} {warn} = {health[warn]:g}, got {health[alert]:g}"
            )
    return problems


def _tls_conflicts(mqtt: dict[str, Any], folder: Path) -> list[str]:
    """Keys that mean nothing without another one, and files that cannot be read."""
    problems = []
    files = ("ca_file", "cert_file", "key_file")
    needs = [(name, "tls") for name in (*files, "insecure")]
    needs += [("cert_file", "key_file"), ("key_file", "cert_file")]
    problems += [
        f"[mqtt] {name}: needs {'tls = true' if other == 'tls' else f'a {other}'} beside it"
        for name, other in needs
        if mqtt[name] and not mqtt[other]
    ]
    if mqtt["ca_file"] and mqtt["insecure"]:
        problems.append("[mqtt] insecure: believes every broker, and ca_file only some: take one of them out")
    for name in files:
        try:
            if mqtt[name]:
                (folder / mqtt[name]).read_bytes()
        except OSError as error:
            problems.append(f"[mqtt] {name}: {folder / mqtt[name]}: {error.strerror}")
    return problems


def _mqtt_password(mqtt: dict[str, Any], folder: Path) -> str | None:
    """Raises ConfigError: the password's file gives none."""
    return passwords.read("mqtt", mqtt["password_file"], folder) if mqtt["username"] else None


def _camera_source(camera: dict[str, Any], folder: Path) -> str:
    """With its password. Raises ConfigError: the password's file gives none."""
    return _source(passwords.of_camera(camera["source"], camera["password_file"], folder), folder)


def _config(path: Path, tables: Tables) -> Config:
    folder = path.parent
    camera, mqtt = tables["camera"], tables["mqtt"]
    made: dict[str, dict[str, Any]] = {
        "camera": {"source": _camera_source(camera, folder)},
        "mqtt": {"password": _mqtt_password(mqtt, folder), "tls": _tls(mqtt, folder)},
    }
    sections: dict[str, Any] = {
        name: section(kind, tables[name], folder, **made.get(name, {}))
        for name, (kind, *_) in SECTIONS.items()
    }
    station, bundles, log = (sections.pop(name) for name in ("station", "bundle", "log"))
    return Config(
        path=path,
        station=station.name or _host_name(),
        state=station.state,
        runtime=station.runtime,
        bundle=bundles.path,
        signers=bundles.signers,
        allow_learned=bundles.allow_learned,
        keep_bundles=bundles.keep,
        log_level=log.level,
        **sections,
    )


def _tls(mqtt: dict[str, Any], folder: Path) -> TlsConfig | None:
    return section(TlsConfig, mqtt, folder) if mqtt["tls"] else None


def _name_conflicts(tables: Tables) -> list[str]:
    """A name that the broker's access rules give to people and programs would give a station their rights."""
    name = tables["station"]["name"] or _host_name()
    if name not in ROLES:
        return []
    roles = ", ".join(sorted(ROLES))
    return [f"[station] name: must not be one of {roles} (deploy/mosquitto/acl), got {name}"]


def _host_name() -> str:
    """The machine's host name, as a topic level."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "edgevision"
