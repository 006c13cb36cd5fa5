"""Who shows where the defect is: the evidence map, the difference map and the network's true gradient.

    python -m trainer.localization --bundle DIR --data PATH [--format F] [--split test|all]
                                   [--network FILE.keras] [--images N]

prints how well each of them does on images that the model has not seen, with standard errors. With the float
network that `trainer.fit --keep-network` saved, the gradient is among them. Exit codes are those of
device.errors, 130 after Ctrl-C.

The evidence map is what the device shows, from int8. The gradient is the reference that it must beat: by how
much each pixel of the input moves the score, from the float network (Simonyan, Vedaldi and Zisserman, ICLR
workshop 2014), averaged over noisy copies of the image (SmoothGrad: Smilkov et al., 2017) and blurred. The
difference map is what the device falls back to, in units of its cut: from the golden reference where there is
one and the image is aligned with it, else from the image's own background.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle import bundle as bundles
from device.bundle.bundle import Calibration
from device.bundle.calibration import LocalizationSpec, Pooling
from device.bundle.reference import GoldenReference
from device.errors import ConfigError
from device.image.geometry import Box, Letterbox
from device.inspection.detector import Evidence
from device.inspection.framing import Cells, counted_in_tiles
from device.inspection.localizer import background_difference, evidence_in_frame
from device.inspection.pipeline import Pipeline
from device.inspection.preprocess import ModelInput
from trainer import command, evaluate
from trainer.data.dataset import Sample, load, read_mask
from trainer.evaluate import map_size
from trainer.scoring import metrics
from trainer.steps import bar

if TYPE_CHECKING:
    import keras

    from trainer.recipes.learned import Judges

COPIES = 8  # noisy ones of an image
NOISE = 0.15  # their noise: standard deviation as a share of the image's range, as Smilkov et al. advise
BLUR_SHARE = 0.012  # of the input's lesser side: the sigma of the Gaussian over a gradient
COPIES_PX = 4 * 512 * 512  # that are differentiated at a time: it bounds the memory
FAINTEST = 1e-12  # pixels are ranked by the logarithms of gradients, which keeps their order
RANGES = {"evidence": (-16.0, 16.0), "gradient": (-12.0, 4.0), "difference": (0.0, 64.0)}
PARTS = 20  # of the images, each left out once: what the standard errors are estimated from

Map = NDArray[np.float32]
Look = Callable[[int], tuple[ModelInput, Evidence]]  # what the model saw of image i, and its evidence map
Saliency = Callable[[int, ModelInput], Map]  # (h, w) over its canvas


@dataclass(frozen=True, slots=True)
class LocalizationFigures:
    """How well maps showed the defects of n images, each None where it is not defined.

    `pixel_auroc`, `aupro`: over the pixels of all images whose truth is known. `own_auroc`: the mean of each
    defective image's own, for which the scale of a map does not matter. `pointing_hit_rate`: how often the
    maximum lies in the mask. `box_iou`: of the box around the region with the maximum, cut out by Otsu's
    rule, with the box around the part of the mask that it fits best, on average over defective images.
    """

    pixel_auroc: float | None
    aupro: float | None
    own_auroc: float | None
    pointing_hit_rate: float | None
    box_iou: float | None


MEASURES = ("pixel AUROC", "AUPRO", "own AUROC", "pointing", "box IoU")  # as LocalizationFigures has them


@dataclass(frozen=True, slots=True)
class LocalizationEstimate:
    """LocalizationFigures, and the standard error of each over the choice of images."""

    place: LocalizationFigures
    error: LocalizationFigures

    def words(self) -> list[str]:
        """Each measure with its error, in the order of MEASURES."""
        pairs = zip(astuple(self.place), astuple(self.error), strict=True)
        return [_in_words(value, error) for value, error in pairs]


def _in_words(value: float | None, error: float | None) -> str:
    if value is None:
        return "not defined"
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


class _Tally:
    """One kind of map over all images, in PARTS parts."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._pixels = [metrics.PixelTally(*RANGES[kind]) for _ in range(PARTS)]
        self._own: list[float] = []
        self._overlaps: list[float] = []
        self._seen = [0, 0]  # good and defective images

    def add(self, values: Map, mask: NDArray[np.bool_]) -> None:
        """(h, w) both."""
        label = int(mask.any())
        self._pixels[self._seen[label] % PARTS].add(self._ranked(values), mask)
        self._seen[label] += 1
        if label and not mask.all():
            self._own.append(metrics.auroc(mask.ravel(), values.ravel()) or 0.0)
            self._overlaps.append(box_iou(values, mask))

    def _ranked(self, values: Map) -> Map:
        """The values on a scale that fits into the range, in the same order."""
        if self._kind == "gradient":
            return np.asarray(np.log10(np.maximum(values, FAINTEST)), np.float32)
        return np.asarray(np.arcsinh(values), np.float32) if self._kind == "evidence" else values

    def measured(self) -> LocalizationEstimate:
        parts = [tally.counts for tally in self._pixels]
        pixels = sum(parts, metrics.PixelCounts.none())
        hit, of = pixels.pointing_hit_rate, self._seen[1]
        place = LocalizationFigures(pixels.auroc, pixels.aupro, _mean(self._own), hit, _mean(self._overlaps))
        left = [_without(parts, part) for part in range(min(PARTS, max(self._seen)))]
        error = LocalizationFigures(
            _jackknifed([one.auroc for one in left]),
            _jackknifed([one.aupro for one in left]),
            _error_of_mean(self._own),
            None if hit is None else float(np.sqrt(hit * (1 - hit) / of)),
            _error_of_mean(self._overlaps),
        )
        return LocalizationEstimate(place, error)


