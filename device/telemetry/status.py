"""The running service's own word in a file of [station] runtime, and how `status` tells it.

The service replaces the file as a whole about once a second (a new one, renamed), so that a reader never sees
half of it. It is not forced to the disk: it belongs in memory (/run), and says nothing after a power cut.
Exit codes of `status`, beside those of errors.py:

    0    it runs, and all is well
    20   it does not run
    21   it runs and has been silent for STALE_S: it hangs
    22   it runs and warns, or has not inspected a frame yet
    23   it runs and alerts
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from device.errors import StorageError
from device.schemas import strict_json

FILE = "status.json"
SCHEMA_VERSION = 1
STALE_S = 10.0  # it is written every second: a service that is silent so long hangs

Presence = Literal["running", "silent", "absent"]


def _object(**properties: Any) -> dict[str, Any]:
    """The schema of an object with these properties and others."""
    return {"type": "object", "required": list(properties), "properties": properties}


_TEXT, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
_TEXT_OR_NONE, _NUMBER_OR_NONE = ({"type": [kind, "null"]} for kind in ("string", "number"))
_ROLE = _object(
    state=_TEXT,
    reason=_TEXT_OR_NONE,
    text=_TEXT_OR_NONE,
    mend=_TEXT_OR_NONE,
    others={"type": "array", "items": _TEXT},
)
_LAST = _object(verdict=_TEXT, score=_NUMBER_OR_NONE, age_s=_NUMBER, event_id=_TEXT)
_WORDS = dict.fromkeys(("ok", "ng", "marginal", "error"), _WHOLE)
_DELIVERY = dict.fromkeys(("waiting", "dropped", "refused", "lost"), _WHOLE)
_of_process = strict_json.Schema(
    _object(
        schema={"const": SCHEMA_VERSION},
        pid={"type": "integer", "minimum": 1},
        process_start=_WHOLE,
        written_monotonic_s=_NUMBER,
    )
)
_of_service = strict_json.Schema(
    _object(
        station=_TEXT,
        session_id=_TEXT,
        uptime_s=_NUMBER,
        camera=_TEXT,
        model=_object(
            **dict.fromkeys(("id", "version", "state", "since", "bundle"), _TEXT),
            **dict.fromkeys(("previous", "reason"), _TEXT_OR_NONE),
        ),
        last={"anyOf": [{"type": "null"}, _LAST]},
        verdicts_since_model=_WHOLE,
        counters=_object(**_WORDS, since=_TEXT),
        frames=_object(skipped=_WHOLE, dropped=_WHOLE),
        broker=_object(address=_TEXT, connected={"type": "boolean"}),
        delivery=_object(**_DELIVERY, durable={"type": "boolean"}),
        health=_object(
            state={"enum": ["ready", "init", "degraded", "alert"]},
            roles={"type": "object", "additionalProperties": _ROLE},
        ),
    )
)


class StatusFile:
    """The writing side."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._new = folder / f"{FILE}.new"

    @property
    def path(self) -> Path:
        return self._path

    def open(self) -> None:
        """Make the folder where it is missing. Raises StorageError."""
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{folder}: cannot be made: {error.strerror}; set [station] runtime to a folder that the "
                f"service may write to"
            ) from None

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the file. Raises StorageError."""
        stamped = {
            "schema": SCHEMA_VERSION,
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()),
            "written_monotonic_s": round(time.monotonic(), 3),
            **content,
        }
        try:
            self._new.write_text(json.dumps(stamped, separators=(",", ":")) + "\n", "utf-8")
            self._new.replace(self._path)
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Take the file away: nothing runs any more."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:  # what it says of its process is enough for a reader
            return


@dataclass(frozen=True, slots=True)
class StatusReading:
    """What a reader found. `content` is None when absent; `age_s` since it was written."""

    presence: Presence
    content: Mapping[str, Any] | None
    age_s: float | None


def read(folder: Path) -> StatusReading:
    """The word of the running service. Raises StorageError: the file may not be read or is damaged."""
    path = folder / FILE
    try:
        content = strict_json.parse(path.read_bytes())
    except FileNotFoundError:
        return StatusReading("absent", None, None)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise StorageError(f"{path}: {error}") from None
    _require(path, content, _of_process)
    if process_start(content["pid"]) != content["process_start"]:
        return StatusReading("absent", None, None)
    _require(path, content, _of_service)
    age_s = max(0.0, time.monotonic() - content["written_monotonic_s"])
    return StatusReading("silent" if age_s > STALE_S else "running", content, age_s)


def _require(path: Path, content: Any, schema: strict_json.Schema) -> None:
    try:
        strict_json.check(content, schema)
    except ValueError as error:
        raise StorageError(f"{path}: must be a status of schema {SCHEMA_VERSION}: {error}") from None


def process_start(pid: int) -> int | None:
    """When a process began, in ticks since the machine's start; None when there is none (proc(5), stat)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


