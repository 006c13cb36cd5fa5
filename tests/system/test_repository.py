"""What must hold of the repository as a whole."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY

import device

LARGEST_BYTES = 3 * 1024 * 1024
OF_THE_DEVICE = {
    "ai_edge_litert",
    "av",
    "cv2",
    "device",
    "fastjsonschema",
    "gpiozero",
    "libcamera",
    "numpy",
    "paho",
    "picamera2",
    "systemd",
    "tflite_runtime",
}
# In two parts, so that this file itself is free of them.
PACKAGE_HOSTS = tuple(
    f"{name}.{domain}"
    for name, domain in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("piwheels", "org"),
        ("deb.debian", "org"),
        ("npmjs", "org"),
        ("anaconda", "org"),
        ("crates", "io"),
        ("golang", "org"),
    )
)


@cache
def files() -> tuple[Path, ...]:
    """Every file that is, or is about to be, under version control."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (REPOSITORY / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def named(*patterns: str) -> list[Path]:
    found = [path for path in files() if any(path.match(pattern) for pattern in patterns)]
    assert found, patterns
    return found


def modules(package: str) -> list[Path]:
    """All Python files of a package, in whichever room."""
    return [path for path in named("*.py") if path.is_relative_to(REPOSITORY / package)]


def short(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def imported(path: Path) -> set[str]:
    """The packages that a module imports, at its head or in a function."""
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{short(path)}:{node.lineno}: imports are absolute"
            names.append(node.module or "")
    return {name.partition(".")[0] for name in names}


def test_no_package_index_is_named() -> None:
    for path in files():
        text = path.read_bytes().decode("utf-8", "replace").lower()
        assert [host for host in PACKAGE_HOSTS if host in text] == [], short(path)


def test_no_file_is_large() -> None:
    assert [short(path) for path in files() if path.stat().st_size > LARGEST_BYTES] == []


def test_the_device_imports_nothing_of_the_trainer() -> None:
    for path in modules("device"):
        strangers = imported(path) - sys.stdlib_module_names - OF_THE_DEVICE
        assert strangers == set(), short(path)


@pytest.mark.parametrize("package", ["device", "trainer"])
def test_every_module_has_its_tests(package: str) -> None:
    tests = {short(path) for path in modules("tests")}
    names = [Path(short(path)) for path in modules(package) if not path.stem.startswith("__")]
    wanted = [str("tests" / name.with_name(f"test_{name.name}")) for name in names]
    assert [name for name in wanted if name not in tests] == []


def test_a_public_docstring_is_understood_without_its_neighbour() -> None:
    leaning = ("The same", "As in ", "See above", "As it is.")
    found = [
        f"{short(path)}:{node.lineno}"
        for package in ("device", "trainer", "deploy")
        for path in modules(package)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if not node.name.startswith("_") and (ast.get_docstring(node) or "").startswith(leaning)
    ]
    assert found == []


def test_tests_import_no_tests() -> None:
    for path in modules("tests"):
        assert {name for name in imported(path) if name.startswith("test_")} == set(), short(path)


def test_scripts_can_be_run_and_stop_at_the_first_fault() -> None:
    for path in named("*.sh", ".ci/run"):
        text = path.read_text("utf-8")
        if text.startswith("# shellcheck shell="):  # to be sourced
            assert not os.access(path, os.X_OK), short(path)
            continue
        assert text.startswith("#!/usr/bin/env bash\n# "), short(path)
        assert "\nset -euo pipefail\n" in text, short(path)
        assert os.access(path, os.X_OK), short(path)


def test_ci_runs_what_people_run() -> None:
    assert "/tests/run.sh" in (REPOSITORY / ".ci" / "run").read_text("utf-8")


def test_links_between_documents_lead_somewhere() -> None:
    for path in named("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text("utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{short(path)}: {target}"


def test_the_index_leads_to_every_document() -> None:
    docs = REPOSITORY / "docs"
    linked = set(re.findall(r"\]\(([^)#\s]+)", (docs / "index.md").read_text("utf-8")))
    written = {str(path.relative_to(docs)) for path in named("docs/**/*.md", "docs/*.md", "docs/*/*.yaml")}
    assert written - linked - {"index.md"} == set()


def test_commands_in_documents_exist() -> None:
    for path in named("*.md"):
        blocks = "\n".join(re.findall(r"^```.*?^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL))
        for module in re.findall(r"python3? -m ((?:device|trainer|deploy)[.\w]*)", blocks):
            place = REPOSITORY / module.replace(".", "/")
            assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), (
                f"{short(path)}: {module}"
            )
        for script in re.findall(r"(?<![\w/.])((?:deploy|tests|benchmarks)/[\w/.-]+\.(?:sh|py))", blocks):
            assert (REPOSITORY / script).exists(), f"{short(path)}: {script}"


def test_one_version_everywhere() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == device.__version__
    assert f"[{device.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
