"""The file that a running service leaves for `status`, and what a reader makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY

from device.errors import StorageError
from device.telemetry import status_file
from device.telemetry.status_file import StatusFile, process_start


def test_it_is_written_as_a_whole_and_read_back(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "run" / "edgevision")
    file.open()
    file.write({"station": "press-4"})
    file.write({"station": "press-5"})
    found = status_file.read(tmp_path / "run" / "edgevision")
    assert found.presence == "running"
    assert found.content is not None
    assert found.content["station"] == "press-5"
    assert found.content["pid"] == os.getpid()
    assert [path.name for path in file.path.parent.iterdir()] == ["status.json"]


def test_nothing_there_is_absent(tmp_path: Path) -> None:
    assert status_file.read(tmp_path).presence == "absent"
    assert status_file.read(tmp_path / "missing").presence == "absent"


def test_after_the_end_it_is_absent(tmp_path: Path) -> None:
    file = StatusFile(tmp_path)
    file.write({})
    file.close()
    assert status_file.read(tmp_path).presence == "absent"
    file.close()


def test_the_word_of_a_process_that_died_is_not_believed(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from device.telemetry.status_file import StatusFile\n"
    program += "StatusFile(Path(sys.argv[1])).write({})"
    subprocess.run((sys.executable, "-c", program, str(tmp_path)), check=True, cwd=REPOSITORY)
    assert (tmp_path / "status.json").exists()
    assert status_file.read(tmp_path).presence == "absent"


def test_the_word_of_another_process_with_the_same_number_is_not_believed(tmp_path: Path) -> None:
    StatusFile(tmp_path).write({})
    path = tmp_path / "status.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "process_start": content["process_start"] - 1}))
    assert status_file.read(tmp_path).presence == "absent"


def test_a_service_that_has_not_written_for_long_is_silent(tmp_path: Path) -> None:
    StatusFile(tmp_path).write({})
    path = tmp_path / "status.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "written_monotonic_s": content["written_monotonic_s"] - 11}))
    found = status_file.read(tmp_path)
    assert found.presence == "silent"
    assert found.age_s == pytest.approx(11, abs=2)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 9}'])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(StorageError, match=r"status\.json"):
        status_file.read(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = StatusFile(tmp_path / "file" / "run")
    with pytest.raises(StorageError, match=r"cannot be made: Not a directory; set \[station\] runtime"):
        file.open()
    with pytest.raises(StorageError, match="cannot be written"):
        file.write({})


def test_a_process_that_is_not_there_began_never() -> None:
    assert process_start(2**22 + 1) is None
    assert process_start(os.getpid()) > 0
