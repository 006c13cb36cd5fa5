"""The dashboard in a real browser, on a real broker and stations that talk to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import cv2
import numpy as np
import pytest
from fixtures_broker import DEADLINE_S, Broker, free_port
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from playwright.sync_api import expect

from benchmarks import browser
from benchmarks.simulated import SimulatedStation, compact
from deploy.serve import serving

expect.set_options(timeout=DEADLINE_S * 1000)
WIDE, PHONE = (1440, 900), (390, 844)


def picture(width: int = 128, height: int = 128) -> bytes:
    """A JPEG of a grey part."""
    pixels = np.full((height, width, 3), 120, np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def heat() -> bytes:
    """A layer with the left half hot."""
    pixels = np.zeros((128, 128, 4), np.uint8)
    pixels[:, :64] = (0, 0, 255, 190)
    return cv2.imencode(".png", pixels)[1].tobytes()


@dataclass
class Talker:
    """Publishes as stations do, and waits until the broker has it."""

    client: Client

    def say(self, topic: str, payload: bytes | str, retain: bool = False) -> None:
        self.client.publish(topic, payload, 1, retain).wait_for_publish(DEADLINE_S)

    def introduce(self, station: SimulatedStation) -> None:
        for topic, payload in station.retained().items():
            self.say(topic, payload, retain=True)

    def judge(self, station: SimulatedStation, word: str = "OK", **changes: Any) -> dict[str, Any]:
        """Publish the station's next verdict and return it."""
        verdict = station.verdict(word, **changes)
        self.say(station.topic("inspection"), compact(verdict))
        return verdict


@dataclass
class Dashboard:
    """Opens the page in a window that all tests share; what the browser complains of is in `faults`."""

    window: Any
    address: str
    websockets: int
    faults: list[str] = field(default_factory=list)

    def open(
        self, size: tuple[int, int] = WIDE, scheme: str = "light", connected: bool = True, **query: Any
    ) -> Any:
        page = self.window
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        asked = {"broker": f"ws://127.0.0.1:{self.websockets}", **query}
        page.goto(f"{self.address}/?{urlencode(asked)}")
        if connected:
            page.get_by_text("Connected", exact=True).wait_for()
        return page

    def hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def fail(self, error: Any) -> None:
        self.faults.append(f"{error}")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if browser.chromium() is None:
        pytest.skip(f"no browser: {', '.join(browser.NAMES)} not on PATH")
    with browser.launched() as running:
        yield running


@pytest.fixture(scope="session")
def page_address() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture(scope="session")
def window(chromium: Any) -> Any:
    """One page for all tests: a fresh one is a fresh process, and compiles everything again."""
    context = chromium.new_context()
    context.set_default_timeout(DEADLINE_S * 1000)
    return context.new_page()


@pytest.fixture
def websockets() -> int:
    return free_port()


@pytest.fixture
def page_broker(make_broker: Callable[..., Broker], websockets: int) -> Broker:
    """A broker with a second listener, for browsers."""
    running = make_broker("allow_anonymous true", f"listener {websockets} 127.0.0.1", "protocol websockets")
    running.start()
    return running


@pytest.fixture
def talker(page_broker: Broker) -> Iterator[Talker]:
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", page_broker.port)
    client.loop_start()
    yield Talker(client)
    client.disconnect()
    client.loop_stop()


@pytest.fixture
def dashboard(window: Any, page_address: str, page_broker: Broker, websockets: int) -> Iterator[Dashboard]:
    """Nothing is left of the test before. Fails the test when the browser had anything to complain of."""
    session = window.context.new_cdp_session(window)
    session.send("Storage.clearDataForOrigin", {"origin": page_address, "storageTypes": "local_storage"})
    session.detach()
    opened = Dashboard(window, page_address, websockets)
    window.on("console", opened.hear)
    window.on("pageerror", opened.fail)
    yield opened
    window.goto("about:blank")
    window.remove_listener("console", opened.hear)
    window.remove_listener("pageerror", opened.fail)
    assert opened.faults == [], opened.faults


def heap(page: Any) -> dict[str, float]:
    """{metric: value} of the page after its garbage was collected: JSHeapUsedSize, Nodes..."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = session.send("Performance.getMetrics")["metrics"]
    session.detach()
    return {metric["name"]: metric["value"] for metric in metrics}


def stored(page: Any) -> dict[str, Any]:
    """What the page keeps in this browser."""
    kept: dict[str, Any] = json.loads(page.evaluate("localStorage.getItem('edgevision-dashboard') ?? '{}'"))
    return kept
