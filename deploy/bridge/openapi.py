"""The OpenAPI document: openapi.json, with the schemas of the stations' own payloads put in."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from deploy.bridge import payloads

PATH = Path(__file__).with_name("openapi.json")
_OF_STATIONS = {"Verdict": "verdict", "Health": "health", "Counters": "counters"}


@cache
def document() -> dict[str, Any]:
    """The whole document, in OpenAPI 3.1."""
    content: dict[str, Any] = json.loads(PATH.read_text("utf-8"))
    schemas = content["components"]["schemas"]
    for name, schema in _OF_STATIONS.items():
        schemas[name] = _moved(payloads.tolerant(schema), f"#/components/schemas/{name}")
    return content


def _moved(schema: Any, root: str) -> Any:
    """A schema that stands below `root` of another document: its references follow."""
    if isinstance(schema, list):
        return [_moved(part, root) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"{root}{value[1:]}" if key == "$ref" else _moved(value, root)
        for key, value in schema.items()
        if key != "$schema"
    }
