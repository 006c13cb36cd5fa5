"""From the model's input to an evidence map, its pooled logit, and the frame's score."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Bundle
from device.bundle.calibration import Pooling, Quantization, ScoreCalibration
from device.bundle.memory import BLOCK, Memory, Scale, TurnedFeatures
from device.errors import InterpreterError
from device.image.geometry import Box, Size
from device.image.tiles import STEP
from device.inspection.framing import Cells, Framing, canvas_shape, counted_cells, counted_in_tiles
from device.inspection.interpreter import Interpreter, Tensor
from device.inspection.preprocess import ModelInput, Pixels
from device.inspection.reach import ScoreRange

Evidence = NDArray[np.float32]
Output = TurnedFeatures  # of a tile, as the model stores it
AS_IT_IS = Scale()
ABOUT = 1.0  # sigma, cells, of what a cell is held against where a map is sharpened
MOST_MAPS = 16  # a fraction of a step of int8 apart: their mean, the evidence, is as many times as fine
Run = Callable[[Pixels], tuple[Evidence, Scale]]  # one input of the model, (1, h, w, 3), to its map (h, w)


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
    `score`: calibrated, 0..1. `tiles`: empty where the canvas is one input of the model. `scale`: what a
    cell counted for in `pooled`.
    """

    evidence: Evidence
    pooled: float
    score: float
    tiles: tuple[TileScore, ...] = ()
    scale: Scale = AS_IT_IS

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
        self._running, self._reading = threading.Lock(), threading.Lock()
        self._pooling = calibration.pooling
        self._calibration = calibration.score_calibration
        size = calibration.preprocess.size
        model_input, output = self._interpreter.input, self._interpreter.output
        self._shown = np.empty((size.height, size.width, 3), np.uint8)  # one tile after the other
        source = str(bundle.model_path)
        _require(source, "input shape", (1, size.height, size.width, 3), model_input.shape)
        _require(source, "input dtype", "uint8", model_input.dtype)
        _require_quantization(source, "input", calibration.input_quantization, model_input)
        self._memory = bundle.memory()
        self._upright = self._memory is not None and self._memory.spec.upright
        _require_map(source, output, self._memory)
        if calibration.preprocess.tiles is not None:
            _require_whole_cells(source, size, output.shape)
        _require_quantization(source, "output", calibration.output_quantization, output)
        self._cells = (output.shape[1], output.shape[2])  # of the map of one tile
        self._scale, self._zero_point = np.float32(output.scale), np.float32(output.zero_point)

    @property
    def runtime(self) -> str:
        """The interpreter in use, as "ai-edge-litert 2.3.0"."""
        return self._interpreter.runtime

    @property
    def scores(self) -> ScoreRange:
        """Of cells at either end of what the output can store; one stands out most beside the other end."""
        if self._memory is not None:
            return ScoreRange(0.0, 1.0)
        output = self._interpreter.output
        levels = np.iinfo(output.dtype)
        low, high = ((level - output.zero_point) * output.scale for level in (levels.min, levels.max))
        beyond = self._pooling.sharpened * (high - low)
        return ScoreRange(*map(self._calibration.score, (low - beyond, high + beyond)))

    def invoke(self) -> None:
        """The model by itself, on what it saw last: for its time."""
        self._interpreter.invoke()

    def detect(self, model_input: ModelInput) -> Prediction:
        """Run the model, and say what it saw. Raises InterpreterError."""
        return self.read(model_input, self.run(model_input))

    def run(self, model_input: ModelInput) -> list[Output]:
        """The model's outputs, one for each tile in which a cell counts. Raises InterpreterError."""
        with self._running:
            return [
                TurnedFeatures.of(tensor, self._run, upright=self._upright)
                for tensor in tensors(model_input, self._cells, self._shown)
            ]

    def _run(self, tensor: Pixels) -> NDArray[Any]:
        return np.asarray(self._interpreter.run(tensor)[0])

    def read(self, model_input: ModelInput, outputs: Sequence[Output]) -> Prediction:
        """What these outputs of run() say; another thread may run the model meanwhile."""
        with self._reading:
            found = [self._judge(output) for output in outputs]
        return _said(model_input.framing, found, self._pooling, self._calibration)

    def _judge(self, output: Output) -> tuple[Evidence, Scale]:
        if self._memory is not None:
            return self._memory.judge(output)
        stored = output.stored.mean(axis=2, dtype=np.float32)
        evidence = (stored - self._zero_point) * self._scale
        return np.asarray(evidence, np.float32), AS_IT_IS


def predict(
    model_input: ModelInput,
    shape: tuple[int, int],
    run: Run,
    pooling: Pooling,
    scores: ScoreCalibration,
) -> Prediction:
    """What a model with maps of `shape` says of a frame, run once for each tile in which a cell counts."""
    found = [run(tensor) for tensor in tensors(model_input, shape)]
    return _said(model_input.framing, found, pooling, scores)


def tensors(model_input: ModelInput, shape: tuple[int, int], into: Pixels | None = None) -> Iterator[Pixels]:
    """What a model with maps of `shape` is shown of a frame: each tile in which a cell counts.

    `into`: as in ModelInput.cut(); then each is there until the next is asked for.
    """
    for tile, _, _ in counted_in_tiles(model_input.framing, shape):
        yield model_input.cut(tile, into)


