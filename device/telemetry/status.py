"""`status`: what the running service says of itself, for a person or as JSON.

Exit codes, beside those of errors.py:

    0    it runs, and all is well
    20   it does not run
    21   it runs and has been silent for STALE_S: it hangs
    22   it runs and warns, or has not inspected a frame yet
    23   it runs and alerts
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from device.telemetry import status_file
from device.telemetry.status_file import Found

ABSENT, SILENT, DEGRADED, ALERT = 20, 21, 22, 23
_EXIT_CODES = {"ready": 0, "init": DEGRADED, "degraded": DEGRADED, "alert": ALERT}


def status(runtime: Path, *, as_json: bool) -> int:
    """Print it. Returns the exit code. Raises StorageError: the file cannot be read."""
    found = status_file.read(runtime)
    if as_json:
        content = {"presence": found.presence, "age_s": found.age_s, "status": found.content}
        print(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines(found, runtime)))
    return exit_code(found)


def exit_code(found: Found) -> int:
    """See above."""
    if found.content is None:
        return ABSENT
    if found.presence == "silent":
        return SILENT
    return _EXIT_CODES[found.content["health"]["state"]]


def lines(found: Found, runtime: Path) -> Iterator[str]:
    """The same for a person."""
    said, age_s = found.content, found.age_s
    if said is None or age_s is None:
        yield f"not running: no living service has written to {runtime / status_file.FILE}"
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
