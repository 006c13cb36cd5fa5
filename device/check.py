"""`check`: everything that `run` needs, tried once and listed, each failure with a way to mend it."""

from __future__ import annotations

import stat
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from device import bundle, config
from device.broker import try_broker
from device.camera import make_camera
from device.config import Config
from device.errors import ConfigError, EdgeVisionError, FrameError
from device.pipeline import Pipeline

T = TypeVar("T")

_MEND = {
    "config": "every key and its meaning stand in device/default.toml",
    "permissions": "take the right away: chmod o-rwx FILE, or chmod o-w for what holds no secret",
    "bundle": "set [bundle] path; a damaged bundle must be copied again",
    "model": "install ai-edge-litert (or tflite-runtime) into this environment; a bundle whose golden images "
    "fail must be made again",
    "camera": "set [camera] source, and look at it as the user of the service",
    "broker": "start the broker, or correct [mqtt] host, port, username and password_file",
}


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

    def skip(self, name: str, needs: str) -> None:
        """Print that something could not be tried."""
        print(f"-     {name:<12}not tried: it needs the {needs}")


def check(config_path: Path) -> int:
    """Try config, permissions, bundle, model, camera and broker. Returns the first failure's exit code."""
    report = Report()
    loaded = report.attempt("config", lambda: config.load(config_path), _config_found)
    if loaded is None:
        for name in ("permissions", "bundle", "model", "camera", "broker"):
            report.skip(name, "config")
        return report.exit_code
    report.attempt("permissions", lambda: _try_permissions(loaded), str)
    opened = report.attempt("bundle", lambda: bundle.load(loaded.bundle), _bundle_found)
    if opened is None:
        report.skip("model", "bundle")
    else:
        report.attempt("model", lambda: _open_pipeline(loaded, opened), _pipeline_found)
    report.attempt("camera", lambda: _try_camera(loaded), str)
    report.attempt("broker", lambda: _try_broker(loaded), str)
    return report.exit_code


def _config_found(loaded: Config) -> str:
    return f"{loaded.path}, station {loaded.station}"


def _try_permissions(loaded: Config) -> str:
    """Nobody may read the password, and nobody may change what the service runs."""
    for path, forbidden, right in (
        (loaded.path, stat.S_IWOTH, "written"),
        (loaded.bundle, stat.S_IWOTH, "written"),
        (loaded.password_file, stat.S_IRWXO, "read or written"),
    ):
        if path is not None and _mode(path) & forbidden:
            raise ConfigError(f"{path}: may be {right} by everybody")
    return "configuration, bundle and password are closed to strangers"


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:  # the step that needs it will tell
        return 0


def _bundle_found(opened: bundle.Bundle) -> str:
    return f"{opened.name}, every file as its manifest says"


def _open_pipeline(loaded: Config, opened: bundle.Bundle) -> Pipeline:
    return Pipeline(
        opened,
        station=loaded.station,
        session_id=uuid.uuid4().hex,
        threads=loaded.model.threads,
        runtime=loaded.model.runtime,
    )


def _pipeline_found(pipeline: Pipeline) -> str:
    return f"{pipeline.model.id} on {pipeline.runtime}, the golden images give their scores"


def _try_camera(loaded: Config) -> str:
    camera = make_camera(loaded.camera, time.sleep)
    camera.open()
    try:
        frame = camera.read(loaded.camera.timeout_s)
    finally:
        camera.close()
    if frame is None:
        raise FrameError(f"{camera.name}: has no frame")
    return f"{camera.name}: a frame of {frame.size.width}x{frame.size.height} px"


def _try_broker(loaded: Config) -> str:
    try_broker(loaded.mqtt)
    return f"{loaded.mqtt.host}:{loaded.mqtt.port} accepts client {loaded.mqtt.client_id}"
