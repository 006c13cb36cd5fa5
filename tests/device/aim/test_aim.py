"""`aim` as a technician has it: the command, and its page in a real browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from fixtures_broker import DEADLINE_S
from fixtures_bundle import make_frame, make_image, png_bytes
from fixtures_daemon import REPOSITORY, Station, command_line, run_device
from playwright.sync_api import expect

from device.aim.aim import AimOptions, Desk
from device.aim.web import Unwanted
from device.bundle import bundle
from device.config import load
from device.errors import ConfigError
from device.image.frame import Frame
from device.image.region_of_interest import EVERYTHING, RegionOfInterest
from device.inspection.pipeline import Pipeline

NAMES = ("picamera2", "libcamera")
STAND_IN = """
import os, cv2, numpy as np
from device.camera.fake_picamera2 import *
from device.camera.fake_picamera2 import Picamera2, World
def picture(number, width, height):
    part = cv2.imread(os.environ["PART"])
    return cv2.cvtColor(cv2.resize(part, (width, height)), cv2.COLOR_BGR2RGB)
Picamera2.world = World(picture=picture, frame_us=50_000)
"""


@dataclass
class Aim:
    """The command at work; `part` is the file that the stand-in looks at."""

    process: subprocess.Popen[str]
    part: Path
    said: list[str] = field(default_factory=list)

    def line(self, pattern: str) -> str:
        """The first line of its stderr, from now on, that has this."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(pattern, line):
                return found.group(1)
        raise AssertionError(f"no {pattern} in {self.said}")


def show(part: Path, blur: float) -> None:
    """What the stand-in sees from now on, out of focus by so much."""
    image = make_image(width=320, height=240, seed=5)
    pixels = cv2.GaussianBlur(image, (0, 0), blur) if blur else image
    fresh = part.with_name("fresh.png")
    fresh.write_bytes(png_bytes(np.asarray(pixels, np.uint8)))
    fresh.replace(part)


@pytest.fixture
def station(make_station: Callable[..., Station]) -> Station:
    made = make_station(1, "o")
    camera = 'kind = "picamera2" # hall 2\nwidth_px = 320\nheight_px = 240'
    made.config.write_text(made.config.read_text().replace('source = "images"', camera))
    return made


