"""The audit log, on a real disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.errors import StorageError
from device.mqtt.audit import AuditLog


def test_records_are_appended_and_read_back(tmp_path: Path) -> None:
    state = tmp_path / "state"
    AuditLog(state).write({"by": "ann", "n": 1})
    AuditLog(state).write({"by": "bär\ud800", "n": 2})  # ASCII on the disk, whatever it is
    assert (state / "audit.jsonl").read_text("ascii").count("\n") == 2
    assert AuditLog(state).records()[0] == {"by": "ann", "n": 1}
    assert AuditLog(state).records()[1]["n"] == 2


def test_nothing_was_written_yet(tmp_path: Path) -> None:
    assert AuditLog(tmp_path / "nowhere").records() == []


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path)
    audit.write({"n": 1})
    with audit.path.open("ab") as file:
        file.write(b'{"n": 2, "by"')
    audit.write({"n": 3})
    assert audit.records() == [{"n": 1}, {"n": 3}]


def test_two_files_are_the_bound(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, limit_bytes=1000)
    for n in range(500):
        audit.write({"n": n})
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert all(size <= 1000 for size in sizes)
    numbers = [record["n"] for record in audit.records()]
    assert numbers == list(range(numbers[0], 500))
    assert len(numbers) > 1000 / len('{"n":499}\n')  # one whole file, and what has come since


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"state/audit\.jsonl: cannot be written: "):
        AuditLog(tmp_path / "state").write({"n": 1})
