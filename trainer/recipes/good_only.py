"""Learning from good images alone: features of the frozen backbone, and a memory of what good ones show.

Ways to compare an image with the memory are compared themselves by cross-validation on good images and on
defects that are made from them (trainer.data.made_defects). docs/guide/good_only.md tells what was tried.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import MemorySpec, Pooling, PreprocessSpec
from device.bundle.calibration import GoodMaps, MemoryKind
from device.bundle.memory import BLOCK, Memory, TurnedFeatures, median
from device.image.frame import Frame, frame_from_file
from device.image.upright import find
from device.image.upright import part as part_of
from device.inspection.detector import pool
from device.inspection.preprocess import Preprocessor
from device.learning.coreset import CENTRE_QUANTILE, remember
from trainer.config import GoodOnlyConfig
from trainer.data.dataset import Sample
from trainer.data.made_defects import MAKERS, with_defect
from trainer.data.splits import blocks
from trainer.network import network
from trainer.network.export import Int8Model, to_int8
from trainer.network.network import scaled
from trainer.recipes.in_words import in_words
from trainer.scoring import good_maps, metrics
from trainer.scoring.quality import Quality
from trainer.steps import bar

log = logging.getLogger(__name__)

CUTS = ("block_5_add", "block_9_add", "block_15_add")  # strides 8, 16 and 32, all without an activation
CHANNELS = (32, 64, 160)
STRIDE = 8
ROW_CHANNELS = (32, 96)  # of the first cut, and of the first two
PLACES_MOST = 32  # channels: a covariance for each place takes the square of them
WHITENING_IMAGES = 24
SHOWN = 8
MOST_STRETCHED = 0.02  # of one side against the other: turning a stretched image is no turning
LEAST_UPRIGHT = 0.95  # of the images must show a part that can be turned

KINDS = len(MAKERS)  # of made defects

One = TypeVar("One")
Tensors = Iterable[NDArray[np.uint8]]
Features = NDArray[np.int8]  # (images, h, w, channels)
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class MemoryModel:
    """A model with its memory, and what memories without them said of the n good images.

    `pooled`: their pooled logits, each by a memory without its fold. `made`: those of made defects.
    `on_part`: the parts lie at any angle on a plain ground. `memory`: None where a decoder takes its place.
    `good_maps`: what their maps reached, by the same memories.
    """

    content: bytes
    preprocess: PreprocessSpec
    pooling: Pooling
    memory: Memory | None
    judged: tuple[Sample, ...]
    pooled: NDArray[np.float64]
    made: NDArray[np.float64]
    good_maps: GoodMaps
    on_part: bool
    record: dict[str, Any]

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.zeros(len(self.judged), np.int64)

    @property
    def pooled_float(self) -> NDArray[np.float64]:
        """The int8 model's: no other is made."""
        return self.pooled


@dataclass(frozen=True, slots=True)
class Way:
    """One way to compare an image with the memory."""

    kind: MemoryKind
    row_channels: int
    upright: bool
    sigma_cells: float
    image_weight: float
    pooling: Pooling

    def describe(self) -> dict[str, object]:
        """For the log, and for the record in a bundle."""
        return {
            "kind": self.kind,
            "cuts": list(CUTS[: 1 + (self.row_channels > CHANNELS[0])]),
            "upright": self.upright,
            "sigma_cells": self.sigma_cells,
            "image_weight": self.image_weight,
            "pooling_share": self.pooling.share,
        }


@dataclass(frozen=True, slots=True, eq=False)
class WayResult:
    """A way, and how well it told made defects from good images."""

    way: Way
    quality: Quality

    def describe(self) -> dict[str, object]:
        """For the log, and for the record in a bundle."""
        quality = self.quality
        return {**self.way.describe(), "ap": round(quality.ap, 4), "place": round(quality.place, 3)}


