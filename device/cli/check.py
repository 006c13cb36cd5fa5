"""`check`: everything that `run` needs, tried once and listed, each failure with a way to mend it.

What fails stops the service or makes it useless, and gives the exit code. What is doubtful (a clock that is
not set, a hot board) does not: the service runs with it, and `health` will say so.
"""

from __future__ import annotations

import ipaddress
import os
import stat
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from device import config
from device.bundle import bundle
from device.bundle.accepted import Trust
from device.camera.camera import make_camera
from device.config import Config, MqttConfig
from device.errors import BrokerError, ConfigError, EdgeVisionError, FrameError, StorageError
from device.health.board import MIB, Board, Reading
from device.image.geometry import Size
from device.inspection.framing import Framing
from device.inspection.pipeline import Pipeline
from device.line.outputs import Outputs
from device.line.trigger import make_trigger
from device.mqtt.connection import CONNECT_S, Connection, ProtocolRefused, Unanswered
from device.mqtt.reconnect import Versions
from device.system.clock import clock_synced
from device.telemetry import status

T = TypeVar("T")

_MEND = {
    "config": "every key and its meaning stand in device/default.toml",
    "permissions": "take the right away: chmod o-rwx FILE, or chmod o-w for what holds no secret",
    "trust": "name who may sign (install.sh --signers FILE); [mqtt] tls = true for a broker elsewhere; "
    "chmod o-rwx for what holds a secret",
    "bundle": "set [bundle] path; a damaged bundle must be copied again",
    "model": "install ai-edge-litert (or tflite-runtime) into this environment; a bundle whose golden images "
    "fail must be made again",
    "camera": "set [camera] source, and look at it as the user of the service",
    "region": "draw [inspection] roi and ignore for frames of this size, or set the camera to the size that "
    "they, or the bundle's own, were drawn for",
    "pins": "free the pin of what else uses it (a service, an overlay), or set [trigger] and [outputs]",
    "room": "make room, or lower the quotas: [archive] max_bytes, [outbox] max_bytes",
    "disk": "give the folder to the user of the service; make room; or set [station] state",
    "clock": "give the station a time server: timedatectl set-ntp true",
    "board": "a supply and a cable that are strong enough; a fan and a heat sink; fewer other programs",
    "service": "stop it to be sure: a camera and pins that it uses are not free for this check",
    "broker": "start the broker, or correct [mqtt] host, port, username and password_file",
}


NAMES = (
    "config",
    "permissions",
    "trust",
    "bundle",
    "model",
    "camera",
    "region",
    "pins",
    "broker",
    "disk",
    "room",
    "clock",
    "board",
    "service",
)


class Report:
    """The printed list, and the exit code of the first failure in it."""

    def __init__(self) -> None:
        self.exit_code = 0

    def attempt(self, name: str, step: Callable[[], T], found: Callable[[T], str]) -> T | None:
        """Try one thing and print a line: what was found, or what failed and how to mend it."""
        try:
            result = step()
            line = found(result)
        except EdgeVisionError as error:
            self.exit_code = self.exit_code or error.exit_code
            for problem in str(error).splitlines():
                print(f"FAIL  {name:<12}{problem}")
            print(f"      {'':<12}mend: {_MEND[name]}")
            return None
        print(f"ok    {name:<12}{line}", flush=True)
        return result

    def look(self, name: str, found: str, doubts: list[str]) -> None:
        """Print what was found, and what is doubtful about it; that does not change the exit code."""
        if not doubts:
            print(f"ok    {name:<12}{found}", flush=True)
            return
        for doubt in doubts:
            print(f"warn  {name:<12}{doubt}")
        print(f"      {'':<12}mend: {_MEND[name]}", flush=True)

    def skip(self, name: str, needs: str) -> None:
        """Print that something could not be tried."""
        print(f"-     {name:<12}not tried: it needs the {needs}")


def check(config_path: Path) -> int:
    """Try everything, in the order of NAMES. Returns the first failure's exit code."""
    report = Report()
    loaded = report.attempt("config", lambda: config.load(config_path), _config_found)
    if loaded is None:
        for name in NAMES[1:]:
            report.skip(name, "config")
        return report.exit_code
    report.attempt("permissions", lambda: _try_permissions(loaded), str)
    report.look("trust", "bundles are signed, and nobody listens", _doubts_of_trust(loaded))
    opened = report.attempt("bundle", lambda: _load_bundle(loaded), _bundle_found)
    if opened is None:
        report.skip("model", "bundle")
    else:
        report.attempt("model", lambda: _open_pipeline(loaded, opened), _pipeline_found)
    seen = report.attempt("camera", lambda: _try_camera(loaded, opened), lambda found: found[0])
    if opened is None or seen is None:
        report.skip("region", "bundle" if opened is None else "camera")
    else:
        report.attempt("region", lambda: _try_region(loaded, opened, seen[1]), str)
    report.attempt("pins", lambda: _try_pins(loaded), str)
    report.attempt("broker", lambda: _try_broker(loaded), str)
    reading = Board(loaded.state).read()
    if report.attempt("disk", lambda: _try_disk(loaded), str) is not None:
        report.look("room", _room_found(reading), _doubts_of_room(loaded, reading))
    report.look("clock", "synchronized", [] if clock_synced() else ["is not synchronized: verdicts say so"])
    report.look("board", _board_found(reading), _doubts_of_board(loaded, reading))
    report.look("service", "does not run now", _doubts_of_service(loaded))
    return report.exit_code