def _without(parts: Sequence[metrics.PixelCounts], left_out: int) -> metrics.PixelCounts:
    kept = [part for number, part in enumerate(parts) if number != left_out]
    return sum(kept, metrics.PixelCounts.none())


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _error_of_mean(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _jackknifed(without: Sequence[float | None]) -> float | None:
    """The standard error of a figure from what it is without each part (Shao and Wu, Ann. Stat. 17, 1989)."""
    known = np.array([value for value in without if value is not None])
    count = len(known)
    if count < 2 or count < len(without):
        return None
    return float(np.sqrt((count - 1) * known.var()))


def compare(
    samples: Sequence[Sample],
    look: Look,
    saliency: Saliency | None,
    spec: LocalizationSpec,
    reference: GoldenReference | None,
) -> dict[str, LocalizationEstimate]:
    """{kind of map: how it did} on the samples whose truth is known; without a saliency, two kinds."""
    tallies = {kind: _Tally(kind) for kind in RANGES if saliency or kind != "gradient"}
    for index, sample in enumerate(bar(samples, "maps")):
        mask = read_mask(sample, map_size(sample.size)) if sample.has_truth else None
        if mask is None:
            continue
        for kind, values in maps_of(index, look, saliency, spec, reference):
            tallies[kind].add(_at(values, mask.shape), mask)
    return {kind: tally.measured() for kind, tally in tallies.items()}


def maps_of(
    index: int,
    look: Look,
    saliency: Saliency | None,
    spec: LocalizationSpec,
    reference: GoldenReference | None,
) -> Iterator[tuple[str, Map]]:
    """(kind, map over the image's own pixels) for one image."""
    model_input, evidence = look(index)
    placement = model_input.placement
    yield "evidence", evidence_in_frame(evidence, placement, spec.shift_px)
    if saliency is not None:
        yield "gradient", _in_frame(placement.content.of(saliency(index, model_input)), placement)
    yield "difference", _in_frame(difference(model_input, spec, reference), placement)


def few(samples: Sequence[Sample], count: int) -> list[int]:
    """The numbers of at most `count` samples with known truth, from all over: half of them defective."""
    known = [
        [index for index, one in enumerate(samples) if one.has_truth and one.label == label]
        for label in (0, 1)
    ]
    bad = _spread(known[1], max(count - len(known[0]), (count + 1) // 2))
    return sorted(_spread(known[0], count - len(bad)) + bad)


def _spread(indices: Sequence[int], count: int) -> list[int]:
    count = min(len(indices), count)
    return [indices[step * len(indices) // count] for step in range(count)]


# ---- the gradient


def gradient_of(network: keras.Model, model_input: ModelInput, pooling: Pooling, head: int) -> Map:
    """By how much each pixel of the canvas moves its tile's pooled logit, (h, w): smoothed, >= 0.

    The greatest of the three channels counts, and of tiles that overlap the greater. Needs Keras on
    TensorFlow.
    """
    framing = model_input.framing
    canvas = np.zeros(model_input.canvas.shape[:2], np.float32)
    for tile, _, counted in counted_in_tiles(framing, network.output_shape[1:3]):
        found = _tile_gradient(network, model_input.cut(tile), counted, pooling, head)
        target = tile.of(canvas)
        np.maximum(target, found, out=target)
    blur = BLUR_SHARE * min(framing.tiles[0].width, framing.tiles[0].height)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), blur), np.float32)


def _tile_gradient(
    network: keras.Model, tensor: NDArray[np.uint8], counted: Cells, pooling: Pooling, head: int
) -> Map:
    """The mean over noisy copies of one input of the network (1, h, w, 3)."""
    from trainer.network.network import scaled

    rng = np.random.default_rng(0)
    image = scaled(tensor)
    sigma = NOISE * float(image.max() - image.min())
    noise = [rng.normal(0, sigma, image.shape).astype(np.float32) for _ in range(COPIES)]
    _, height, width, _ = network.output_shape
    cells = np.arange(height * width, dtype=np.int32).reshape(height, width)[counted].ravel()
    pooled = max(1, math.ceil(round(pooling.share * len(cells), 6)))  # as device.inspection.detector.pool
    together = max(1, COPIES_PX // (image.shape[1] * image.shape[2]))
    total = np.zeros(image.shape[1:3], np.float32)
    for start in range(0, COPIES, together):
        noisy = np.concatenate([image + one for one in noise[start : start + together]])
        found = np.asarray(_gradients_of(network)(noisy, cells, pooled, head))
        total += np.abs(found).max(axis=3).sum(axis=0)
    return total / COPIES


@lru_cache(maxsize=2)
def _gradients_of(network: keras.Model) -> Any:
    """For inputs (n, h, w, 3), what cells count, how many are pooled, which head: gradients (n, h, w, 3)."""
    import tensorflow as tf

    def gradients(noisy: Any, counted: Any, pooled: Any, head: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(noisy)
            cells = tf.gather(network(noisy, training=False), head, axis=3)
            flat = tf.gather(tf.reshape(cells, (tf.shape(noisy)[0], -1)), counted, axis=1)
            logits = tf.reduce_mean(tf.math.top_k(flat, pooled, sorted=False)[0], axis=1)
        return tape.gradient(logits, noisy)

    number = tf.TensorSpec((), tf.int32)
    images = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
    return tf.function(gradients, (images, tf.TensorSpec((None,), tf.int32), number, number))


def of_network(path: Path, calibration: Calibration) -> Saliency:
    """The gradient of the network in a file of --keep-network. Raises ConfigError where it is none."""
    import keras

    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever the file gave
        raise ConfigError(f"--network {path}: must be a file of --keep-network: {error}") from error
    size = calibration.preprocess.size
    if model.input_shape[1:] != (size.height, size.width, 3):
        raise ConfigError(f"--network {path}: must take {size}, takes {model.input_shape[1:]}")

    def saliency(_index: int, model_input: ModelInput) -> Map:
        return gradient_of(model, model_input, calibration.pooling, 0)

    return saliency


def of_judges(judges: Judges, pooling: Pooling) -> Saliency | None:
    """The gradient of the head that judged image i; None where Keras does not run on TensorFlow."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return None

    def saliency(index: int, model_input: ModelInput) -> Map:
        head = int(judges.head_of[index])
        return gradient_of(judges.network, model_input, pooling, head)

    return saliency


# ---- the difference


def difference(model_input: ModelInput, spec: LocalizationSpec, reference: GoldenReference | None) -> Map:
    """Over the input's content (h, w), in units of the cut from which the device marks it."""
    gray = model_input.luma()
    if reference is not None and spec.reference is not None and gray.shape == reference.mean.shape:
        alignment = reference.align(gray)
        if alignment is not None and alignment.response >= spec.reference.least_response:
            return reference.deviation(gray, alignment) / np.float32(spec.reference.cut)
    found = background_difference(gray, spec.difference_sigma_px)
    return found.astype(np.float32) / np.float32(spec.difference_cut)


# ---- boxes


def box_iou(values: Map, mask: NDArray[np.bool_]) -> float:
    """Of the box around the region with the maximum and the box around the part of the mask it fits best."""
    found = region_box(values)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return max(_iou(found, Box(*(int(side) for side in stats[part, :4]))) for part in range(1, count))


def region_box(values: Map) -> Box:
    """Around the 8-connected region above Otsu's cut in which the maximum lies."""
    low, high, _, (x, y) = cv2.minMaxLoc(values)
    levels = np.zeros(values.shape, np.uint8)
    if high > low:
        levels = ((values - np.float32(low)) * np.float32(255 / (high - low))).astype(np.uint8)
    cut, _ = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    above = (levels > min(cut, levels[y, x] - 1.0)).astype(np.uint8)
    _, regions, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    return Box(*(int(side) for side in stats[regions[y, x], :4]))


def _iou(one: Box, other: Box) -> float:
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(0, width) * max(0, height)
    return common / (one.area_px + other.area_px - common)


# ---- sizes


def _in_frame(content: Map, placement: Letterbox) -> Map:
    """From the input's content to the image's own pixels; nothing of it where the image was not looked at."""
    region, source = placement.region, placement.source
    grown = cv2.resize(content, (region.width, region.height), interpolation=cv2.INTER_LINEAR)
    over = np.full((source.height, source.width), content.min(), np.float32)
    region.of(over)[:] = grown
    return over


def _at(values: Map, shape: tuple[int, ...]) -> Map:
    if values.shape == shape:
        return values
    return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_AREA), np.float32)


# ---- the command


def table(found: Mapping[str, LocalizationEstimate]) -> Iterator[str]:
    """A Markdown row for each kind of map."""
    yield f"| | {' | '.join(MEASURES)} |"
    yield "|---" * (len(MEASURES) + 1) + "|"
    for kind, measured in found.items():
        yield f"| {kind} | {' | '.join(measured.words())} |"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.localization", description=__doc__.split("\n", maxsplit=1)[0]
    )
    command.add_bundle(parser)
    command.add_data(parser)
    command.add_verbose(parser)
    parser.add_argument("--split", choices=("test", "all"), default="test", help="default test")
    parser.add_argument("--network", type=Path, metavar="FILE", help="what --keep-network saved")
    parser.add_argument(
        "--images", type=int, default=0, metavar="N", help="at most so many, half of them defective; 0: all"
    )
    return parser.parse_args(arguments)


def _compare(options: argparse.Namespace) -> str:
    bundle = bundles.load(options.bundle)
    dataset = load(options.data, options.format, protocol="given")
    samples, _ = evaluate.chosen(dataset, evaluate.recorded(bundle), options.split)
    chosen = [samples[index] for index in few(samples, options.images or len(samples))]
    pipeline = Pipeline(bundle, "localization", "localization")
    saliency = of_network(options.network, bundle.calibration) if options.network else None

    def look(index: int) -> tuple[ModelInput, Evidence]:
        model_input, prediction = pipeline.predict(pipeline.read(chosen[index].path, index))
        return model_input, prediction.evidence

    spec, reference = bundle.calibration.localization, bundle.reference()
    found = compare(chosen, look, saliency, spec, reference)
    bad = sum(sample.label for sample in chosen)
    return "\n".join([*table(found), f"{bad} defective images with masks, {len(chosen) - bad} good ones"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parse(arguments)
    return command.run(lambda: _compare(options), verbose=options.verbose)


if __name__ == "__main__":
    sys.exit(main())
