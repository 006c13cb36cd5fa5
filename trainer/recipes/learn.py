"""Two ways to a model: the probe on a frozen backbone, and training from random weights.

Either ends with an int8 file and with what int8 heads said of images they had never seen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import keras
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Pooling, PreprocessSpec
from device.inspection.detector import pool, pooled_tiles
from device.inspection.framing import counted_in_tiles
from trainer.config import TrainerConfig
from trainer.data import tiling
from trainer.data.dataset import Sample, folds
from trainer.data.sizing import one_aspect
from trainer.data.tiling import MACS_PER_PX, Tiles, cuts, framing_of
from trainer.network import network
from trainer.network.export import FloatModel, Int8Model, to_float, to_int8
from trainer.network.features import CachingModel, inputs, may_be_lit, view_names
from trainer.network.network import Head
from trainer.network.rounding import rounded
from trainer.recipes import probe, scratch
from trainer.recipes.in_words import in_words
from trainer.recipes.learned import Judges, TrainedModel
from trainer.scoring.quality import Quality
from trainer.training.logbook import Logbook

log = logging.getLogger(__name__)

SHOWN = 12  # candidates kept in the record
KEPT_BYTES = 800_000_000  # of what the backbone sees at one size, for the candidates that are judged on it
TIMED = 5  # runs of a backbone, of which the shortest says what it takes
BATCH_PX = 8 * 512 * 512  # that the float network judges at a time: it bounds the memory


# ---- the probe


def by_probe(
    samples: Sequence[Sample], specs: Sequence[PreprocessSpec], config: TrainerConfig, weights: str, seed: int
) -> TrainedModel:
    """Choose among linear heads on the frozen backbone by cross-validation; see trainer.recipes.probe."""
    return probed(samples, specs, config, weights, seed)[0]


def probed(
    samples: Sequence[Sample], specs: Sequence[PreprocessSpec], config: TrainerConfig, weights: str, seed: int
) -> tuple[TrainedModel, probe.Candidate]:
    """The best of linear heads on the frozen backbone, and the candidate that it was made of."""
    turn = one_aspect(samples)
    sizes = [input_size(samples, spec, config, weights, turn=turn) for spec in specs]
    search = probe.Search(sizes, samples, config.probe, config.split.folds, seed)
    best, compared = probe.choose(search)
    log.info("chosen: %s", in_words(best.describe()))
    chosen = best.fitted
    spec = chosen.size.preprocess
    base = network.backbone(spec.size, weights)
    seen, cells = chosen.size.features(chosen.cuts, 1)[0], chosen.size.cells(chosen.cuts, 1).rows
    judges = network.evidence_model(base, rounded(chosen.heads, seen, cells), seen.mean(0))
    judges_content = quantized(judges, samples, spec, config)
    head = rounded(search.fit_on_all(chosen), seen, cells)
    shipped = network.evidence_model(base, head, seen.mean(0))
    content = quantized(shipped, samples, spec, config)
    means = [one.mean((0, 1)) for one in _cells(Int8Model(content).run_batch, best, search)]
    shipped_offset = _offsets(np.array(means), best, head)[0]
    learned = TrainedModel(
        content=content,
        network=shipped,
        preprocess=spec,
        pooling=best.pooling,
        judged=tuple(samples),
        pooled=_pooled(Int8Model(judges_content).run_batch, best, search) + shipped_offset,
        pooled_float=_pooled(FloatModel(to_float(judges)).run_batch, best, search),
        judges=Judges(judges, judges_content, search.fold_of),
        record={
            "recipe": "probe",
            "chosen": best.describe(),
            "judged_by": f"{search.fold_of.max() + 1}-fold cross-validation",
            "candidates": [one.describe() for one in compared[:SHOWN]],
        },
    )
    return learned, best


def input_size(
    samples: Sequence[Sample], spec: PreprocessSpec, config: TrainerConfig, weights: str, *, turn: bool
) -> probe.InputSize:
    """A size to compare at, with the backbone quantized for it; `turn`: whether the images may be turned."""
    model = Int8Model(quantized(network.backbone(spec.size, weights), samples, spec, config))
    turn = (turn or spec.tiles is not None) and spec.size.width == spec.size.height
    tiles = sum(len(framing_of(sample.size, spec).tiles) for sample in samples)
    _say_cost(spec, model, tiles / len(samples))
    most = config.probe.max_megapixels
    views = view_names(tiles, spec, turn=turn, max_megapixels=most)
    room = min(tiles, KEPT_BYTES // model.output_bytes)
    return probe.InputSize(spec, CachingModel(model, room), samples, views, lit=may_be_lit(tiles, spec, most))


def _say_cost(spec: PreprocessSpec, model: Int8Model, tiles: float) -> None:
    """What an image costs at a size, measured here: the mean of `tiles` tiles."""
    tensor = np.zeros((1, spec.size.height, spec.size.width, 3), np.uint8)
    took_ms = []
    for _ in range(TIMED):
        start_ns = time.perf_counter_ns()
        model.outputs(tensor)
        took_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    macs = tiles * spec.size.width * spec.size.height * MACS_PER_PX
    log.info(
        "input %dx%d: %.2g G multiply-adds and %.1f ms an image here",
        *(spec.size.width, spec.size.height, macs / 1e9, tiles * min(took_ms)),
    )


# (n, h, w, 3) to the maps of all heads, (n, h', w', heads)
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def _pooled(run: Run, best: probe.Candidate, search: probe.Search) -> NDArray[np.float64]:
    """Of each sample, the pooled map of the head that has not seen it, less that head's offset.

    Of its tiles the greatest.
    """
    tiles = best.fitted.size.tiles
    fold_of = search.fold_of[tiles.image]
    pooled, means = [], []
    for cells, fold in zip(_cells(run, best, search), fold_of, strict=True):
        pooled.append(pool(cells[:, :, fold], best.pooling))
        means.append(cells.mean((0, 1)))
    offsets = _offsets(np.array(means), best, best.fitted.heads)
    return tiles.greatest(np.asarray(np.array(pooled) - offsets[fold_of], np.float64))


def _offsets(means: NDArray[np.float32], best: probe.Candidate, heads: Head) -> NDArray[np.float64]:
    """(heads,): how far the maps' `means` (tiles, heads) lie above what the heads give the cached features.

    Rounding moves each quantized head by a constant of its own, and the logits of different heads are
    compared here (bias correction: Nagel et al., ICCV 2019).
    """
    expected = best.fitted.size.features(heads.cuts, 1)[0] @ heads.weights + heads.bias
    return np.asarray((means - expected).mean(0), np.float64)


def _cells(run: Run, best: probe.Candidate, search: probe.Search) -> Iterator[NDArray[np.float32]]:
    """Of each tile of each sample, the maps of all heads without padding, (h, w, heads)."""
    size = best.fitted.size.preprocess.size
    count = max(1, BATCH_PX // (size.width * size.height))
    prepared = (
        (tensor, model_input.framing, tile)
        for model_input in inputs(search.samples, best.fitted.size.preprocess, "judging")
        for tile, tensor in enumerate(cuts(model_input))
    )
    while batch := list(islice(prepared, count)):
        maps = run(np.concatenate([tensor for tensor, _, _ in batch]))
        for (_, framing, tile), values in zip(batch, maps, strict=True):
            yield values[counted_in_tiles(framing, values.shape[:2])[tile][2]]


# ---- from random weights


def from_scratch(
    samples: Sequence[Sample], spec: PreprocessSpec, config: TrainerConfig, seed: int, logbook: Logbook
) -> TrainedModel:
    """Train a small network end to end on all folds but one, which judges it; see trainer.recipes.scratch."""
    aside = np.array(folds(samples, probe.fold_count(samples, config.split.folds), seed)) == 0
    judged = tuple(sample for sample, kept in zip(samples, aside, strict=True) if kept)
    images, tiles = scratch.read(samples, spec)
    apart = aside[tiles.image]
    model = scratch.train(images, apart, config.scratch, seed, logbook)
    content = quantized(model, samples, spec, config)
    pooling, pooled = _best_pooling(Int8Model(content), judged, spec, config)
    return TrainedModel(
        content=content,
        network=model,
        preprocess=spec,
        pooling=pooling,
        judged=judged,
        pooled=pooled,
        pooled_float=tiles.part(apart).greatest(scratch.pooled_logits(model, images.pixels[apart], pooling)),
        judges=Judges(model, content, np.zeros(len(judged), np.int64)),
        record={
            "recipe": "from random weights",
            "chosen": {
                **tiling.describe(spec),
                "cuts": [scratch.CUT],
                "alpha": config.scratch.alpha,
                "pooling_share": pooling.share,
            },
            "judged_by": f"{len(judged)} images kept aside",
            "history": logbook.history,
        },
    )


def _best_pooling(
    int8: Int8Model, judged: Sequence[Sample], spec: PreprocessSpec, config: TrainerConfig
) -> tuple[Pooling, NDArray[np.float64]]:
    """The pooling that ranks these images best, and their pooled logits (n,)."""
    labels = np.array([sample.label for sample in judged])
    maps = [
        (one.framing, [int8.evidence(tensor) for tensor in cuts(one)])
        for one in inputs(judged, spec, "judging")
    ]
    tried = [
        (pooling, np.array([max(pooled_tiles(framing, tiles, pooling)) for framing, tiles in maps]))
        for pooling in probe.poolings(config.probe)
    ]
    return max(tried, key=lambda pair: Quality.of(labels, pair[1]).merit)


# ---- both


def quantized(
    model: keras.Model, samples: Sequence[Sample], spec: PreprocessSpec, config: TrainerConfig
) -> bytes:
    """An int8 file, its ranges set by some of the samples."""
    chosen = representative(samples, config.quantization.images)
    tiles = Tiles.of(chosen, spec)
    prepared = enumerate(inputs(chosen, spec, "quantizing"))
    return to_int8(model, [list(cuts(one))[tiles.example(image)] for image, one in prepared])


def representative(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most `count`: every k-th good and defective image, half of each where there are enough."""
    good, bad = ([sample for sample in samples if sample.label == label] for label in (0, 1))
    good_count = min(len(good), count - min(len(bad), count // 2))
    return _spread(good, good_count) + _spread(bad, min(len(bad), count - good_count))


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    return [samples[index * len(samples) // count] for index in range(count)]
