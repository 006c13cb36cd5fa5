"""docs/reference/asyncapi.yaml: valid, complete, and true of a running station."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml
from fixtures_broker import DEADLINE_S, Broker, Subscriber
from fixtures_commands import Commander
from fixtures_daemon import REPOSITORY, ROOT, Station
from paho.mqtt import publish
from paho.mqtt.client import MQTTMessage

from device.schemas import strict_json

DOCUMENT = REPOSITORY / "docs" / "reference" / "asyncapi.yaml"
OFFICIAL = REPOSITORY / "tests" / "asyncapi" / "3.0.0.schema.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return yaml.safe_load(DOCUMENT.read_text())


def resolved(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """What a reference inside the document leads to; anything else as it is."""
    while "$ref" in value:
        found: Any = document
        for name in value["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        value = found
    return value


def payload_schema(document: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a message's payload, with the file that it refers to in it. {}: anything goes."""
    payload = resolved(document, message).get("payload", {})
    if "$ref" not in payload:
        return payload
    name, _, fragment = payload["$ref"].partition("#")
    content = json.loads((DOCUMENT.parent / name).read_text())
    return {**content, "$ref": f"#{fragment}"} if fragment else content


def channel_of(document: dict[str, Any], topic: str) -> str | None:
    """The channel whose address a topic has; the one with the fewest parameters where several have it."""
    found = []
    for name, channel in document["channels"].items():
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(channel["address"]))
        match = re.fullmatch(pattern, topic)
        if match and all(_is_legal(channel, *pair) for pair in match.groupdict().items()):
            found.append((len(match.groupdict()), name))
    return min(found)[1] if found else None


def _is_legal(channel: dict[str, Any], name: str, value: str) -> bool:
    choices = channel["parameters"][name].get("enum")
    return choices is None or value in choices


def test_the_document_is_valid_asyncapi_3(document: dict[str, Any]) -> None:
    official = jsonschema.Draft7Validator(json.loads(OFFICIAL.read_text()))
    assert [f"{list(error.path)}: {error.message}" for error in official.iter_errors(document)] == []
    broken = {**document, "operations": {"x": {"action": "shout", "channel": {"$ref": "#/channels/status"}}}}
    assert not official.is_valid(broken)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = re.findall(r"\$ref: *'?([^'\s]+)", DOCUMENT.read_text())
    assert len(references) > 50
    for reference in references:
        name, _, fragment = reference.partition("#")
        content = json.loads((DOCUMENT.parent / name).read_text()) if name else document
        for part in filter(None, fragment.split("/")):
            content = content[part]


def test_every_channel_has_an_operation_and_every_message_a_channel(document: dict[str, Any]) -> None:
    operated = set()
    for operation in document["operations"].values():
        operated.add(operation["channel"]["$ref"].removeprefix("#/channels/"))
        if "reply" in operation:
            operated.add(operation["reply"]["channel"]["$ref"].removeprefix("#/channels/"))
    assert operated == set(document["channels"])
    carried = {
        message["$ref"].removeprefix("#/components/messages/")
        for channel in document["channels"].values()
        for message in channel["messages"].values()
    }
    assert carried == set(document["components"]["messages"])


def test_every_schema_is_a_schema_and_every_schema_of_the_device_is_used(document: dict[str, Any]) -> None:
    for message in document["components"]["messages"].values():
        jsonschema.Draft7Validator.check_schema(payload_schema(document, message))
    used = set(re.findall(r"\.\./device/schemas/(\w+)\.schema\.json", DOCUMENT.read_text()))
    shipped = {
        path.name.removesuffix(".schema.json")
        for path in (REPOSITORY / "device" / "schemas").glob("*.schema.json")
    }
    assert shipped - {"calibration", "manifest"} == used


def test_what_generators_make_of_it_keeps_its_fields_and_has_names(document: dict[str, Any]) -> None:
    """A reference inside {schemaFormat, schema} costs `required`; titles become the names of classes."""
    titles = []
    for name, message in document["components"]["messages"].items():
        payload = message.get("payload", {})
        assert "schema" not in payload, name
        if "$ref" in payload:
            schema = payload_schema(document, message)
            titles.append(_fragment(schema, schema.get("$ref", "#"))["title"])
    assert len(titles) == len(set(titles)) == 18
    assert all(re.fullmatch(r"[A-Z][a-z]+( command)?", title) for title in titles), titles


