"""The pictures of docs/images/: the dashboard with stations that replay real verdicts, and the page of `aim`.

    .venv/bin/python -m benchmarks.screenshots [--out docs/images]

Needs `apt install mosquitto chromium`; about a minute. The verdicts are those of the demo's bundle on
deploy/demo/images, and so is the heat; only names, numbers, times and the order are this program's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import cv2
import numpy as np
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from playwright.sync_api import Browser, Page

from benchmarks.browser import launched
from benchmarks.mosquitto import mosquitto
from benchmarks.simulated import SimulatedStation, compact
from deploy.demo import DEMO, ROOT
from deploy.serve import serving
from device.archive import encode
from device.bundle import bundle as bundles
from device.inspection.annotate import heat_layer
from device.inspection.pipeline import Pipeline

STAND_IN = """\
import cv2
from device.camera.fake_picamera2 import *
from device.camera.fake_picamera2 import Picamera2, World
def picture(number, width, height):
    return cv2.resize(cv2.cvtColor(cv2.imread({part!r}), cv2.COLOR_BGR2RGB), (width, height))
Picamera2.world = World(picture=picture)
"""
AIM_CONFIG = """\
[station]
name = "press-4"
state = "state"
runtime = "run"
[bundle]
path = {bundle!r}
[camera]
kind = "picamera2"
width_px = 256
height_px = 256
rate_hz = 20.0
"""
HISTORY = 310  # verdicts of each station before the picture is taken
RATE_HZ = 30.0
SHIFT_S = 6 * 3600  # since when the stations have counted
WAIT_MS = 60_000
QUALITY = 85


@dataclass(frozen=True, slots=True)
class View:
    """One picture: its file, the window in px, the theme, and the stations with the last word of each."""

    name: str
    size: tuple[int, int]
    theme: str
    stations: dict[str, str]
    scale: float = 1.0
    fit: bool = False
    defect: bool = False  # opened large


HALL = {f"press-{number}": "OK" for number in range(1, 5)} | {"press-3": "NG", "weld-1": "OK", "weld-2": "NG"}
VIEWS = (
    View("dashboard-desktop", (1440, 860), "light", {"press-4": "OK", "press-5": "NG", "weld-1": "OK"}),
    View("dashboard-dark", (1440, 860), "dark", {"press-4": "OK", "press-5": "NG", "weld-1": "OK"}),
    View("dashboard-phone", (390, 844), "light", {"press-5": "NG"}, scale=1.5),
    View("dashboard-defect", (1440, 860), "light", {"press-4": "OK", "press-5": "NG"}, defect=True),
    View("dashboard-1080p", (1920, 1080), "light", HALL, scale=0.75, fit=True),
    View("dashboard-wall", (3840, 2160), "dark", HALL, scale=0.375, fit=True),
)


def main() -> None:
    """Take every picture."""
    parser = argparse.ArgumentParser(description="Take the pictures of the dashboard for the documents.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", metavar="DIR")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    parts = real_parts()
    with launched() as browser:
        for view in VIEWS:
            file = out / f"{view.name}.webp"
            file.write_bytes(take(browser, view, parts))
            print(f"{file.name}  {file.stat().st_size / 1000:.0f} kB")
        (out / "aim.webp").write_bytes(take_aim(browser))


@dataclass(frozen=True, slots=True)
class Part:
    """What the device says of an image of the demo: `heat` of one that is not OK."""

    file: Path
    verdict: dict[str, Any]
    heat: bytes | None


def real_parts() -> list[Part]:
    """The demo's images, judged."""
    pipeline = Pipeline(bundles.load(DEMO / "bundle"), "demo", "0")
    return [part_of(pipeline, file) for file in sorted((DEMO / "images").glob("*.png"))]


def part_of(pipeline: Pipeline, file: Path) -> Part:
    """One image."""
    verdict = pipeline.inspect(pipeline.read(file, 0))
    heat = None if verdict.heat is None else encode.png_layer(heat_layer(verdict.heat))
    return Part(file, json.loads(verdict.to_json()), heat)


