"""`activate` and `rollback`, as they are typed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import TinyModel
from fixtures_daemon import errors, run_device

from device.bundle import store
from device.bundle.bundle import Thresholds


@pytest.fixture
def config(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A config file with a folder of two bundles, the second in use."""
    for day in (1, 2):
        tiny_model.write(tmp_path / "models", created=f"2026-03-0{day}T05:06:07Z")
    path = tmp_path / "config.toml"
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "0.png"), np.zeros((8, 8), np.uint8))
    path.write_text('[bundle]\npath = "models"\n[camera]\nsource = "images"\n')
    return path


def names(config: Path) -> list[str]:
    return sorted(path.parent.name for path in (config.parent / "models").glob("tiny-*/manifest.json"))


def test_by_name_by_path_and_back(config: Path) -> None:
    models = config.parent / "models"
    first, second = names(config)
    done = run_device("activate", first, "--config", config)
    assert (done.returncode, errors(done)) == (0, [])
    assert f"{first} is in use in place of {second}; a service that runs takes it with" in done.stdout
    assert store.current_name(models) == first
    done = run_device("activate", models / first, "--config", config)
    assert done.stdout == f"{first} is in use already\n"
    done = run_device("rollback", "--config", config)
    assert f"{second} is in use in place of {first}" in done.stdout
    assert store.current_name(models) == second
    done = run_device("rollback", "--config", config)
    assert store.current_name(models) == first


def test_what_is_not_there_or_not_whole_is_refused(config: Path, tmp_path: Path) -> None:
    models = config.parent / "models"
    first, second = names(config)
    assert "must lie in" in errors(run_device("activate", tmp_path / "x", "--config", config))[0]
    assert "no-such" in errors(run_device("activate", "no-such", "--config", config))[0]
    (models / first / "model.tflite").write_bytes(b"")
    done = run_device("activate", first, "--config", config)
    assert done.returncode == 4
    assert store.current_name(models) == second
    done = run_device("rollback", "--config", config)
    assert done.returncode == 4
    assert "no bundle was in use before" in errors(done)[0]


def test_thresholds_that_leave_no_room_are_refused_at_each_door(config: Path, tiny_model: TinyModel) -> None:
    models, in_use = config.parent / "models", names(config)[1]
    sure = Thresholds(1.0, 1.0, "by hand", ())
    bad = tiny_model.write(models, "zero", created="2026-04-01T00:00:00Z", thresholds=sure)
    store.lead_to(models / in_use)
    problem = f"{bad}/calibration.json: thresholds.ng: must be 0.999943 or less, the greatest score that this"
    done = run_device("activate", bad.name, "--config", config)
    assert (done.returncode, store.current_name(models)) == (4, in_use)
    assert problem in errors(done)[0]
    assert len(errors(done)) == 1
    store.lead_to(bad)
    for command in ("run", "check"):
        done = run_device(command, "--config", config)
        assert (done.returncode, problem in done.stdout + done.stderr) == (4, True), done
