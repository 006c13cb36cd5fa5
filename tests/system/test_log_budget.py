"""benchmarks/log_budget.py: an hour of a camera that changes its mode, in fifteen seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fixtures_daemon import REPOSITORY


def test_an_hour_of_a_lasting_fault_has_fewer_than_sixty_lines(bundles_folder: Path) -> None:
    """The whole service with a fast clock. Without its budget, and forty lines of verdicts, there were 66."""
    options = ("--hours", "1", "--speed", "240", "--fault", "modes")
    done = subprocess.run(
        (sys.executable, "-m", "benchmarks.log_budget", "--bundle", bundles_folder, *options),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    name, worst, lines, starts = done.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert (name, starts) == ("modes", "1")
    assert 10 < int(worst) < 60
    assert "reporter" in done.stderr
    assert int(lines) >= int(worst)
