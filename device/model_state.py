"""What the topic `model` says: the model that decides, its thresholds, and how the last change went."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from device import strict_json
from device.calibration import Thresholds
from device.verdict import Model

SCHEMA = 1

Source = Literal["bundle", "command"]
State = Literal["active", "rejected"]


@dataclass(frozen=True, slots=True)
class ModelState:
    """`model` and `thresholds` are those in force; `source`: where the thresholds come from.

    `previous`: the name of the bundle that a roll-back would lead to, or None. `rejected`: the last change
    was refused for `reason`, and the model before it goes on deciding.
    """

    session_id: str
    model: Model
    bundle: str
    thresholds: Thresholds
    source: Source
    previous: str | None = None
    state: State = "active"
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.state == "rejected") != (self.reason is not None):
            raise ValueError(f"reason: must be given with rejected alone, got {self.reason!r}")

    def to_json(self) -> str:
        """The payload, as in model.schema.json: one line of compact JSON."""
        content = {
            "schema": SCHEMA,
            "session_id": self.session_id,
            "id": self.model.id,
            "version": self.model.version,
            "sha256": self.model.sha256,
            "bundle": self.bundle,
            "thresholds": {
                "ng": self.thresholds.ng,
                "marginal": self.thresholds.marginal,
                "rule": self.thresholds.rule,
                "source": self.source,
            },
            "previous": self.previous,
            "state": self.state,
            "reason": self.reason,
        }
        return json.dumps(content, separators=(",", ":"), allow_nan=False)


def check_json(text: str | bytes) -> Any:
    """A payload's content. Raises ValueError naming the field that is wrong."""
    content = strict_json.parse(text)
    strict_json.check(content, _validate())
    return content


@cache
def _validate() -> strict_json.Validate:
    return strict_json.compile_schema(Path(__file__).with_name("model.schema.json"))
