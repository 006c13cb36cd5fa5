"""The recipe of old: a dense head on the mean of MobileNetV2's last map, then the network with it.

The head is trained on the frozen network, whose features are computed once; then, as [finetune] allows, the
layers from a block on. Cross-validated like everything else, so that its figures compare.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Pooling, PreprocessSpec
from device.errors import ConfigError
from trainer.config import TrainerConfig
from trainer.data import tiling
from trainer.data.batches import Batches
from trainer.data.dataset import Sample, folds
from trainer.network import dense_head, network
from trainer.network.features import inputs
from trainer.network.hardware import Hardware
from trainer.network.network import HEAD, called, scaled
from trainer.recipes import finetune, probe
from trainer.recipes.finetune import CachedFeed
from trainer.recipes.learn import representative
from trainer.recipes.learned import Judges, TrainedModel
from trainer.training.checkpoint import Checkpoints
from trainer.training.cross_validation import CrossValidation, FoldedImages, TrainingPlan, TrainingResult
from trainer.training.learner import Learner, Phase, Teaching
from trainer.training.logbook import Logbook

log = logging.getLogger(__name__)

MEAN = Pooling("mean", 1.0)
UNTRAINED = (
    "--head dense: no epoch ranked unseen images better than guessing: the head ships as it began, and knows "
    "nothing; try a greater --input-size, or --head evidence"
)


def learn(
    samples: Sequence[Sample],
    spec: PreprocessSpec,
    config: TrainerConfig,
    hardware: Hardware,
    weights: str,
    seed: int,
    folder: Path,
    logbook: Logbook,
) -> TrainedModel:
    """Train and judge it. `folder`: of the checkpoints. Raises ConfigError, TrainingError or StorageError."""
    if spec.tiles is not None:
        raise ConfigError("--head dense: sees whole images only: set [input] tile_size = 0, or --input-size")
    fold_of = np.array(folds(samples, probe.fold_count(samples, config.split.folds), seed))
    keras.utils.set_random_seed(seed)
    model = dense_head.trainable(
        network.backbone(spec.size, weights, config.dense.alpha), config.dense.dropout
    )
    plan = _plan(spec, int(fold_of.max()) + 1, config, hardware)
    checkpoints = Checkpoints(folder, _mark(samples, spec, config, weights, seed))
    try:
        course = _course(model, samples, spec, fold_of, plan, config, hardware, seed, checkpoints, logbook)
        outcome = course.run()
    except KeyboardInterrupt:
        log.warning("interrupted: the same command goes on from the last epoch (%s)", checkpoints)
        raise
    states = (*outcome.folds, outcome.shipped)
    networks = (finetune.with_state(model, state) for state in states)
    *judges, shipped = (_shipped(one, samples, spec, config) for one in networks)
    learned = TrainedModel(
        content=b"",
        network=shipped,
        preprocess=spec,
        pooling=MEAN,
        judged=tuple(samples),
        pooled=outcome.pooled,
        pooled_float=outcome.pooled,
        judges=Judges(shipped, b"", fold_of),
        record={
            "recipe": "dense head",
            "chosen": {**tiling.describe(spec), "cuts": [dense_head.LAST], "epoch": outcome.epoch},
            "judged_by": f"{fold_of.max() + 1}-fold cross-validation",
            "history": logbook.history,
            "warnings": _warnings(outcome),
        },
    )
    found = finetune.assembled(learned, judges, outcome.pooled, config, _first_block(plan))
    checkpoints.remove()
    return found


def _plan(spec: PreprocessSpec, folds: int, config: TrainerConfig, hardware: Hardware) -> TrainingPlan:
    head = Phase(config.dense.epochs, HEAD, config.dense.learning_rate, config.finetune.warm_up_share)
    reason = finetune.reason_not_to(spec, folds, config.finetune, hardware)
    if reason:
        log.info("the layers below the head: not trained: %s", reason)
        return TrainingPlan((head,), config.finetune.monitor, config.dense.patience)
    settings = config.finetune
    layers = Phase(settings.epochs, settings.from_block, settings.learning_rate, settings.warm_up_share)
    return TrainingPlan((head, layers), settings.monitor, config.dense.patience)


def _first_block(plan: TrainingPlan) -> int:
    return min(phase.from_block for phase in plan.phases)


def _mark(
    samples: Sequence[Sample], spec: PreprocessSpec, config: TrainerConfig, weights: str, seed: int
) -> str:
    parts = [repr((spec, asdict(config), weights, seed)), *(sample.sha256 for sample in samples)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _course(
    model: keras.Model,
    samples: Sequence[Sample],
    spec: PreprocessSpec,
    fold_of: NDArray[np.int64],
    plan: TrainingPlan,
    config: TrainerConfig,
    hardware: Hardware,
    seed: int,
    checkpoints: Checkpoints,
    logbook: Logbook,
) -> CrossValidation:
    labels = np.array([sample.label for sample in samples])
    batches = Batches.read(
        *(samples, spec, None, hardware.share(config.finetune.batch_size), seed),
        sampling=config.sampling,
        cache_bytes=config.input.cache_bytes,
    )
    first = _first_block(plan)
    feed = CachedFeed.of(batches, network.halves(model, first)[0]) if first else batches
    alpha = finetune.alpha_for(labels, config.finetune)
    teaching = Teaching(MEAN, config.finetune.gamma, alpha, 0.0)

    def learner(phase: Phase, steps: int) -> Learner:
        return Learner(model, phase, teaching, steps, hardware, cached_from=first or None)

    starts = [finetune.variables_of(model)] * (int(fold_of.max()) + 2)
    nothing = np.zeros(len(samples))
    judged = FoldedImages(labels, fold_of, (), MEAN)
    return CrossValidation(plan, judged, feed, learner, starts, nothing, checkpoints, logbook, "dense head")


def _warnings(outcome: TrainingResult) -> list[str]:
    """Said in the log as well. What was asked for ships, but not in silence where it learned nothing."""
    if outcome.epoch:
        return []
    log.warning("%s", UNTRAINED)
    return [UNTRAINED]


def _shipped(
    model: keras.Model, samples: Sequence[Sample], spec: PreprocessSpec, config: TrainerConfig
) -> keras.Model:
    """With the map in place of the logit; its gradient and its range from the representative images."""
    some = representative(samples, config.quantization.images)
    means, head = network.halves(model, HEAD)
    prepared = inputs(some, spec, "class activation")
    fed = np.concatenate([called(means, scaled(one.tensor)) for one in prepared])
    defective = np.array([sample.label == 1 for sample in some])
    return dense_head.with_map(model, fed[defective], called(head, fed)[:, 0])