def take(browser: Browser, view: View, parts: list[Part]) -> bytes:
    """A fresh broker, a fresh page, and its picture."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mosquitto(Path(folder)) as broker,
        serving() as address,
    ):
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        width, height = view.size
        page = browser.new_page(
            viewport={"width": width, "height": height},
            device_scale_factor=view.scale,
            color_scheme="dark" if view.theme == "dark" else "light",
        )
        query = {"broker": f"ws://127.0.0.1:{broker.websockets}", "fit": int(view.fit)}
        page.goto(f"{address}/?{urlencode(query)}")
        page.get_by_text("Connected", exact=True).wait_for(timeout=WAIT_MS)
        speak(client, view, parts, page)
        if view.defect:
            page.get_by_role("article", name="press-5").get_by_label("Look at this defect").click()
            page.get_by_role("button", name="Heat map").click()
            page.wait_for_timeout(500)
        picture = page.screenshot()
        page.close()
        client.loop_stop()
    return webp(picture)


def take_aim(browser: Browser) -> bytes:
    """The page of `device aim` on the camera stand-in, which sees a defective part of the demo."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for module in ("picamera2", "libcamera"):
            code = STAND_IN.format(part=str(DEMO / "images" / "part07.png"))
            (folder / f"{module}.py").write_text(code)
        config = folder / "config.toml"
        config.write_text(AIM_CONFIG.format(bundle=str(DEMO / "bundle")))
        command = (sys.executable, "-m", "device", "aim", "--config", config)
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None  # noqa: S101 - a pipe, as asked for
            link = next(line for line in process.stderr if "open this once" in line).split(": ", 1)[1]
            page = browser.new_page(viewport={"width": 1440, "height": 1180})
            page.goto(link.strip())
            page.get_by_text("Sharpness").wait_for(timeout=WAIT_MS)
            page.get_by_label("Heat map of the model").check()
            draw(page)
            page.wait_for_timeout(2000)
            picture = page.screenshot()
            page.get_by_role("button", name="End").click()
            process.wait()
    return webp(picture)


def draw(page: Page) -> None:
    """A region of interest with the mouse."""
    box = page.locator("#drawing").bounding_box() or {}
    left, top, width, height = (box[side] for side in ("x", "y", "width", "height"))
    page.mouse.move(left + 0.06 * width, top + 0.06 * height)
    page.mouse.down()
    page.mouse.move(left + 0.94 * width, top + 0.94 * height, steps=3)
    page.mouse.up()


def webp(picture: bytes) -> bytes:
    """A PNG as WebP: half as large and less."""
    shown = np.frombuffer(picture, np.uint8)
    quality = [cv2.IMWRITE_WEBP_QUALITY, QUALITY]
    return cv2.imencode(".webp", cv2.imdecode(shown, cv2.IMREAD_COLOR), quality)[1].tobytes()


def speak(client: Client, view: View, parts: list[Part], page: Page) -> None:
    """Every station's past, one that is gone, one with a worry; returns when the page shows it."""
    stations = {name: SimulatedStation(name) for name in view.stations}
    for station in stations.values():
        tell(client, {**station.retained(), **before(station)}, retain=True)
    pasts = [past(name, parts, last) for name, last in view.stations.items()]
    for moment in zip(*pasts, strict=True):
        due_s = time.monotonic() + 1 / RATE_HZ
        for station, part in zip(stations.values(), moment, strict=True):
            judge(client, station, part)
        time.sleep(max(0.0, due_s - time.monotonic()))
    for station in stations.values():
        tell(client, shift(station), retain=True)
    *_, worried, gone = view.stations if len(view.stations) > 3 else (*view.stations, None)
    if worried:
        tell(client, worry(worried), retain=True)
    if gone:
        tell(client, {SimulatedStation(gone).topic("status"): b"offline"}, retain=True)
        page.get_by_text("Offline", exact=True).wait_for(timeout=WAIT_MS)
    page.get_by_text("degraded", exact=True).wait_for(timeout=WAIT_MS)
    page.wait_for_timeout(2500)  # the figures that are written once a second, and the picture's decoding


