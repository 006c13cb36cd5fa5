"""`bench`: how fast this machine is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures_daemon import errors, run_device

from device.cli.bench import _quantiles, measure


def test_the_figures_belong_together(bundles_folder: Path) -> None:
    figures = measure(bundles_folder, threads=1, frames=20)
    assert list(figures.stages_ms) == ["preprocess", "checks", "inference", "localization", "total"]
    assert all(p50 <= p95 <= p99 for p50, p95, p99 in figures.stages_ms.values())
    assert figures.stages_ms["inference"][0] <= figures.stages_ms["total"][0]
    assert 0 < figures.invoke_ms <= figures.stages_ms["total"][2]
    assert 0 < figures.ratio < 1.5
    assert (figures.threads, figures.frames) == (1, 20)


def test_quantiles_by_the_nearest_rank() -> None:
    assert _quantiles([float(value) for value in range(1, 101)]) == (50.0, 95.0, 99.0)
    assert _quantiles([7.0]) == (7.0, 7.0, 7.0)


def test_for_a_person_and_for_a_program(bundles_folder: Path) -> None:
    done = run_device("bench", "--bundle", bundles_folder, "--frames", "5", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "5 frames: " in done.stdout
    assert "1 threads" in done.stdout
    done = run_device("bench", "--bundle", bundles_folder, "--frames", "5", "--json")
    content = json.loads(done.stdout)
    assert content["bundle"].startswith("tiny-")
    assert content["frames_per_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [(("--frames", "0"), "--frames: must be 1 or more, got 0"), ((), "does not exist")],
)
def test_what_cannot_be_timed(
    tmp_path: Path, bundles_folder: Path, arguments: tuple[str, ...], problem: str
) -> None:
    path = bundles_folder if arguments else tmp_path / "none"
    done = run_device("bench", "--bundle", path, *arguments)
    assert done.returncode == 4
    assert problem in errors(done)[0]
