"""The ready-made examples: the flow in a real Node-RED, and paths that lead to what stations publish."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures_broker import DEADLINE_S, Broker, Subscriber, free_port
from fixtures_daemon import REPOSITORY
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.simulated import SimulatedStation, compact

EXAMPLES = REPOSITORY / "deploy" / "examples"
FLOW = EXAMPLES / "node-red" / "reject.json"
HISTORY = EXAMPLES / "history"


@pytest.fixture
def node_red(broker: Broker, tmp_path: Path) -> Iterator[None]:
    """The flow as it is, deployed and running."""
    program = shutil.which("node-red")
    if program is None:
        pytest.skip("node-red is not on PATH (npm install -g node-red)")
    environment = {**os.environ, "MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker.port)}
    with (tmp_path / "node-red.log").open("wb") as log:
        process = subprocess.Popen(
            (program, "-p", str(free_port()), "-u", str(tmp_path / "node-red"), str(FLOW)),
            env=environment,
            stdout=log,
            stderr=log,
        )
        yield
        process.terminate()
        process.wait(DEADLINE_S)


@pytest.fixture
def say(broker: Broker) -> Iterator[Callable[..., None]]:
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    yield lambda topic, payload, retain=False: client.publish(topic, payload, 1, retain).wait_for_publish(
        DEADLINE_S
    )
    client.disconnect()
    client.loop_stop()


def test_what_is_not_ok_is_rejected_once(
    node_red: None, subscriber: Subscriber, say: Callable[..., None]
) -> None:
    station = SimulatedStation("press-4")
    say(station.topic("status"), "online", retain=True)
    subscriber.wait_payload("line/press-4/hold", "0")

    def rejects() -> list[str]:
        return subscriber.payloads("line/press-4/reject")

    def judge(verdict: dict[str, Any]) -> None:
        say(station.topic("inspection"), compact(verdict))

    defect = station.verdict("NG")
    for verdict in (station.verdict("OK"), station.verdict("NG", historical=True), defect):
        judge(verdict)
    subscriber.wait(lambda _: rejects() == ["1", "0"], "a pulse")
    judge(defect)  # a repetition
    say(station.topic("inspection"), "no verdict")
    judge(station.verdict("ERROR"))
    subscriber.wait(lambda _: rejects() == ["1", "0", "1", "0"], "a pulse for the part that nobody saw")
    say(station.topic("status"), "offline", retain=True)
    subscriber.wait_payload("line/press-4/hold", "1")
    assert rejects() == ["1", "0", "1", "0"]


def test_the_flow_is_whole_and_carries_no_secret() -> None:
    nodes = {node["id"]: node for node in json.loads(FLOW.read_text())}
    for node in nodes.values():
        assert all(target in nodes for wire in node.get("wires", ()) for target in wire), node["id"]
        assert not {"credentials", "user", "password"} & set(node), node["id"]
    [tab] = [node for node in nodes.values() if node["type"] == "tab"]
    names = {variable["name"] for variable in tab["env"]} | {"MQTT_HOST", "MQTT_PORT"}
    assert set(re.findall(r'\$\{(\w+)\}|env\.get\(\\"(\w+)\\"\)', FLOW.read_text())) <= {
        pair for name in names for pair in ((name, ""), ("", name))
    }


def consumers() -> dict[str, Any]:
    """{measurement: its json_v2 section} of telegraf.conf."""
    config = tomllib.loads((HISTORY / "telegraf.conf").read_text())
    sections = [consumer["json_v2"][0] for consumer in config["inputs"]["mqtt_consumer"]]
    return {section["measurement_name"]: section for section in sections}


def value(content: Any, path: str) -> Any:
    for name in path.split("."):
        content = content[name]
    return content


@pytest.mark.parametrize("word", ["OK", "NG", "ERROR"])
def test_telegraf_reads_what_a_verdict_has(word: str) -> None:
    verdict = SimulatedStation("press-4").verdict(word)
    section = consumers()["verdict"]
    assert value(verdict, section["timestamp_path"])
    for field in (*section["tag"], *section["field"]):
        optional = field.get("optional", False)
        missing = field["path"].startswith("timing_ms") and word == "ERROR"
        assert optional or (not missing and value(verdict, field["path"]) is not None), field["path"]


def test_telegraf_reads_what_the_figures_have() -> None:
    properties = json.loads((REPOSITORY / "device" / "schemas" / "stats.schema.json").read_text())[
        "properties"
    ]
    for field in consumers()["stats"]["field"]:
        kinds = properties[field["path"]]["type"]
        assert ("null" in kinds) == field.get("optional", False), field["path"]


def test_grafana_asks_for_what_telegraf_writes() -> None:
    dashboard = json.loads((HISTORY / "grafana" / "dashboards" / "edgevision.json").read_text())
    written = {
        (name, field.get("rename", field["path"]))
        for name, section in consumers().items()
        for field in section["field"]
    }
    queries = [target["query"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {
        pair
        for query in queries
        for pair in re.findall(r'_measurement == "(\w+)" and r\._field == "(\w+)"', query)
    }
    assert len(queries) == 7
    assert asked <= written


def test_the_compose_file_names_what_is_there() -> None:
    services = yaml.safe_load((HISTORY / "compose.yaml").read_text())["services"]
    mounted = [volume for service in services.values() for volume in service["volumes"]]
    assert all((HISTORY / volume.split(":")[0]).exists() for volume in mounted if volume.startswith("./"))
    asked = set(re.findall(r"\$\{(\w+)", (HISTORY / "compose.yaml").read_text()))
    assert asked == set(re.findall(r"^(\w+)=", (HISTORY / ".env.example").read_text(), re.MULTILINE))
