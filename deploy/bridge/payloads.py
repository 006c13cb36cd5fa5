"""What stations say: their payloads, checked by the stations' own schemas.

A field that a schema does not name is no fault here: a newer station may have more to say than this bridge
understands. Everything else is: what is not as the schema says is refused as a whole, and nothing is taken
for OK.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from device.schemas import strict_json

SCHEMAS = Path(strict_json.__file__).parent
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
STATUSES = ("online", "stopped", "offline")


@dataclass(frozen=True, slots=True)
class VerdictPayload:
    """A verdict of verdict.schema.json; `raw` is the JSON, `total_ms` None where the station did not say."""

    station: str
    event_id: str
    session_id: str
    seq: int
    historical: bool
    ts: str
    part_id: str | None
    verdict: str
    score: float | None
    threshold: float
    model_id: str
    model_version: str
    total_ms: float | None
    regions: int
    raw: bytes = field(repr=False)

    @property
    def captured_s(self) -> float:
        """When the frame was taken, in seconds since 1970, UTC."""
        return datetime.fromisoformat(self.ts).timestamp()


@dataclass(frozen=True, slots=True)
class AnswerPayload:
    """An answer of answer.schema.json to a trigger. `verdict` None: refused, or not there in time."""

    ok: bool
    reason: str | None
    event_id: str | None
    verdict: VerdictPayload | None


def verdict_of(payload: bytes) -> VerdictPayload:
    """Raises ValueError, naming the first field that is not as the schema says."""
    return _verdict(_checked("verdict", payload), payload)


def answer_of(payload: bytes) -> AnswerPayload:
    """Raises ValueError, as `verdict_of` does."""
    content = _checked("answer", payload)
    found = content.get("verdict")
    return AnswerPayload(
        content["ok"],
        content["reason"],
        content.get("event_id"),
        None if found is None else verdict_of(json.dumps(found).encode()),
    )


def state_of(name: str, payload: bytes) -> dict[str, Any]:
    """A `health`, `model`, `counters`, `birth` or `stats` of its schema. Raises ValueError."""
    return _checked(name, payload)


def status_of(payload: bytes) -> str:
    """Raises ValueError."""
    status = payload.decode("utf-8", "replace")
    if status not in STATUSES:
        raise ValueError(f"must be one of {', '.join(STATUSES)}, got {strict_json.shown(status)}")
    return status


def _verdict(content: dict[str, Any], raw: bytes) -> VerdictPayload:
    _require_ids(content)
    return VerdictPayload(
        station=content["station"],
        event_id=content["event_id"],
        session_id=content["session_id"],
        seq=content["seq"],
        historical=content["historical"],
        ts=content["ts"],
        part_id=content["part_id"],
        verdict=content["verdict"],
        score=content["score"],
        threshold=content["threshold"],
        model_id=content["model"]["id"],
        model_version=content["model"]["version"],
        total_ms=content["timing_ms"].get("total"),
        regions=len(content["regions"]),
        raw=raw,
    )


def _require_ids(content: dict[str, Any]) -> None:
    """What goes on as a header, a register or a path must be what stations make. Raises ValueError."""
    for name in ("event_id", "session_id"):
        if not _ID.fullmatch(content[name]):
            told = "1..128 letters, digits, '.', '_' or '-', the first a letter or a digit"
            raise ValueError(f"{name}: must be {told}, got {strict_json.shown(content[name])}")


def _checked(name: str, payload: bytes) -> dict[str, Any]:
    content: dict[str, Any] = strict_json.parse(payload)
    strict_json.check(content, _schema(name))
    return content


@cache
def _schema(name: str) -> strict_json.Schema:
    return strict_json.Schema(tolerant(name))


def tolerant(name: str) -> dict[str, Any]:
    """NAME.schema.json, with further fields allowed everywhere."""
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
    _allow_more(schema)
    return schema


def _allow_more(schema: Any) -> None:
    if isinstance(schema, dict):
        if schema.get("additionalProperties") is False:
            del schema["additionalProperties"]
        for part in schema.values():
            _allow_more(part)
    elif isinstance(schema, list):
        for part in schema:
            _allow_more(part)
