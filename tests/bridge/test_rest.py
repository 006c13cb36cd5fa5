"""HTTP, asked by an ordinary client, and by schemathesis as far as the OpenAPI document goes."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_bridge import STATION, BridgeProcess, StandIn, beside_a_broker, wait_until
from fixtures_broker import Broker

TOKEN = "0123456789abcdef-token"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """A broker and a bridge that many tests share."""
    yield from beside_a_broker(tmp_path_factory.mktemp("http"), http="recent_events = 100")


@pytest.fixture
def station(running: BridgeProcess) -> Iterator[StandIn]:
    """A station that is known to the bridge to be there."""
    made = StandIn(running.broker_port)
    made.introduce()
    wait_until(lambda: ask(running, f"/v1/stations/{STATION}")[1].get("fresh"), "the station to be fresh")
    yield made
    made.close()


def ask(
    bridge: BridgeProcess, path: str, body: Any = None, method: str | None = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Status, content and headers of an answer; `body` is posted."""
    connection = http.client.HTTPConnection("127.0.0.1", bridge.ports["http"], timeout=30)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if content is not None:
        sent = {"Content-Type": "application/json"} | sent
    connection.request(method or ("GET" if body is None else "POST"), path, content, sent)
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    found = json.loads(raw) if "json" in answer.headers["Content-Type"] else raw
    return answer.status, found, dict(answer.headers)


def test_what_a_station_said_last(running: BridgeProcess, station: StandIn) -> None:
    told = station.judge("NG")
    path = f"/v1/stations/{STATION}"
    wait_until(lambda: ask(running, f"{path}/events/{told['event_id']}")[0] == 200, "the verdict")
    assert ask(running, f"{path}/events/last")[1] == told
    assert ask(running, f"{path}/events/{told['event_id']}")[1] == told
    summary = ask(running, path)[1]
    assert summary["last_event_id"] == told["event_id"]
    assert (summary["status"], summary["health"], summary["fresh"]) == ("online", "ready", True)
    assert ask(running, "/v1/stations")[1]["stations"] == [summary]
    assert ask(running, f"{path}/health")[1]["health"]["state"] == "ready"


def test_recent_events_are_the_newest_first(running: BridgeProcess, station: StandIn) -> None:
    told = [station.judge(word) for word in ("OK", "NG", "OK", "NG")]
    path = f"/v1/stations/{STATION}/events"
    wait_until(lambda: ask(running, f"{path}/last")[1].get("event_id") == told[-1]["event_id"], "the last")
    assert ask(running, f"{path}?limit=3")[1]["events"] == told[:0:-1]
    assert ask(running, f"{path}?limit=2&verdict=NG")[1]["events"] == [told[3], told[1]]


def test_a_picture_is_found_by_its_event(running: BridgeProcess, station: StandIn) -> None:
    picture = b"\xff\xd8 a picture"
    told = station.judge("NG")
    station.say(f"image/{told['event_id']}", picture)
    path = f"/v1/stations/{STATION}/events/{told['event_id']}/picture"
    wait_until(lambda: ask(running, path)[0] == 200, "the picture")
    status, content, headers = ask(running, path)
    assert (status, content, headers["Content-Type"]) == (200, picture, "image/jpeg")


def test_a_trigger_is_answered_with_its_verdict(running: BridgeProcess, station: StandIn) -> None:
    verdict = station.voice.verdict("MARGINAL", part_id="A-7")
    station.on_trigger = lambda command: {"event_id": verdict["event_id"], "verdict": verdict}
    status, content, _ = ask(running, f"/v1/stations/{STATION}/trigger", {"part_id": "A-7", "wait_s": 3})
    assert (status, content) == (200, verdict)
    assert station.commands == [{"by": "bridge", "part_id": "A-7"}]


def test_the_verdict_may_come_after_the_answer(running: BridgeProcess, station: StandIn) -> None:
    verdict = station.voice.verdict("OK")

    def answer(command: dict[str, Any]) -> dict[str, Any]:
        late = threading.Timer(0.2, station.say, ("inspection", json.dumps(verdict)))
        late.start()
        return {"event_id": verdict["event_id"], "verdict": None}

    station.on_trigger = answer
    assert ask(running, f"/v1/stations/{STATION}/trigger", {})[:2] == (200, verdict)


def test_the_verdict_may_come_before_the_answer(running: BridgeProcess, station: StandIn) -> None:
    verdict = station.judge("OK")
    path = f"/v1/stations/{STATION}/events/{verdict['event_id']}"
    wait_until(lambda: ask(running, path)[0] == 200, "the verdict")
    station.on_trigger = lambda command: {"event_id": verdict["event_id"], "verdict": None}
    assert ask(running, f"/v1/stations/{STATION}/trigger", {})[:2] == (200, verdict)


@pytest.mark.parametrize(
    ("answer", "status", "event_id"),
    [
        ({"ok": False, "reason": "not accepted"}, 409, None),
        ({"event_id": "e7", "verdict": None}, 504, "e7"),
        (None, 504, None),
    ],
)
def test_a_trigger_without_a_verdict_says_why(
    running: BridgeProcess, station: StandIn, answer: dict[str, Any] | None, status: int, event_id: str | None
) -> None:
    station.on_trigger = lambda command: answer
    found, content, headers = ask(running, f"/v1/stations/{STATION}/trigger", {"wait_s": 0.2})
    assert (found, content.get("event_id"), content["status"]) == (status, event_id, status)
    assert headers["Content-Type"].startswith("application/problem+json")


