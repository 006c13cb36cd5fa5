"""Where the log goes, what a verdict's line carries, and how many lines there are."""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY
from fixtures_verdict import ERROR, NG, OK

from device.inspection.verdict import Verdict
from device.system.loudness import Loudness
from device.telemetry import journal
from device.telemetry.counters import REPORT_EVERY_S
from device.telemetry.journal import PER_HOUR, PER_MINUTE, VerdictLog, fields

JOURNALD = "/run/systemd/journal"
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18

PROGRAM = """
import logging, os, sys, tempfile
from pathlib import Path
stderr = os.fstat(2)
if sys.argv[1] == "under-systemd":
    os.environ["JOURNAL_STREAM"] = f"{stderr.st_dev}:{stderr.st_ino}"
elif sys.argv[1] == "redirected":
    os.environ["JOURNAL_STREAM"] = f"{stderr.st_dev}:{stderr.st_ino + 1}"
from device.telemetry import journal
from fixtures_verdict import ERROR, NG, OK
journal.start("info", Path(tempfile.mkdtemp()))
log = journal.VerdictLog()
for verdict in (OK, NG, ERROR):
    log.add(verdict)
"""


def test_the_fields_of_a_verdict() -> None:
    assert fields(NG) == {
        "EVENT_ID": NG.event_id,
        "VERDICT": "NG",
        "MODEL": f"{NG.model.id} {NG.model.version}",
        "SCORE": "0.937500",
        "STATION": "press-4",
    }
    assert fields(ERROR)["SCORE"] == ""


def test_what_is_ok_has_a_line_only_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for verdict in (OK, NG, replace(NG, verdict="MARGINAL"), ERROR):
            VerdictLog().add(verdict)
    assert [(r.VERDICT, r.levelname) for r in caplog.records] == [
        ("NG", "INFO"),
        ("MARGINAL", "INFO"),
        ("ERROR", "WARNING"),
    ]
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        VerdictLog().add(OK)
    assert [record.VERDICT for record in caplog.records] == ["OK"]


def test_a_line_that_rejects_everything_does_not_wear_the_card(caplog: pytest.LogCaptureFixture) -> None:
    times_s = iter(range(10_000))
    log = VerdictLog(lambda: next(times_s))
    with caplog.at_level(logging.INFO):
        for _ in range(300):  # five minutes, a defect a second
            log.add(NG)
    lines = [record for record in caplog.records if hasattr(record, "VERDICT")]
    assert len(lines) == PER_HOUR
    told = [record.message for record in caplog.records if "left out" in record.message]
    assert len(told) == PER_HOUR // PER_MINUTE - 1
    assert told[0] == f"{60 - 1 - PER_MINUTE} lines on verdicts that were not OK were left out"


@pytest.fixture
def own_journald(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that programs of ours find in the place of journald's, in a mount namespace of their own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        receiver.settimeout(30)
        yield receiver


def run_beside(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    """Run PROGRAM where JOURNALD is `folder`. Skips where no such namespace can be made."""
    if os.geteuid() != 0 or not Path("/run/systemd").is_dir():
        pytest.skip("only root can put a socket of its own in the place of journald's")

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
            os._exit(77)
        if libc.mount(b"tmpfs", b"/run/systemd", b"tmpfs", 0, None):
            os._exit(77)
        Path(JOURNALD).mkdir()
        if libc.mount(os.fsencode(folder), JOURNALD.encode(), None, 0x1000, None):
            os._exit(77)

    done = subprocess.run(
        (sys.executable, "-c", PROGRAM, how),
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=enter,  # between fork and exec: these system calls and nothing else
    )
    if done.returncode == 77:
        pytest.skip("this machine does not let a mount namespace be made")
    assert done.returncode == 0, done.stderr
    return done


def parsed(datagram: bytes) -> dict[str, str]:
    """An entry of journald's native protocol: NAME=value lines, or NAME, a 64-bit length and the value."""
    entry = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[9 + length :]
        entry[name.decode()] = value.decode()
        datagram = rest
    return entry


def test_journald_gets_the_fields(own_journald: socket.socket, tmp_path: Path) -> None:
    if journal.journal is None:
        pytest.skip("systemd-python is not installed")
    done = run_beside(tmp_path, "under-systemd")
    assert done.stderr == ""
    first, second = (parsed(own_journald.recv(65536)) for _ in range(2))
    assert {name: first[name] for name in fields(NG)} == fields(NG)
    assert (first["PRIORITY"], second["PRIORITY"]) == ("6", "4")
    assert (first["SYSLOG_IDENTIFIER"], second["VERDICT"]) == ("edgevision", "ERROR")
    assert first["MESSAGE"].startswith(f"device.telemetry.journal: {NG.event_id} NG, score 0.9375")


@pytest.mark.parametrize("how", ["without", "redirected"])
def test_without_journald_the_lines_go_to_stderr(how: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    done = subprocess.run(
        (sys.executable, "-c", PROGRAM, how),
        cwd=REPOSITORY,
        env={**environment, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"INFO device.telemetry.journal: {NG.event_id} NG, score 0.9375" in done.stderr
    assert done.stderr.count("\n") == 2


def test_a_machine_without_the_package_has_its_log_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "journal", None)
    monkeypatch.setattr(journal, "_is_journal", lambda file: True)
    assert type(journal.handler()) is logging.StreamHandler


@pytest.mark.parametrize("verdict", [NG, ERROR])
def test_hours_of_one_fault_are_less_than_a_line_a_minute(
    caplog: pytest.LogCaptureFixture, verdict: Verdict
) -> None:
    """Beside them stand the counts, a line of the camera's and one of health's now and then."""
    seconds = iter(range(4 * 3600))
    verdict_log = VerdictLog(lambda: next(seconds))
    loudness = Loudness(lambda: next(seconds))
    with caplog.at_level(logging.INFO):
        for _ in range(2 * 3600 - 1):
            verdict_log.add(verdict)
            logging.getLogger("device.service").log(loudness.level("unreadable"), "torn")
    hours = len(caplog.records) / 4
    assert hours + 3600 / REPORT_EVERY_S < 60
