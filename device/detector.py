"""From the model's input to an evidence map, its pooled logit, and the frame's score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.bundle import Bundle
from device.calibration import Pooling, Quantization
from device.errors import InterpreterError
from device.geometry import Letterbox
from device.interpreter import Interpreter, Tensor
from device.preprocess import ModelInput

Evidence = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the model says of one input.

    `evidence`: (h, w) logits, padding included; cell (i, j) covers the h x w'th part of the input at row i,
    column j. `pooled`: logit over the cells that lie on the image. `score`: calibrated, 0..1.
    """

    evidence: Evidence
    pooled: float
    score: float

    def __post_init__(self) -> None:
        if self.evidence.ndim != 2 or self.evidence.dtype != np.float32:
            found = f"{self.evidence.dtype} {self.evidence.shape}"
            raise ValueError(f"evidence must be float32 (h, w), got {found}")


class Detector:
    """The model of a bundle in an interpreter."""

    def __init__(self, bundle: Bundle, threads: int | None = None, runtime: str = "auto") -> None:
        """See Interpreter. Raises InterpreterError also where the model is not what its calibration says."""
        calibration = bundle.calibration
        self._interpreter = Interpreter(bundle.model_path, threads, runtime)
        self._pooling = calibration.pooling
        self._calibration = calibration.score_calibration
        size = calibration.preprocess.size
        model_input, output = self._interpreter.input, self._interpreter.output
        source = str(bundle.model_path)
        _require(source, "input shape", (1, size.height, size.width, 3), model_input.shape)
        _require(source, "input dtype", "uint8", model_input.dtype)
        _require_quantization(source, "input", calibration.input_quantization, model_input)
        _require_map(source, output)
        _require_quantization(source, "output", calibration.output_quantization, output)
        self._scale, self._zero_point = np.float32(output.scale), np.float32(output.zero_point)

    @property
    def runtime(self) -> str:
        """The interpreter in use, as "ai-edge-litert 2.3.0"."""
        return self._interpreter.runtime

    def detect(self, model_input: ModelInput) -> Prediction:
        """Run the model. Raises InterpreterError."""
        stored = self._interpreter.run(model_input.tensor)[0, :, :, 0]
        evidence = (stored.astype(np.float32) - self._zero_point) * self._scale
        rows, columns = content_cells(model_input.placement, evidence.shape)
        pooled = pool(evidence[rows, columns], self._pooling)
        return Prediction(evidence, pooled, self._calibration.score(pooled))


def pool(evidence: NDArray[np.floating[Any]], pooling: Pooling) -> float:
    """The logit of a map of any shape: the mean of all cells, or of the ceil(share * n) greatest of n."""
    if evidence.size == 0:
        raise ValueError(f"evidence must have cells to pool, got {evidence.shape}")
    if pooling.kind == "mean":
        return float(evidence.mean(dtype=np.float64))
    # the product is rounded: 0.1 * 30 gives 3.0000000000000004, and three cells are meant
    count = math.ceil(round(pooling.share * evidence.size, 6))
    count = max(count, 1)
    return float(np.partition(evidence, -count, axis=None)[-count:].mean(dtype=np.float64))


def mean_evidence(model_input: ModelInput, prediction: Prediction) -> float:
    """The mean of all cells that lie on the image, a logit."""
    rows, columns = content_cells(model_input.placement, prediction.evidence.shape)
    return float(prediction.evidence[rows, columns].mean())


@lru_cache(maxsize=8)
def content_cells(placement: Letterbox, shape: tuple[int, int]) -> tuple[slice, slice]:
    """(rows, columns) of the cells of an (h, w) map whose centres lie on the image, not on padding.

    An image thinner than a cell may hold no centre; then the cell at its own middle is meant.
    """
    box, target = placement.content, placement.target
    return (
        _centres_within(box.y, box.height, target.height, shape[0]),
        _centres_within(box.x, box.width, target.width, shape[1]),
    )


def _centres_within(start: int, length: int, whole: int, cells: int) -> slice:
    """The cells of `cells` over `whole` px with start <= (cell + 0.5) * whole / cells < start + length."""
    first = math.ceil(start * cells / whole - 0.5)
    end = math.ceil((start + length) * cells / whole - 0.5)
    if end <= first:
        first = min(int((start + length / 2) * cells / whole), cells - 1)
        end = first + 1
    return slice(first, end)


def _require(source: str, what: str, expected: object, found: object) -> None:
    if found != expected:
        raise InterpreterError(f"{source}: {what} must be {expected}, as calibrated, got {found}")


def _require_map(source: str, output: Tensor) -> None:
    shape = output.shape
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 1 or min(shape) < 1:
        raise InterpreterError(f"{source}: output shape must be (1, h, w, 1), got {shape}")
    if output.dtype not in ("int8", "uint8"):
        raise InterpreterError(f"{source}: output dtype must be int8 or uint8, got {output.dtype}")


def _require_quantization(source: str, role: str, expected: Quantization, found: Tensor) -> None:
    """Scales are float32 in the model's file, whatever digits the calibration writes them with."""
    scale = float(np.float32(expected.scale))
    _require(source, f"{role} scale", scale, float(np.float32(found.scale)))
    _require(source, f"{role} zero point", expected.zero_point, found.zero_point)