def _config_found(loaded: Config) -> str:
    return f"{loaded.path}, station {loaded.station}"


def _try_permissions(loaded: Config) -> str:
    """Nobody may read the password, and nobody may change what the service runs."""
    for path, forbidden, right in (
        (loaded.path, stat.S_IWOTH, "written"),
        (loaded.bundle, stat.S_IWOTH, "written"),
        (loaded.mqtt.password_file, stat.S_IRWXO, "read or written"),
        (loaded.camera.password_file, stat.S_IRWXO, "read or written"),
    ):
        if path is not None and _mode(path) & forbidden:
            raise ConfigError(f"{path}: may be {right} by everybody")
    return "configuration, bundle and passwords are closed to strangers"


def _doubts_of_trust(loaded: Config) -> list[str]:
    """Whom this station believes without a proof, and what others can read."""
    doubts = []
    if loaded.signers is None:
        doubts.append("unsigned bundles are taken: whoever may push decides what is a good part")
    elif not _names_somebody(loaded.signers):
        doubts.append(f"{loaded.signers}: names nobody who may sign: every bundle is refused")
    if loaded.mqtt.tls is None and not _is_here(loaded.mqtt.host):
        doubts.append(f"the broker {loaded.mqtt.host} is spoken to in clear: the network reads along")
    elif loaded.mqtt.tls is not None and loaded.mqtt.tls.insecure:
        doubts.append("[mqtt] insecure: any broker is believed")
    address = loaded.camera.source.partition("://")[2].partition("/")[0]
    if "@" in address and _mode(loaded.path) & stat.S_IRWXO:
        doubts.append(f"{loaded.path}: [camera] source holds a password, and everybody may read it")
    key = None if loaded.mqtt.tls is None else loaded.mqtt.tls.key_file
    if key is not None and _mode(key) & stat.S_IRWXO:
        doubts.append(f"{key}: [mqtt] key_file may be read by everybody")
    return doubts


def _names_somebody(signers: Path) -> bool:
    try:
        lines = signers.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    return any(line.strip() and not line.lstrip().startswith("#") for line in lines)


