"""From the model's input to an evidence map, its pooled logit, and the frame's score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.bundle import Bundle
from device.calibration import Pooling, Quantization
from device.errors import InterpreterError
from device.framing import canvas_shape, counted_cells, counted_in_tiles
from device.geometry import Box, Size
from device.interpreter import Interpreter, Tensor
from device.preprocess import ModelInput, Pixels
from device.tiles import STEP

Evidence = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TileScore:
    """What the model says of one tile, a box of the canvas; as Prediction says it of all."""

    tile: Box
    pooled: float
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the model says of a frame.

    `evidence`: (h, w) logits over the canvas, padding included; cell (i, j) covers the h x w'th part of it at
    row i, column j. Where tiles overlap it is the greater of theirs; cells that are masked or not in any tile
    hold the least of the others. `pooled`: logit over the cells that count; of the tiles' the greatest.
    `score`: calibrated, 0..1. `tiles`: empty where the canvas is one input of the model.
    """

    evidence: Evidence
    pooled: float
    score: float
    tiles: tuple[TileScore, ...] = ()

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
        if calibration.preprocess.tiles is not None:
            _require_whole_cells(source, size, output.shape)
        _require_quantization(source, "output", calibration.output_quantization, output)
        self._cells = (output.shape[1], output.shape[2])  # of the map of one tile
        self._scale, self._zero_point = np.float32(output.scale), np.float32(output.zero_point)

    @property
    def runtime(self) -> str:
        """The interpreter in use, as "ai-edge-litert 2.3.0"."""
        return self._interpreter.runtime

    def invoke(self) -> None:
        """The model by itself, on what it saw last: for its time."""
        self._interpreter.invoke()

    def detect(self, model_input: ModelInput) -> Prediction:
        """Run the model, once for each tile. Raises InterpreterError."""
        framing = model_input.framing
        if framing.tiled or framing.seen is not None:
            return self._in_parts(model_input)
        evidence = self._evidence(model_input.tensor)
        pooled = pool(evidence[counted_cells(framing, evidence.shape)], self._pooling)
        return Prediction(evidence, pooled, self._calibration.score(pooled))

    def _in_parts(self, model_input: ModelInput) -> Prediction:
        """With tiles or masks: the tiles' maps on one, and the score of the worst tile.

        A share of the whole map would be a larger area than the share of a tile that the score's curve was
        fitted to, and a small defect would sink in it.
        """
        framing = model_input.framing
        shape = self._cells
        evidence = np.full(canvas_shape(framing, shape), -np.inf, np.float32)
        tiles = []
        for tile, place, counted in counted_in_tiles(framing, shape):
            found = self._evidence(model_input.cut(tile))
            tiles.append(self._tile_score(tile, pool(found[counted], self._pooling)))
            target = evidence[place]
            target[counted] = np.maximum(target[counted], found[counted])
        least = evidence[np.isfinite(evidence)].min()
        np.maximum(evidence, least, out=evidence)
        worst = max(tiles, key=lambda tile: tile.pooled)
        return Prediction(evidence, worst.pooled, worst.score, tuple(tiles) if framing.tiled else ())

    def _tile_score(self, tile: Box, pooled: float) -> TileScore:
        return TileScore(tile, pooled, self._calibration.score(pooled))

    def _evidence(self, tensor: Pixels) -> Evidence:
        stored = self._interpreter.run(tensor)[0, :, :, 0]
        return (stored.astype(np.float32) - self._zero_point) * self._scale


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
    """The mean of all cells that count, a logit."""
    evidence = prediction.evidence
    return float(evidence[counted_cells(model_input.framing, evidence.shape)].mean())


def _require(source: str, what: str, expected: object, found: object) -> None:
    if found != expected:
        raise InterpreterError(f"{source}: {what} must be {expected}, as calibrated, got {found}")


def _require_map(source: str, output: Tensor) -> None:
    shape = output.shape
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 1 or min(shape) < 1:
        raise InterpreterError(f"{source}: output shape must be (1, h, w, 1), got {shape}")
    if output.dtype not in ("int8", "uint8"):
        raise InterpreterError(f"{source}: output dtype must be int8 or uint8, got {output.dtype}")


def _require_whole_cells(source: str, size: Size, shape: tuple[int, ...]) -> None:
    """So that the cells of tiles, which begin at multiples of STEP, lie on one grid."""
    for side, cells in ((size.height, shape[1]), (size.width, shape[2])):
        if side % cells or STEP % (side // cells):
            raise InterpreterError(
                f"{source}: with tiles, a cell of the output must be a whole part of {STEP} px, "
                f"got {cells} cells for {side} px"
            )


def _require_quantization(source: str, role: str, expected: Quantization, found: Tensor) -> None:
    """Scales are float32 in the model's file, whatever digits the calibration writes them with."""
    scale = float(np.float32(expected.scale))
    _require(source, f"{role} scale", scale, float(np.float32(found.scale)))
    _require(source, f"{role} zero point", expected.zero_point, found.zero_point)
