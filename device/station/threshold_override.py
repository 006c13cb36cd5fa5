"""Thresholds that a command has set in place of the bundle's, on the disk: <state>/threshold.json.

They belong to one model: with another one they do not count, and when that one is back they do again. The
command that sets others, or asks for the bundle's own, replaces them.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from device.bundle.calibration import Thresholds
from device.inspection.reach import ScoreRange
from device.inspection.verdict import Model
from device.schemas import strict_json
from device.system import durable

log = logging.getLogger(__name__)

FILE = "threshold.json"
RULE = "set by a command"

_schema = strict_json.Schema(
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["schema", "version", "sha256", "ng", "marginal"],
        "properties": {
            "schema": {"const": 1},
            "version": {"type": "string"},
            "sha256": {"type": "string"},
            "ng": {"type": "number"},
            "marginal": {"type": "number"},
        },
    }
)


@dataclass(frozen=True, slots=True)
class ThresholdOverride:
    """The folder where they are kept."""

    state: Path

    def apply(self, model: Model, own: Thresholds, scores: ScoreRange) -> Thresholds:
        """The thresholds for a model: those that were set for it, else its `own`. `rule` tells which.

        A damaged file counts as none, and one whose NG none of its `scores` reaches; that is told. A station
        that judges by its bundle is better than none.
        """
        path = self.state / FILE
        try:
            content = strict_json.parse(path.read_bytes())
            strict_json.check(content, _schema)
            if (content["version"], content["sha256"]) != (model.version, model.sha256):
                return own
            _require_reached(content["ng"], scores)
            return replace(own, ng=content["ng"], marginal=content["marginal"], rule=RULE)
        except FileNotFoundError:
            return own
        except (OSError, ValueError) as problem:
            log.warning("%s: the thresholds in it do not count, the bundle's own do: %s", path, problem)
            return own

    def keep(self, model: Model, thresholds: Thresholds) -> None:
        """From now on these for this model, on the disk when this returns. Raises StorageError."""
        content = {
            "schema": 1,
            "version": model.version,
            "sha256": model.sha256,
            "ng": thresholds.ng,
            "marginal": thresholds.marginal,
        }
        durable.write(self.state / FILE, json.dumps(content).encode() + b"\n")

    def forget(self) -> None:
        """From now on those of the bundle. Raises StorageError."""
        durable.remove(self.state / FILE)


def _require_reached(ng: float, scores: ScoreRange) -> None:
    if (refusal := scores.refusal(ng)) is not None:
        raise ValueError(f"ng: {refusal}")