def _is_here(host: str) -> bool:
    """Whether a host name or an address is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:  # the step that needs it will tell
        return 0


def _load_bundle(loaded: Config) -> bundle.Bundle:
    """Whole, and signed where the station asks for that."""
    found = bundle.load(loaded.bundle)
    Trust(loaded.state, loaded.signers, loaded.allow_learned).require_in_use(found)
    return found


def _bundle_found(opened: bundle.Bundle) -> str:
    return f"{opened.name}, every file as its manifest says"


def _open_pipeline(loaded: Config, opened: bundle.Bundle) -> Pipeline:
    pipeline = Pipeline(
        opened,
        station=loaded.station,
        session_id=uuid.uuid4().hex,
        threads=loaded.model.threads,
        runtime=loaded.model.runtime,
    )
    pipeline.require_judged()
    return pipeline


def _pipeline_found(pipeline: Pipeline) -> str:
    return f"{pipeline.model.id} on {pipeline.runtime}, the golden images give their scores"


def _try_camera(loaded: Config, opened: bundle.Bundle | None) -> tuple[str, Size]:
    """What there is to say of it, and the size of its frames."""
    white_level = opened.calibration.preprocess.white_level if opened else None
    camera = make_camera(loaded.camera, time.sleep, lambda: white_level)
    camera.open()
    try:
        frame = camera.read(loaded.camera.timeout_s)
    finally:
        camera.close()
    if frame is None:
        raise FrameError(f"{camera.name}: has no frame")
    return f"{camera.name}: a frame of {frame.size.width}x{frame.size.height} px", frame.size


def _try_region(loaded: Config, opened: bundle.Bundle, size: Size) -> str:
    """Whether the regions of interest are for frames of this size."""
    framing = Framing.of(size, opened.calibration.preprocess, loaded.inspection.region)
    tiles = f", in {len(framing.tiles)} tiles" if framing.tiled else ""
    if framing.seen is None:
        return f"all of the frame is looked at{tiles}"
    content = framing.placement.content
    share = float(framing.seen.sum()) / content.area_px
    box = framing.placement.region
    return f"{share:.0%} of {box.width}x{box.height} px at {box.x}, {box.y} is looked at{tiles}"


def _try_broker(loaded: Config) -> str:
    try_broker(loaded.mqtt)
    return f"{loaded.mqtt.host}:{loaded.mqtt.port} accepts the station"


def _try_pins(loaded: Config) -> str:
    """Take every pin that is configured, for a moment and at rest: nothing is thrown out."""
    trigger = make_trigger(loaded.trigger)
    trigger.open()
    trigger.close()
    outputs = Outputs(loaded.outputs)
    outputs.open()
    outputs.close(drain_s=0)
    found = f"trigger {trigger.name}" + ("" if loaded.trigger.kind == "gpio" else ": needs no pin")
    pins = loaded.outputs
    wired = {"reject": pins.reject_pin, "busy": pins.busy_pin, "ready": pins.ready_pin}
    used = [f"{name} {number}" for name, number in wired.items() if number >= 0]
    return f"{found}; outputs: {', '.join(used) or 'none'}"


def _try_disk(loaded: Config) -> str:
    """Write to the state folder, as the service will; one that is not there yet is not made."""
    folder = loaded.state
    if not folder.exists():
        parent = next(path for path in folder.parents if path.exists())
        try:
            Path(tempfile.mkdtemp(prefix=".check-", dir=parent)).rmdir()
        except OSError as error:
            reason = f"does not exist, and cannot be made in {parent}: {error.strerror}"
            raise StorageError(f"{folder}: {reason}") from None
        return f"{folder} can be made"
    probe = folder / f"check-{uuid.uuid4().hex}"
    try:
        with probe.open("wb") as file:
            file.write(b"0" * 4096)
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written to: {error.strerror}") from None
    return f"{folder} can be written to"


def _room_found(reading: Reading) -> str:
    disk = reading.disk
    return "unknown" if disk is None else f"{disk.free_bytes // MIB} MiB free, {disk.free_ratio:.0%}"


def _doubts_of_room(loaded: Config, reading: Reading) -> list[str]:
    """What is free, against [health]'s limit and against what the quotas allow to be written."""
    disk = reading.disk
    if disk is None:
        return ["the disk does not say how much is free"]
    doubts = []
    if disk.free_ratio < loaded.health.disk_warn_ratio:
        doubts.append(f"{disk.free_ratio:.1%} of the disk is free, limit {loaded.health.disk_warn_ratio:.0%}")
    if disk.free_inodes_ratio < loaded.health.disk_warn_ratio:
        doubts.append(f"{disk.free_inodes} more files can be made on the disk")
    allowed = loaded.outbox.max_bytes + loaded.archive.min_free_bytes
    if disk.free_bytes < allowed:
        doubts.append(
            f"{disk.free_bytes // MIB} MiB are free; outbox and what the archive leaves free may come "
            f"to {allowed // MIB} MiB"
        )
    return doubts


def _board_found(reading: Reading) -> str:
    heat, memory = reading.temperature_c, reading.memory
    found = [] if heat is None else [f"{heat:.0f} °C"]
    if reading.throttled is not None:
        found.append("neither slowed nor under-supplied since the start")
    if memory is not None:
        found.append(f"{memory.available_bytes // MIB} MiB of memory available")
    return ", ".join(found) or "tells nothing of itself"


def _doubts_of_board(loaded: Config, reading: Reading) -> list[str]:
    heat, word, memory = reading.temperature_c, reading.throttled, reading.memory
    doubts = []
    if heat is not None and heat > loaded.health.temperature_warn_c:
        doubts.append(f"{heat:.0f} °C, limit {loaded.health.temperature_warn_c:g}")
    if word is not None and (word.under_voltage or word.had_under_voltage):
        when = "now" if word.under_voltage else "since the machine was started"
        doubts.append(f"the supply was too low {when}")
    if word is not None and (word.slowed or word.was_slowed):
        when = "now" if word.slowed else "since the machine was started"
        doubts.append(f"the processor was slowed down {when}")
    if memory is not None and memory.available_bytes < loaded.health.memory_warn_mib * MIB:
        doubts.append(f"{memory.available_bytes // MIB} MiB of memory available")
    return doubts


def _doubts_of_service(loaded: Config) -> list[str]:
    try:
        found = status.read(loaded.runtime)
    except StorageError as error:
        return [str(error)]
    if found.content is None:
        return []
    return [f"runs now, as process {found.content['pid']}"]


def try_broker(config: MqttConfig, timeout_s: float = CONNECT_S) -> str:
    """Connect under a client id of its own, so that a running service is not thrown out.

    Returns the version of MQTT that is spoken.
    Raises BrokerError: nobody answers in time, or the broker refuses; ConfigError: the TLS files.
    """
    versions = Versions(config.protocol)
    while True:
        wanted = versions.wanted
        connection = Connection(config, f"edgevision-check-{uuid.uuid4().hex[:8]}", wanted)
        try:
            connection.open(timeout_s)
        except BrokerError as error:
            if isinstance(error, ProtocolRefused):
                versions.refused()
            elif isinstance(error, Unanswered):
                versions.unanswered()
            if versions.wanted == wanted and not (isinstance(error, Unanswered) and versions.may_fall_back):
                raise BrokerError(f"broker {config.host}:{config.port}: {error}") from None
        else:
            connection.close()
            return wanted
