"""The one place that knows the TFLite interpreters: ai-edge-litert, or its predecessor tflite-runtime."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.errors import InterpreterError

RUNTIMES = {  # in the order in which "auto" looks for them
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
MOST_THREADS = 4  # a Pi's cores; small models gain nothing from more


@dataclass(frozen=True, slots=True)
class Tensor:
    """A model's input or output as the file describes it; one scale and zero point for all of it."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str  # numpy's name: "uint8"
    scale: float
    zero_point: int


class Interpreter:
    """A model with one input and one output, ready to run.

    `input`, `output`: its tensors. `runtime`: what runs it, as "ai-edge-litert 2.3.0".
    """

    def __init__(self, model_path: Path, threads: int | None = None, runtime: str = "auto") -> None:
        """`threads` None: one for each core this process may use, at most MOST_THREADS.

        Raises InterpreterError: no such runtime, or it does not take the model.
        """
        package, module = _import(runtime)
        self.runtime = f"{package} {_version(package)}"
        try:
            with _without_greeting():
                self._interpreter = module.Interpreter(
                    model_path=str(model_path), num_threads=threads or default_threads()
                )
                self._interpreter.allocate_tensors()
            inputs = self._interpreter.get_input_details()
            outputs = self._interpreter.get_output_details()
        except Exception as error:  # the runtimes raise whatever their C++ side threw
            raise InterpreterError(f"{model_path}: {self.runtime} does not take it: {error}") from error
        self.input = _only(model_path, "input", inputs)
        self.output = _only(model_path, "output", outputs)

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """One invocation: the output for an input of the input's shape and dtype. Raises InterpreterError."""
        try:
            self._interpreter.set_tensor(self.input.index, values)
            self._interpreter.invoke()
            return np.asarray(self._interpreter.get_tensor(self.output.index))
        except Exception as error:
            raise InterpreterError(f"{self.runtime} failed: {error}") from error

    def invoke(self) -> None:
        """Run on what the input holds since the last run: the time of the model by itself."""
        self._interpreter.invoke()


def default_threads() -> int:
    """One for each core this process may use, at most MOST_THREADS."""
    return min(MOST_THREADS, len(os.sched_getaffinity(0)))


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """What the runtimes write to stderr past any log, but for their INFO: a line each time they start."""
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with os.fdopen(os.memfd_create("stderr"), "rb") as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            os.write(2, b"".join(line for line in said if not line.startswith(b"INFO: ")))


def _import(runtime: str) -> tuple[str, ModuleType]:
    """(name, module) of the runtime, or with "auto" of the first that is installed."""
    if runtime != "auto" and runtime not in RUNTIMES:
        raise InterpreterError(f"runtime: must be auto, {' or '.join(RUNTIMES)}, got {runtime!r}")
    wanted = list(RUNTIMES) if runtime == "auto" else [runtime]
    problems = []
    for package in wanted:
        try:
            return package, import_module(RUNTIMES[package])
        except ImportError as error:
            problems.append(f"{package} ({error})")
    raise InterpreterError(f"no interpreter can be imported: {', '.join(problems)}")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _only(model_path: Path, role: str, details: list[dict[str, Any]]) -> Tensor:
    if len(details) != 1:
        names = ", ".join(str(detail["name"]) for detail in details)
        raise InterpreterError(f"{model_path}: must have one {role}, has {len(details)}: {names}")
    detail = details[0]
    scale, zero_point = detail["quantization"]
    return Tensor(
        index=int(detail["index"]),
        name=str(detail["name"]),
        shape=tuple(int(side) for side in detail["shape"]),
        dtype=np.dtype(detail["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )
