"""The images that a report is on, and what was said of them."""

from __future__ import annotations

import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import PreprocessSpec
from device.image.frame import frame_from_file
from device.inspection.detector import Evidence, merged
from device.inspection.preprocess import ModelInput, Preprocessor
from trainer.data.dataset import Dataset, Sample
from trainer.data.tiling import cuts, macs
from trainer.localization import Look, Saliency
from trainer.network.export import Int8Model
from trainer.recipes.good_only import MemoryModel
from trainer.recipes.learned import TrainedModel

TIMED = 5  # times that an image is judged to time it


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Images and what was said of them: `scores` of int8, `scores_float` where they are known, (n,).

    `by`: who judged them, in words. `look`: what the judge saw of image i, and its evidence map.
    `saliency`: its gradient, where it can be had. `made`: scores of defects that were made from good images,
    where there are no others.
    """

    samples: Sequence[Sample]
    scores: NDArray[np.float64]
    scores_float: NDArray[np.float64] | None
    by: str
    look: Look
    saliency: Saliency | None
    made: NDArray[np.float64] | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array([sample.label for sample in self.samples])


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What is told beside the figures. `took`: seconds of each step."""

    command_line: str
    data: Mapping[str, object]
    took: Mapping[str, float]
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model takes: its file, multiply-adds of one image of the usual size, milliseconds of it here."""

    model_bytes: int
    macs: float
    here_ms: float | None

    @classmethod
    def of(cls, model_bytes: int, samples: Sequence[Sample], spec: PreprocessSpec, look: Look) -> Cost:
        """Timed on one of the images, prepared and judged as it was for this report."""
        usual = sorted(samples, key=lambda one: one.size.width * one.size.height)[len(samples) // 2]
        index = next(number for number, one in enumerate(samples) if one is usual)
        took_ms = []
        for _ in range(TIMED):
            start = time.perf_counter()
            look(index)
            took_ms.append(1e3 * (time.perf_counter() - start))
        return cls(model_bytes, macs(usual.size, spec), statistics.median(took_ms))


def facts_of(dataset: Dataset) -> dict[str, object]:
    """What is told of a data set."""
    return {
        "folder": dataset.root.resolve().name,
        "format": dataset.format,
        "digest": dataset.digest,
        "split rule": dataset.split_rule,
        "images": len(dataset.samples),
        "problems": len(dataset.problems),
    }


def command_line() -> str:
    """As it was given, without the path of the interpreter."""
    module = Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", f"trainer.{module}", *sys.argv[1:]])


def look_of_memory(learned: MemoryModel) -> Look:
    """Through the memory as it ships."""
    preprocessor, model = Preprocessor(learned.preprocess), Int8Model(learned.content, learned.memory)

    def look(index: int) -> tuple[ModelInput, Evidence]:
        frame = frame_from_file(learned.judged[index].path, index, learned.preprocess.white_level)
        model_input = preprocessor.prepare(frame)
        return model_input, model.evidence(model_input.tensor)

    return look


def look_of(learned: TrainedModel) -> Look:
    """Through the judge of each image."""
    preprocessor, model = Preprocessor(learned.preprocess), Int8Model(learned.judges.content)

    def look(index: int) -> tuple[ModelInput, Evidence]:
        frame = frame_from_file(learned.judged[index].path, index, learned.preprocess.white_level)
        model_input = preprocessor.prepare(frame)
        head = int(learned.judges.head_of[index])
        maps = [np.ascontiguousarray(next(model.run(tensor))[:, :, head]) for tensor in cuts(model_input)]
        return model_input, merged(model_input.framing, maps)

    return look
