"""The wheel: built, installed in an environment of its own, and run far from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from fixtures_bundle import TinyModel, make_image, png_bytes
from fixtures_daemon import REPOSITORY
from packaging.requirements import Requirement

import device


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what is under version control, so that the checkout gets no build folder."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file() and not name.startswith("tests/"):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((REPOSITORY / name).read_bytes())
    (folder / "source" / "device" / "system" / "commit.txt").write_text("0123abcd\n")
    command = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation")
    subprocess.run((*command, "-w", str(folder), str(folder / "source")), check=True, timeout=120)
    return next(folder.glob("edgevision-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment with the wheel alone; what it depends on is borrowed from the suite's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    command = (sys.executable, "-m", "pip", f"--python={folder}/bin/python", "install", "-q", "--no-deps")
    subprocess.run((*command, "--no-index", str(wheel)), check=True, timeout=120)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def run(installed: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = (installed / str(words[0]), *map(str, words[1:]))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_what_is_read_at_work_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "device/default.toml",
        "device/schemas/verdict.schema.json",
        "trainer/default.toml",
        "trainer/configs/mvtec.toml",
        "trainer/report/report.html",
        "deploy/dashboard/index.html",
        "deploy/dashboard/js/main.js",
        "deploy/bridge/default.toml",
    } <= names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {
        "device",
        "trainer",
        "deploy",
    }


def test_the_station_s_program_runs_from_the_wheel(
    installed: Path, tmp_path: Path, tiny_model: TinyModel
) -> None:
    said = run(installed, tmp_path, "edgevision", "--version")
    assert said.stdout == f"{device.__version__} (commit 0123abcd)\n", said.stderr
    bundle = tiny_model.write(tmp_path / "bundles")
    (tmp_path / "part.png").write_bytes(png_bytes(make_image()))
    done = run(installed, tmp_path, "edgevision", "inspect", "part.png", "--bundle", bundle)
    assert done.returncode == 0, done.stderr
    assert "part.png" in done.stdout


def test_the_trainer_s_program_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "edgevision-train")
    assert listed.returncode == 0, listed.stderr
    for name in ("fit", "evaluate", "compare", "manifest"):
        assert f"\n  {name} " in listed.stdout
    drawn = run(installed, tmp_path, "edgevision-train", "synthetic", "--help")
    assert drawn.returncode == 0, drawn.stderr
    assert "python -m trainer.synthetic" in drawn.stdout
    wrong = run(installed, tmp_path, "edgevision-train", "fti")
    assert (wrong.returncode, "invalid choice: 'fti'" in wrong.stderr) == (2, True)


def test_what_a_package_index_reads_is_what_the_requirement_files_say() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]

    def listed(file: str) -> set[str]:
        lines = (REPOSITORY / file).read_text("utf-8").splitlines()
        return {str(Requirement(line)) for line in lines if line and not line.startswith(("#", "-r"))}

    assert {str(Requirement(one)) for one in project["dependencies"]} == listed("requirements-pi.txt")
    train = project["optional-dependencies"]["train"]
    assert {str(Requirement(one)) for one in train} == listed("requirements-train.txt")
