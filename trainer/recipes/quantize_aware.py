"""Quantization-aware training (--qat): the model trained on while it rounds as its int8 file will.

Cross-validated like the fine-tuning before it, from the model that stands; and shipped only where int8 then
ranks unseen images better than what was quantized after training.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras

from trainer.config import TrainerConfig
from trainer.network import fake_quant
from trainer.network.features import inputs
from trainer.network.hardware import Hardware
from trainer.network.network import scaled
from trainer.recipes import finetune
from trainer.recipes.learn import representative
from trainer.recipes.learned import TrainedModel
from trainer.training.checkpoint import Checkpoints
from trainer.training.cross_validation import CrossValidation, TrainingPlan
from trainer.training.learner import Phase
from trainer.training.logbook import Logbook

log = logging.getLogger(__name__)


def improved(
    learned: TrainedModel,
    config: TrainerConfig,
    hardware: Hardware,
    seed: int,
    folder: Path,
    logbook: Logbook,
) -> TrainedModel:
    """The better of both; the record says which. Raises TrainingError or StorageError."""
    if learned.preprocess.tiles is not None:
        log.info("--qat: not done: frames are seen in tiles")
        return _with(learned, {"shipped": "post-training", "not_done": "frames are seen in tiles"})
    checkpoints = Checkpoints(folder, _mark(learned, config, seed))
    plain = [
        fake_quant.folded(one)
        for one in (*finetune.networks_of(learned.judges, learned.network), learned.network)
    ]
    course = _course(learned, plain, config, hardware, seed, checkpoints, logbook)
    try:
        outcome = course.run()
    except KeyboardInterrupt:
        log.warning("interrupted: the same command goes on from the last epoch (%s)", checkpoints)
        raise
    said: dict[str, Any] = {
        "shipped": "post-training",
        "best_epoch": outcome.epoch,
        "post_training": finetune.figures(learned),
    }
    chosen = learned
    if outcome.epoch:
        *folds, shipped = (
            finetune.with_state(plain[-1], state) for state in (*outcome.folds, outcome.shipped)
        )
        trained = replace(learned, network=shipped)
        trained = finetune.assembled(trained, folds, outcome.pooled, config, config.finetune.from_block)
        said["quantization_aware"] = finetune.figures(trained)
        if finetune.beats(trained, learned):
            said["shipped"], chosen = "quantization-aware", trained
    log.info("--qat: the %s int8 file ships: %s", said["shipped"], said)
    checkpoints.remove()
    return _with(chosen, said, logbook)


def _with(learned: TrainedModel, said: dict[str, Any], logbook: Logbook | None = None) -> TrainedModel:
    history = {} if logbook is None else {"history": logbook.history}
    return replace(learned, record={**learned.record, "quantization_aware": said, **history})


def _mark(learned: TrainedModel, config: TrainerConfig, seed: int) -> str:
    parts = [b"qat", learned.content, learned.judges.content, repr((asdict(config), seed)).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _course(
    learned: TrainedModel,
    plain: list[keras.Model],
    config: TrainerConfig,
    hardware: Hardware,
    seed: int,
    checkpoints: Checkpoints,
    logbook: Logbook,
) -> CrossValidation:
    """Its epoch 0 is what was quantized after training: int8 against what rounds like int8."""
    some = representative(learned.judged, config.quantization.images)
    images = (scaled(one.tensor) for one in inputs(some, learned.preprocess, "ranges"))
    model = fake_quant.simulated(plain[-1], fake_quant.ranges(plain[-1], images))
    phase = Phase(
        config.qat.epochs, config.finetune.from_block, config.qat.learning_rate, config.finetune.warm_up_share
    )
    plan = TrainingPlan((phase,), config.finetune.monitor, config.finetune.patience)
    return finetune.course(
        learned,
        model,
        [finetune.variables_of(one) for one in plain],
        learned.pooled,
        plan,
        config,
        hardware,
        seed,
        checkpoints,
        logbook,
        "quantization-aware",
    )