def _fragment(schema: dict[str, Any], reference: str) -> Any:
    for name in filter(None, reference.removeprefix("#").split("/")):
        schema = schema[name]
    return schema


# ---- a running station


STATION = """
[model]
threads = 1
[archive]
publish_image_max_bytes = 20000
[home_assistant]
enabled = true
[commands]
enabled = true
allow = ["trigger", "rebirth", "reload", "threshold", "model", "rollback", "review", "picture", "acknowledge"]
rate_hz = 100.0
"""

COMMANDS = {
    "trigger": {},
    "rebirth": {},
    "reload": {},
    "threshold": {"ng": 0.7, "marginal": 0.4},
    "model": {"version": "nowhere"},
    "rollback": {},
    "review": {"event_id": "5e55104-00000001", "label": "ok"},
    "picture": {"event_id": "5e55104-00000001"},
    "acknowledge": {"role": "disk", "reason": "disk_low"},
}


def test_a_running_station_does_what_the_document_says_and_all_of_it(
    document: dict[str, Any], broker: Broker, subscriber: Subscriber, make_station: Callable[..., Station]
) -> None:
    """Every message on the broker is of a channel, has its QoS and its payload; every channel is seen."""
    station = make_station(
        broker.port, "onox", camera="loop = true\nrate_hz = 5\nmax_failures = 1000", more=STATION
    )
    process = station.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    commander = Commander(broker.port)
    for name, payload in COMMANDS.items():
        commander.ask(name, payload)
    commander.close()
    plain = Commander(broker.port, protocol="3.1.1")
    plain.ask("rebirth")
    plain.close()
    publish.single("homeassistant/status", "online", hostname="127.0.0.1", port=broker.port)
    wanted = set(document["channels"]) - {"aim"}  # test_signpost.py: `aim` runs in place of the service

    def unseen(messages: list[MQTTMessage]) -> set[str]:
        return wanted - {channel_of(document, message.topic) for message in messages}

    subscriber.wait(lambda messages: not unseen(messages) - {"stats"}, "something on every channel")
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    subscriber.catch_up()
    assert unseen(subscriber.messages) == set()  # the figures come at the end, too
    newcomer = Subscriber(broker.port)
    newcomer.catch_up()
    newcomer.close()
    retained = {message.topic for message in newcomer.messages if message.retain}
    kept = {name for name, operation in sends(document).items() if _mqtt(operation)["retain"]} - {"aim"}
    assert {channel_of(document, topic) for topic in retained} == kept
    for message in subscriber.messages:
        if not message.topic.startswith("catch-up/"):  # the subscribers' own
            check_message(document, message, retained)


def sends(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations that send, by the name of their channel."""
    return {
        operation["channel"]["$ref"].removeprefix("#/channels/"): operation
        for operation in document["operations"].values()
        if operation["action"] == "send"
    }


def _mqtt(operation: dict[str, Any]) -> dict[str, Any]:
    return operation.get("bindings", {}).get("mqtt", {})


def check_message(document: dict[str, Any], message: MQTTMessage, retained: set[str]) -> None:
    """Its payload is as its channel says; what the station sends has its QoS, and is retained or not."""
    name = channel_of(document, message.topic)
    assert name is not None, f"{message.topic} is in no channel"
    [reference] = document["channels"][name]["messages"].values()
    content_type = resolved(document, reference).get("contentType", document["defaultContentType"])
    schema = payload_schema(document, reference)
    if content_type == "image/jpeg":
        assert message.payload[:3] == b"\xff\xd8\xff"
    elif content_type == "image/png":
        assert message.payload[:4] == b"\x89PNG"
    else:
        is_json = content_type == "application/json"
        content = strict_json.parse(message.payload) if is_json else message.payload.decode()
        jsonschema.Draft7Validator(schema).validate(content)
    if name in sends(document):
        mqtt = _mqtt(sends(document)[name])
        assert message.qos == mqtt["qos"], message.topic
        assert (message.topic in retained) == mqtt["retain"], message.topic
