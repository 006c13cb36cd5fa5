"""A real Home Assistant beside a real station: what it finds, shows, asks for and forgets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber, free_port
from fixtures_camera import wait_until
from fixtures_daemon import ROOT, Station

PROGRAM = os.environ.get("HASS") or shutil.which("hass")
INTRODUCTION = "homeassistant/device/press-4/config"
SHOWN = """
[trigger]
kind = "mqtt"
[commands]
enabled = true
allow = ["trigger"]
[archive]
min_free_bytes = 0
publish_image_max_bytes = 20000
[home_assistant]
enabled = true
"""


class HomeAssistant:
    """Its process, a user, and its REST interface."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._port = free_port()
        (folder / "configuration.yaml").write_text(
            f"http:\n  server_host: 127.0.0.1\n  server_port: {self._port}\napi:\nconfig:\nonboarding:\n"
        )
        self._token: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert PROGRAM is not None
        with (self._folder / "out.log").open("ab") as log:
            self._process = subprocess.Popen(
                (PROGRAM, "--skip-pip", "-c", str(self._folder)), stdout=log, stderr=log
            )
        wait_until(self._answers, 4 * DEADLINE_S)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(2 * DEADLINE_S)

    def settle_in(self, broker: Broker) -> None:
        """A first user, and the broker."""
        client = f"http://127.0.0.1:{self._port}/"
        person = {"name": "ann", "username": "ann", "password": "ann-password", "language": "en"}
        code = self.ask("POST", "/api/onboarding/users", {**person, "client_id": client})["auth_code"]
        form = {"grant_type": "authorization_code", "code": code, "client_id": client}
        data = urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(f"{client}auth/token", data)  # noqa: S310
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310
            self._token = json.load(answer)["access_token"]
        flows = "/api/config/config_entries/flow"
        flow = self.ask("POST", flows, {"handler": "mqtt"})["flow_id"]
        entry = self.ask("POST", f"{flows}/{flow}", {"broker": "127.0.0.1", "port": broker.port})
        assert entry["type"] == "create_entry", entry

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """JSON of an answer, or the bytes of another. Raises HTTPError."""
        address = f"http://127.0.0.1:{self._port}{path}"
        request = urllib.request.Request(address, method=method)
        request.add_header("Content-Type", "application/json")
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        data = None if content is None else json.dumps(content).encode()
        with urllib.request.urlopen(request, data, timeout=DEADLINE_S) as answer:  # noqa: S310
            body = answer.read()
        return json.loads(body) if answer.headers.get_content_type() == "application/json" else body

    def state(self, entity: str) -> str | None:
        """The state of one of the station's entities; None where there is no such entity."""
        domain, name = entity.split(".")
        try:
            return str(self.ask("GET", f"/api/states/{domain}.edgevision_press_4_{name}")["state"])
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def press(self) -> None:
        """The station's button."""
        self.ask("POST", "/api/services/button/press", {"entity_id": "button.edgevision_press_4_trigger"})

    def await_state(self, entity: str, *states: str | None) -> None:
        """Until it is one of these."""
        end_s = time.monotonic() + 2 * DEADLINE_S
        while (state := self.state(entity)) not in states:
            assert time.monotonic() < end_s, f"{entity} is {state}, and not {states}"
            time.sleep(0.1)

    def complaints(self) -> list[str]:
        """What it has logged about MQTT."""
        lines = (self._folder / "home-assistant.log").read_text().splitlines()
        return [line for line in lines if "mqtt" in line and (" WARNING " in line or " ERROR " in line)]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "out.log").read_text()
        try:
            self.ask("GET", "/manifest.json" if self._token is None else "/api/")
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


@pytest.fixture
def home(tmp_path: Path) -> Iterator[HomeAssistant]:
    if PROGRAM is None:
        pytest.skip("hass is neither HASS nor on PATH: docs/contributing.md says how it is installed")
    home = HomeAssistant(tmp_path / "home")
    home.start()
    yield home
    home.stop()


def restart(station: Station, more: str) -> None:
    station.processes[-1].terminate()
    assert station.processes[-1].wait(DEADLINE_S) == 0
    station.configure(camera="loop = true\nrate_hz = 5", more=more)
    station.start()


def test_home_assistant_finds_a_station_shows_it_triggers_it_and_forgets_it(
    home: HomeAssistant, broker: Broker, subscriber: Subscriber, make_station: Callable[..., Station]
) -> None:
    home.settle_in(broker)
    station = make_station(broker.port, "on", camera="loop = true", more=SHOWN)
    station.start()

    home.await_state("sensor.health", "init")  # no part has come
    for part, (verdict, counted) in enumerate((("OK", "ok"), ("NG", "ng")), 1):
        home.press()
        home.await_state("sensor.verdict", verdict)
        home.await_state(f"sensor.{counted}", "1")
        assert len(subscriber.payloads(f"{ROOT}/inspection")) == part
    home.await_state("sensor.yield", "50.0")
    home.await_state("sensor.health", "ready")
    home.await_state("binary_sensor.problem", "off")
    assert float(home.state("sensor.score") or 0) > 0.6
    assert home.state("sensor.model") == json.loads(subscriber.payloads(f"{ROOT}/model")[-1])["version"]
    wait_until(lambda: home.state("image.picture") not in (None, "unknown"))
    picture = home.ask("GET", "/api/image_proxy/image.edgevision_press_4_picture")
    assert picture in {m.payload for m in subscriber.messages if m.topic == f"{ROOT}/image/last"}
    defect = json.loads(subscriber.payloads(f"{ROOT}/inspection")[-1])
    defect_at = f"{defect['ts'][:19]}+00:00"

    subscriber.forget()
    home.stop()
    home.start()
    home.await_state("sensor.verdict", "NG")
    home.await_state("sensor.health", "ready")
    wait_until(lambda: home.state("button.trigger") not in (None, "unavailable"))
    assert home.ask("GET", "/api/image_proxy/image.edgevision_press_4_picture") == picture
    subscriber.wait(lambda _: subscriber.payloads(INTRODUCTION), "the introduction, once more")
    home.press()
    home.await_state("sensor.ok", "2")
    told = {message.topic.removeprefix(f"{ROOT}/") for message in subscriber.messages}
    assert not {"birth", "image/last"} & told  # what is retained is not said again

    station.processes[-1].terminate()
    home.await_state("sensor.verdict", "unavailable")
    restart(station, SHOWN)
    home.await_state("sensor.verdict", "OK")
    home.await_state("sensor.ng", "1")
    home.await_state("sensor.defect_at", defect_at)

    restart(station, SHOWN.replace("publish_image_max_bytes = 20000", "").replace('"mqtt"', '"free-run"'))
    home.await_state("image.picture", None)
    home.await_state("button.trigger", None)
    home.await_state("sensor.verdict", "OK", "NG")
    assert home.complaints() == []

    restart(station, "")  # [home_assistant] enabled = false
    for entity in ("sensor.verdict", "sensor.health", "binary_sensor.problem"):
        home.await_state(entity, None)
    assert home.complaints() == []
