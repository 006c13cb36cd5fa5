"""The requirement files: what they promise to which machine, and that it resolves to wheels."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import make_lock

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    "requirements-pi.txt",
    "requirements-train.txt",
    "deploy/requirements-demo.txt",
    "deploy/bridge/requirements.txt",
    "tests/requirements.txt",
)
LISTS = make_lock.LISTS
INTERPRETERS = {"ai-edge-litert", "tflite-runtime"}
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("aarch64", "x86_64")


def requirements(file: str) -> list[Requirement]:
    lines = (ROOT / file).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r "))]


def on(machine: str, python: str, file: str = "requirements-pi.txt") -> dict[str, Requirement]:
    """What a file asks of one kind of machine; no package twice."""
    environment = {"platform_machine": machine, "python_version": python}
    asked = [r for r in requirements(file) if r.marker is None or r.marker.evaluate(environment)]
    assert len({r.name for r in asked}) == len(asked)
    return {r.name: r for r in asked}


@pytest.mark.parametrize("file", FILES)
def test_every_requirement_is_bounded_above(file: str) -> None:
    for requirement in requirements(file):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators & {"<", "=="}, f"{file}: {requirement}"


@pytest.mark.parametrize("file", FILES)
def test_every_requirement_stands_under_a_reason(file: str) -> None:
    for block in (ROOT / file).read_text().strip().split("\n\n"):
        assert block.startswith("#"), f"{file}:\n{block}"


@pytest.mark.parametrize(("machine", "python"), list(itertools.product(MACHINES, PYTHONS)))
def test_a_64_bit_station_has_one_interpreter(machine: str, python: str) -> None:
    assert INTERPRETERS & set(on(machine, python)) == {"ai-edge-litert"}


def test_a_32_bit_station_has_the_only_interpreter_there_is() -> None:
    assert INTERPRETERS & set(on("armv7l", "3.11")) == {"tflite-runtime"}


@pytest.mark.parametrize(
    ("python", "of_the_system", "of_another"), [("3.11", "1.24.2", "2.2.4"), ("3.13", "2.2.4", "1.26.4")]
)
def test_the_numpy_of_the_systems_picamera2_is_kept(python: str, of_the_system: str, of_another: str) -> None:
    numpy = on("aarch64", python)["numpy"].specifier
    assert of_the_system in numpy
    assert of_another not in numpy


def test_the_station_needs_nothing_of_the_trainer() -> None:
    trainer = {r.name for r in requirements("requirements-train.txt")}
    assert {"tensorflow", "keras", "scikit-learn"} <= trainer
    assert not trainer & {r.name for r in requirements("requirements-pi.txt")}


@pytest.mark.parametrize(
    ("name", "python", "machine"), list(itertools.product(LISTS, ("3.11", "3.13"), MACHINES))
)
def test_the_locks_pin_what_the_lists_ask_for(name: str, python: str, machine: str) -> None:
    """Every requirement that such a machine has, and each package by the digest of one wheel."""
    text = (ROOT / f"deploy/lock/{name}-{python}-{machine}.txt").read_text()
    head, *lines = text.splitlines()
    assert head.startswith(f"# {LISTS[name]} on Python {python}, {machine}.")
    found = [re.fullmatch(r"([\w.-]+)==([\w.]+) --hash=sha256:[0-9a-f]{64}", line) for line in lines]
    pinned = {canonicalize_name(match[1]): match[2] for match in found if match}
    assert len(pinned) == len(lines)
    for package, asked in on(machine, python, LISTS[name]).items():
        assert asked.specifier.contains(pinned[canonicalize_name(package)]), f"{package}: deploy/make_lock.py"


def test_the_locks_can_be_renewed() -> None:
    """One of them made anew has the same packages, in versions of today."""
    if shutil.which("uv", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("uv is not installed (tests/requirements.txt)")
    try:
        made = make_lock.lock(LISTS["bridge"], "3.11", "aarch64")
    except subprocess.CalledProcessError as error:
        if re.search("error sending request|dns error|failed to fetch|Connection", error.stderr):
            pytest.skip("the package index cannot be reached")
        raise AssertionError(error.stderr) from None
    kept = (ROOT / "deploy/lock/bridge-3.11-aarch64.txt").read_text()
    names, before = ({line.partition("==")[0] for line in text.splitlines()} for text in (made, kept))
    assert names == before


def test_the_list_for_others_has_every_package_with_its_digest(tmp_path: Path) -> None:
    """docs/reference/requirements.md's own command, which also holds it against CycloneDX's schema."""
    if shutil.which("uvx", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("uv is not installed (tests/requirements.txt)")
    text = (ROOT / "docs/reference/requirements.md").read_text()
    [command] = re.findall(r"^\.venv/bin/uvx (.* --validate .*) -o sbom\.json$", text, re.MULTILINE)
    line = (Path(sys.executable).with_name("uvx"), *shlex.split(command), "-o", tmp_path / "sbom.json")
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    if re.search("error sending request|dns error|failed to fetch|Connection", done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "sbom.json").read_text())
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    lines = (ROOT / shlex.split(command)[-1]).read_text().splitlines()[1:]
    listed = {
        f"{one['name']}=={one['version']} --hash=sha256:{digest['content']}"
        for one in made["components"]
        for digest in one["externalReferences"][0]["hashes"]
    }
    assert listed == set(lines)


def test_this_environment_is_what_the_files_ask_for() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_the_stations_list_resolves_to_wheels() -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if shutil.which("uv", path=path) is None:
        pytest.skip("uv is not installed (tests/requirements.txt)")
    found = subprocess.run(
        [ROOT / "tests/check_requirements.sh", "requirements-pi.txt"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode == 3:
        pytest.skip("the package index cannot be reached")
    assert found.returncode == 0, found.stderr
    lines = {tuple(line.split(" ")[:3]): line for line in found.stdout.splitlines()}
    assert set(lines) == set(itertools.product(["requirements-pi.txt"], PYTHONS, MACHINES))
    for (_, python, _), line in lines.items():
        assert " ai-edge-litert==2." in line
        assert (" numpy==1." if python == "3.11" else " numpy==2.") in line
