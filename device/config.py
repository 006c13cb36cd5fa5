"""The device's configuration: config.toml over default.toml, checked, as frozen values."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device.bundle import manifest
from device.errors import ConfigError
from device.image.geometry import Polygon
from device.image.region_of_interest import RegionOfInterest
from device.settings import Limits, Matching, OneOf, Tables, Within, load_tables, read_toml

DEFAULT_PATH = Path(__file__).with_name("default.toml")
CREDENTIAL = "mqtt-password"  # its name in systemd's LoadCredential=
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
_LONGEST_STRING_BYTES = 65_535  # that MQTT can carry
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
_KINDS_OF = {  # what only some cameras can do
    "loop": ("replay",),
    "faults": ("replay",),
    "fault_seed": ("replay",),
    "width_px": ("opencv", "picamera2"),
    "height_px": ("opencv", "picamera2"),
    "exposure_us": ("opencv", "picamera2"),
    "latency_ms": ("opencv",),
    "reopen_s": ("opencv",),
    **dict.fromkeys(
        (
            *("number", "stream", "lores_width_px", "lores_height_px"),
            *("gain_ratio", "colour_gains", "mirror", "flip"),
        ),
        ("picamera2",),
    ),
}
_FAULT_SECONDS = r"(?:stall|slow):\d{1,4}(?:\.\d{1,3})?"
_FAULT_SIZE = r"size:[1-9]\d{0,4}x[1-9]\d{0,4}"
FAULT = rf"(\d{{1,9}}|\d{{1,3}}(?:\.\d{{1,4}})?%):({_FAULT_SECONDS}|drop|fail|die|black|{_FAULT_SIZE})"
FAULT_EXPECTED = '"WHEN:WHAT" as "120:stall:2.0", "7:drop" or "1.5%:fail" (device/camera/faults.py)'
_PIN = Within(0, 27)  # GPIO0 to GPIO27 lead to the header of every Pi
_PIN_OR_NONE = Within(-1, 27)
LIMITS: Limits = {
    ("station", "name"): Matching(f"({_NAME})?", 'empty, or 1..64 letters, digits, ".", "_" or "-"'),
    ("station", "state"): _PATH,
    ("station", "runtime"): _PATH,
    ("bundle", "path"): _PATH,
    ("bundle", "signers"): _PATH_OR_NONE,
    ("bundle", "keep"): Within(2, 100),
    ("model", "threads"): Within(1, 64, or_zero=True),
    ("model", "runtime"): OneOf(("auto", "ai-edge-litert", "tflite-runtime")),
    ("inspection", "roi"): Within(0, 65535),
    ("inspection", "ignore"): Within(0, 65535),
    ("model", "latency_budget_ms"): Within(0.001, 60_000, or_zero=True),
    ("verdict", "votes_needed"): Within(1, 100),
    ("verdict", "votes_of"): Within(1, 100),
    ("verdict", "hysteresis_ratio"): Within(0, 0.9),
    ("verdict", "unfamiliar"): OneOf(("marginal", "judge")),
    ("camera", "kind"): OneOf(("replay", "opencv", "picamera2")),
    ("camera", "source"): Matching(_PATH.pattern, f"an address, or {_PATH.expected}"),
    ("camera", "number"): Within(0, 7),
    ("camera", "width_px"): Within(16, 16384, or_zero=True),
    ("camera", "height_px"): Within(16, 16384, or_zero=True),
    ("camera", "stream"): OneOf(("main", "lores")),
    ("camera", "lores_width_px"): Within(16, 16384),
    ("camera", "lores_height_px"): Within(16, 16384),
    ("camera", "exposure_us"): Within(1, 200_000_000, or_zero=True),
    ("camera", "gain_ratio"): Within(1, 64, or_zero=True),
    ("camera", "colour_gains"): Within(0.1, 32, or_zero=True),
    ("camera", "latency_ms"): Within(0, 10_000),
    ("camera", "reopen_s"): Within(1, 86_400, or_zero=True),
    ("camera", "mode_change"): OneOf(("ERROR", "MARGINAL")),
    ("camera", "faults"): Matching(FAULT, FAULT_EXPECTED),
    ("camera", "fault_seed"): Within(0, 2**31),
    ("camera", "rate_hz"): Within(0.05, 1000, or_zero=True),
    ("camera", "timeout_s"): Within(0.1, 60),
    ("camera", "max_failures"): Within(1, 1000),
    ("trigger", "kind"): OneOf(("free-run", "interval", "gpio", "mqtt")),
    ("trigger", "interval_s"): Within(0.01, 86_400),
    ("trigger", "pin"): _PIN,
    ("trigger", "edge"): OneOf(("rising", "falling")),
    ("trigger", "pull"): OneOf(("up", "down", "none")),
    ("trigger", "debounce_ms"): Within(0, 10_000),
    ("trigger", "queue_limit"): Within(1, 1000),
    ("trigger", "timeout_s"): Within(0.05, 60),
    ("outputs", "reject_pin"): _PIN_OR_NONE,
    ("outputs", "reject_active"): OneOf(("high", "low")),
    ("outputs", "reject_on"): OneOf(("NG", "MARGINAL", "ERROR")),
    ("outputs", "reject_after_parts"): Within(0, 1000),
    ("outputs", "reject_delay_ms"): Within(0, 600_000),
    ("outputs", "reject_pulse_ms"): Within(1, 10_000),
    ("outputs", "busy_pin"): _PIN_OR_NONE,
    ("outputs", "busy_active"): OneOf(("high", "low")),
    ("outputs", "ready_pin"): _PIN_OR_NONE,
    ("outputs", "ready_active"): OneOf(("high", "low")),
    ("mqtt", "host"): _HOST,
    ("mqtt", "port"): Within(1, 65535),
    ("mqtt", "prefix"): _LEVELS,
    ("mqtt", "username"): Matching(r"[^\x00]{0,1024}", "1024 characters at most"),
    ("mqtt", "password_file"): _PATH_OR_NONE,
    ("mqtt", "ca_file"): _PATH_OR_NONE,
    ("mqtt", "cert_file"): _PATH_OR_NONE,
    ("mqtt", "key_file"): _PATH_OR_NONE,
    ("mqtt", "client_id"): Matching(r"[^\x00\s]{0,128}", "at most 128 characters without spaces"),
    ("mqtt", "protocol"): OneOf(("auto", "5", "3.1.1")),
    ("mqtt", "keepalive_s"): Within(5, 3600),
    ("mqtt", "message_expiry_s"): Within(1, 4_294_967_295, or_zero=True),
    ("outbox", "max_bytes"): Within(1_000_000, 1_000_000_000_000),
    ("outbox", "max_days"): Within(0.01, 3650),
    ("commands", "allow"): OneOf(COMMANDS),
    ("commands", "rate_hz"): Within(0.01, 1000),
    ("home_assistant", "prefix"): _LEVELS,
    ("archive", "max_bytes"): Within(1_000_000, 1e15, or_zero=True),
    ("archive", "max_days"): Within(1, 36_500),
    ("archive", "min_free_bytes"): Within(0, 1e15),
    ("archive", "ok_ratio"): Within(0, 1),
    ("archive", "format"): OneOf(("jpeg", "png")),
    ("archive", "jpeg_quality"): Within(1, 100),
    ("archive", "queue_bytes"): Within(0, 1e10),
    ("archive", "publish_image_max_bytes"): Within(1000, 1_000_000, or_zero=True),
    ("health", "dark_ratio"): Within(0, 1),
    ("health", "bright_ratio"): Within(0, 1),
    ("health", "focus_ratio"): Within(0, 1),
    ("health", "frozen_frames"): Within(2, 1000, or_zero=True),
    ("health", "moved_ratio"): Within(0.002, 0.5, or_zero=True),
    ("health", "drift_limit"): Within(4, 100, or_zero=True),
    ("health", "skipped_ratio"): Within(0, 1),
    ("health", "temperature_warn_c"): Within(30, 120),
    ("health", "temperature_alert_c"): Within(30, 120),
    ("health", "disk_warn_ratio"): Within(0, 1),
    ("health", "disk_alert_ratio"): Within(0, 1),
    ("health", "memory_warn_mib"): Within(0, 100_000),
    ("health", "resident_warn_mib"): Within(0, 100_000),
    ("health", "broker_warn_s"): Within(1, 1_000_000),
    ("health", "broker_alert_s"): Within(1, 1_000_000),
    ("health", "clock_warn_s"): Within(0, 1_000_000),
    ("log", "level"): OneOf(("debug", "info", "warning", "error")),
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """[model]; `threads` None: see interpreter.py."""

    threads: int | None
    runtime: str
    latency_budget_ms: float


@dataclass(frozen=True, slots=True)
class VerdictConfig:
    """[verdict]"""

    votes_needed: int = 1
    votes_of: int = 1
    hysteresis_ratio: float = 0.0
    unfamiliar: str = "marginal"

    @property
    def doubts(self) -> bool:
        """Whether a picture that the bundle says it cannot judge is never OK."""
        return self.unfamiliar == "marginal"


@dataclass(frozen=True, slots=True)
class InspectionConfig:
    """[inspection]"""

    region: RegionOfInterest


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """[camera]"""

    kind: str
    source: str
    number: int
    width_px: int
    height_px: int
    rate_hz: float
    loop: bool
    timeout_s: float
    max_failures: int
    stream: str
    lores_width_px: int
    lores_height_px: int
    exposure_us: int
    gain_ratio: float
    colour_gains: tuple[float, ...]
    mirror: bool
    flip: bool
    latency_ms: float
    reopen_s: float
    mode_change: str
    faults: tuple[str, ...]
    fault_seed: int


@dataclass(frozen=True, slots=True)
class TriggerConfig:
    """[trigger]"""

    kind: str
    interval_s: float
    pin: int
    edge: str
    pull: str
    debounce_ms: float
    queue_limit: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class OutputsConfig:
    """[outputs]; a pin of -1 is not used"""

    reject_pin: int
    reject_active: str
    reject_on: tuple[str, ...]
    reject_after_parts: int
    reject_delay_ms: float
    reject_pulse_ms: float
    busy_pin: int
    busy_active: str
    ready_pin: int
    ready_active: str


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """How to trust the broker, and how to be trusted. `ca_file` None: the authorities of the system."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """[mqtt], with the password in place of its file; `tls` None: in clear. `message_expiry_s` 0: never."""

    host: str
    port: int
    prefix: str
    client_id: str
    protocol: str
    keepalive_s: int
    username: str | None
    password: str | None = field(repr=False)
    tls: TlsConfig | None
    message_expiry_s: int


@dataclass(frozen=True, slots=True)
class OutboxConfig:
    """[outbox]"""

    max_bytes: int
    max_days: float


@dataclass(frozen=True, slots=True)
class CommandsConfig:
    """[commands]"""

    enabled: bool
    allow: tuple[str, ...]
    rate_hz: float

    @property
    def taken(self) -> tuple[str, ...]:
        """The commands that the station takes: none unless they are enabled."""
        return self.allow if self.enabled else ()


@dataclass(frozen=True, slots=True)
class HomeAssistantConfig:
    """[home_assistant]"""

    enabled: bool
    prefix: str


@dataclass(frozen=True, slots=True)
class ArchiveConfig:
    """[archive]"""

    max_bytes: int
    max_days: int
    min_free_bytes: int
    ok_ratio: float
    format: str
    jpeg_quality: int
    queue_bytes: int
    publish_image_max_bytes: int


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """[health]"""

    dark_ratio: float
    bright_ratio: float
    focus_ratio: float
    frozen_frames: int
    moved_ratio: float
    drift_limit: float
    skipped_ratio: float
    temperature_warn_c: float
    temperature_alert_c: float
    disk_warn_ratio: float
    disk_alert_ratio: float
    memory_warn_mib: float
    resident_warn_mib: float
    broker_warn_s: float
    broker_alert_s: float
    clock_warn_s: float


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
    password_file: Path | None
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


def load(path: Path) -> Config:
    """The configuration in a file. Raises ConfigError with every problem of the file, one a line."""
    tables = load_tables(DEFAULT_PATH, path, LIMITS, lambda tables: _conflicts(tables, path.parent))
    return _config(path, tables)


def _conflicts(tables: Tables, folder: Path) -> list[str]:
    """What is legal key by key and cannot be together, and a password file that gives no password."""
    problems = _camera_conflicts(tables["camera"]) + _pin_conflicts(tables) + _unordered(tables["health"])
    problems += _vote_conflicts(tables["verdict"]) + _name_conflicts(tables)
    if tables["commands"]["enabled"] and not tables["commands"]["allow"]:
        problems.append("[commands] allow: must name one command or more where they are enabled, got []")
    if tables["mqtt"]["password_file"] and not tables["mqtt"]["username"]:
        problems.append("[mqtt] password_file: needs a username beside it")
    problems += _tls_conflicts(tables["mqtt"], folder)
    for read in (
        lambda: _read_password(tables["mqtt"], folder),
        lambda: _polygons(tables, "roi"),
        lambda: _polygons(tables, "ignore"),
    ):
        try:
            read()
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _vote_conflicts(voting: dict[str, Any]) -> list[str]:
    needed, of = voting["votes_needed"], voting["votes_of"]
    return [f"[verdict] votes_needed: must be at most votes_of = {of}, got {needed}"] if needed > of else []


def _camera_conflicts(camera: dict[str, Any]) -> list[str]:
    problems = []
    rate_hz, timeout_s = camera["rate_hz"], camera["timeout_s"]
    if rate_hz and timeout_s <= 1 / rate_hz:
        problems.append(
            f"[camera] timeout_s: must be more than 1/rate_hz = {1 / rate_hz:g}, got {timeout_s:g}"
        )
    default = read_toml(DEFAULT_PATH)["camera"]
    for key, kinds in _KINDS_OF.items():
        if camera[key] != default[key] and camera["kind"] not in kinds:
            problems.append(f"[camera] {key}: is for kind {' and '.join(kinds)}, got kind {camera['kind']}")
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


def _polygons(tables: Tables, key: str) -> tuple[Polygon, ...]:
    """Raises ConfigError naming the first that is none."""
    polygons = []
    for number, corners in enumerate(tables["inspection"][key], start=1):
        where = f"[inspection] {key}: polygon {number}"
        try:
            polygons.append(Polygon(tuple((x, y) for x, y in corners)))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where} must be a list of 3 corners [x, y] or more, got {corners}") from error
    return tuple(polygons)


def _tls_conflicts(mqtt: dict[str, Any], folder: Path) -> list[str]:
    """Keys that mean nothing without another one, and files that cannot be read."""
    problems = []
    files = ("ca_file", "cert_file", "key_file")
    needs = [(key, "tls") for key in (*files, "insecure")]
    needs += [("cert_file", "key_file"), ("key_file", "cert_file")]
    problems += [
        f"[mqtt] {key}: needs {'tls = true' if other == 'tls' else f'a {other}'} beside it"
        for key, other in needs
        if mqtt[key] and not mqtt[other]
    ]
    if mqtt["ca_file"] and mqtt["insecure"]:
        problems.append("[mqtt] insecure: believes every broker, and ca_file only some: take one of them out")
    for key in files:
        try:
            if mqtt[key]:
                (folder / mqtt[key]).read_bytes()
        except OSError as error:
            problems.append(f"[mqtt] {key}: {folder / mqtt[key]}: {error.strerror}")
    return problems


def _password_path(mqtt: dict[str, Any], folder: Path) -> Path | None:
    """password_file; without one, the credential mqtt-password that systemd has put there for a username."""
    if mqtt["password_file"]:
        return folder / str(mqtt["password_file"])
    if mqtt["username"] and (credentials := os.environ.get("CREDENTIALS_DIRECTORY")):
        credential = Path(credentials) / CREDENTIAL
        return credential if credential.exists() else None
    return None


def _read_password(mqtt: dict[str, Any], folder: Path) -> str | None:
    """The first line of the password's file; None without a file. Raises ConfigError: it gives none."""
    path = _password_path(mqtt, folder)
    if path is None:
        return None
    try:
        first = path.read_text("utf-8-sig").partition("\n")[0].rstrip("\r")
    except OSError as error:
        raise ConfigError(f"[mqtt] password_file: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"[mqtt] password_file: {path}: must be UTF-8 text") from None
    if not first:
        raise ConfigError(
            f"[mqtt] password_file: {path}: must hold the password on its first line, got nothing"
        )
    if (length := len(first.encode())) > _LONGEST_STRING_BYTES:
        raise ConfigError(
            f"[mqtt] password_file: {path}: must hold at most {_LONGEST_STRING_BYTES} bytes on its first "
            f"line, got {length}"
        )
    return first


def _config(path: Path, tables: Tables) -> Config:
    folder = path.parent
    station = tables["station"]["name"] or _host_name()
    model, camera, mqtt = tables["model"], tables["camera"], tables["mqtt"]
    return Config(
        path=path,
        station=station,
        state=folder / tables["station"]["state"],
        runtime=folder / tables["station"]["runtime"],
        bundle=folder / tables["bundle"]["path"],
        signers=folder / tables["bundle"]["signers"] if tables["bundle"]["signers"] else None,
        allow_learned=tables["bundle"]["allow_learned"],
        keep_bundles=tables["bundle"]["keep"],
        inspection=InspectionConfig(
            RegionOfInterest(*(_polygons(tables, key) for key in ("roi", "ignore"))),
        ),
        model=ModelConfig(**{**model, "threads": model["threads"] or None}),
        verdict=VerdictConfig(**tables["verdict"]),
        camera=_camera(camera, folder),
        trigger=TriggerConfig(**tables["trigger"]),
        outputs=OutputsConfig(**_frozen(tables["outputs"])),
        mqtt=MqttConfig(
            host=mqtt["host"],
            port=mqtt["port"],
            prefix=mqtt["prefix"],
            client_id=mqtt["client_id"],
            protocol=mqtt["protocol"],
            keepalive_s=mqtt["keepalive_s"],
            username=mqtt["username"] or None,
            password=_read_password(mqtt, folder),
            tls=_tls(mqtt, folder),
            message_expiry_s=mqtt["message_expiry_s"],
        ),
        outbox=OutboxConfig(**tables["outbox"]),
        commands=CommandsConfig(**{**tables["commands"], "allow": tuple(tables["commands"]["allow"])}),
        home_assistant=HomeAssistantConfig(**tables["home_assistant"]),
        archive=ArchiveConfig(**tables["archive"]),
        health=HealthConfig(**tables["health"]),
        password_file=folder / mqtt["password_file"] if mqtt["password_file"] else None,
        log_level=tables["log"]["level"],
    )


def _camera(camera: dict[str, Any], folder: Path) -> CameraConfig:
    """A source with a scheme ("rtsp://...") is an address, any other a path."""
    source = camera["source"]
    return CameraConfig(
        **{**_frozen(camera), "source": source if "://" in source else str(folder / source)},
    )


def _frozen(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _tls(mqtt: dict[str, Any], folder: Path) -> TlsConfig | None:
    if not mqtt["tls"]:
        return None
    files = {key: folder / mqtt[key] if mqtt[key] else None for key in ("ca_file", "cert_file", "key_file")}
    return TlsConfig(**files, insecure=mqtt["insecure"])


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
