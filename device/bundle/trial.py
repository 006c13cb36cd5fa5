"""A bundle on trial: the record that lies beside the bundles from before a switch until its verdict.

    <models>/.trial     {"bundle": "<new>", "before": "<old>", "older": "...", "begun": true, "gate_s": 60.0}

Whoever starts next and finds a trial that was begun knows that its process ended in the middle, by a kill, a
power cut or a crash of the interpreter, and goes back: see store.go_back. One that was not begun waits for
the service that will open the bundle first, as after `activate` while none runs.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from device.schemas import strict_json
from device.system import durable

log = logging.getLogger(__name__)

FILE = ".trial"

_schema = strict_json.Schema(
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["bundle", "before", "older", "begun", "gate_s"],
        "properties": {
            "bundle": {"type": "string"},
            "before": {"type": "string"},
            "older": {"type": "string"},
            "begun": {"type": "boolean"},
            "gate_s": {"type": ["number", "null"]},
        },
    }
)


@dataclass(frozen=True, slots=True)
class Trial:
    """`bundle`: what is tried. `before`, `older`: what `current` and `previous` led to; "" where to nothing.

    `begun`: a service opens it, or has. `gate_s`: how long somebody else has to give the verdict; None: the
    service gives it itself.
    """

    bundle: str
    before: str
    older: str
    begun: bool
    gate_s: float | None = None


def note(models: Path, trial: Trial) -> None:
    """The trial is on the disk when this returns. Raises StorageError."""
    durable.write(models / FILE, json.dumps(asdict(trial)).encode() + b"\n")


def read(models: Path) -> Trial | None:
    """The trial that has no verdict yet. A record that cannot be read counts as none, and is told."""
    path = models / FILE
    try:
        content = strict_json.parse(path.read_bytes())
        strict_json.check(content, _schema)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as problem:
        log.warning("%s: does not count: %s", path, problem)
        return None
    return Trial(**content)


def end(models: Path, name: str) -> None:
    """The trial of this bundle has its verdict; that of another one goes on. Raises StorageError."""
    found = read(models)
    if found is not None and found.bundle == name:
        durable.remove(models / FILE)
