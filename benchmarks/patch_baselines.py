"""PatchCore and PaDiM as published, in float32 on the trainer's backbone: what good-only bundles are held to.

    python benchmarks/patch_baselines.py --data PATH --weights FILE [--side PX] [--seed N] [--images N]
                                         [--only NAME] [--anomalib PYTHON]

Both are fitted to the good images of the data's train part alone and judged on its test part. Both see the
whole image at --side x --side px (the 256 that their published code begins with, without its crop to 224) and
take MobileNetV2's last maps of a resolution, where the papers take those of a ResNet. Printed: figures with
their standard errors, medians of milliseconds an image (the float network's, and all that follows it), and
megabytes of what is kept of the good images.

With --anomalib, the interpreter of an environment that has anomalib, its own two are judged as well, on the
same weights, maps of the network, images and figures; anomalib_judge.py is what runs there.

70 images at 256 px take 3 minutes of two cores; PatchCore's coreset takes the square of their number.
--images N draws so many good ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.random_projection import SparseRandomProjection
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer

from device.image.frame import read_image
from device.image.geometry import Size
from device.image.resize import resized
from trainer.data.dataset import Sample, load, read_mask
from trainer.scoring import metrics

Floats = NDArray[np.float32]

CUTS = {
    "block_3_expand_relu": 4,
    "block_6_expand_relu": 8,
    "block_13_expand_relu": 16,
}  # the last of a stride
PATCHCORE_CUTS = tuple(CUTS)[1:]  # "layer2" and "layer3" of the paper
SIGMA_PX = 4.0  # of the Gaussian over the map, in both papers
GROUPS = 10  # of the jackknife
PART = 64  # channels
CELLS = 256  # whose covariances are inverted at a time


class Network:
    """MobileNetV2 in float32, up to some of CUTS."""

    def __init__(self, cuts: Sequence[str], side: int, weights: str) -> None:
        import keras
        import tensorflow as tf

        base = keras.applications.MobileNetV2(
            input_shape=(side, side, 3), include_top=False, weights=None if weights == "none" else weights
        )
        model = keras.Model(base.input, [base.get_layer(cut).output for cut in cuts])
        self._run = tf.function(lambda pixels: model(pixels, training=False), autograph=False)
        self.side = side
        self.cuts = tuple(cuts)

    def maps(self, sample: Sample) -> list[Floats]:
        """(h, w, channels) of each cut."""
        scaled = squared(sample, self.side)[np.newaxis].astype(np.float32) / np.float32(127.5) - np.float32(1)
        return [found.numpy()[0] for found in self._run(scaled)]


def squared(sample: Sample, side: int) -> NDArray[np.uint8]:
    """The whole image, (side, side, 3)."""
    return resized(read_image(sample.path)[0], Size(side, side))


class Method(Protocol):
    """Fitted to good images, it judges any."""

    network: Network

    def judge(self, maps: Sequence[Floats]) -> tuple[float, Floats]:
        """(score, map (side, side)); the greater the stranger."""

    @property
    def megabytes(self) -> float:
        """Of what is kept of the good images."""


# ---- PatchCore


class PatchCore:
    """Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022; its equations."""

    def __init__(
        self, network: Network, good: Sequence[Sample], seed: int, ratio: float = 0.1, neighbours: int = 9
    ) -> None:
        """`ratio` of the patches is kept; `neighbours` weigh the score (both are their code's values)."""
        self.network = network
        self._neighbours = neighbours
        patches = np.concatenate([_patches(network.maps(one)) for one in tqdm(good, desc="PatchCore")])
        kept = coreset(patches, max(1, round(ratio * len(patches))), seed)
        self._memory = patches[kept]
        self._squares = (self._memory**2).sum(1)

    @property
    def megabytes(self) -> float:
        return self._memory.nbytes / 2**20

    def judge(self, maps: Sequence[Floats]) -> tuple[float, Floats]:
        patches = _patches(maps)
        distances = self._distances(patches)
        nearest = distances.argmin(1)
        least = distances[np.arange(len(patches)), nearest]
        strangest = int(least.argmax())  # eq. 6
        weight = self._weight(patches[strangest], int(nearest[strangest]))
        shown = _smoothed(least.reshape(maps[0].shape[:2]), self.network.side)
        return float(weight * least[strangest]), shown

    def _weight(self, patch: Floats, nearest: int) -> float:
        """Eq. 7: less where the nearest patch in the memory has others close to it."""
        around = self._distances(self._memory[nearest : nearest + 1])[0]
        beside = np.argsort(around, kind="stable")[: self._neighbours]
        distances = np.linalg.norm(self._memory[beside] - patch, axis=1).astype(np.float64)
        own = float(np.linalg.norm(self._memory[nearest] - patch))
        return 1.0 - float(np.exp(own - distances.max()) / np.exp(distances - distances.max()).sum())

    def _distances(self, patches: Floats) -> Floats:
        """(patches, memory)."""
        squares = (patches**2).sum(1)[:, np.newaxis] + self._squares - 2 * (patches @ self._memory.T)
        return np.asarray(np.sqrt(np.maximum(squares, 0)), np.float32)


def _patches(maps: Sequence[Floats]) -> Floats:
    """(cells, channels): each cut averaged over 3x3 cells, on the first cut's grid (eq. 1 to 3)."""
    height, width = maps[0].shape[:2]
    averaged = [
        _by_part(one, lambda part: cv2.blur(part, (3, 3), borderType=cv2.BORDER_CONSTANT)) for one in maps
    ]
    joined = [_on_grid(one, width, height, cv2.INTER_LINEAR) for one in averaged]
    return np.concatenate(joined, axis=2).reshape(height * width, -1)


def coreset(patches: Floats, count: int, seed: int) -> NDArray[np.intp]:
    """Which `count` patches are kept: Algorithm 1, the greedy k-centre after a sparse random projection."""
    projected = _projected(patches, seed)
    squares = (projected**2).sum(1)
    chosen = [int(np.random.default_rng(seed).integers(len(patches)))]
    least = np.full(len(patches), np.inf, np.float32)  # of each patch, its squared distance to the nearest
    for _ in tqdm(range(1, count), desc="coreset", mininterval=5):
        newest = chosen[-1]
        np.minimum(least, squares + squares[newest] - 2 * (projected @ projected[newest]), out=least)
        least[newest] = 0
        chosen.append(int(least.argmax()))
    return np.unique(chosen)  # where only copies are left, one comes again


def _projected(patches: Floats, seed: int) -> Floats:
    """Distances change by 0.9 of them at most (Johnson and Lindenstrauss), as in the published code."""
    try:
        projection = SparseRandomProjection(eps=0.9, random_state=seed).fit(patches)
    except ValueError:  # more dimensions would be needed than there are
        return patches
    return np.asarray(projection.transform(patches), np.float32)


# ---- PaDiM


class Padim:
    """Defard et al., "PaDiM: a Patch Distribution Modeling Framework", ICPR 2021; equations of that paper."""

    def __init__(self, network: Network, good: Sequence[Sample], seed: int, channels: int = 100) -> None:
        """`channels`: so many of them, drawn at random (section III-D), describe a cell."""
        self.network = network
        total = sum(one.shape[2] for one in network.maps(good[0]))
        self._drawn = np.sort(np.random.default_rng(seed).permutation(total)[:channels])
        self._mean, self._inverse = self._gaussians(good)

    def _gaussians(self, good: Sequence[Sample]) -> tuple[Floats, Floats]:
        """Eq. 1, with 0.01 I: (mean (cells, channels), inverse covariance (cells, channels, channels))."""
        seen = [self._cells(self.network.maps(sample)) for sample in tqdm(good, desc="PaDiM")]
        cells = np.stack(seen, axis=1)  # (cells, images, channels)
        mean = cells.mean(1)
        cells -= mean[:, np.newaxis]
        inverse = np.empty((len(mean), mean.shape[1], mean.shape[1]), np.float32)
        for start in range(0, len(mean), CELLS):
            own = cells[start : start + CELLS]
            covariance = np.matmul(own.swapaxes(1, 2), own).astype(np.float64) / max(1, len(good) - 1)
            inverse[start : start + CELLS] = np.linalg.inv(covariance + 0.01 * np.eye(mean.shape[1]))
        return mean, inverse

    @property
    def megabytes(self) -> float:
        return (self._mean.nbytes + self._inverse.nbytes) / 2**20

    def judge(self, maps: Sequence[Floats]) -> tuple[float, Floats]:
        """Eq. 2, Mahalanobis' distance; the score is the map's greatest value."""
        away = self._cells(maps) - self._mean
        squares = ((away[:, np.newaxis] @ self._inverse)[:, 0] * away).sum(1)
        distances = np.sqrt(np.maximum(squares, 0)).reshape(maps[0].shape[:2])
        shown = _smoothed(distances, self.network.side)
        return float(shown.max()), shown

    def _cells(self, maps: Sequence[Floats]) -> Floats:
        """(cells, channels): the drawn channels of all cuts on the first one's grid."""
        height, width = maps[0].shape[:2]
        ends = np.cumsum([one.shape[2] for one in maps])
        found = []
        for one, end in zip(maps, ends, strict=True):
            own = self._drawn[(self._drawn >= end - one.shape[2]) & (self._drawn < end)] - end + one.shape[2]
            if len(own):
                found.append(_on_grid(one[:, :, own], width, height, cv2.INTER_NEAREST))
        return np.concatenate(found, axis=2).reshape(height * width, -1)


def _on_grid(values: Floats, width: int, height: int, how: int) -> Floats:
    """(h, w, channels) on another grid."""
    if values.shape[:2] == (height, width):
        return values
    return _by_part(values, lambda part: cv2.resize(part, (width, height), interpolation=how))


def _by_part(values: Floats, change: Callable[[Floats], Any]) -> Floats:
    """A change of an image of many channels, some at a time: OpenCV's images have 512 at most."""
    parts = [values[:, :, start : start + PART] for start in range(0, values.shape[2], PART)]
    changed = [change(np.ascontiguousarray(part)) for part in parts]
    return np.concatenate([one.reshape(*one.shape[:2], -1) for one in changed], axis=2)


def _smoothed(distances: Floats, side: int) -> Floats:
    shown = cv2.resize(distances.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(shown, (0, 0), SIGMA_PX), np.float32)


# ---- figures


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its standard error; None where it is not defined."""

    value: float | None
    error: float | None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        return f"{self.value:.3f}" + ("" if self.error is None else f" ± {self.error:.3f}")


@dataclass(frozen=True, slots=True)
class Figures:
    """How well test images were ranked and their defects found: over images, and over pixels."""

    auroc: Figure
    pixel_auroc: Figure
    aupro: Figure
    pointing: Figure


def figures(samples: Sequence[Sample], scores: Sequence[float], maps: Sequence[Floats]) -> Figures:
    """Of scores and maps of any size, compared at the image's own. Errors of pixels: by jackknife."""
    labels = np.array([sample.label for sample in samples])
    known = [index for index, sample in enumerate(samples) if sample.has_truth]
    whole = _pixel_figures(samples, maps, known)
    parts = [
        _pixel_figures(samples, maps, [one for at, one in enumerate(known) if at % GROUPS != group])
        for group in range(GROUPS)
    ]
    pixel = [Figure(value, _jackknifed([part[at] for part in parts])) for at, value in enumerate(whole)]
    return Figures(auroc_figure(labels, np.asarray(scores)), *pixel)


def auroc_figure(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> Figure:
    """With its standard error by DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988)."""
    good, bad = scores[labels == 0], scores[labels == 1]
    value = metrics.auroc(labels, scores)
    if value is None or min(len(good), len(bad)) < 2:
        return Figure(value, None)
    above = (bad[:, np.newaxis] > good) + 0.5 * (bad[:, np.newaxis] == good)
    variance = above.mean(1).var(ddof=1) / len(bad) + above.mean(0).var(ddof=1) / len(good)
    return Figure(value, float(np.sqrt(variance)))


def _pixel_figures(
    samples: Sequence[Sample], maps: Sequence[Floats], indices: Sequence[int]
) -> tuple[float | None, float | None, float | None]:
    tally = metrics.PixelTally(
        min(float(maps[index].min()) for index in indices), max(float(maps[index].max()) for index in indices)
    )
    for index in indices:
        mask = read_mask(samples[index])
        if mask is not None:
            height, width = mask.shape
            tally.add(cv2.resize(maps[index], (width, height), interpolation=cv2.INTER_LINEAR), mask)
    return tally.auroc, tally.aupro, tally.pointing_hit_rate


def _jackknifed(parts: Sequence[float | None]) -> float | None:
    """The standard error from leaving out a tenth at a time (Efron, 1982)."""
    known = np.array([part for part in parts if part is not None])
    if len(known) < len(parts):
        return None
    return float(np.sqrt((len(known) - 1) / len(known) * ((known - known.mean()) ** 2).sum()))


# ---- the table


@dataclass(frozen=True, slots=True)
class Row:
    """What one method did. `network_ms`, `rest_ms`: medians of an image."""

    name: str
    figures: Figures
    network_ms: float
    rest_ms: float
    megabytes: float

    def __str__(self) -> str:
        found = self.figures
        cells = [self.name, found.auroc, found.pixel_auroc, found.aupro, found.pointing]
        times = [f"{self.network_ms:.1f}", f"{self.rest_ms:.1f}", f"{self.megabytes:.1f}"]
        return f"| {' | '.join([*map(str, cells), *times])} |"


HEAD = (
    "| | image AUROC | pixel AUROC | AUPRO | pointing | network ms | rest ms | MB |\n"
    "|---|---|---|---|---|---|---|---|"
)


def row(name: str, method: Method, test: Sequence[Sample]) -> Row:
    """The method judged on test images."""
    scores, shown, network_ms, rest_ms = [], [], [], []
    for sample in tqdm(test, desc=f"{name} judges"):
        start = time.perf_counter()
        maps = method.network.maps(sample)
        seen = time.perf_counter()
        score, found = method.judge(maps)
        rest_ms.append((time.perf_counter() - seen) * 1e3)
        network_ms.append((seen - start) * 1e3)
        scores.append(score)
        shown.append(found)
    median = [float(np.median(times)) for times in (network_ms, rest_ms)]
    return Row(name, figures(test, scores, shown), *median, method.megabytes)


def baselines(
    good: Sequence[Sample], test: Sequence[Sample], side: int, weights: str, seed: int
) -> list[Row]:
    """Both methods, fitted to the good images and judged on the test images."""
    return [row(name, fit(good, side, weights, seed), test) for name, fit in METHODS.items()]


def patchcore(good: Sequence[Sample], side: int, weights: str, seed: int) -> PatchCore:
    """PatchCore of 10 percent, fitted."""
    return PatchCore(Network(PATCHCORE_CUTS, side, weights), good, seed)


def padim(good: Sequence[Sample], side: int, weights: str, seed: int) -> Padim:
    """PaDiM of 100 channels, fitted."""
    return Padim(Network(tuple(CUTS), side, weights), good, seed)


METHODS = {"PatchCore, float": patchcore, "PaDiM, float": padim}


def anomalib_rows(
    python: str, good: Sequence[Sample], test: Sequence[Sample], side: int, weights: str, seed: int
) -> Iterator[Row]:
    """Of anomalib's own PatchCore and PaDiM; RuntimeError says what it said where it does not run."""
    import keras

    base = keras.applications.MobileNetV2(input_shape=(side, side, 3), include_top=False, weights=weights)
    arrays = {f"{one.name}/{at}": value for one in base.layers for at, value in enumerate(one.get_weights())}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "weights.npz", **arrays)
        for file, samples in (("good.npy", good), ("test.npy", test)):
            np.save(folder / file, np.stack([squared(sample, side) for sample in samples]))
        for method, title in (("patchcore", "PatchCore"), ("padim", "PaDiM")):
            script = Path(__file__).with_name("anomalib_judge.py")
            command = (python, str(script), method, name, str(seed))
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{python}: anomalib does not run: {done.stderr.strip()[-300:]}")
            with np.load(folder / "found.npz") as found:
                judged = figures(test, found["scores"], found["maps"])
                times = float(found["network_ms"]), float(found["rest_ms"]), float(found["megabytes"])
                yield Row(f"{title}, anomalib {found['version']}", judged, *times)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="as of trainer.fit")
    parser.add_argument("--weights", required=True, metavar="FILE", help="imagenet, none or a .h5 file")
    parser.add_argument("--side", type=int, default=256, metavar="PX", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--images", type=int, metavar="N", help="good images to draw; default: all of train")
    parser.add_argument("--only", choices=tuple(METHODS), action="append", help="one of them")
    parser.add_argument("--anomalib", metavar="PYTHON", help="interpreter of an environment that has it")
    options = parser.parse_args()
    samples = load(options.data, "auto", protocol="given", seed=options.seed).samples
    good = [sample for sample in samples if sample.split == "train" and not sample.label]
    if options.images is not None and options.images < len(good):
        drawn = np.random.default_rng(options.seed).permutation(len(good))[: options.images]
        good = [good[index] for index in np.sort(drawn)]
    test = [sample for sample in samples if sample.split == "test"]
    print(f"{len(good)} good images; test: {len(test)}, {sum(sample.label for sample in test)} defective")
    print(HEAD)
    for name in options.only or METHODS:
        print(row(name, METHODS[name](good, options.side, options.weights, options.seed), test), flush=True)
    if options.anomalib is None:
        print("anomalib itself: not asked for (--anomalib PYTHON)")
        return
    try:
        for found in anomalib_rows(options.anomalib, good, test, options.side, options.weights, options.seed):
            print(found, flush=True)
    except (OSError, RuntimeError) as error:
        print(f"anomalib itself: {error}")


if __name__ == "__main__":
    main()
