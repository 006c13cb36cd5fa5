"""Commands and Home Assistant through a real broker to a running station."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber
from fixtures_bundle import TinyModel
from fixtures_camera import wait_until
from fixtures_commands import Commander
from fixtures_daemon import REPOSITORY, ROOT, Station
from paho.mqtt import publish
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from device.archive.review import reviews

ALL = '["trigger", "rebirth", "reload", "threshold", "model", "rollback", "review", "picture", "acknowledge"]'
COMMANDS = f"[commands]\nenabled = true\nallow = {ALL}\nrate_hz = 100.0\n"
ACL = REPOSITORY / "deploy" / "mosquitto" / "acl"
LOOP = "loop = true\nrate_hz = 20"
MakeStation = Callable[..., Station]


@pytest.fixture
def running(broker: Broker, subscriber: Subscriber, make_station: MakeStation) -> Station:
    """A station that takes every command, at work."""
    station = make_station(broker.port, "on", camera=LOOP, more=COMMANDS)
    station.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    subscriber.wait(lambda _: subscriber.payloads(f"{ROOT}/inspection"), "the first verdict")
    return station


@pytest.fixture
def commander(broker: Broker) -> Iterator[Commander]:
    client = Commander(broker.port)
    yield client
    client.close()


def model(subscriber: Subscriber) -> dict[str, Any]:
    """The latest word on the topic `model`."""
    return json.loads(subscriber.payloads(f"{ROOT}/model")[-1])


def test_thresholds_are_set_kept_over_a_restart_and_taken_back(
    running: Station, subscriber: Subscriber, commander: Commander
) -> None:
    answer = commander.ask("threshold", {"ng": 0.01, "marginal": 0.01}, by="ann")
    assert answer["ok"]
    assert answer["change"]["old"] == {"ng": 0.6, "marginal": 0.3, "rule": "chosen by hand"}
    assert answer["change"]["new"] == {"ng": 0.01, "marginal": 0.01, "rule": "set by a command"}
    thresholds = {"ng": 0.01, "marginal": 0.01, "rule": "set by a command", "source": "command"}
    subscriber.wait(lambda _: model(subscriber)["thresholds"] == thresholds, "the thresholds in `model`")
    subscriber.forget()
    subscriber.wait(lambda _: len(_inspections(subscriber)) >= 4, "four verdicts")
    judged = _inspections(subscriber)[1:]
    assert {v["threshold"] for v in judged} == {0.01}
    assert all((v["verdict"] == "NG") == (v["score"] >= 0.01) for v in judged)
    running.processes[0].terminate()
    assert running.processes[0].wait(DEADLINE_S) == 0
    subscriber.forget()
    running.start()
    subscriber.wait(lambda _: _inspections(subscriber), "a verdict after the restart")
    assert _inspections(subscriber)[-1]["threshold"] == 0.01
    subscriber.wait(lambda _: subscriber.payloads(f"{ROOT}/model"), "the model")
    assert model(subscriber)["thresholds"] == thresholds
    assert commander.ask("threshold", {"ng": None, "marginal": None})["change"]["new"]["ng"] == 0.6
    subscriber.wait(lambda _: model(subscriber)["thresholds"]["source"] == "bundle", "the bundle's own")
    wait_for(lambda: _done(running) == [("ann", True)] * 2)  # the audit follows the answer


def _done(station: Station) -> list[tuple[str, bool]]:
    """By whom each command was executed, and whether it could be, as the audit log says."""
    lines = (station.folder / "state" / "audit.jsonl").read_text().splitlines()
    return [(r["by"], r["ok"]) for r in map(json.loads, lines) if r["phase"] == "done"]


def _inspections(subscriber: Subscriber) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in subscriber.payloads(f"{ROOT}/inspection")]


def test_another_bundle_is_activated_and_rolled_back(
    broker: Broker,
    subscriber: Subscriber,
    commander: Commander,
    make_station: MakeStation,
    tiny_model: TinyModel,
    tmp_path: Path,
) -> None:
    models = tmp_path / "models"
    old = tiny_model.write(models, created="2026-05-01T00:00:00Z")
    station = make_station(broker.port, "on", camera=LOOP, more=COMMANDS)
    station.bundle = models
    station.configure(camera=LOOP, more=COMMANDS)
    station.start()
    subscriber.wait(lambda _: _inspections(subscriber), "the first verdict")
    new = tiny_model.write(models, created="2026-06-01T00:00:00Z")
    (models / "current").unlink()
    (models / "current").symlink_to(old.name)
    version = new.name.removeprefix("tiny-")
    assert commander.ask("model", {"version": "nowhere"})["reason"] == (
        "version: no bundle of version nowhere on this device"
    )
    answer = commander.ask("model", {"version": version})
    assert (answer["reason"], answer["change"]) == (None, {"old": old.name, "new": new.name})
    subscriber.wait(lambda _: model(subscriber)["version"] == version, "the new model")
    assert (model(subscriber)["previous"], model(subscriber)["state"]) == (old.name, "active")
    subscriber.wait(
        lambda _: _inspections(subscriber)[-1]["model"]["version"] == version, "its first verdict"
    )
    assert commander.ask("rollback")["change"] == {"old": new.name, "new": old.name}
    (new / "model.tflite").write_bytes(b"damaged")
    answer = commander.ask("model", {"version": version})
    assert answer["ok"] is False
    assert "model.tflite" in answer["reason"]
    subscriber.wait(lambda _: model(subscriber)["state"] == "rejected", "the rejection")
    assert model(subscriber)["bundle"] == old.name
    assert model(subscriber)["reason"] == answer["reason"]
    assert commander.ask("reload")["ok"]


def test_a_verdict_is_reviewed_over_mqtt(
    broker: Broker, subscriber: Subscriber, commander: Commander, make_station: MakeStation
) -> None:
    """The image is pinned, the word is kept, and a second word says what it replaces."""
    keep_all = "[archive]\nok_ratio = 1.0\nmin_free_bytes = 0\n"
    station = make_station(broker.port, "on", camera=LOOP, more=COMMANDS + keep_all)
    station.start()
    subscriber.wait(lambda _: _inspections(subscriber), "the first verdict")
    event_id = _inspections(subscriber)[0]["event_id"]
    archive = station.folder / "state" / "archive"
    wait_until(lambda: list(archive.glob(f"*/{event_id}.jpg")))
    first = commander.ask("review", {"event_id": event_id, "label": "ng"}, by="ann")
    assert (first["ok"], first["change"]) == (True, {"old": None, "new": "ng"})
    again = commander.ask("review", {"event_id": event_id, "label": "ok"}, by="bob")
    assert (again["ok"], again["change"]) == (True, {"old": "ng", "new": "ok"})
    assert list(archive.glob(f"*/{event_id}.pinned"))
    said = reviews(station.folder / "state")[event_id]
    assert (said.label, said.by) == ("ok", "bob")
    unknown = commander.ask("review", {"event_id": "nobody-00000001", "label": "ok"})
    assert unknown["ok"] is False


def test_a_picture_is_shown_again_and_a_review_stands_in_the_history(
    broker: Broker, subscriber: Subscriber, commander: Commander, make_station: MakeStation
) -> None:
    pictures = "[archive]\nmin_free_bytes = 0\npublish_image_max_bytes = 20000\n"
    station = make_station(broker.port, "on", camera=LOOP, more=COMMANDS + pictures)
    station.start()
    subscriber.wait(lambda _: history(subscriber)["defects"], "a defect in the history")
    event_id = history(subscriber)["defects"][-1]["event_id"]
    archive = station.folder / "state" / "archive"
    wait_until(lambda: list(archive.glob(f"*/{event_id}.json")))
    subscriber.forget()
    assert commander.ask("picture", {"event_id": event_id})["ok"]
    both = {f"{ROOT}/image/{event_id}", f"{ROOT}/heat/{event_id}"}
    subscriber.wait(lambda _: both <= {m.topic for m in subscriber.messages}, "the picture and its heat")
    unknown = commander.ask("picture", {"event_id": "nobody-00000001"})
    assert "its image is not kept" in unknown["reason"]
    assert commander.ask("review", {"event_id": event_id, "label": "ok"})["ok"]
    running_process = station.processes[0]
    running_process.terminate()
    assert running_process.wait(DEADLINE_S) == 0
    said = {defect["event_id"]: defect["review"] for defect in history(subscriber)["defects"]}
    assert said[event_id] == "ok"


def history(subscriber: Subscriber) -> dict[str, Any]:
    """The latest word on the topic `history`."""
    told = subscriber.payloads(f"{ROOT}/history")
    return json.loads(told[-1]) if told else {"defects": []}


def test_a_reason_that_does_not_stand_cannot_be_acknowledged(running: Station, commander: Commander) -> None:
    answer = commander.ask("acknowledge", {"role": "disk", "reason": "disk_read_only"})
    assert (answer["ok"], answer["reason"]) == (False, "disk: disk_read_only does not stand")


def test_a_trigger_and_a_rebirth(
    broker: Broker, subscriber: Subscriber, commander: Commander, make_station: MakeStation
) -> None:
    station = make_station(
        broker.port, "on", camera="loop = true", more=f'[trigger]\nkind = "mqtt"\n{COMMANDS}'
    )
    station.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    answer = commander.ask("trigger", {"part_id": "P-17"})
    assert answer["ok"], answer
    subscriber.wait(lambda _: _inspections(subscriber), "the verdict on the part")
    assert [(v["part_id"], v["trigger"]) for v in _inspections(subscriber)] == [("P-17", "mqtt")]
    assert answer["event_id"] == _inspections(subscriber)[0]["event_id"]
    again = commander.send("trigger", {"part_id": "P-18"})
    commander.send("trigger", {"part_id": "P-18"}, correlation=again)
    assert commander.ask("trigger", {"part_id": "P-19"})["ok"]
    subscriber.wait(lambda _: len(_inspections(subscriber)) >= 3, "the last part")
    assert [v["part_id"] for v in _inspections(subscriber)] == ["P-17", "P-18", "P-19"]
    answer = commander.ask("trigger", {"part_id": "P-20", "wait": True})
    subscriber.wait(lambda _: len(_inspections(subscriber)) >= 4, "the part that was waited for")
    assert answer["verdict"] == _inspections(subscriber)[-1] | {"historical": False}
    assert answer["verdict"]["part_id"] == "P-20"
    assert answer["event_id"] == answer["verdict"]["event_id"]
    subscriber.forget()
    assert commander.ask("rebirth")["ok"]
    subscriber.wait(
        lambda _: all(subscriber.payloads(f"{ROOT}/{topic}") for topic in ("status", "birth", "model")),
        "all retained state once more",
    )


def test_a_station_that_runs_freely_refuses_a_trigger(running: Station, commander: Commander) -> None:
    assert commander.ask("trigger")["reason"].startswith("not accepted: the station is triggered by free-run")


def test_commands_over_mqtt_3(broker: Broker, running: Station) -> None:
    commander = Commander(broker.port, protocol="3.1.1")
    answer = commander.ask("rebirth", {"request_id": "r1", "by": "bob"})
    assert (answer["ok"], answer["request_id"]) == (True, "r1")
    commander.close()
    wait_for(lambda: 'command rebirth by "bob": done' in running.log())


def test_a_retained_command_is_not_executed_on_connect(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation, commander: Commander
) -> None:
    commander.send("threshold", {"ng": 0.1, "marginal": 0.1}, retain=True)
    station = make_station(broker.port, "o", camera=LOOP, more=COMMANDS)
    station.start()
    wait_for(lambda: 'command "threshold": retained, so ignored' in station.log())
    subscriber.wait(lambda _: _inspections(subscriber), "a verdict")
    assert commander.ask("rebirth")["ok"]
    assert model(subscriber)["thresholds"]["source"] == "bundle"


def test_a_retained_command_is_not_executed_when_it_is_news_either(
    running: Station, subscriber: Subscriber, commander: Commander
) -> None:
    commander.send("threshold", {"ng": 0.1, "marginal": 0.1}, retain=True)
    wait_for(lambda: 'command "threshold": retained, so ignored' in running.log())
    assert commander.ask("rebirth")["ok"]
    assert model(subscriber)["thresholds"]["source"] == "bundle"


def test_with_mqtt_3_a_retained_command_is_executed_once_and_not_on_a_connect(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation, commander: Commander
) -> None:
    """Its broker does not tell a retained message that is news from any other."""
    station = make_station(broker.port, "o", camera=LOOP, mqtt='protocol = "3.1.1"', more=COMMANDS)
    station.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    commander.send("threshold", {"ng": 0.1, "marginal": 0.1}, retain=True)
    wait_for(lambda: "command threshold by" in station.log())
    assert "retained, so ignored" not in station.log()
    broker.stop()
    broker.start()
    wait_for(lambda: 'command "threshold": retained, so ignored' in station.log())
    assert station.log().count("command threshold by") == 1


def test_hostile_payloads_leave_a_running_station_as_it_was(
    running: Station, subscriber: Subscriber, commander: Commander
) -> None:
    hostile = [
        b"\xff\xfe\x00",
        b"[" * 4000,
        b'{"version":"../../etc"}',
        b'{"ng":1e999}',
        b"x" * 5000,
        b"null",
    ]
    for payload in hostile:
        for name in ("threshold", "model", "review"):
            assert commander.ask(name, payload)["ok"] is False
    refused = commander.ask("rollback")
    assert refused["ok"] is False  # there is no bundle before this one
    commander.send("rebirth", response_topic=f"{ROOT}/status")
    commander.send("shutdown")
    commander.send("threshold", b"x" * 1_000_000)  # the broker does not even send it on
    assert commander.ask("rollback")["ok"] is False  # all before it has been heard
    subscriber.forget()
    subscriber.wait(lambda _: len(_inspections(subscriber)) >= 3, "verdicts as before")
    assert running.processes[0].poll() is None
    assert subscriber.payloads(f"{ROOT}/status") == []
    assert "Traceback" not in running.log()
    assert "got 1000000" not in running.log()
    assert "connection lost" not in running.log()
    assert 'command "threshold" refused: must be UTF-8 text' in running.log()


def test_without_commands_nothing_is_subscribed_to(
    broker: Broker, subscriber: Subscriber, commander: Commander, make_station: MakeStation
) -> None:
    station = make_station(broker.port, "o", camera=LOOP)
    station.start()
    subscriber.wait(lambda _: _inspections(subscriber), "a verdict")
    commander.send("rebirth")
    subscriber.forget()
    subscriber.wait(lambda _: len(_inspections(subscriber)) >= 3, "more verdicts")
    assert commander.answers == []
    assert f"{ROOT}/cmd/+ (QoS" not in broker.log()


# ---- who may: a real Mosquitto with the access rules that we ship


@pytest.fixture
def guarded(make_broker: Callable[..., Broker], tmp_path: Path) -> Broker:
    """A broker with deploy/mosquitto/acl and a user for each of its roles."""
    passwords = tmp_path / "passwords"
    users = ("press-4", "press-5", "dashboard", "homeassistant", "quality", "engineer")
    passwords.write_text("".join(f"{user}:{user}-password\n" for user in users))
    passwords.chmod(0o600)
    program = shutil.which("mosquitto_passwd")
    assert program is not None
    subprocess.run((program, "-U", passwords), check=True)
    acl = tmp_path / "acl"
    acl.write_text(ACL.read_text())
    acl.chmod(0o600)
    broker = make_broker("allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}")
    broker.start()
    return broker


def test_only_who_has_the_right_can_command(
    guarded: Broker, make_station: MakeStation, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("press-4-password\n")
    access = f'username = "press-4"\npassword_file = "{tmp_path}/password"'
    station = make_station(guarded.port, "o", camera=LOOP, mqtt=access, more=COMMANDS)
    station.start()
    wait_for(lambda: "connected after" in station.log())
    users = {user: Commander(guarded.port, user) for user in ("dashboard", "press-5", "quality", "engineer")}
    change = {"ng": 0.7, "marginal": 0.4}
    for user in ("dashboard", "press-5"):
        users[user].send("threshold", change, by=user)
        users[user].send("rollback", by=user)
    users["quality"].send("rollback", by="quality")
    assert users["quality"].ask("threshold", change, by="quality")["ok"]
    assert users["engineer"].ask("rebirth", by="engineer")["ok"]  # what came before it has been heard by now
    heard = re.findall(r'command "?(\w+)"? (?:by "([\w-]+)"|refused)', station.log())
    assert heard == [("threshold", "quality"), ("rebirth", "engineer")]
    for name in ("cmdline", "environ"):
        assert b"press-4-password" not in Path(f"/proc/{station.processes[0].pid}/{name}").read_bytes()
    assert "press-4-password" not in station.log()
    for user in users.values():
        user.close()


def test_a_station_can_speak_for_itself_alone(guarded: Broker) -> None:
    heard: list[str] = []
    engineer = _client(guarded.port, "engineer", heard, "edgevision/#")
    press_5 = _client(guarded.port, "press-5", [], None)
    for topic in (
        "edgevision/press-4/status",
        "edgevision/press-4/cmd/rollback",
        "edgevision/press-5/status",
    ):
        press_5.publish(topic, "x", 1).wait_for_publish(DEADLINE_S)
    wait_for(lambda: heard)
    assert heard == ["edgevision/press-5/status"]
    for client in (engineer, press_5):
        client.disconnect()
        client.loop_stop()


def _client(port: int, user: str, heard: list[str], topics: str | None) -> Client:
    client = Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(user, f"{user}-password")

    def on_message(client: Client, userdata: Any, message: MQTTMessage) -> None:
        heard.append(message.topic)

    subscribed = []
    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.append(True)
    client.connect("127.0.0.1", port)
    client.loop_start()
    if topics is not None:
        client.subscribe(topics, 1)
        wait_for(lambda: subscribed)
    return client


# ---- Home Assistant

INTRODUCTION = "homeassistant/device/press-4/config"
INTRODUCED = '[trigger]\nkind = "interval"\ninterval_s = 0.1\n[home_assistant]\nenabled = true\n' + COMMANDS


def test_the_station_introduces_itself_again_when_home_assistant_comes_on_and_repeats_nothing_else(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation, commander: Commander
) -> None:
    make_station(broker.port, "o", camera="loop = true", more=INTRODUCED).start()
    subscriber.wait(lambda _: subscriber.payloads(INTRODUCTION), "the introduction")
    message = json.loads(subscriber.payloads(INTRODUCTION)[0])
    assert message["components"]["trigger"]["command_topic"] == f"{ROOT}/cmd/trigger"
    subscriber.wait(lambda _: _inspections(subscriber), "a verdict")
    subscriber.forget()
    publish.single("homeassistant/status", "online", qos=1, hostname="127.0.0.1", port=broker.port)
    subscriber.wait(lambda _: subscriber.payloads(INTRODUCTION), "the introduction once more")
    assert commander.ask("review", {"event_id": "nobody-00000001", "label": "ok"})["ok"] is False
    assert not subscriber.payloads(f"{ROOT}/birth")
    assert not subscriber.payloads(f"{ROOT}/model")
    newcomer = Subscriber(broker.port, INTRODUCTION)
    newcomer.wait(lambda messages: messages and messages[0].retain, "the retained introduction")
    newcomer.close()


def test_what_an_earlier_configuration_has_published_is_taken_back(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    pictures = "[archive]\nmin_free_bytes = 0\npublish_image_max_bytes = 20000\n"
    station = make_station(broker.port, "n", camera="loop = true", more=INTRODUCED + pictures)
    picture = f"{ROOT}/image/last"
    station.start()
    for topic in (INTRODUCTION, picture):
        subscriber.wait(lambda messages, topic=topic: topic in {m.topic for m in messages}, topic)
    assert {INTRODUCTION, picture} <= kept_topics(broker.port)
    stop(station)
    station.configure(camera=LOOP)
    subscriber.forget()
    station.start()
    for topic in (INTRODUCTION, picture):
        subscriber.wait(lambda _, topic=topic: subscriber.payloads(topic) == [""], f"nothing on {topic}")
    assert not {INTRODUCTION, picture} & kept_topics(broker.port)


def test_a_station_that_has_introduced_itself_to_nobody_writes_on_no_topic_of_others(
    broker: Broker, subscriber: Subscriber, make_station: MakeStation
) -> None:
    make_station(broker.port, "o", camera=LOOP).start()
    subscriber.wait(lambda _: len(_inspections(subscriber)) >= 2, "verdicts")
    assert {message.topic.split("/")[0] for message in subscriber.messages} == {"edgevision"}


def stop(station: Station) -> None:
    station.processes[-1].terminate()
    assert station.processes[-1].wait(DEADLINE_S) == 0


def kept_topics(port: int) -> set[str]:
    """Where a newcomer is told something at once."""
    newcomer = Subscriber(port)
    newcomer.catch_up()
    newcomer.close()
    return {m.topic for m in newcomer.messages if m.retain}


def wait_for(condition: Callable[[], object]) -> None:
    """Poll what has no event to wait for: a line in a log."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)
