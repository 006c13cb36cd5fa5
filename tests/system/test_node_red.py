"""The ready-made flow in a real Node-RED, beside a real station: pulses, and hold while either is gone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber, free_port
from fixtures_camera import wait_until
from fixtures_commands import Commander
from fixtures_daemon import REPOSITORY, ROOT, Station
from paho.mqtt import publish

from benchmarks.simulated import SimulatedStation, compact

FLOW = REPOSITORY / "deploy" / "examples" / "node-red" / "reject.json"
REJECT, HOLD = "line/press-4/reject", "line/press-4/hold"
PROGRAM = os.environ.get("NODE_RED") or shutil.which("node-red")
TRIGGERED = '[trigger]\nkind = "mqtt"\n[commands]\nenabled = true\nallow = ["trigger"]\nrate_hz = 100.0\n'

StartFlow = Callable[[Broker], "subprocess.Popen[bytes]"]


@pytest.fixture
def start_flow(tmp_path: Path) -> Iterator[StartFlow]:
    """Node-RED with the flow as it is."""
    if PROGRAM is None:
        pytest.skip("node-red is neither NODE_RED nor on PATH: npm install --prefix DIR node-red@4")
    processes = []

    def start(broker: Broker) -> subprocess.Popen[bytes]:
        with (tmp_path / "node-red.log").open("ab") as log:
            process = subprocess.Popen(
                (PROGRAM, "-p", str(free_port()), "-u", str(tmp_path / "node-red"), str(FLOW)),
                env={**os.environ, "MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker.port)},
                stdout=log,
                stderr=log,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait(DEADLINE_S)


def test_pulses_for_exactly_the_live_parts_and_hold_when_either_side_is_gone(
    start_flow: StartFlow, make_broker: Callable[..., Broker], make_station: Callable[..., Station]
) -> None:
    broker = make_broker()
    station = make_station(broker.port, "non")
    assert station.start().wait(4 * DEADLINE_S) == 0  # without a broker: these verdicts wait for one
    broker.start()
    subscriber = Subscriber(broker.port)
    flow = start_flow(broker)
    wait_until(lambda: f"{ROOT}/inspection (QoS 1)" in broker.log(), 2 * DEADLINE_S)  # Node-RED listens
    station.configure(camera="loop = true", more=TRIGGERED)
    process = station.start()
    await_payloads(subscriber, HOLD, "0")
    late = subscriber.wait(lambda _: three(verdicts(subscriber)), "the verdicts of before")
    assert [(v["verdict"], v["historical"]) for v in late] == [("NG", True), ("OK", True), ("NG", True)]

    pulses = ["0"]  # where a pulse of before may have been cut off
    commander = Commander(broker.port)
    for _ in range(4):
        said = commander.ask("trigger", {"wait": True})["verdict"]["verdict"]
        pulses += ["1", "0"] if said == "NG" else []
        await_payloads(subscriber, REJECT, *pulses)
    commander.close()
    assert pulses.count("1") == 3  # part 1, 3, and 1 once more
    assert subscriber.payloads(REJECT) == pulses

    process.kill()
    await_payloads(subscriber, HOLD, "1")
    process = station.start()
    await_payloads(subscriber, HOLD, "0")
    flow.kill()
    await_payloads(subscriber, HOLD, "1")
    flow = start_flow(broker)
    await_payloads(subscriber, HOLD, "0")
    flow.terminate()
    await_payloads(subscriber, HOLD, "1")
    newcomer = Subscriber(broker.port, HOLD)
    newcomer.wait_payload(HOLD, "1")
    assert newcomer.messages[0].retain
    subscriber.catch_up()
    assert subscriber.payloads(REJECT).count("1") == 3
    for client in (subscriber, newcomer):
        client.close()


def verdicts(subscriber: Subscriber) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in subscriber.payloads(f"{ROOT}/inspection")]


def three(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return found if len(found) == 3 else []


def await_payloads(subscriber: Subscriber, topic: str, *payloads: str) -> None:
    """Until the latest on a topic are these."""
    wait_until(lambda: subscriber.payloads(topic)[-len(payloads) :] == list(payloads), 2 * DEADLINE_S)


def test_a_pulse_that_was_cut_off_ends_with_the_next_start(
    start_flow: StartFlow, broker: Broker, subscriber: Subscriber
) -> None:
    station = SimulatedStation("press-4")

    def say(name: str, payload: str, *, retain: bool = False) -> None:
        publish.single(station.topic(name), payload, 1, retain, hostname="127.0.0.1", port=broker.port)

    say("status", "online", retain=True)
    flow = start_flow(broker)
    await_payloads(subscriber, HOLD, "0")
    defect = station.verdict("NG")
    for verdict in (station.verdict("OK"), station.verdict("NG", historical=True), defect, defect):
        say("inspection", compact(verdict))
    say("inspection", "no verdict")
    subscriber.wait(lambda _: subscriber.payloads(REJECT) == ["0", "1", "0"], "one pulse")
    say("inspection", compact(station.verdict("ERROR")))
    subscriber.wait(lambda _: subscriber.payloads(REJECT)[3:4] == ["1"], "a pulse for a part nobody saw")
    flow.send_signal(signal.SIGKILL)
    await_payloads(subscriber, HOLD, "1")
    start_flow(broker)
    await_payloads(subscriber, HOLD, "0")
    await_payloads(subscriber, REJECT, "0")


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


def test_the_broker_says_hold_for_a_node_red_that_is_gone() -> None:
    [broker] = [node for node in json.loads(FLOW.read_text()) if node["type"] == "mqtt-broker"]
    for kind in ("will", "close"):
        said = [broker[f"{kind}{key}"] for key in ("Topic", "Payload", "Retain", "Qos")]
        assert said == ["${HOLD}", "1", "true", "1"], kind
    assert broker["z"] == "ev-tab"  # where HOLD is known
