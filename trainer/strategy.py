"""The two ways of trainer.fit from images to a bundle: from both labels, and from good images alone.

A strategy says which inputs are worth comparing, how is learned, where NG begins, and what the bundle carries
beside the model; trainer.fit tells the story that both share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import keras

from device.bundle import memory as memories
from device.bundle.bundle import Calibration, PreprocessSpec, ReferenceSpec, ScoreCalibration, Thresholds
from device.bundle.reference import GoldenReference
from device.errors import ConfigError
from trainer.bundle import calibration as calibrations
from trainer.bundle import golden_reference, rehearsal
from trainer.config import TrainerConfig
from trainer.data import preview, sizing, splits
from trainer.data.dataset import Dataset
from trainer.network import hardware
from trainer.options import FitOptions
from trainer.recipes import (
    classic,
    decoder,
    finetune,
    good_decoder,
    good_only,
    learn,
    learning_curve,
    quantize_aware,
)
from trainer.recipes.good_only import MemoryModel
from trainer.recipes.learned import TrainedModel
from trainer.report import report
from trainer.scoring import good_thresholds, operating_point, thresholds
from trainer.steps import Steps
from trainer.training.logbook import Logbook

CHECKPOINTS = "checkpoint"  # in --out, while a network is trained on

Model = TypeVar("Model", TrainedModel, MemoryModel)


@dataclass(frozen=True, slots=True)
class Decision:
    """Where NG and MARGINAL begin.

    `lines`: what is said of it in the log. `training`: and in the bundle's record. `files`: the bundle's
    files that show it, by their names.
    """

    scores: ScoreCalibration
    thresholds: Thresholds
    lines: Sequence[str]
    training: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


class Strategy(Protocol[Model]):
    """One way from images to a model."""

    def inputs(self, dataset: Dataset) -> Sequence[PreprocessSpec]:
        """The inputs that are worth comparing. Raises DataError: the images cannot carry what is wished."""

    @property
    def steps(self) -> Mapping[str, float]:
        """Those of learn(), with their usual shares of its time, 100 in all."""

    def learn(self, dataset: Dataset, specs: Sequence[PreprocessSpec], steps: Steps) -> Model:
        """A model, and what was said of images that it had not seen."""

    def network(self, model: Model) -> keras.Model:
        """The float network, for trainer.report."""

    def decide(self, model: Model) -> Decision:
        """Where NG begins. Raises DataError: the images cannot carry what is wished."""

    def reference(self, dataset: Dataset, model: Model) -> tuple[GoldenReference, ReferenceSpec] | None:
        """The picture of good parts that differences are told from, where they lie still."""

    def files(self, model: Model) -> Mapping[str, bytes]:
        """What the bundle carries beside the model, by the files' names."""

    def report(
        self,
        model: Model,
        calibration: Calibration,
        dataset: Dataset,
        reference: GoldenReference | None,
        took: Mapping[str, float],
    ) -> bytes:
        """The bundle's report, HTML. `took`: seconds by step."""


