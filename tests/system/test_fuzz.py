"""A short form of benchmarks/fuzz.py, which goes on for as long as one likes; and a fault would be found."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_bridge import wait_until
from fixtures_bundle import TinyModel
from fixtures_daemon import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks" / "fuzz.py"
KINDS = (
    *("upload", "model", "memory", "reference", "view", "png", "jpeg", "bmp", "tiff", "webp"),
    *("manifest", "calibration", "state", "command", "bridge", "answer"),
)
CASES = 60

# A reader with a fault of each kind: the first of its cases is well, the next ones are not.
FAULTY = """
import logging, os, sys
sys.path.insert(0, {folder!r})
import fuzz

def faulty(folder, good):
    def case(chance):
        with open({count!r}, "a+") as count:
            count.write("x")
            number = count.tell()
        match number:
            case 2:
                return {{}}["no such key"]
            case 3:
                os.abort()
            case 4:
                while True:
                    pass
            case 5:
                try:
                    raise ValueError("told and forgotten")
                except ValueError:
                    logging.exception("fault")
        return True
    return case

fuzz.KINDS["png"] = faulty
fuzz.LIMIT_S = 2.0
if __name__ == "__main__":
    sys.exit(fuzz.main(sys.argv[1:]))
"""


def run(script: Path, *options: object) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, str(script), *map(str, options))
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=280)


def test_whatever_others_have_made_is_taken_or_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    tiny_model.write(tmp_path)
    done = run(SCRIPT, "--bundle", tmp_path, "--cases", CASES, "--kind", *KINDS)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    for kind, line in zip(KINDS, lines, strict=True):
        assert re.fullmatch(rf"{kind} +{CASES} cases: .*; faults: none", line)
    assert re.fullmatch(rf"at most [0-9]+ MiB; the next seed is {CASES}", last)


def test_a_fault_of_any_kind_is_found_and_the_rest_goes_on(tiny_model: TinyModel, tmp_path: Path) -> None:
    tiny_model.write(tmp_path / "models")
    script = tmp_path / "faulty.py"
    script.write_text(FAULTY.format(folder=str(SCRIPT.parent), count=str(tmp_path / "count")))
    done = run(script, "--bundle", tmp_path / "models", "--cases", 6, "--seed", 100, "--kind", "png")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.match(
        r"png +6 cases: 2 taken, 0 refused, .*; faults: 101, 102, 103, 104$", done.stdout.splitlines()[0]
    )
    for word in ("no such key", "Aborted", "Timeout", "told and forgotten"):
        assert word in done.stderr


def processes_of(folder: Path) -> list[int]:
    """Those that have the folder in their command line or in their environment."""
    wanted, found = str(folder).encode(), []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and wanted in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def test_killed_it_leaves_no_broker_and_no_service_behind(tiny_model: TinyModel, tmp_path: Path) -> None:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") is None:
        pytest.skip("mosquitto is not installed")
    tiny_model.write(tmp_path / "models")
    made = tmp_path / "made"
    made.mkdir()
    command = (sys.executable, str(SCRIPT), "--bundle", str(tmp_path / "models"), "--kind", "station")
    main = subprocess.Popen(
        (*command, "--cases", "0"), cwd=REPOSITORY, env={**os.environ, "TMPDIR": str(made)}
    )
    wait_until(lambda: list(made.rglob("outbox.sqlite*")), "its service")
    assert len(processes_of(made)) >= 4
    main.kill()
    main.wait()
    wait_until(lambda: not processes_of(made), "the end of all that it had started")
