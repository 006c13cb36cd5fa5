"""`aim`: a page for setting the camera up, and what it hands over: keys of [camera] and [inspection].

    the camera (viewfinder.py)  ->  the page (page/, served by web.py)  ->  a change, when it is confirmed
                                                                            (config_file.py)

It ends by itself: after --minutes, and when nobody has asked for IDLE_S. It does not run beside the service,
which needs the camera for itself, unless it is told to.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from device.aim import config_file
from device.aim.signpost import Signpost
from device.aim.viewfinder import Viewfinder
from device.aim.web import AimSite, Answer, Query, Server, Unwanted
from device.bundle import bundle as bundles
from device.camera.camera import make_camera
from device.config import Config
from device.errors import BusyError, ConfigError, EdgeVisionError, StorageError
from device.inspection.pipeline import Pipeline
from device.system.signals import StopSignal
from device.telemetry import status

IDLE_S = 600.0
_LOOK_S = 0.5
_WAIT_S = 2.0  # for a newer picture
_CHANGE_S = 25.0  # for a camera that is opened anew


@dataclass(frozen=True, slots=True)
class AimOptions:
    """`host`, `port`: where the page is (port 0: a free one). `beside`: also while the service runs."""

    host: str = "127.0.0.1"
    port: int = 0
    minutes: float = 30.0
    beside: bool = False

    @property
    def is_local(self) -> bool:
        """Whether the page is for this machine alone."""
        return self.host in ("127.0.0.1", "::1", "localhost")

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port: must be 0..65535, got {self.port}")
        if not 0 < self.minutes <= 1440:
            raise ConfigError(f"--minutes: must be above 0 and at most 1440, got {self.minutes:g}")


def aim(config: Config, options: AimOptions) -> int:
    """Serve the page until it is confirmed to be done, a signal, or the time is over. Returns 0.

    Raises BusyError: the service runs. ConfigError: the address cannot be had.
    """
    require_free_camera(config, beside=options.beside)
    pipeline = _pipeline(config)
    with StopSignal() as stop:
        white_level = pipeline.white_level if pipeline else None
        viewfinder = Viewfinder(
            config.camera, lambda camera: make_camera(camera, stop.wait, lambda: white_level), pipeline
        )
        desk = Desk(config, viewfinder)
        server = _server(options, desk)
        viewfinder.start()
        threading.Thread(target=server.serve_forever, args=(_LOOK_S,), name="aim", daemon=True).start()
        say(f"open this once: {server.link}")
        signpost = None if options.is_local else _signpost(config, server)
        try:
            say(_wait(stop, server, desk, options.minutes * 60))
        finally:
            if signpost is not None:
                signpost.stop()
            server.shutdown()
            server.server_close()
            viewfinder.stop()
    return 0


def require_free_camera(config: Config, *, beside: bool) -> None:
    """Raises BusyError where the service runs, which has the camera, unless `beside`; then it is said."""
    if status.read(config.runtime).presence == "absent":
        return
    if not beside:
        raise BusyError(
            f"the service of station {config.station} runs and has the camera: stop it first "
            "(systemctl stop edgevision), or add --beside where two may read from this camera"
        )
    say("the service runs at the same time: --beside")


def say(line: str) -> None:
    """To who has called: standard error."""
    print(line, file=sys.stderr, flush=True)


def _server(options: AimOptions, desk: Desk) -> Server:
    try:
        return Server((options.host, options.port), desk.site)
    except OSError as error:
        raise ConfigError(
            f"{options.host}:{options.port}: cannot be had: {error.strerror or error}"
        ) from None


def _signpost(config: Config, server: Server) -> Signpost:
    say(f"or press the link on the station's card on the dashboard, and type the code {server.code}")
    say("what goes over the network here is not encrypted; `ssh -L` to 127.0.0.1 is")
    signpost = Signpost(config, server.address, say)
    signpost.start()
    return signpost


def _pipeline(config: Config) -> Pipeline | None:
    """The model in use; None where there is none yet, which is no reason not to aim a camera."""
    try:
        return Pipeline(
            bundles.load(config.bundle),
            station=config.station,
            session_id="aim",
            threads=config.model.threads,
            runtime=config.model.runtime,
            region=config.inspection.region,
        )
    except EdgeVisionError as error:
        say(f"without a model: {error}")
        return None


def _wait(stop: StopSignal, server: Server, desk: Desk, seconds: float) -> str:
    """Until it is over; why, in words."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if stop.wait(_LOOK_S):
            return "stopped"
        if desk.done.is_set():
            return "done"
        if time.monotonic() - server.asked_s > IDLE_S:
            return f"nobody has looked for {IDLE_S / 60:.0f} minutes: ended"
    return f"{seconds / 60:g} minutes are over: ended"


