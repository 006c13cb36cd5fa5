"""A decoder in place of the probe's linear head, where it judges unseen images better.

It is taught on copies of the images (trainer.training.lessons), by masks where there are some, by labels
everywhere; the decoders of the folds judge the images that they have not seen. The probe has settled the
size of the input, how deep the backbone goes, and which mirrored copies are like the images.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Pooling, PreprocessSpec
from device.inspection.detector import merged, pooled_tiles
from device.inspection.preprocess import ModelInput
from trainer.config import DecoderConfig, TrainerConfig
from trainer.data.augment import Augmentation
from trainer.data.dataset import Sample, folds, read_mask
from trainer.data.tiling import cuts
from trainer.data.variation import Variation
from trainer.network import network
from trainer.network.decoder import Decoder, Normalization, decoded, finer, folded
from trainer.network.export import FloatModel, Int8Model, to_float
from trainer.network.features import inputs
from trainer.recipes import learning_curve, probe
from trainer.recipes.learn import quantized, representative
from trainer.recipes.learned import Judges, TrainedModel
from trainer.recipes.probe import Change, unchanged
from trainer.scoring.quality import Quality, place
from trainer.training.decoder_training import PLACED, UNPLACED, DecoderSchedule, taught
from trainer.training.lessons import Copies, Exercises, Lessons

log = logging.getLogger(__name__)

NORMALIZED_BY = 32  # images whose features say what is usual
MOVED_DEG, MOVED_SHARE, ZOOMED = 2.5, 0.04, 0.04  # of a copy; parts do not lie stiller than this
SHARES = (0.001, 0.003)  # of the map that a decoder's score may come from, beside the probe's
SHARPENED = (0.0, 2.0)  # times that what stands out of its map may count in addition
FEWEST_STRIDE, DEEPEST_STRIDE = 16, 32  # of the deepest cut
EASY = (
    0.99  # average precision of the probe, from which the last blocks gain nothing that their cost is worth
)
MOVED = 0.5  # share of the copies that are moved: the others are as sharp as the images are
INT8_STEPS = 255
ASTRAY = 0.02  # of average precision, that chance may take
ALIGNED_BY = 120  # good images that say how high the logits of two trainings are
LABELLED_ALONE = 5  # images of either label, with fewer of which nothing is taught

Heads = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (1, h, w, 3) to maps (h, w, heads)


def from_probe(
    learned: TrainedModel, candidate: probe.Candidate, config: TrainerConfig, weights: str, seed: int
) -> TrainedModel:
    """The decoder's model where it judges unseen images better, else the probe's; the record says which.

    `candidate`: what the probe's model is made of. It is fitted again on the folds of the decoders: with the
    same images to learn from, both judge the same unseen ones.
    """
    reason = reason_not_to(learned, config)
    if reason:
        log.info("decoder: not taught: %s", reason)
        learned = learning_curve.of_probe(learned, candidate, config, seed)
        return _with(learned, {"shipped": "probe", "not_done": reason})
    rival = taught_beside(learned, config, weights, seed)
    conditions: tuple[Change, ...] = (unchanged, _Varied(seed))
    figures = {
        "probe": _figures([_of_probe(candidate, learned, config, seed, one) for one in conditions]),
        "decoder": _figures([_of_decoder(rival, one) for one in conditions]),
    }
    shipped = max(figures, key=lambda name: figures[name]["merit"])
    log.info("decoder: on unseen images %s: the %s ships", _in_words(figures), shipped)
    if shipped == "decoder" and (reason := astray(rival, figures["decoder"]["ap"])):
        log.warning("decoder: %s: the probe ships", reason)
        learned = learning_curve.of_probe(learned, candidate, config, seed)
        return _with(learned, {"shipped": "probe", "not_shipped": reason, **figures})
    best = rival if shipped == "decoder" else learning_curve.of_probe(learned, candidate, config, seed)
    return _with(best, {"shipped": shipped, **figures})


def _in_words(figures: dict[str, dict[str, float]]) -> str:
    said = (
        f"{name} AP {one['ap']:.3f}, {one['ap_varied']:.3f} in other light and focus"
        for name, one in figures.items()
    )
    return "; ".join(said)


def reason_not_to(learned: TrainedModel, config: TrainerConfig) -> str:
    """Why no decoder is taught; empty where one is."""
    if config.decoder.when == "never":
        return 'when = "never"'
    fewest = min(int((learned.labels == label).sum()) for label in (0, 1))
    if fewest < LABELLED_ALONE:
        return f"{fewest} images of one label are too few"
    return ""


def astray(rival: TrainedModel, unseen_ap: float) -> str:
    """Why the decoder that would ship must not: of a training that went astray; empty where it did not.

    Cross-validation judges the folds' decoders. The one to ship knows all images: it ranks them at least as
    well as those ranked what they had not seen.
    """
    own, alone = Int8Model(rival.content), np.zeros(len(rival.judged), np.int64)
    [known] = _judged(
        lambda tensor: own.evidence(tensor)[:, :, np.newaxis], rival, alone, [rival.pooling], unchanged
    )
    if known.quality.ap >= unseen_ap - ASTRAY:
        return ""
    return (
        f"the one to ship ranks the images that taught it with AP {known.quality.ap:.3f}, those of the folds "
        f"unseen ones with {unseen_ap:.3f}"
    )


def _with(learned: TrainedModel, said: dict[str, Any]) -> TrainedModel:
    return replace(learned, record={**learned.record, "decoder": said})


# ---- what is taught


def taught_beside(learned: TrainedModel, config: TrainerConfig, weights: str, seed: int) -> TrainedModel:
    """The decoder's int8 file, and what the decoders of the folds say in int8; `learned`: the probe's."""
    samples, spec, chosen = learned.judged, learned.preprocess, learned.record["chosen"]
    fold_of = np.array(folds(samples, probe.fold_count(samples, config.decoder.folds), seed))
    exercises = Exercises(samples, spec, config.input.cache_bytes)
    copies = copies_of(config, chosen["views"])
    deep = DEEPEST_STRIDE if chosen["ap"] < EASY else 0
    deepest = max(deep, *(network.STRIDES[cut] for cut in chosen["cuts"]))
    school = School.of(exercises, up_to(deepest), config, weights)
    *judging, shipped = school.decoders(fold_of, copies, config.decoder, seed)
    base = network.tapped(spec.size, weights, shipped.cuts)
    beside = decoded(base, judging)
    own = tuple(decoded(base, [one]) for one in judging)
    judges = Judges(beside, quantized(beside, samples, spec, config), fold_of, own)
    ways = [
        *probe.poolings(config.probe),
        *(Pooling("top", share, times) for share in SHARES for times in SHARPENED),
    ]
    int8, exact = Int8Model(judges.content), FloatModel(to_float(beside))
    judged = _judged(lambda tensor: next(int8.run(tensor)), learned, fold_of, ways, unchanged)
    best = max(judged, key=lambda one: one.quality.merit)
    [real] = _judged(lambda tensor: exact.run_batch(tensor)[0], learned, fold_of, [best.pooling], unchanged)
    exact_one = decoded(base, [shipped])
    content = int8_file(exact_one, samples, spec, config)
    own_scale = _shifts(int8, Int8Model(content), learned, fold_of, best.pooling)
    found = replace(
        learned,
        content=content,
        network=exact_one,
        pooling=best.pooling,
        pooled=best.pooled + own_scale[fold_of],
        pooled_float=real.pooled + own_scale[fold_of],
        judges=judges,
        record={
            **learned.record,
            "recipe": "decoder",
            "judged_by": f"{fold_of.max() + 1}-fold cross-validation",
            "chosen": {
                **chosen,
                "cuts": list(shipped.cuts),
                "pooling_share": best.pooling.share,
                "sharpened": best.pooling.sharpened,
            },
        },
    )
    return _with_curve(found, school, copies, config, seed)


def _with_curve(
    learned: TrainedModel, school: School, copies: Copies, config: TrainerConfig, seed: int
) -> TrainedModel:
    """What it would be with fewer images, in its record.

    One fold of three has half of the images that the folds' decoders know: in half of the steps each teaches
    as often as there. Of its halves either teaches a decoder.
    """
    fold_of = learned.judges.head_of
    some = fold_of < fold_of.max() // 2  # of two folds: none
    half_of = learning_curve.halves(learned.judged, some, seed) if some.any() else None
    if half_of is None:
        return learned
    settings = replace(config.decoder, steps=max(1, config.decoder.steps // 2))
    fewer = school.taught(half_of, copies, settings, seed)
    others = [sample for sample, own in zip(learned.judged, some, strict=True) if not own]
    first, second, both = school.pooled(fewer, others, learned.pooling)
    labels, groups = learned.labels[~some], [sample.group for sample in others]
    known = round(len(fold_of) * (1 - 1 / (fold_of.max() + 1)))
    points = [
        learning_curve.CurvePoint(round(some.sum() / 2), [first, second]),
        learning_curve.CurvePoint(int(some.sum()), [both]),
        learning_curve.CurvePoint(known, [learned.pooled[~some]]),
    ]
    return learning_curve.noted(learned, learning_curve.described(points, labels, groups))


def up_to(stride: int) -> network.Cuts:
    """The cuts of the backbone down to a stride, and at least to FEWEST_STRIDE."""
    return tuple(cut for cut, own in network.STRIDES.items() if own <= max(stride, FEWEST_STRIDE))


def copies_of(config: TrainerConfig, views: str) -> Copies:
    """`views`: of the probe, which says whether a turned image is like the others; a mirrored one teaches."""
    own = Augmentation.of(config.augment, mirrored=True, turned=views == "turned")
    moved = replace(
        own,
        rotation_deg=max(own.rotation_deg, MOVED_DEG),
        shift=max(own.shift, MOVED_SHARE),
        zoom=max(own.zoom, ZOOMED),
        fill="edge" if own.fill == "zoom" else own.fill,
    )
    return Copies(moved, MOVED, Variation(), config.decoder.varied, config.decoder.made)


@dataclass(frozen=True, slots=True, eq=False)
class School:
    """What teaches the decoders of one model: the int8 backbone, what its cuts show usually, the images."""

    exercises: Exercises
    backbone: Int8Model
    cuts: network.Cuts
    usual: dict[str, Normalization]

    @classmethod
    def of(cls, exercises: Exercises, names: network.Cuts, config: TrainerConfig, weights: str) -> School:
        samples, spec = exercises.samples, exercises.spec
        backbone = Int8Model(quantized(network.tapped(spec.size, weights, names), samples, spec, config))
        few = representative(samples, NORMALIZED_BY)
        seen = [backbone.outputs(next(cuts(one))) for one in inputs(few, spec, "usual features")]
        maps_of = zip(names, zip(*seen, strict=True), strict=True)
        return cls(exercises, backbone, names, {name: Normalization.of(maps) for name, maps in maps_of})

    def decoders(
        self, fold_of: NDArray[np.int64], copies: Copies, settings: DecoderConfig, seed: int
    ) -> list[Decoder]:
        """Those of the folds, then the one to ship; as taught(), with plain convolutions."""
        stored = dict(zip(self.cuts, self.backbone.quantizations, strict=True))
        return [folded(one, self.usual, stored) for one in self.taught(fold_of, copies, settings, seed)]

    def taught(
        self, fold_of: NDArray[np.int64], copies: Copies, settings: DecoderConfig, seed: int
    ) -> list[keras.Model]:
        """Those of the folds, then one that knows all folds. `fold_of` (images,), -1: teaches nobody."""
        own = fold_of[self.exercises.tiles.image]
        lessons = Lessons(self.exercises, own, self.backbone, copies, settings.batch_size, seed)
        keras.utils.set_random_seed(seed)
        defective = [sample for sample in self.exercises.samples if sample.label]
        shares = UNPLACED if defective and not any(one.mask for one in defective) else PLACED
        course = DecoderSchedule(settings.steps, settings.learning_rate, settings.image_weight, shares)
        size, folds_taught = self.exercises.spec.size, int(own.max()) + 1
        return taught(lessons.taught(course.steps), folds_taught, self.cuts, size, self.usual, course)

    def pooled(
        self, decoders: Sequence[keras.Model], samples: Sequence[Sample], way: Pooling
    ) -> NDArray[np.float64]:
        """(decoders, images): what decoders that were taught here say of images, in float."""
        found: list[list[float]] = []
        for model_input in inputs(samples, self.exercises.spec, "learning curve"):
            stored = [
                [maps[np.newaxis] for maps in self.backbone.outputs(tensor)] for tensor in cuts(model_input)
            ]
            found.append(
                [
                    max(pooled_tiles(model_input.framing, [_map(one, maps) for maps in stored], way))
                    for one in decoders
                ]
            )
        return np.array(found, np.float64).T


def _map(decoder: keras.Model, stored: list[NDArray[np.int8]]) -> NDArray[np.float32]:
    """(h, w) of one tile."""
    return np.asarray(decoder.predict_on_batch(stored), np.float32)[0, :, :, 0]


def int8_file(
    model: keras.Model, samples: Sequence[Sample], spec: PreprocessSpec, config: TrainerConfig
) -> bytes:
    """The int8 file of a network that one decoder ends; its map is finer than int8."""
    exact = FloatModel(to_float(model))
    few = inputs(representative(samples, config.quantization.images), spec, "ranges")
    maps = np.concatenate([exact.run_batch(tensor).ravel() for one in few for tensor in cuts(one)])
    return quantized(finer(model, float(maps.max() - maps.min()) / INT8_STEPS), samples, spec, config)


# ---- what is said of unseen images


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """`pooled` (images,): the logits of one pooling."""

    pooling: Pooling
    pooled: NDArray[np.float64]
    quality: Quality


def _judged(
    run: Heads, learned: TrainedModel, head_of: NDArray[np.int64], ways: Sequence[Pooling], change: Change
) -> list[_Judged]:
    """What the head that has not seen an image says of it, with every pooling."""
    pooled, places = [], []
    prepared = map(change, count(), inputs(learned.judged, learned.preprocess, "judging"))
    for sample, head, model_input in zip(learned.judged, head_of, prepared, strict=True):
        maps = [np.ascontiguousarray(run(tensor)[:, :, head]) for tensor in cuts(model_input)]
        pooled.append([max(pooled_tiles(model_input.framing, maps, way)) for way in ways])
        mask = read_mask(sample) if sample.mask else None
        if mask is not None:
            places.append(place(merged(model_input.framing, maps), model_input.placement, mask))
    shown = float(np.mean(places or 0.0))
    return [
        _Judged(way, one, Quality.of(learned.labels, one, shown))
        for way, one in zip(ways, np.array(pooled, np.float64).T, strict=True)
    ]


def _shifts(
    judges: Int8Model, shipped: Int8Model, learned: TrainedModel, fold_of: NDArray[np.int64], way: Pooling
) -> NDArray[np.float64]:
    """(folds,): how far the decoder that ships lies above each fold's, on good images that both were taught.

    Trainings of one network end with logits of different height; a threshold from the folds' decoders is
    meant for the one that ships.
    """
    above: list[list[float]] = [[] for _ in range(fold_of.max() + 1)]
    known = [
        (sample, fold)
        for sample, fold, label in zip(learned.judged, fold_of, learned.labels, strict=True)
        if label == 0
    ]
    known = known[:: -(-len(known) // ALIGNED_BY)]
    prepared = inputs([sample for sample, _ in known], learned.preprocess, "aligning")
    for (_, fold), model_input in zip(known, prepared, strict=True):
        tensors = list(cuts(model_input))
        theirs = [next(judges.run(tensor)) for tensor in tensors]
        ours = [shipped.evidence(tensor) for tensor in tensors]
        own = max(pooled_tiles(model_input.framing, ours, way))
        for other in set(range(len(above))) - {int(fold)}:
            maps = [np.ascontiguousarray(one[:, :, other]) for one in theirs]
            above[other].append(own - max(pooled_tiles(model_input.framing, maps, way)))
    return np.array([float(np.median(one)) if one else 0.0 for one in above])


@dataclass(frozen=True, slots=True)
class _Varied:
    """The images in other conditions, the same for all that are compared."""

    seed: int

    def __call__(self, number: int, model_input: ModelInput) -> ModelInput:
        rng = np.random.default_rng((self.seed, number))
        return replace(model_input, canvas=Variation().apply(model_input.canvas, rng))


def _of_decoder(rival: TrainedModel, change: Change) -> Quality:
    int8 = Int8Model(rival.judges.content)
    head_of = rival.judges.head_of
    return _judged(lambda tensor: next(int8.run(tensor)), rival, head_of, [rival.pooling], change)[0].quality


def _of_probe(
    candidate: probe.Candidate, learned: TrainedModel, config: TrainerConfig, seed: int, change: Change
) -> Quality:
    one = candidate.fitted
    search = probe.Search([one.size], learned.judged, config.probe, config.decoder.folds, seed)
    again = search.fit(one.size, one.cuts, one.views, one.strength, one.mask_weight, lit=one.lit)
    found = search.judge([again], change)
    return next(judged.quality for judged in found if judged.pooling == candidate.pooling)


def _figures(found: Sequence[Quality]) -> dict[str, float]:
    """Of the images as they are, and in other conditions."""
    plain, varied = found
    return {
        "ap": round(plain.ap, 4),
        "ap_varied": round(varied.ap, 4),
        "place": round(plain.place, 3),
        "separation": round(plain.separation, 2),
        "merit": round((plain.merit + varied.merit) / 2, 4),
    }
