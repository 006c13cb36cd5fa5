"""Training the network on from the probe's result, and shipping what came of it only where it is better.

Every network starts as the probe's: those of the folds with the heads that have not seen their images. What
int8 says of unseen images decides, of the same images for both.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import PreprocessSpec
from device.inspection.detector import pooled_cells
from device.inspection.framing import Cells, content_cells
from device.inspection.preprocess import ModelInput
from trainer.config import FinetuneConfig, TrainerConfig
from trainer.data.augment import Augmentation
from trainer.data.batches import AS_THEY_ARE, Batch, Batches
from trainer.data.dataset import Sample, read_mask
from trainer.data.tiling import framing_of
from trainer.network import network
from trainer.network.decoder import is_decoder
from trainer.network.export import Int8Model
from trainer.network.features import inputs
from trainer.network.hardware import Hardware
from trainer.network.network import HEAD, called, scaled
from trainer.recipes.decoder import int8_file
from trainer.recipes.learn import quantized, representative
from trainer.recipes.learned import Judges, TrainedModel
from trainer.scoring.quality import Quality, place
from trainer.training.checkpoint import Arrays, Checkpoints
from trainer.training.cross_validation import (
    CrossValidation,
    Feed,
    FoldedImages,
    TrainingPlan,
    TrainingResult,
)
from trainer.training.learner import Learner, Phase, Teaching
from trainer.training.logbook import Logbook
from trainer.training.losses import alpha_of_balance

log = logging.getLogger(__name__)


def from_probe(
    learned: TrainedModel,
    config: TrainerConfig,
    hardware: Hardware,
    seed: int,
    folder: Path,
    logbook: Logbook,
) -> TrainedModel:
    """The fine-tuned model where it ranks unseen images better, else the probe's; the record says which.

    `folder`: of the checkpoints, which are gone when it returns. Raises TrainingError or StorageError.
    """
    folds = len(set(learned.judges.head_of))
    reason = reason_not_to(learned.preprocess, folds, config.finetune, hardware)
    if reason:
        log.info("fine-tuning: not done: %s", reason)
        return _with(learned, {"shipped": "probe", "not_done": reason})
    checkpoints = Checkpoints(folder, _mark(learned, config, seed))
    try:
        training = course(
            learned,
            learned.network,
            _from_heads(learned),
            learned.pooled_float,
            _plan(config.finetune),
            config,
            hardware,
            seed,
            checkpoints,
            logbook,
            "fine-tuning",
        )
        outcome = training.run()
    except KeyboardInterrupt:
        log.warning("interrupted: the same command goes on from the last epoch (%s)", checkpoints)
        raise
    chosen = _better_of(learned, outcome, config)
    checkpoints.remove()
    return replace(chosen, record={**chosen.record, "history": logbook.history})


def reason_not_to(preprocess: PreprocessSpec, folds: int, config: FinetuneConfig, hardware: Hardware) -> str:
    """Why the layers of the network are not trained here; empty where they are."""
    if config.when == "never":
        return 'when = "never"'
    if config.when == "gpu" and not hardware.gpu:
        epochs = (folds + 1) * (config.epochs + config.head_epochs)
        return (
            f'when = "gpu", and there is none. [finetune] when = "always" trains up to {epochs} epochs here, '
            "and ships the result only where it ranks unseen images better"
        )
    if preprocess.tiles is not None:
        return "frames are seen in tiles"
    return ""


def _mark(learned: TrainedModel, config: TrainerConfig, seed: int) -> str:
    """Of this very training: the probe's model, the images, the settings and the seed."""
    parts = [learned.content, learned.judges.content, repr((asdict(config), seed)).encode()]
    parts += [sample.sha256.encode() for sample in learned.judged]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _with(learned: TrainedModel, said: dict[str, Any]) -> TrainedModel:
    return replace(learned, record={**learned.record, "fine_tuning": said})


# ---- the training


def course(
    learned: TrainedModel,
    model: keras.Model,
    starts: Sequence[Arrays],
    begun: NDArray[np.float64],
    plan: TrainingPlan,
    config: TrainerConfig,
    hardware: Hardware,
    seed: int,
    checkpoints: Checkpoints,
    logbook: Logbook,
    name: str,
) -> CrossValidation:
    """Of a network whose map is an evidence map, on the images that `learned` was judged on."""
    settings = config.finetune
    grid = model.output_shape[1:3]
    first = min(phase.from_block for phase in plan.phases)
    augmentation = augmentation_for(learned, config)
    feed: Feed = Batches.read(
        *(learned.judged, learned.preprocess, grid, hardware.share(settings.batch_size), seed),
        augmentation=augmentation,
        sampling=config.sampling,
        cache_bytes=config.input.cache_bytes,
    )
    cached = first > 0 and augmentation == AS_THEY_ARE
    if cached:
        feed = CachedFeed.of(feed, network.halves(model, first)[0])
    alpha = alpha_for(learned.labels, settings)
    teaching = Teaching(learned.pooling, settings.gamma, alpha, settings.mask_weight)

    def learner(phase: Phase, steps: int) -> Learner:
        return Learner(model, phase, teaching, steps, hardware, cached_from=first if cached else None)

    cells = cells_of(learned.judged, learned.preprocess, grid)
    judged = FoldedImages(learned.labels, learned.judges.head_of, cells, learned.pooling)
    return CrossValidation(plan, judged, feed, learner, starts, begun, checkpoints, logbook, name)