def learn(
    samples: Sequence[Sample],
    specs: Sequence[PreprocessSpec],
    config: GoodOnlyConfig,
    weights: str,
    seed: int,
) -> MemoryModel:
    """From good images alone. `specs`: the inputs to choose from."""
    spec = _input(specs, config)
    judged = _spread(samples, config.images)
    content = _model(judged, spec, weights, seed)
    model = Int8Model(content)
    few, _ = to_be_made(judged, config, seed, on_part=False)
    fold_of = np.array(blocks(judged, config.folds))
    searches = []
    turnable = _lies_anyhow(judged, spec)
    for upright in (False, True)[: 1 + turnable]:
        good = _features(model, judged, spec, None, upright=upright)
        _, how = to_be_made(judged, config, seed, on_part=turnable)
        made = _features(model, [judged[index] for index in few], spec, how, upright=upright)
        searches.append(_Search(good, made, how.masks, fold_of, fold_of[few], config, seed, upright=upright))
    compared = sorted(
        (one for search in searches for one in search.compared()), key=lambda one: -one.quality.merit
    )
    for one in compared[:5]:
        log.info("%s", in_words(one.describe()))
    way = compared[0].way
    log.info("chosen: %s", in_words(way.describe()))
    memory, pooled, pooled_made, maps = searches[way.upright].finish(way)
    return MemoryModel(
        content,
        spec,
        way.pooling,
        memory,
        tuple(judged),
        pooled,
        pooled_made,
        maps,
        turnable,
        {
            "recipe": "good parts only",
            "chosen": {"input_px": [spec.size.width, spec.size.height], **way.describe()},
            "memory": {"items": memory.spec.items, "bytes": memory.nbytes},
            "judged_by": f"{fold_of.max() + 1}-fold cross-validation of {len(judged)} good images",
            "candidates": [one.describe() for one in compared[:SHOWN]],
        },
    )


def _input(specs: Sequence[PreprocessSpec], config: GoodOnlyConfig) -> PreprocessSpec:
    """The one whose greater side is nearest to what is wanted; never in tiles."""
    return min(specs, key=lambda spec: abs(max(spec.size.width, spec.size.height) - config.input_px))


