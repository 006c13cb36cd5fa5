"""tests/check_arm64.sh: the station's wheels for 64-bit ARM, emulated, against this machine."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from fixtures_daemon import REPOSITORY


@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("qemu-aarch64-static") is None, reason="qemu-user-static is not installed")
def test_a_station_says_on_arm64_what_it_says_here() -> None:
    done = subprocess.run(
        (str(REPOSITORY / "tests/check_arm64.sh"),), capture_output=True, text=True, check=False
    )
    if done.returncode == 2:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["bookworm", "trixie"]