def _from_heads(learned: TrainedModel) -> list[Arrays]:
    """Where the networks begin: each fold's has not seen its images, then the shipped one."""
    return [variables_of(one) for one in (*networks_of(learned.judges, learned.network), learned.network)]


def networks_of(judges: Judges, shipped: keras.Model) -> tuple[keras.Model, ...]:
    """The network of each fold: its own where it has one, else the shared one with its head."""
    if judges.folds:
        return judges.folds
    heads = range(judges.head_of.max() + 1)
    return tuple(network.with_head(shipped, judges.network, head) for head in heads)


def _plan(config: FinetuneConfig) -> TrainingPlan:
    head = Phase(config.head_epochs, HEAD, config.head_learning_rate, config.warm_up_share)
    layers = Phase(config.epochs, config.from_block, config.learning_rate, config.warm_up_share)
    return TrainingPlan((head, layers), config.monitor, config.patience)


def augmentation_for(learned: TrainedModel, config: TrainerConfig) -> Augmentation:
    """As [augment] says; "auto" stands for what the probe found to help."""
    views = learned.record["chosen"]["views"]
    return Augmentation.of(config.augment, mirrored=views != "as is", turned=views == "turned")


def alpha_for(labels: NDArray[np.int64], config: FinetuneConfig) -> float:
    """Of the focal loss: as it is set, or from the class balance."""
    if config.alpha > 0:
        return config.alpha
    defective = int(labels.sum())
    return alpha_of_balance(len(labels) - defective, defective)


def variables_of(model: keras.Model) -> Arrays:
    """As arrays, in the order of its layers."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]


def cells_of(judged: Sequence[Sample], preprocess: PreprocessSpec, grid: tuple[int, int]) -> list[Cells]:
    """Of each image's map, those that are not padding."""
    placements = (framing_of(sample.size, preprocess).placement for sample in judged)
    return [content_cells(placement, grid) for placement in placements]


@dataclass(frozen=True, slots=True, eq=False)
class CachedFeed:
    """A feed whose batches hold what the frozen layers give, computed once for each image."""

    feed: Feed
    features: NDArray[np.float32]

    @classmethod
    def of(cls, feed: Feed, frozen: keras.Model) -> CachedFeed:
        seen = [called(frozen, scaled(batch.pixels)) for batch in feed.judge()]
        return cls(feed, np.concatenate(seen))

    def __len__(self) -> int:
        return len(self.feed)

    def epoch(self, index: int) -> Iterator[Batch]:
        return map(self._looked_up, self.feed.epoch(index))

    def judge(self) -> Iterator[Batch]:
        return map(self._looked_up, self.feed.judge())

    def part(self, chosen: NDArray[np.bool_]) -> Feed:
        return CachedFeed(self.feed.part(chosen), self.features)

    def _looked_up(self, batch: Batch) -> Batch:
        return replace(batch, pixels=self.features[batch.indices])


# ---- what ships


def _better_of(learned: TrainedModel, outcome: TrainingResult, config: TrainerConfig) -> TrainedModel:
    """By what int8 says of unseen images: average precision first, then merit."""
    said: dict[str, Any] = {"shipped": "probe", "best_epoch": outcome.epoch}
    said["probe"] = figures(learned)
    if not outcome.epoch:
        log.info("fine-tuning: no epoch ranked unseen images better: the probe's model ships")
        return _with(learned, said)
    tuned = _tuned(learned, outcome, config)
    said["fine_tuned"] = figures(tuned)
    better = beats(tuned, learned)
    said["shipped"] = "fine-tuned" if better else "probe"
    log.info(
        "fine-tuning: int8 AP of unseen images %.4f, the probe's %.4f: the %s model ships",
        said["fine_tuned"]["int8_ap"],
        said["probe"]["int8_ap"],
        "fine-tuned" if better else "probe's",
    )
    return _with(tuned if better else learned, said)


