"""Outboxes of the tests, and what is in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY
from fixtures_verdict import verdict, wait_for

from device.outbox.outbox import FILE_NAME, Outbox

PLENTY = 1_000_000_000


@pytest.fixture
def make_outbox(tmp_path: Path) -> Iterator[Callable[..., Outbox]]:
    """Outboxes that have been started, in one folder; those that a test leaves open are stopped."""
    made: list[Outbox] = []

    def make(max_bytes: int = PLENTY, max_age_s: float = 1e9) -> Outbox:
        made.append(Outbox(tmp_path / "state", max_bytes, max_age_s))
        made[-1].start()
        return made[-1]

    yield make
    for outbox in made:
        outbox.stop()


def stored(outbox: Outbox) -> list[int]:
    """The seq of every row that is to be delivered."""
    found, after_id = [], 0
    while rows := outbox.next(after_id):
        found += [json.loads(row.payload)["seq"] for row in rows]
        after_id = rows[-1].id
    return found


def put(outbox: Outbox, seqs: range, name: str = "OK", **changes: object) -> None:
    """Put verdicts, and wait until they are stored."""
    before = outbox.last_id
    for seq in seqs:
        outbox.put(verdict(seq, name, **changes))
    wait_for(lambda: outbox.last_id >= before + len(seqs))


def damaged(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "state").glob(f"{FILE_NAME}.damaged-*Z"))


_WRITER = """
import sys
import time
from dataclasses import replace
from pathlib import Path
from device.outbox.outbox import Outbox
from device.inspection.verdict import Verdict
def tell(rows):
    if rows:
        print(rows[-1].id, flush=True)
verdict = Verdict.from_json(sys.argv[2])
outbox = Outbox(Path(sys.argv[1]), 10**9, 10**9, tell)
outbox.start()
begin = outbox.last_id
for seq in range(begin, 10**9):
    outbox.put(replace(verdict, seq=seq, verdict=("OK", "NG")[seq % 2]))
    while len(outbox._handed) > 50:
        time.sleep(0.0005)  # the outbox's own thread wants the lock
"""


def start_writer(folder: Path) -> subprocess.Popen[str]:
    """A process that stores verdicts as fast as it can, and prints the id of the latest that is stored."""
    command = (sys.executable, "-c", _WRITER, str(folder), verdict(0).to_json())
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