def before(station: SimulatedStation) -> dict[str, bytes]:
    """What the station takes and publishes, and the hours until now."""
    chance = random.Random(station.name)  # noqa: S311 (no secret)
    now = datetime.now(UTC)
    hours = [
        {"from": rfc3339(now - timedelta(minutes=10 * step)), "ok": 320, "ng": chance.choice((0, 2, 5, 9))}
        | {"marginal": 0, "error": 0, "score_median": 0.02}
        for step in range(36, 0, -1)
    ]
    birth = json.loads(station.retained()[station.topic("birth")])
    birth |= {"capabilities": ["history", "image"], "commands": ["review", "picture", "acknowledge"]}
    history = {"schema": 1, "step_s": 600, "trend": hours, "defects": []}
    return {station.topic("birth"): compact(birth), station.topic("history"): compact(history)}


def rfc3339(moment: datetime) -> str:
    """As a station writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def past(name: str, parts: list[Part], last: str) -> list[Part]:
    """HISTORY parts, nearly all OK: a defect comes last, or some good parts before the end."""
    chance = random.Random(name)  # noqa: S311 (no secret)
    good = [part for part in parts if part.verdict["verdict"] == "OK"]
    bad = [part for part in parts if part.verdict["verdict"] == "NG"]
    chosen = [chance.choice(bad if chance.random() < 0.02 else good) for _ in range(HISTORY)]
    after = 0 if last == "NG" else 40
    return [*chosen[after:], chance.choice(bad), *chance.choices(good, k=after)]


def judge(client: Client, station: SimulatedStation, part: Part) -> None:
    """A real verdict under the station's own name, number and time; a defect with its picture and heat."""
    own = station.verdict(part.verdict["verdict"])
    names = ("event_id", "session_id", "seq", "ts", "station", "part_id", "historical")
    said = part.verdict | {name: own[name] for name in names}
    client.publish(station.topic("inspection"), compact(said), 1)
    if part.verdict["verdict"] == "NG":
        client.publish(station.topic(f"image/{said['event_id']}"), jpeg(part.file))
        client.publish(station.topic(f"heat/{said['event_id']}"), part.heat)


def shift(station: SimulatedStation) -> dict[str, bytes]:
    """The counters of a station that has worked since this morning."""
    since = datetime.now(UTC) - timedelta(seconds=SHIFT_S)
    counted = {**station.counted, "ok": station.counted["ok"] + 11_400, "marginal": 3}
    content = {"schema": 1, **counted, "since": rfc3339(since)}
    return {station.topic("counters"): compact(content)}


def tell(client: Client, messages: dict[str, bytes], retain: bool = False) -> None:
    """Publish {topic: payload} and wait until the broker has it."""
    for topic, payload in messages.items():
        client.publish(topic, payload, 1, retain).wait_for_publish(10)


def jpeg(file: Path) -> bytes:
    """An image of the demo as the station would publish it."""
    content: bytes = cv2.imencode(".jpg", cv2.imread(str(file)))[1].tobytes()
    return content


def worry(name: str) -> dict[str, bytes]:
    """The health of a station whose disk fills."""
    station = SimulatedStation(name)
    topic = station.topic("health")
    health = json.loads(station.retained()[topic])
    disk = {"state": "warn", "reason": "space", "text": "1.2 GB free, 2 GB wanted"}
    health["roles"]["disk"] |= disk | {"mend": "Lower [archive] max_bytes, or use a larger card"}
    return {topic: compact(health | {"state": "degraded"})}


if __name__ == "__main__":
    main()
