"""A decoder from good images alone, in place of the memory of good parts where it finds more made defects.

It is taught by defects that are made from the good images, and would flatter itself on those: so each fold's
decoder is taught neither its fold's images nor one kind of made defects, and judges these. The memory judges
the same good images and the same made defects, without having seen the images either.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Pooling
from device.inspection.detector import pool, sharpened
from trainer.config import DecoderConfig, TrainerConfig
from trainer.data.augment import Augmentation
from trainer.data.splits import blocks
from trainer.data.variation import Variation
from trainer.network import network
from trainer.network.decoder import decoded
from trainer.network.export import Int8Model
from trainer.recipes import good_only
from trainer.recipes.decoder import MOVED, MOVED_DEG, MOVED_SHARE, SHARPENED, ZOOMED, School, int8_file
from trainer.recipes.good_only import KINDS, MemoryModel
from trainer.recipes.learn import quantized
from trainer.scoring import good_maps
from trainer.scoring.quality import Quality
from trainer.training.lessons import Copies, Exercises

log = logging.getLogger(__name__)

SHARES = (0.003, 0.01, 0.03)  # of the map that the score may come from


def from_memory(learned: MemoryModel, config: TrainerConfig, weights: str, seed: int) -> MemoryModel:
    """The decoder where it tells made defects of unknown kinds better from good images, else the memory."""
    reason = _reason_not_to(learned, config)
    if reason:
        log.info("decoder: not taught: %s", reason)
        return _with(learned, {"shipped": "memory", "not_done": reason})
    rival = taught_beside(learned, config, weights, seed)
    figures = {name: _quality(one) for name, one in (("memory", learned), ("decoder", rival))}
    shipped = max(figures, key=lambda name: figures[name].merit)
    said = {
        name: {"ap": round(one.ap, 4), "separation": round(one.separation, 2)}
        for name, one in figures.items()
    }
    log.info("decoder: on made defects of unknown kinds %s: the %s ships", said, shipped)
    return _with(rival if shipped == "decoder" else learned, {"shipped": shipped, **said})


def _reason_not_to(learned: MemoryModel, config: TrainerConfig) -> str:
    if config.decoder.when == "never":
        return 'when = "never"'
    few = max(blocks(learned.judged, KINDS)) + 1 < KINDS
    return "the good images are of too few groups" if few else ""


def _with(learned: MemoryModel, said: dict[str, object]) -> MemoryModel:
    return replace(learned, record={**learned.record, "decoder": said})


def _quality(learned: MemoryModel) -> Quality:
    labels = np.repeat([0, 1], [len(learned.pooled), len(learned.made)])
    return Quality.of(labels, np.concatenate([learned.pooled, learned.made]))


def taught_beside(learned: MemoryModel, config: TrainerConfig, weights: str, seed: int) -> MemoryModel:
    """The decoder, and what the decoders of the folds say; `learned`: the memory's."""
    samples, spec = learned.judged, learned.preprocess
    fold_of = np.array(blocks(samples, KINDS))
    exercises = Exercises(samples, spec, config.input.cache_bytes)
    school = School.of(exercises, tuple(network.STRIDES), config, weights)
    *judging, shipped = school.decoders(fold_of, _copies(learned), _shorter(config.decoder), seed)
    base = network.tapped(spec.size, weights, shipped.cuts)
    judges = Int8Model(quantized(decoded(base, judging), samples, spec, config))

    def judged(tensors: good_only.Tensors, folds: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        pairs = zip(tensors, folds, strict=True)
        return [np.ascontiguousarray(next(judges.run(tensor))[:, :, fold]) for tensor, fold in pairs]

    good = judged(good_only.shown(samples, spec, None), fold_of)
    few, how = good_only.to_be_made(samples, config.good_only, seed, on_part=learned.on_part)
    made = judged(good_only.shown([samples[index] for index in few], spec, how), fold_of[few])
    ways = [Pooling("top", share, times) for share in SHARES for times in SHARPENED]
    rivals = [_pooled(learned, good, made, way) for way in ways]
    best = max(rivals, key=lambda one: _quality(one).merit)
    return replace(
        best,
        content=int8_file(decoded(base, [shipped]), samples, spec, config),
        memory=None,
        good_maps=good_maps.reached([one.ravel() for one in good]),
        record={
            **learned.record,
            "recipe": "decoder, from good parts only",
            "chosen": {
                "input_px": [spec.size.width, spec.size.height],
                "cuts": list(shipped.cuts),
                "pooling_share": best.pooling.share,
                "sharpened": best.pooling.sharpened,
            },
            "judged_by": f"{KINDS}-fold cross-validation of {len(samples)} good images",
        },
    )


def _pooled(
    learned: MemoryModel, good: list[NDArray[np.float32]], made: list[NDArray[np.float32]], way: Pooling
) -> MemoryModel:
    logits = [
        np.array([pool(sharpened(one, way.sharpened), way) for one in maps], np.float64)
        for maps in (good, made)
    ]
    return replace(learned, pooling=way, pooled=logits[0], made=logits[1])


def _shorter(own: DecoderConfig) -> DecoderConfig:
    """Made defects are few kinds of things: what is taught them for long knows their look, not defects."""
    return replace(own, steps=max(2, own.steps // 4), batch_size=1)


def _copies(learned: MemoryModel) -> Copies:
    """Parts that lie at any angle on a plain ground are turned by any; the others a little."""
    angle = 180.0 if learned.on_part else MOVED_DEG
    own = Augmentation(
        flip_horizontal=True,
        flip_vertical=True,
        rotation_deg=angle,
        shift=MOVED_SHARE,
        zoom=ZOOMED,
        fill="level" if learned.on_part else "edge",
    )
    share = 0.9 if learned.on_part else MOVED
    return Copies(own, share, Variation(), varied=0.6, made=1.0, on_part=learned.on_part, apart=True)
