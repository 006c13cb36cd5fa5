"""The adapter of the TFLite runtimes."""

from __future__ import annotations

import os
import sys
import types
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_bundle import TinyModel

from device.errors import InterpreterError
from device.inspection import interpreter as interpreters
from device.inspection.interpreter import Interpreter, default_threads


@pytest.fixture
def model_path(tiny_model: TinyModel, tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_model.content)
    return path


def test_the_tensors_are_those_of_the_file(model_path: Path) -> None:
    opened = Interpreter(model_path)
    assert (opened.input.shape, opened.input.dtype) == ((1, 64, 64, 3), "uint8")
    assert (opened.output.shape, opened.output.dtype) == ((1, 8, 8, 1), "int8")
    assert opened.input.scale == pytest.approx(2 / 255, rel=0.01)
    assert opened.input.zero_point in (127, 128)


@pytest.mark.parametrize("runtime", ["auto", "ai-edge-litert"])
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_it_runs_and_names_the_runtime(model_path: Path, runtime: str, threads: int | None) -> None:
    opened = Interpreter(model_path, threads, runtime)
    assert opened.runtime == f"ai-edge-litert {metadata.version('ai-edge-litert')}"
    dark, bright = (opened.run(np.full((1, 64, 64, 3), level, np.uint8)) for level in (10, 240))
    assert dark.dtype == np.int8
    assert dark.shape == (1, 8, 8, 1)
    assert (bright > dark).all()


def test_an_output_is_not_overwritten_by_the_next(model_path: Path) -> None:
    opened = Interpreter(model_path)
    first = opened.run(np.zeros((1, 64, 64, 3), np.uint8))
    copy = first.copy()
    opened.run(np.full((1, 64, 64, 3), 255, np.uint8))
    assert np.array_equal(first, copy)


def test_a_runtime_that_does_not_exist(model_path: Path) -> None:
    with pytest.raises(
        InterpreterError, match="runtime: must be auto, ai-edge-litert or tflite-runtime, got 'tpu'"
    ):
        Interpreter(model_path, runtime="tpu")


def test_a_chosen_runtime_is_never_replaced_by_the_other(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tflite_runtime", None)  # as if it were not installed
    with pytest.raises(InterpreterError, match=r"no interpreter can be imported: tflite-runtime \("):
        Interpreter(model_path, runtime="tflite-runtime")


def test_without_any_runtime_both_are_named(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", None)
    with pytest.raises(InterpreterError, match=r"ai-edge-litert \(.*\), tflite-runtime \(.*\)"):
        Interpreter(model_path)


def test_a_runtime_that_imports_and_does_not_work(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As tflite-runtime does with numpy 2. The other one is not tried: what runs is what was found first."""

    def broken(**_: Any) -> None:
        raise AttributeError("_ARRAY_API not found")

    module = types.ModuleType("ai_edge_litert.interpreter")
    module.Interpreter = broken  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    with pytest.raises(InterpreterError, match=r"ai-edge-litert .* does not take it: _ARRAY_API not found"):
        Interpreter(model_path)


def test_a_runtime_without_metadata_is_still_named(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_litert import interpreter as genuine

    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", genuine)
    opened = Interpreter(model_path, runtime="tflite-runtime")
    assert opened.runtime.startswith("tflite-runtime ")


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InterpreterError, match=r"broken.tflite: ai-edge-litert .* does not take it: "):
        Interpreter(path)


@pytest.mark.parametrize("values", [np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32)])
def test_an_input_that_does_not_fit(model_path: Path, values: np.ndarray) -> None:
    with pytest.raises(InterpreterError, match=r"ai-edge-litert .* failed: "):
        Interpreter(model_path).run(values)


def test_threads_are_the_cores_we_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 2), (4, 4), (64, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert default_threads() == threads


def test_threads_reach_the_runtime(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    from ai_edge_litert import interpreter as genuine

    class Recorder(genuine.Interpreter):
        def __init__(self, *, model_path: str, num_threads: int) -> None:
            asked.append(num_threads)
            super().__init__(model_path=model_path, num_threads=num_threads)

    monkeypatch.setattr(genuine, "Interpreter", Recorder)
    Interpreter(model_path)
    Interpreter(model_path, threads=3)
    assert asked == [interpreters.default_threads(), 3]


def test_a_runtime_greets_nobody_and_its_errors_are_passed_on(
    model_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line past the log at each start: a service that is started anew every few seconds would fill it."""
    capfd.readouterr()
    Interpreter(model_path)
    with interpreters._without_greeting():
        os.write(2, b"INFO: hello\nERROR: bad\n")
    assert capfd.readouterr().err == "ERROR: bad\n"