ABSENT, SILENT, DEGRADED, ALERT = 20, 21, 22, 23
_EXIT_CODES = {"ready": 0, "init": DEGRADED, "degraded": DEGRADED, "alert": ALERT}


def status(runtime: Path, *, as_json: bool) -> int:
    """Print it. Returns the exit code. Raises StorageError: the file cannot be read."""
    found = read(runtime)
    if as_json:
        content = {"presence": found.presence, "age_s": found.age_s, "status": found.content}
        print(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines(found, runtime)))
    return exit_code(found)


def exit_code(found: StatusReading) -> int:
    """Of `device status`: ABSENT, SILENT, or that of the state of health."""
    if found.content is None:
        return ABSENT
    if found.presence == "silent":
        return SILENT
    return _EXIT_CODES[found.content["health"]["state"]]


def lines(found: StatusReading, runtime: Path) -> Iterator[str]:
    """What was found, for a person."""
    said, age_s = found.content, found.age_s
    if said is None or age_s is None:
        yield f"not running: no living service has written to {runtime / FILE}"
        return
    silent = found.presence == "silent"
    word = f"SILENT for {_duration(age_s)}, it hangs" if silent else said["health"]["state"]
    yield f"station {said['station']}: {word}"
    yield _line(
        "session", f"{said['session_id']}, process {said['pid']}, for {_duration(said['uptime_s'] + age_s)}"
    )
    yield _line("camera", said["camera"])
    yield from _of_model(said["model"])
    yield _line("last", _last(said["last"], age_s))
    yield _line("verdicts", f"{said['verdicts_since_model']} by this model; {_counted(said['counters'])}")
    yield _line("frames", f"{said['frames']['skipped']} skipped, {said['frames']['dropped']} dropped")
    yield _line("broker", _broker(said["broker"], said["delivery"]))
    yield from _of_health(said["health"]["roles"])


def _of_model(model: Mapping[str, Any]) -> Iterator[str]:
    yield _line("model", f"{model['id']} {model['version']}, {model['state']} since {model['since']}")
    yield _line("bundle", f"{model['bundle']}; before it: {model['previous'] or 'none'}")
    if model["reason"]:
        yield _line("", f"rejected: {model['reason']}")


def _of_health(roles: Mapping[str, Any]) -> Iterator[str]:
    for name, role in roles.items():
        if role["reason"] is None:
            yield _line(name, "ok")
            continue
        also = f" (and {', '.join(role['others'])})" if role["others"] else ""
        yield _line(name, f"{role['state'].upper()} {role['reason']}: {role['text']}{also}")
        yield _line("", f"mend: {role['mend']}")


def _last(last: Mapping[str, Any] | None, age_s: float) -> str:
    if last is None:
        return "no verdict yet"
    score = "" if last["score"] is None else f", score {last['score']:.3f}"
    return f"{last['verdict']}{score}, {_duration(last['age_s'] + age_s)} ago, {last['event_id']}"


def _counted(counters: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{counters[word]} {word.upper()}" for word in ("ok", "ng", "marginal", "error"))
    return f"{counts} since {counters['since']}"


def _broker(broker: Mapping[str, Any], delivery: Mapping[str, Any]) -> str:
    there = "connected" if broker["connected"] else "AWAY"
    counts = ", ".join(f"{delivery[name]} {name}" for name in ("waiting", "dropped", "refused", "lost"))
    return f"{broker['address']} {there}; {counts}{'' if delivery['durable'] else '; IN MEMORY ONLY'}"


def _line(name: str, text: str) -> str:
    return f"  {name:<10}{text}"


def _duration(seconds: float) -> str:
    """The two greatest units."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