@pytest.fixture
def aim(station: Station, tmp_path: Path) -> Iterator[Aim]:
    modules = tmp_path / "modules"
    modules.mkdir()
    for name in NAMES:
        (modules / f"{name}.py").write_text(STAND_IN)
    part = tmp_path / "part.png"
    show(part, 6)
    environment = {**os.environ, "PYTHONPATH": str(modules), "PART": str(part)}
    process = subprocess.Popen(
        command_line("aim", "--config", station.config),
        cwd=REPOSITORY,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield Aim(process, part)
    process.kill()
    process.wait(DEADLINE_S)
    process.stderr.close()


@pytest.fixture
def page(chromium: Any, aim: Aim) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(DEADLINE_S * 1000)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.goto(aim.line(r"open this once: (\S+)"))
    yield opened
    context.close()
    assert faults == []


def sharpness(page: Any) -> float:
    return float(re.search(r"Sharpness ([\d.]+)", page.locator("#sharpness").text_content()).group(1))


def test_from_the_lens_to_verdicts_that_obey_what_was_drawn(page: Any, aim: Aim, station: Station) -> None:
    expect(page.locator("#sharpness")).to_contain_text("Sharpness")
    found = [sharpness(page)]
    for blur in (3, 1, 0):
        show(aim.part, blur)
        before = found[-1]
        page.wait_for_function(
            "(before) => parseFloat(document.getElementById('sharpness').textContent.slice(10)) > before",
            arg=1.2 * before,
        )
        found.append(sharpness(page))
    assert found == sorted(found)
    expect(page.locator("#model-focus")).to_contain_text("its good images had")
    expect(page.locator("#verdict")).to_contain_text("score")
    assert Axe().run(page).response["violations"] == []

    page.get_by_label("Exposure").fill("8000")
    expect(page.locator("#tried")).to_have_text("At work, for this page alone")
    expect(page.locator("#metadata")).to_contain_text("exposure_us 8000")
    assert "8000" not in station.config.read_text(), "nothing is changed before it is confirmed"

    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"], box["y"] + box["height"], steps=4)
    page.mouse.up()
    expect(page.locator("#toml")).to_contain_text("roi = [[[160, 0], [320, 0], [320, 240], [160, 240]]]")
    page.get_by_label("Heat map of the model").check()
    page.get_by_role("button", name="Write it to config.toml").click()
    expect(page.locator("#outcome")).to_contain_text("is changed; what it was is in")
    changed = load(station.config)
    assert changed.camera.exposure_us == 8000
    assert changed.inspection.region.roi[0].corners == ((160, 0), (320, 0), (320, 240), (160, 240))
    assert "# hall 2" in station.config.read_text()
    spotted = make_frame(make_image(width=320, height=240, seed=6, spot=(40, 60, 60, 60)))
    assert judged(station, EVERYTHING, spotted) == "NG"
    assert judged(station, changed.inspection.region, spotted) == "OK", "the spot lies where nobody looks"
    assert len(list(station.folder.glob("config.toml.*.old"))) == 1

    page.get_by_role("button", name="End").click()
    assert aim.process.wait(DEADLINE_S) == 0


def judged(station: Station, region: RegionOfInterest, frame: Frame) -> str:
    """The verdict of the station's bundle where it looks at this region."""
    return Pipeline(bundle.load(station.bundle), "press-4", "test", region=region).inspect(frame).verdict


def test_a_polygon_is_tapped_or_typed(page: Any) -> None:
    expect(page.locator("#sharpness")).to_contain_text("Sharpness")
    page.get_by_role("button", name="Never look here").click()
    box = page.locator("#drawing").bounding_box()
    for x, y in ((0.25, 0.25), (0.75, 0.25), (0.5, 0.75)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.get_by_role("button", name="Close the polygon").click()
    expect(page.locator("#toml")).to_contain_text("ignore = [[[80, 60], [240, 60], [160, 180]]]")
    page.get_by_role("button", name="Take back the last").click()
    expect(page.locator("#toml")).to_have_text("nothing is changed")
    page.get_by_label("[inspection] roi").fill("[[[0, 0], [9, 0]]]")
    page.get_by_label("[inspection] roi").blur()
    expect(page.locator("#outcome")).to_contain_text("must be polygons of 3 corners")
    page.get_by_label("[inspection] roi").fill("[[[0, 0], [90, 0], [90, 90]]]")
    page.get_by_label("[inspection] roi").blur()
    expect(page.locator("#toml")).to_contain_text("roi = [[[0, 0], [90, 0], [90, 90]]]")


def test_it_ends_when_its_time_is_over(station: Station) -> None:
    station.configure(camera="loop = true\nrate_hz = 5")
    done = run_device("aim", "--minutes", "0.02", "--config", station.config)
    assert done.returncode == 0, done.stderr
    assert "0.02 minutes are over: ended" in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [({"port": 70_000}, "--port"), ({"minutes": 0}, "--minutes"), ({"minutes": 1e9}, "--m")],
)
def test_options_out_of_range_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AimOptions(**change)


class Still:
    """A viewfinder without a camera."""

    controls = ("exposure_us", "gain_ratio", "colour_gains")
    golden_count = 0

    def try_camera(self, wait_s: float, **settings: Any) -> str | None:
        return json.dumps(settings)


@pytest.mark.parametrize(
    "content",
    [
        None, [], {"mqtt": {"host": "evil"}}, {"camera": {"kind": "x"}}, {"camera": {"exposure_us": "1"}},
        {"camera": {"exposure_us": -1}}, {"camera": {"exposure_us": True}}, {"camera": {"gain_ratio": 1e9}},
        {"camera": {"colour_gains": [1]}}, {"camera": {"colour_gains": 3}}, {"inspection": {"roi": 1}},
        {"inspection": {"roi": [[[1, 2, 3]]]}}, {"inspection": {"roi": [[["a", 1]]]}},
        {"inspection": {"roi": [[]] * 101}}, {"inspection": {"roi": [[[float("nan"), 1]]]}},
    ],
)  # fmt: skip
def test_only_what_aim_may_change_is_taken(station: Station, content: Any) -> None:
    desk = Desk(load(station.config), Still())  # type: ignore[arg-type]
    before = station.config.read_text()
    for path in ("/toml", "/confirm"):
        with pytest.raises(Unwanted):
            desk.site.post[path](content)
    assert station.config.read_text() == before


def test_nothing_of_aim_is_loaded_by_the_service() -> None:
    code = (
        "import device.service, sys; print([name for name in sys.modules if name.startswith('device.aim')])"
    )
    done = subprocess.run(
        (sys.executable, "-c", code), cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
