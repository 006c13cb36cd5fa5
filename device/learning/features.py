"""What the model of a bundle with a memory sees in a frame: its features, and which of them count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Bundle
from device.bundle.calibration import Pooling, ScoreCalibration
from device.bundle.memory import Memory, TurnedFeatures
from device.errors import BundleError
from device.image.frame import Frame, frame_from_file
from device.image.region_of_interest import EVERYTHING, RegionOfInterest
from device.inspection.checks import Checks, measure
from device.inspection.detector import pooled_tiles, predict
from device.inspection.framing import Framing, counted_in_tiles
from device.inspection.interpreter import Interpreter
from device.inspection.preprocess import ModelInput, Pixels, Preprocessor

Features = NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class FrameFeatures:
    """A frame's features, of each tile in which a cell counts."""

    path: Path
    sha256: str
    framing: Framing
    parts: tuple[TurnedFeatures, ...]
    checks: Checks

    @property
    def rows(self) -> Features:
        """Of the cells that count, (n, channels); where the part was turned, of all."""
        height, width, channels = self.parts[0].stored.shape
        if any(part.turn for part in self.parts):
            return np.concatenate([part.stored.reshape(-1, channels) for part in self.parts])
        counted = [cells for _, _, cells in counted_in_tiles(self.framing, (height, width))]
        found = [
            part.stored[cells].reshape(-1, channels) for part, cells in zip(self.parts, counted, strict=True)
        ]
        return np.concatenate(found)

    def pooled(self, against: Memory, pooling: Pooling) -> float:
        """Against a memory, as the device pools it."""
        found = [against.judge(part) for part in self.parts]
        maps, scales = [one for one, _ in found], [scale for _, scale in found]
        return max(pooled_tiles(self.framing, maps, pooling, scales))


class Sight:
    """`spec`, `pooling`: of the bundle."""

    def __init__(
        self,
        bundle: Bundle,
        region: RegionOfInterest = EVERYTHING,
        threads: int | None = None,
        runtime: str = "auto",
    ) -> None:
        """Raises BundleError where the model gives no features, InterpreterError."""
        if bundle.calibration.memory is None:
            raise BundleError(f"{bundle.path}: has no memory; `trainer.fit --mode good-only` makes one")
        self.spec = bundle.calibration.memory
        self.pooling = bundle.calibration.pooling
        self._preprocess = bundle.calibration.preprocess
        self._preprocessor = Preprocessor(self._preprocess, region)
        self._interpreter = Interpreter(bundle.model_path, threads, runtime)

    def read(self, path: Path) -> Frame:
        """The image in a file as a frame, with more than 8 bits as the bundle says. Raises FrameError."""
        return frame_from_file(path, 0, self._preprocess.white_level)

    @property
    def runtime(self) -> str:
        """The interpreter in use."""
        return self._interpreter.runtime

    @property
    def tile_bytes(self) -> int:
        """Of the features of one tile."""
        return math.prod(self._interpreter.output.shape)

    def measure(self, frame: Frame) -> Checks:
        """Light and focus of a frame, as the model would see it."""
        return measure(self._preprocessor.prepare(frame))

    def see(self, frame: Frame) -> FrameFeatures:
        """Run the model, once for each tile. Raises InterpreterError."""
        model_input = self._preprocessor.prepare(frame)
        parts = tuple(
            self._turned(model_input.cut(tile))
            for tile, _, _ in counted_in_tiles(model_input.framing, self._cells)
        )
        checks = measure(model_input)
        return FrameFeatures(Path(frame.path or ""), frame.sha256 or "", model_input.framing, parts, checks)

    def score(self, frame: Frame, memory: Memory, scores: ScoreCalibration) -> float:
        """What a bundle with this memory says of a golden image: the station's own region is none of its."""
        model_input: ModelInput = Preprocessor(self._preprocess).prepare(frame)
        return predict(
            model_input, self._cells, lambda tensor: memory.judge(self._turned(tensor)), self.pooling, scores
        ).score

    def _turned(self, tensor: Pixels) -> TurnedFeatures:
        return TurnedFeatures.of(tensor, self._run, upright=self.spec.upright)

    def _run(self, tensor: Pixels) -> Features:
        return np.array(self._interpreter.run(tensor)[0], np.int8)

    @property
    def _cells(self) -> tuple[int, int]:
        shape = self._interpreter.output.shape
        return shape[1], shape[2]