def test_a_station_that_is_away_is_not_triggered(running: BridgeProcess, station: StandIn) -> None:
    station.cut()
    wait_until(lambda: not ask(running, f"/v1/stations/{STATION}")[1]["fresh"], "the loss")
    assert ask(running, f"/v1/stations/{STATION}/trigger", {})[0] == 503


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/stations/nobody", None, {}, 404),
        ("/nowhere", None, {}, 404),
        (f"/v1/stations/{STATION}/events/none", None, {}, 404),
        (f"/v1/stations/{STATION}/events?limit=0", None, {}, 400),
        (f"/v1/stations/{STATION}/events?limit=1e3", None, {}, 400),
        (f"/v1/stations/{STATION}/events?verdict=ok", None, {}, 400),
        (f"/v1/stations/{STATION}/trigger", {"part_id": ""}, {}, 400),
        (f"/v1/stations/{STATION}/trigger", {"part_id": "a\n"}, {}, 400),
        (f"/v1/stations/{STATION}/trigger", {"wait_s": 61}, {}, 400),
        (f"/v1/stations/{STATION}/trigger", {"wait": 1}, {}, 400),
        (f"/v1/stations/{STATION}/trigger", [], {}, 400),
        (f"/v1/stations/{STATION}/trigger", b"{", {}, 400),
        (f"/v1/stations/{STATION}/trigger", b"{}", {"Content_Encoding": "gzip"}, 400),
        (f"/v1/stations/{STATION}/trigger", b"{}", {"Content_Type": "text/plain"}, 415),
        (f"/v1/stations/{STATION}/trigger", b" " * 20_000, {}, 413),
        ("/v1/stations", None, {"Host": "evil.example"}, 421),
    ],
)
def test_what_is_wrong_is_said(
    running: BridgeProcess, station: StandIn, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    found, content, answered = ask(running, path, body, **headers)
    assert (found, content["status"]) == (status, status)
    assert answered["Content-Type"].startswith("application/problem+json")
    assert content["detail"]


def test_a_token_protects_all_but_the_document_and_the_bridges_health(
    broker: Broker, make_bridge: Callable[[int], BridgeProcess]
) -> None:
    bridge = make_bridge(broker.port)
    (bridge.folder / "token").write_text(f"{TOKEN}\n")
    bridge.configure(http='token_file = "token"')
    bridge.start()
    assert ask(bridge, "/v1/stations")[0] == 401
    assert ask(bridge, "/v1/stations", Authorization="Bearer 0123456789abcdef")[0] == 401
    assert ask(bridge, "/v1/stations", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert ask(bridge, "/v1/stations", Authorization=f"Bearer {TOKEN}", Host="plant.example")[0] == 200
    assert ask(bridge, "/v1/openapi.json")[0] == 200
    broker.stop()
    wait_until(lambda: ask(bridge, "/healthz")[0] == 503, "the loss of the broker")


def test_schemathesis_finds_nothing(running: BridgeProcess, station: StandIn, tmp_path: Path) -> None:
    """Every answer is as the document says, whatever is asked."""
    verdict = station.voice.verdict("NG")
    station.on_trigger = lambda command: {"event_id": verdict["event_id"], "verdict": verdict}
    url = f"http://127.0.0.1:{running.ports['http']}"
    done = subprocess.run(
        (
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/v1/openapi.json", "--url", url),
            *("--max-examples", "4", "--seed", "1", "--generation-database", "none", "--no-color"),
            # "Positive" data may name a station that is not there: 404.
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance,missing_required_header"),
        ),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"NO_COLOR": "1"},
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_a_station_that_a_plc_triggers_is_triggered_now_and_then(running: BridgeProcess) -> None:
    """So that the PLC's triggers are within the station's rate, whatever HTTP asks for."""
    bridge = BridgeProcess(running.folder / "with-plc", running.broker_port)
    bridge.folder.mkdir()
    bridge.configure(http="trigger_rate_hz = 0.01", modbus=f'units = ["1={STATION}"]')
    stations = [StandIn(running.broker_port, name) for name in (STATION, "press-5")]
    try:
        bridge.start()
        for station in stations:
            station.introduce()
            path = f"/v1/stations/{station.voice.name}"
            wait_until(lambda at=path: ask(bridge, at)[1].get("fresh"), "the station to be fresh")
            station.on_trigger = lambda command: {"ok": False, "reason": "not now"}
        tried = [ask(bridge, f"/v1/stations/{STATION}/trigger", {}) for _ in range(5)]
        assert [status for status, *_ in tried] == [409, 409, 409, 429, 429]
        assert "a PLC triggers this station" in tried[-1][1]["detail"]
        assert tried[-1][2]["Retry-After"] == "1"
        assert len(stations[0].commands) == 3
        assert [ask(bridge, "/v1/stations/press-5/trigger", {})[0] for _ in range(5)] == [409] * 5
    finally:
        bridge.stop()
        for station in stations:
            station.close()
