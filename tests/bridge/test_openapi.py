"""The document: whole, and of the paths that there are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from deploy.bridge.config import HttpConfig
from deploy.bridge.openapi import document
from deploy.bridge.plant import Plant
from deploy.bridge.rest import Rest
from deploy.bridge.trigger import Triggers


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(document()):
        found: Any = document()
        assert reference.startswith("#/")
        for name in reference[2:].split("/"):
            found = found[name]
        assert found


def test_a_stations_own_schemas_are_in_it_and_tolerate_more() -> None:
    schemas = document()["components"]["schemas"]
    assert schemas["Verdict"]["properties"]["verdict"]["enum"] == ["OK", "NG", "MARGINAL", "ERROR"]
    assert "additionalProperties" not in schemas["Verdict"]
    assert schemas["Health"]["properties"]["roles"]["properties"]["camera"]["$ref"].startswith(
        "#/components/schemas/Health/definitions/"
    )


def test_it_names_the_paths_that_there_are() -> None:
    async def served() -> set[tuple[str, str]]:
        plant = Plant("edgevision", recent_events=1, pictures_bytes=0)
        rest = Rest(HttpConfig(True, "127.0.0.1", 1, None, 1, 0), plant, Triggers(plant))
        routes = rest.app.router.routes()
        return {
            (route.method.lower(), route.resource.canonical)
            for route in routes
            if route.resource is not None and route.method != "HEAD"
        }

    described = {(method, path) for path, methods in document()["paths"].items() for method in methods}
    assert asyncio.run(served()) == described | {("get", "/v1/openapi.json")}
