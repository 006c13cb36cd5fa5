"""Metrics, read by promtool and by a real Prometheus."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_bridge import BridgeProcess, StandIn, beside_a_broker, wait_until
from fixtures_broker import Broker, free_port

HISTORY = Path(__file__).resolve().parents[2] / "deploy" / "examples" / "history"
BOARD = HISTORY / "grafana" / "dashboards" / "edgevision-prometheus.json"
RULES = HISTORY / "prometheus"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """A broker and a bridge that many tests share."""
    yield from beside_a_broker(tmp_path_factory.mktemp("metrics"), metrics="")


@pytest.fixture
def station(running: BridgeProcess) -> Iterator[StandIn]:
    """A station that is known to the bridge to be there."""
    made = StandIn(running.broker_port)
    made.introduce()
    wait_until(lambda: value(running, 'edgevision_station_up{station="press-4"}') == 1, "the station")
    yield made
    made.close()


def scrape(bridge: BridgeProcess) -> str:
    address = f"http://127.0.0.1:{bridge.ports['metrics']}/metrics"
    with urllib.request.urlopen(address, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def value(bridge: BridgeProcess, series: str) -> float | None:
    lines = (line.rpartition(" ") for line in scrape(bridge).splitlines())
    return next((float(found) for name, _, found in lines if name == series), None)


def promtool(*arguments: str | Path, content: str = "") -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    return subprocess.run(
        ("promtool", *map(str, arguments)),
        input=content,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_promtool_has_nothing_to_say_against_them(running: BridgeProcess, station: StandIn) -> None:
    station.judge("NG")
    wait_until(lambda: "edgevision_score_ratio_count" in scrape(running), "the verdict")
    done = promtool("check", "metrics", content=scrape(running))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_counted(running: BridgeProcess, station: StandIn) -> None:
    station.judge("OK", score=0.25, timing_ms={"total": 12.0})
    station.judge("NG", score=0.75, timing_ms={"total": 30.0})
    station.say(
        "counters", json.dumps({"schema": 1, "since": "2026-01-31T06:00:00.000Z"} | COUNTS), retain=True
    )
    labels = '{model_version="20260304T050607Z-abcdef01",station="press-4"}'
    before = f"edgevision_score_ratio_count{labels}"
    wait_until(lambda: (value(running, before) or 0) >= 2, "both")
    wait_until(
        lambda: value(running, 'edgevision_verdicts_total{station="press-4",verdict="NG"}') == 12, "NG"
    )
    assert value(running, 'edgevision_verdicts_total{station="press-4",verdict="OK"}') == 345
    assert (value(running, f"edgevision_inspection_duration_seconds_sum{labels}") or 0) >= 0.042
    assert value(running, 'edgevision_threshold_ratio{station="press-4",threshold="ng"}') == 0.6
    assert value(running, 'edgevision_temperature_celsius{station="press-4"}') == 54.2
    assert value(running, 'edgevision_health_state{state="ready",station="press-4"}') == 1


COUNTS = {"ok": 345, "ng": 12, "marginal": 0, "error": 1}


def test_a_version_that_decides_no_more_is_forgotten(running: BridgeProcess, station: StandIn) -> None:
    for version in ("v1", "v2"):
        station.judge("OK", model={"id": "m", "version": version, "sha256": "0" * 64})
    wait_until(lambda: 'model_version="v2"' in scrape(running), "the second")
    assert 'model_version="v1"' not in scrape(running)


def test_no_gauge_outlives_its_station_and_every_total_does(running: BridgeProcess, station: StandIn) -> None:
    wait_until(lambda: "edgevision_temperature_celsius{" in scrape(running), "figures")
    station.cut()
    wait_until(lambda: value(running, 'edgevision_station_up{station="press-4"}') == 0, "the loss")
    text = scrape(running)
    assert "edgevision_temperature_celsius{" not in text
    assert "edgevision_health_state{" not in text
    assert 'edgevision_verdicts_total{station="press-4"' in text


def test_a_real_prometheus_scrapes_them_and_alerts(
    broker: Broker, make_bridge: Callable[[int], BridgeProcess], stand_in: StandIn, tmp_path: Path
) -> None:
    """The example configuration, with this test's ports and without the waiting."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    bridge = make_bridge(broker.port)
    bridge.configure(metrics="")
    bridge.start()
    config = (RULES / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:9108", f"127.0.0.1:{bridge.ports['metrics']}")
    config = config.replace("interval: 15s", "interval: 200ms").replace("timeout: 10s", "timeout: 200ms")
    (tmp_path / "prometheus.yml").write_text(config)
    rules = (RULES / "alerts.yml").read_text().replace("for: 1m", "for: 0s")
    (tmp_path / "alerts.yml").write_text(rules)
    port = free_port()
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            (
                "prometheus",
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ),
            stderr=log,
            stdout=log,
        )
    try:
        wait_until(lambda: query(port, "edgevision_station_up") == {"press-4": 1.0}, "the first scrape")
        stand_in.introduce()  # the figures, which are not retained
        stand_in.judge("NG")
        for expression in on_the_board():
            wait_until(lambda asked=expression: answers(port, asked), f"an answer to {expression}")
        stand_in.cut()
        wait_until(lambda: query(port, "edgevision_station_up") == {"press-4": 0.0}, "the loss")
        alert = 'ALERTS{alertname="EdgeVisionStationAway",alertstate="firing"}'
        wait_until(lambda: query(port, alert) == {"press-4": 1.0}, "the alert")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def on_the_board() -> list[str]:
    """What the Grafana board asks, of all stations and of the last seconds; but for what is rightly empty."""
    board = json.loads(BOARD.read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = [text.replace("$station", ".*").replace("$__rate_interval", "10s") for text in found]
    return [text.removesuffix(" > 0") for text in asked]


def answers(port: int, expression: str) -> list[dict[str, Any]]:
    """The series of an answer; none while Prometheus is not ready."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            content: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code != 503:  # not ready yet
            raise AssertionError(error.read()) from None
        return []
    except OSError:
        return []
    found: list[dict[str, Any]] = content["data"]["result"]
    return found


def query(port: int, expression: str) -> dict[str, float]:
    """{station: value}"""
    return {row["metric"]["station"]: float(row["value"][1]) for row in answers(port, expression)}


def test_the_alert_rules_do_what_their_tests_say() -> None:
    done = promtool("check", "rules", RULES / "alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    done = promtool("test", "rules", RULES / "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_of_the_example_is_one(tmp_path: Path) -> None:
    done = promtool("check", "config", RULES / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
