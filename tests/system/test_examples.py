"""The ready-made examples: paths that lead to what stations publish. The flow: test_node_red.py."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
import yaml
from fixtures_daemon import REPOSITORY

from benchmarks.simulated import SimulatedStation

EXAMPLES = REPOSITORY / "deploy" / "examples"
HISTORY = EXAMPLES / "history"


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