def _spread(values: Sequence[One], count: int) -> list[One]:
    few = min(count, len(values))
    return [values[index * len(values) // few] for index in range(few)]


# ---- the model


def _model(samples: Sequence[Sample], spec: PreprocessSpec, weights: str, seed: int) -> bytes:
    """The int8 features: whitened, averaged over 3x3 cells, on the first cut's grid."""
    base = network.tapped(spec.size, weights, CUTS)
    few = _spread(samples, WHITENING_IMAGES)
    tensors = list(shown(few, spec, None))
    made = list(shown(few, spec, DefectRecipe(seed, False, [])))
    stats = [_Moments(channels) for channels in CHANNELS]
    for tensor in bar(tensors, "whitening"):
        for moments, found in zip(stats, base.predict_on_batch(scaled(tensor)), strict=True):
            moments.add(np.asarray(found))
    model = features_model(base, [moments.whitening() for moments in stats])
    return to_int8(model, tensors[::2] + made[::2])


class _Moments:
    """The mean and the covariance of the cells of maps that are fed to it."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sum = np.zeros(channels)
        self._products = np.zeros((channels, channels))

    def add(self, maps: Floats) -> None:
        rows = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
        self._count += len(rows)
        self._sum += rows.sum(0)
        self._products += rows.T @ rows

    def whitening(self) -> tuple[Floats, Floats]:
        """(weights (channels, channels), bias (channels,)): principal components of unit variance."""
        mean = self._sum / self._count
        covariance = self._products / self._count - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1], vectors[:, ::-1]
        weights = vectors / np.sqrt(np.maximum(values, 0) + 0.01 * values.mean() + 1e-9)
        return weights.astype(np.float32), (-mean @ weights).astype(np.float32)


def features_model(base: keras.Model, linear: Sequence[tuple[Floats, Floats]]) -> keras.Model:
    """Each output of the base in its own linear map, averaged over 3x3 cells, all on the first one's grid."""
    maps = []
    first = base.outputs[0].shape[1]
    for output, (weights, bias) in zip(base.outputs, linear, strict=True):
        layer = keras.layers.Conv2D(weights.shape[1], 1)
        mapped = layer(output)
        layer.set_weights([weights[np.newaxis, np.newaxis], bias])
        mapped = keras.layers.AveragePooling2D(3, strides=1, padding="same")(mapped)
        factor = first // output.shape[1]
        if factor > 1:
            mapped = keras.layers.UpSampling2D(factor, interpolation="bilinear")(mapped)
        maps.append(mapped)
    return keras.Model(base.input, keras.layers.Concatenate()(maps))


# ---- its features


@dataclass(frozen=True, slots=True, eq=False)
class DefectRecipe:
    """How defects are made. `on_part`: on the part that lies on a plain ground, not beside it.

    `masks`: of those made so far, on the model's input. `kinds`: the index of the maker of each; None: any.
    """

    seed: int
    on_part: bool
    masks: list[NDArray[np.bool_]]
    kinds: NDArray[np.int64] | None = None


def shown(
    samples: Sequence[Sample], spec: PreprocessSpec, made: DefectRecipe | None
) -> Iterator[NDArray[np.uint8]]:
    """What the model sees of each image, or of each with a defect."""
    preprocessor = Preprocessor(spec)
    for number, sample in enumerate(samples):
        frame = frame_from_file(sample.path, number, spec.white_level)
        if made is None:
            yield preprocessor.prepare(frame).tensor
            continue
        image, mask = with_defect(
            frame.image,
            np.random.default_rng((made.seed, number)),
            part_of(frame.image) if made.on_part else None,
            None if made.kinds is None else int(made.kinds[number]),
        )
        marks = np.repeat(mask[:, :, np.newaxis], 3, 2).astype(np.uint8) * np.uint8(255)
        made.masks.append(preprocessor.prepare(_with_image(frame, marks)).tensor[0, :, :, 1] > 127)
        yield preprocessor.prepare(_with_image(frame, image)).tensor


def to_be_made(
    samples: Sequence[Sample], config: GoodOnlyConfig, seed: int, *, on_part: bool
) -> tuple[NDArray[np.int64], DefectRecipe]:
    """(of which of the images a defective copy is made, how): of each of KINDS blocks a kind of its own."""
    few = np.array(_spread(range(len(samples)), config.made_defects))
    return few, DefectRecipe(seed, on_part, [], np.array(blocks(samples, KINDS))[few] % KINDS)


def _lies_anyhow(samples: Sequence[Sample], spec: PreprocessSpec) -> bool:
    """Whether a part can be turned upright in nearly all images, without being stretched."""
    few = _spread(samples, WHITENING_IMAGES)
    frames = (frame_from_file(one.path, 0, spec.white_level) for one in few)
    placements = [Preprocessor(spec).prepare(frame).placement for frame in frames]
    if any(abs(one.scale_x / one.scale_y - 1) > MOST_STRETCHED for one in placements):
        return False
    found = sum(find(tensor[0]) is not None for tensor in shown(few, spec, None))
    log.info("a part that can be turned upright: in %d of %d images", found, len(few))
    return found >= LEAST_UPRIGHT * len(few)


def _with_image(frame: Frame, image: NDArray[np.uint8]) -> Frame:
    return replace(frame, image=image)


def _features(
    model: Int8Model,
    samples: Sequence[Sample],
    spec: PreprocessSpec,
    made: DefectRecipe | None,
    *,
    upright: bool,
) -> list[TurnedFeatures]:
    why = "features" if made is None else "made defects"
    tensors = bar(shown(samples, spec, made), why, len(samples))
    return [model.turned(tensor, upright=upright) for tensor in tensors]


# ---- which way


class _Search:
    """Good images and made defects, judged by memories that have not seen their fold."""

    def __init__(
        self,
        good: Sequence[TurnedFeatures],
        made: Sequence[TurnedFeatures],
        masks: Sequence[NDArray[np.bool_]],
        fold_of: NDArray[np.intp],
        fold_of_made: NDArray[np.intp],
        config: GoodOnlyConfig,
        seed: int,
        *,
        upright: bool,
    ) -> None:
        self._good, self._made, self._upright = good, made, upright
        self._features = np.stack([one.stored for one in good])
        self._fold_of, self._fold_of_made = fold_of, fold_of_made
        self._config, self._seed = config, seed
        self._labels = np.repeat([0, 1], [len(good), len(made)])
        cells = self._features.shape[1:3]
        self._marked = np.stack([_on_cells(mask, (cells[0], cells[1])) for mask in masks])

    def compared(self) -> list[WayResult]:
        """All ways."""
        return [one for kind, channels in self._kinds() for one in self._compare(kind, channels)]

    def _kinds(self) -> list[tuple[MemoryKind, int]]:
        nearest: list[tuple[MemoryKind, int]] = [("nearest", channels) for channels in ROW_CHANNELS]
        height, width, channels = self._features.shape[1:]
        each = PLACES_MOST + PLACES_MOST**2 // BLOCK**2  # numbers for a place, in float16 and float32
        taken = 6 * height * width * each + 4 * (2 * channels) ** 2
        if height % BLOCK or width % BLOCK or taken > self._config.max_bytes:
            return nearest
        return [*nearest, ("position", PLACES_MOST)]

    def _compare(self, kind: MemoryKind, row_channels: int) -> list[WayResult]:
        raw_good, raw_made, image_good, image_made = self._distances(kind, row_channels)
        whole = _standardized(image_good, image_made)
        found = []
        for sigma in self._config.sigmas:
            (good, _), (made, _) = (_relative(raw, sigma) for raw in (raw_good, raw_made))
            centre, spread = _scale(good)
            place = _place(made, self._marked)
            for share in self._config.pooling_shares:
                pooling = Pooling("top", share)
                cells = np.array([pool((one - centre) / spread, pooling) for one in (*good, *made)])
                for weight in self._config.image_weights:
                    quality = Quality.of(self._labels, cells + weight * whole, place)
                    found.append(
                        WayResult(Way(kind, row_channels, self._upright, sigma, weight, pooling), quality)
                    )
        return found

    def _distances(self, kind: MemoryKind, row_channels: int) -> tuple[Floats, Floats, Floats, Floats]:
        """(maps of good ones, of made defects, image distances of good ones, of made defects)."""
        plain = self._spec(kind, row_channels)
        cells = self._features.shape[1:3]
        maps = [np.empty((len(part), *cells), np.float32) for part in (self._good, self._made)]
        images = [np.empty(len(part), np.float32) for part in (self._good, self._made)]
        for fold in range(int(self._fold_of.max()) + 1):
            memory = self._memory(self._features[self._fold_of != fold], plain)
            for index, (part, folds) in enumerate(
                ((self._good, self._fold_of), (self._made, self._fold_of_made))
            ):
                for number in np.flatnonzero(folds == fold):
                    maps[index][number] = memory.smoothed(part[number])
                    images[index][number] = memory.image_distance(part[number].stored)
        return maps[0], maps[1], images[0], images[1]

    def _spec(self, kind: MemoryKind, row_channels: int) -> MemorySpec:
        height, width, channels = self._features.shape[1:]
        items = height * width
        if kind == "nearest":
            bytes_each = 4 * row_channels
            items = int(self._config.search_macs_per_px * STRIDE**2 / row_channels)
            items = min(items, self._config.max_bytes // (2 * bytes_each), 65536)
        return MemorySpec(
            kind, channels, row_channels, max(1, items), self._upright, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0
        )

    def _memory(self, features: Features, spec: MemorySpec) -> Memory:
        rng = np.random.default_rng(self._seed)
        good = remember(features, spec.kind, spec.row_channels, spec.items, rng)
        items = len(good.items) if spec.kind == "nearest" else spec.items
        return Memory(good, replace(spec, items=items))

    def finish(self, way: Way) -> tuple[Memory, NDArray[np.float64], NDArray[np.float64], GoodMaps]:
        """(the memory of all good images; without it, pooled logits of good and made ones, and good maps)."""
        raw_good, raw_made, image_good, image_made = self._distances(way.kind, way.row_channels)
        (good, medians), (made, _) = (_relative(raw, way.sigma_cells) for raw in (raw_good, raw_made))
        centre, spread = _scale(good)
        usual = float(np.median(medians))
        whole = _standardized(image_good, image_made)
        cells = np.array([pool((one - centre) / spread, way.pooling) for one in (*good, *made)])
        pooled = cells + way.image_weight * whole
        memory = self._memory(self._features, self._spec(way.kind, way.row_channels))
        spec = replace(
            memory.spec,
            sigma_cells=way.sigma_cells,
            usual=usual,
            centre=usual * centre,
            spread=usual * spread,
            image_weight=way.image_weight,
            image_centre=float(np.median(image_good)),
            image_spread=_robust(image_good),
        )
        maps = (good * medians[:, np.newaxis, np.newaxis] - spec.centre) / spec.spread
        reached = good_maps.reached([one.ravel() for one in maps])
        return Memory(memory.good, spec), pooled[: len(good)], pooled[len(good) :], reached


def _relative(raw: Floats, sigma: float) -> tuple[Floats, Floats]:
    """(distances (n, h, w) as they count for the score, in medians (n,) of their image's; these)."""
    smooth = np.stack([cv2.GaussianBlur(one, (0, 0), sigma) for one in raw]) if sigma else raw
    medians = np.array([median(one) for one in smooth], np.float32)
    return smooth / medians[:, np.newaxis, np.newaxis], medians


def _scale(good: Floats) -> tuple[float, float]:
    """(centre, spread) of the distances of good cells: the median lies at an evidence of -4."""
    centre, middle = float(np.quantile(good, CENTRE_QUANTILE)), float(np.median(good))
    return centre, max((centre - middle) / 4, 1e-6)


def _standardized(good: Floats, made: Floats) -> NDArray[np.float64]:
    """The distances of whole images by what is usual among good ones."""
    both = np.concatenate([good, made]).astype(np.float64)
    return np.asarray((both - float(np.median(good))) / _robust(good), np.float64)


def _robust(values: Floats) -> float:
    """A standard deviation from the quartiles."""
    low, high = np.quantile(values, (0.25, 0.75))
    return max(float(high - low) / 1.349, 1e-6)


def _on_cells(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    shares = cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(shares >= min(0.3, float(shares.max())), np.bool_) & (shares > 0)


def _place(maps: Floats, marked: NDArray[np.bool_]) -> float:
    """How well maps (n, h, w) show where the defects are, 0..1: as Quality has it."""
    found = []
    for values, cells in zip(maps, marked, strict=True):
        if cells.any():
            hit = bool(cells.flat[int(values.argmax())])
            found.append((hit + (metrics.auroc(cells.ravel(), values.ravel()) or 0.0)) / 2)
    return float(np.mean(found or 0.0))