def _said(
    framing: Framing, found: Sequence[tuple[Evidence, Scale]], pooling: Pooling, scores: ScoreCalibration
) -> Prediction:
    """What the maps of these tiles say."""
    maps, scales = [one for one, _ in found], [scale for _, scale in found]
    parts = counted_in_tiles(framing, (maps[0].shape[0], maps[0].shape[1]))
    pooled = pooled_tiles(framing, maps, pooling, scales)
    tiles = [
        TileScore(tile, logit, scores.score(logit)) for (tile, _, _), logit in zip(parts, pooled, strict=True)
    ]
    worst = max(range(len(tiles)), key=pooled.__getitem__)
    shown = tuple(tiles) if framing.tiled else ()
    return Prediction(merged(framing, maps), pooled[worst], tiles[worst].score, shown, scales[worst])


def pooled_tiles(
    framing: Framing, maps: Sequence[Evidence], pooling: Pooling, scales: Sequence[Scale] = ()
) -> list[float]:
    """The logit of each tile from its map, over the cells that count; the frame's is the greatest of them.

    `scales`: of each map; none where they count as they are.

    A share of the whole map would be a larger area than the share of a tile that the score's curve was
    fitted to, and a small defect would sink in it.
    """
    parts = counted_in_tiles(framing, (maps[0].shape[0], maps[0].shape[1]))
    pooled = [
        pooled_cells(found, counted, pooling) for found, (_, _, counted) in zip(maps, parts, strict=True)
    ]
    return [scale.of(one) for one, scale in zip(pooled, scales, strict=True)] if scales else pooled


def merged(framing: Framing, maps: Sequence[Evidence]) -> Evidence:
    """The map over the canvas from those of the tiles, as Prediction says; of one whole image, its own."""
    if not framing.tiled and framing.seen is None:
        return maps[0]
    shape = (maps[0].shape[0], maps[0].shape[1])
    evidence = np.full(canvas_shape(framing, shape), -np.inf, np.float32)
    for found, (_, place, counted) in zip(maps, counted_in_tiles(framing, shape), strict=True):
        target = evidence[place]
        target[counted] = np.maximum(target[counted], found[counted])
    least = evidence[np.isfinite(evidence)].min()
    return np.maximum(evidence, least, out=evidence)


def pooled_cells(evidence: Evidence, counted: Cells, pooling: Pooling) -> float:
    """The logit of a map (h, w), over the cells that count. Padding is nothing to stand out from."""
    if isinstance(counted, tuple):
        return pool(sharpened(evidence[counted], pooling.sharpened), pooling)
    return pool(sharpened(evidence, pooling.sharpened)[counted], pooling)


def sharpened(evidence: Evidence, times: float) -> Evidence:
    """A map (h, w) with so many times what each cell stands out from those about it: unsharp masking.

    A small defect is a small peak, which a broad swell of a good image's map may well exceed.
    """
    if not times:
        return evidence
    around = cv2.GaussianBlur(evidence, (0, 0), ABOUT, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(evidence + np.float32(times) * (evidence - around), np.float32)


def pool(evidence: NDArray[np.floating[Any]], pooling: Pooling) -> float:
    """The logit of a map of any shape: the mean of all cells, or of the ceil(share * n) greatest of n."""
    if evidence.size == 0:
        raise ValueError(f"evidence must have cells to pool, got {evidence.shape}")
    if pooling.kind == "mean":
        return _mean(evidence)
    # the product is rounded: 0.1 * 30 gives 3.0000000000000004, and three cells are meant
    count = math.ceil(round(pooling.share * evidence.size, 6))
    count = max(count, 1)
    return _mean(np.partition(evidence, -count, axis=None)[-count:])


def mean_evidence(framing: Framing, evidence: Evidence) -> float:
    """The mean of all cells of a map that count, a logit."""
    return _mean(evidence[counted_cells(framing, evidence.shape)])


def _mean(values: NDArray[np.floating[Any]]) -> float:
    """In float64; numpy's own mean() takes longer for its Python than for the sum of a small map."""
    return float(np.add.reduce(values, axis=None, dtype=np.float64)) / values.size


def _require(source: str, what: str, expected: object, found: object) -> None:
    if found != expected:
        raise InterpreterError(f"{source}: {what} must be {expected}, as calibrated, got {found}")


def _require_map(source: str, output: Tensor, memory: Memory | None) -> None:
    shape = output.shape
    channels = f"1 to {MOST_MAPS}" if memory is None else str(memory.spec.channels)
    legal_channels = range(1, MOST_MAPS + 1) if memory is None else (memory.spec.channels,)
    if len(shape) != 4 or shape[0] != 1 or shape[3] not in legal_channels or min(shape) < 1:
        raise InterpreterError(f"{source}: output shape must be (1, h, w, {channels}), got {shape}")
    if memory is not None and memory.spec.kind == "position":
        _require_places(source, memory.spec.items, shape)
    legal = ("int8", "uint8") if memory is None else ("int8",)
    if output.dtype not in legal:
        raise InterpreterError(f"{source}: output dtype must be {' or '.join(legal)}, got {output.dtype}")


def _require_places(source: str, places: int, shape: tuple[int, ...]) -> None:
    if places != shape[1] * shape[2] or shape[1] % BLOCK or shape[2] % BLOCK:
        expected = f"{places} cells, one for each place of the memory, in blocks of {BLOCK}x{BLOCK}"
        raise InterpreterError(f"{source}: output must have {expected}, got {shape}")


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