class Desk:
    """What the page asks for and hands in."""

    def __init__(self, config: Config, viewfinder: Viewfinder) -> None:
        self._config = config
        self._viewfinder = viewfinder
        self.done = threading.Event()
        self.site = AimSite(
            get={
                "/state": self._state,
                "/live": self._live,
                "/frame.jpg": self._frame,
                "/golden.jpg": self._golden,
            },
            post={"/try": self._try, "/toml": self._toml, "/confirm": self._confirm, "/done": self._done},
        )

    def _state(self, query: Query) -> Answer:
        config, camera = self._config, self._viewfinder.camera
        region = config.inspection.region
        return _json({
            "station": config.station,
            "camera": camera.kind,
            "config": str(config.path),
            "controls": self._viewfinder.controls,
            "settings": {
                "exposure_us": camera.exposure_us,
                "gain_ratio": camera.gain_ratio,
                "colour_gains": list(camera.colour_gains),
            },
            "roi": [polygon.corners for polygon in region.roi],
            "ignore": [polygon.corners for polygon in region.ignore],
            "golden": self._viewfinder.golden_count,
        })  # fmt: skip

    def _live(self, query: Query) -> Answer:
        view = self._viewfinder.newest(_count(query.get("after", "0")), _WAIT_S)
        return _json({"number": view.number, "fault": view.fault, **view.figures})

    def _frame(self, query: Query) -> Answer:
        try:
            content = self._viewfinder.picture(query.get("heat") == "1")
        except EdgeVisionError as error:
            raise Unwanted(str(error)) from error
        if content is None:
            raise Unwanted("no picture yet")
        return "image/jpeg", content

    def _golden(self, query: Query) -> Answer:
        content = self._viewfinder.golden(_count(query.get("number", "0")))
        if content is None:
            raise Unwanted("no such golden image")
        return "image/jpeg", content

    def _try(self, content: Any) -> Any:
        """Other settings of the camera, for this page alone."""
        settings = self._changes({"camera": content}).get("camera", {})
        if not settings:
            raise Unwanted("nothing to try")
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
        return {"refused": self._viewfinder.try_camera(_CHANGE_S, **given)}

    def _toml(self, content: Any) -> Any:
        return {"toml": config_file.as_toml(self._changes(content))}

    def _confirm(self, content: Any) -> Any:
        changes = self._changes(content)
        if not any(changes.values()):
            raise Unwanted("nothing to change")
        try:
            kept = config_file.write(self._config.path, changes)
        except (ConfigError, StorageError) as error:
            raise Unwanted(str(error)) from error
        say(f"{self._config.path}: changed; the old file is {kept}")
        return {"config": str(self._config.path), "kept": str(kept)}

    def _done(self, content: Any) -> Any:
        self.done.set()
        return {}

    def _changes(self, content: Any) -> dict[str, dict[str, Any]]:
        """{section: {key: value}} of keys that aim may change, each of the right shape. Raises Unwanted."""
        if not isinstance(content, dict) or not content.keys() <= {"camera", "inspection"}:
            raise Unwanted("must be an object with camera and inspection")
        shapes: dict[str, dict[str, Callable[[Any], Any]]] = {
            "camera": {key: _SHAPES[key] for key in self._viewfinder.controls},
            "inspection": dict.fromkeys(("roi", "ignore"), _polygons),
        }
        return {section: _shaped(section, content[section], shapes[section]) for section in content}


def _shaped(section: str, given: Any, shapes: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    if not isinstance(given, dict) or not given.keys() <= shapes.keys():
        known = ", ".join(shapes) or "nothing: this camera has no such settings"
        raise Unwanted(f"{section}: must be an object with {known}")
    try:
        return {key: shapes[key](value) for key, value in given.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise Unwanted(f"{section}: {error}") from error


def _number(value: Any, most: float, *, whole: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"must be a number 0..{most:g}, got {value!r}")
    return round(value) if whole else round(float(value), 3)


def _gains(value: Any) -> list[float]:
    red, blue = value
    return [_number(gain, 32, whole=False) for gain in (red, blue)]


def _polygons(value: Any) -> list[list[list[int]]]:
    """Lists of corners [x, y] in px."""
    if not isinstance(value, list) or len(value) > 100:
        raise ValueError("must be a list of at most 100 polygons")
    return [
        [[int(_number(x, 1e5, whole=True)), int(_number(y, 1e5, whole=True))] for x, y in one]
        for one in value
    ]


_SHAPES: dict[str, Callable[[Any], Any]] = {
    "exposure_us": partial(_number, most=1e7, whole=True),
    "gain_ratio": partial(_number, most=64, whole=False),
    "colour_gains": _gains,
}


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _json(content: Any) -> Answer:
    return "application/json", json.dumps(content).encode()
