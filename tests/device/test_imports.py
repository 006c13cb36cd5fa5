"""What a Pi has not got must not be needed there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import device

ROOT = Path(device.__file__).parent
HEAVY = ("tensorflow", "keras", "trainer", "sklearn", "scipy", "pandas", "matplotlib")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if path.stem not in ("__main__", "__init__")
)

LOADED = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps(sorted(sys.modules)))
"""


def loaded_by(module: str) -> set[str]:
    command = (sys.executable, "-c", LOADED, module)
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_of_the_device_pulls_in_the_workstation(module: str) -> None:
    assert loaded_by(f"device.{module}").isdisjoint(HEAVY)


def test_the_package_itself_is_light() -> None:
    assert loaded_by("device").isdisjoint({*HEAVY, "numpy", "cv2", "paho", "fastjsonschema"})


def test_the_interpreter_is_imported_when_it_is_opened() -> None:
    assert loaded_by("device.inspection.pipeline").isdisjoint({"ai_edge_litert", "tflite_runtime"})


def test_a_service_starts_without_what_only_commands_need() -> None:
    assert loaded_by("device.service").isdisjoint({"resource", "statistics", "subprocess"})


def test_opening_the_interpreter_pulls_in_nothing_heavy() -> None:
    assert loaded_by("ai_edge_litert.interpreter").isdisjoint(HEAVY)
