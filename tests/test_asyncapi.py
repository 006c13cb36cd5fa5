"""docs/asyncapi.yaml: valid, complete, and true of a running station."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from fixtures_daemon import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "asyncapi.yaml"
OFFICIAL = Path(__file__).parent / "asyncapi" / "3.0.0.schema.json"


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
    schema = payload.get("schema", payload)
    if "$ref" not in schema:
        return schema
    name, _, fragment = schema["$ref"].partition("#")
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
    used = set(re.findall(r"\.\./device/(\w+)\.schema\.json", DOCUMENT.read_text()))
    shipped = {
        path.name.removesuffix(".schema.json") for path in (REPOSITORY / "device").glob("*.schema.json")
    }
    assert shipped - {"calibration", "manifest"} == used