def figures(learned: TrainedModel) -> dict[str, float]:
    """How the judges ranked unseen images, in float and in int8."""
    pairs = (("float", learned.pooled_float), ("int8", learned.pooled))
    found = {kind: Quality.of(learned.labels, pooled) for kind, pooled in pairs}
    return {
        f"{kind}_{name}": round(value, 6)
        for kind, quality in found.items()
        for name, value in (("ap", quality.ap), ("separation", quality.separation))
    }


def beats(one: TrainedModel, other: TrainedModel) -> bool:
    """Greater int8 average precision; where it is the same, greater merit, the place counted in."""
    aps = [Quality.of(each.labels, each.pooled).ap for each in (one, other)]
    if aps[0] != aps[1]:
        return aps[0] > aps[1]
    merits = [Quality.of(each.labels, each.pooled, _place(each)).merit for each in (one, other)]
    return merits[0] > merits[1]


def _place(learned: TrainedModel) -> float:
    """How well the int8 judges' maps show the defects that have masks; see Quality."""
    int8 = Int8Model(learned.judges.content)
    prepared = inputs(learned.judged, learned.preprocess, "comparing places")
    found = []
    for sample, head, model_input in zip(learned.judged, learned.judges.head_of, prepared, strict=True):
        mask = read_mask(sample) if sample.mask else None
        if mask is not None:
            values = next(int8.run(model_input.tensor))[:, :, head]
            found.append(place(values, model_input.placement, mask))
    return float(np.mean(found or 0.0))


def _tuned(learned: TrainedModel, outcome: TrainingResult, config: TrainerConfig) -> TrainedModel:
    """What the outcome's networks are and say as int8 files."""
    folds = [with_state(learned.network, state) for state in outcome.folds]
    record = {**learned.record, "recipe": f"{learned.record['recipe']}, fine-tuned"}
    return assembled(
        replace(learned, network=with_state(learned.network, outcome.shipped), record=record),
        folds,
        outcome.pooled,
        config,
        config.finetune.from_block,
    )


def assembled(
    learned: TrainedModel,
    folds: Sequence[keras.Model],
    exact: NDArray[np.float64],
    config: TrainerConfig,
    from_block: int,
) -> TrainedModel:
    """`learned` with its float network as an int8 file, and with what the folds' networks say, in int8 too.

    `exact`: what they say in float of the images that they have not seen. Before `from_block` all are alike.
    """
    judged, spec, head_of = learned.judged, learned.preprocess, learned.judges.head_of
    beside = network.side_by_side(folds, from_block)
    written = int8_file if is_decoder(learned.network) else quantized
    content = written(learned.network, judged, spec, config)
    judges_content = quantized(beside, judged, spec, config)
    pooled = _pooled(learned, Int8Model(judges_content), exact)
    return replace(
        learned,
        content=content,
        judges=Judges(beside, judges_content, head_of, tuple(folds)),
        pooled=pooled + _offset(learned, learned.network, Int8Model(content), config),
        pooled_float=exact,
    )


def _pooled(learned: TrainedModel, int8: Int8Model, exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each image, the int8 logit of the network that has not seen it, less that network's offset.

    Rounding moves each network by a constant of its own, and the logits of different ones are compared here:
    see learn.by_probe. `exact`: the same logits in float.
    """
    head_of = learned.judges.head_of
    prepared = inputs(learned.judged, learned.preprocess, "judging")
    found = np.array(
        [
            _pooled_cells(next(int8.run(model_input.tensor))[:, :, head], model_input, learned)
            for model_input, head in zip(prepared, head_of, strict=True)
        ]
    )
    moved = np.array([(found - exact)[head_of == head].mean() for head in range(head_of.max() + 1)])
    return np.asarray(found - moved[head_of], np.float64)


def _offset(learned: TrainedModel, shipped: keras.Model, int8: Int8Model, config: TrainerConfig) -> float:
    """How far the shipped int8 logits lie above the float ones, on the images that set its ranges."""
    some = representative(learned.judged, config.quantization.images)
    moved = []
    for model_input in inputs(some, learned.preprocess, "comparing"):
        exact = called(shipped, scaled(model_input.tensor))[0, :, :, 0]
        stored = int8.evidence(model_input.tensor)
        moved.append(_pooled_cells(stored, model_input, learned) - _pooled_cells(exact, model_input, learned))
    return float(np.mean(moved))


def _pooled_cells(values: NDArray[np.float32], model_input: ModelInput, learned: TrainedModel) -> float:
    """Of a map (h, w), without the cells that lie on padding."""
    return pooled_cells(values, content_cells(model_input.placement, values.shape), learned.pooling)


def with_state(model: keras.Model, state: Arrays) -> keras.Model:
    """A copy of the network with these variables, which stand before the optimizer's in a state."""
    copy = keras.models.clone_model(model)
    for variable, value in zip(copy.variables, state, strict=False):
        variable.assign(value)
    return copy