class Supervised:
    """From good and defective images."""

    def __init__(self, options: FitOptions, config: TrainerConfig) -> None:
        self._options = options
        self._config = config

    def inputs(self, dataset: Dataset) -> Sequence[PreprocessSpec]:
        preview.warn(dataset.train, self._config.augment)
        good, bad = (dataset.count(split="train", label=label) for label in (0, 1))
        operating_point.require_enough(good, bad, self._config.threshold)
        splits.require_folds(dataset.train)
        return sizing.candidates(dataset.train, self._config.input, self._options.input_size)

    @property
    def steps(self) -> Mapping[str, float]:
        if self._options.weights == "none" or self._options.head == "dense":
            return {"training": 100.0}
        return (
            {"probe": 100.0} if self._options.quick else {"probe": 30.0, "decoder": 69.0, "fine-tuning": 1.0}
        )

    def learn(self, dataset: Dataset, specs: Sequence[PreprocessSpec], steps: Steps) -> TrainedModel:
        """In the way that was asked for. What is trained on leaves its checkpoints in --out meanwhile."""
        samples, options, config = dataset.train, self._options, self._config
        logbook, seed, folder = Logbook(options.logs), options.seed, options.out / CHECKPOINTS
        weights = options.weights or "imagenet"
        if weights == "none":
            with steps.at("training"):
                return learn.from_scratch(samples, specs[0], config, seed, logbook)
        machine = hardware.found(config.hardware)
        if options.head == "dense":
            with steps.at("training"):
                learned = classic.learn(samples, specs[0], config, machine, weights, seed, folder, logbook)
        else:
            with steps.at("probe"):
                learned, candidate = learn.probed(samples, specs, config, weights, seed)
                if options.quick:
                    learned = learning_curve.of_probe(learned, candidate, config, seed)
            if not options.quick:
                with steps.at("decoder"):
                    learned = decoder.from_probe(learned, candidate, config, weights, seed)
                with steps.at("fine-tuning"):
                    learned = finetune.from_probe(learned, config, machine, seed, folder, logbook)
            if options.qat:
                learned = quantize_aware.improved(learned, config, machine, seed, folder, logbook)
        return replace(learned, record={**learned.record, "hardware": machine.describe()})

    def network(self, model: TrainedModel) -> keras.Model:
        return model.network

    def decide(self, model: TrainedModel) -> Decision:
        wish = self._config.threshold
        scores = thresholds.calibrate(model.labels, model.pooled)
        changed = rehearsal.slightly_changed(model)
        chosen = thresholds.choose(model.labels, model.pooled, scores, wish, changed)
        judged = thresholds.scored(model.pooled, scores)
        described = operating_point.describe(model.labels, judged, chosen.ng, wish)
        sweep = thresholds.sweep(model.labels, model.pooled, scores)
        lines = [_said(chosen), *operating_point.lines(described)]
        return Decision(scores, chosen, lines, {"thresholds": described}, {thresholds.SWEEP_FILE: sweep})

    def reference(
        self, dataset: Dataset, model: TrainedModel
    ) -> tuple[GoldenReference, ReferenceSpec] | None:
        least_px = calibrations.localization(model).min_area_px
        return golden_reference.learn(dataset.train, model.preprocess, least_px)

    def files(self, model: TrainedModel) -> Mapping[str, bytes]:
        return {}

    def report(
        self,
        model: TrainedModel,
        calibration: Calibration,
        dataset: Dataset,
        reference: GoldenReference | None,
        took: Mapping[str, float],
    ) -> bytes:
        return report.of_fit(model, calibration, dataset, reference, self._config.report, took)


class GoodOnly:
    """From good images alone; see trainer.recipes.good_only."""

    def __init__(self, options: FitOptions, config: TrainerConfig) -> None:
        self._options = options
        self._config = config

    def inputs(self, dataset: Dataset) -> Sequence[PreprocessSpec]:
        whole = replace(self._config.input, tile_size=0)
        return sizing.candidates(_good(dataset), whole, self._options.input_size)

    @property
    def steps(self) -> Mapping[str, float]:
        return {"memory": 100.0} if self._options.quick else {"memory": 40.0, "decoder": 60.0}

    def learn(self, dataset: Dataset, specs: Sequence[PreprocessSpec], steps: Steps) -> MemoryModel:
        options, config = self._options, self._config
        weights = options.weights or "imagenet"
        with steps.at("memory"):
            learned = good_only.learn(_good(dataset), specs, config.good_only, weights, options.seed)
        if not options.quick:
            with steps.at("decoder"):
                learned = good_decoder.from_memory(learned, config, weights, options.seed)
        return learned

    def network(self, model: MemoryModel) -> keras.Model:
        raise ConfigError(
            "--keep-network: a memory has no network of its own"
        )  # FitOptions refuses it before

    def decide(self, model: MemoryModel) -> Decision:
        scores, chosen = good_thresholds.choose(model.pooled, model.made, self._config.threshold)
        return Decision(scores, chosen, [f"thresholds: {chosen.rule}"])

    def reference(self, dataset: Dataset, model: MemoryModel) -> tuple[GoldenReference, ReferenceSpec] | None:
        return None  # its own map tells where a part differs

    def files(self, model: MemoryModel) -> Mapping[str, bytes]:
        return {memories.FILE: model.memory.good.to_bytes()} if model.memory else {}

    def report(
        self,
        model: MemoryModel,
        calibration: Calibration,
        dataset: Dataset,
        reference: GoldenReference | None,
        took: Mapping[str, float],
    ) -> bytes:
        return report.of_good_only(model, calibration, dataset, self._config.report, took)


def _good(dataset: Dataset) -> list[Any]:
    return [sample for sample in dataset.train if sample.label == 0]


def _said(chosen: Thresholds) -> str:
    row = next(row for row in chosen.table if row.threshold == chosen.ng)
    counts = f"tp {row.tp}, fp {row.fp}, tn {row.tn}, fn {row.fn}"
    return f"thresholds: NG from {chosen.ng:.4f} ({counts}), MARGINAL from {chosen.marginal:.4f}"
