"""What a decoder is taught with: batches of stored int8 features, each of a fresh copy of its image.

No image is shown twice in the same light, focus, noise and place, and nothing is kept but the images: the
int8 backbone sees every copy anew, in a thread that runs ahead of the training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import PreprocessSpec
from device.image.frame import frame_from_file
from device.image.geometry import Box
from device.image.upright import part as part_of
from device.inspection.preprocess import ModelInput, Preprocessor
from trainer.data.augment import Augmentation
from trainer.data.dataset import Sample
from trainer.data.made_defects import MAKERS, with_defect
from trainer.data.tiling import DEFECTIVE, GOOD, PERHAPS, Tiles, mask_on_canvas
from trainer.data.variation import Variation
from trainer.network.export import Int8Model
from trainer.network.network import shift_px
from trainer.training.losses import LEAST_SHARE

StoredFeatures = list[NDArray[np.int8]]  # of each cut, (n, h, w, channels)
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.uint8]

AHEAD = 2  # batches that are made while one is learned from


@dataclass(frozen=True, slots=True)
class Copies:
    """What is done to an image before it teaches.

    `moved`: share of them that are moved as well as mirrored. `varied`: in other conditions. `made`: of the
    defective ones, the share that are good images with a made defect. `on_part`: these lie on the part, not
    on the plain ground beside it. `apart`: the decoder of a fold is not taught the kind of made defect that
    has the fold's number: it is judged on it.
    """

    augmentation: Augmentation
    moved: float
    variation: Variation
    varied: float
    made: float
    on_part: bool = False
    apart: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """Some copies.

    `stored`: features. `cells` (n, h, w, 1): the share of each that is defective, NaN where no mask tells.
    `labels` (n, 1). `unseen` (n, folds): whose decoders it is kept from.
    """

    stored: StoredFeatures
    cells: Floats
    labels: Floats
    unseen: NDArray[np.bool_]


class Exercises:
    """Every input of the model that some images give, with its label and its mask."""

    def __init__(self, samples: Sequence[Sample], spec: PreprocessSpec, cache_bytes: int) -> None:
        self.samples, self.spec = samples, spec
        self._preprocessor, self._room = Preprocessor(spec), cache_bytes
        self.tiles = Tiles.of(samples, spec)
        self._kept: dict[int, ModelInput] = {}
        self._masks: dict[int, NDArray[np.uint8]] = {}

    def of(self, index: int) -> tuple[Pixels, Mask | None]:
        """(the input (h, w, 3), or (h, w) of a gray one; its mask, None where that is not known)."""
        image = int(self.tiles.image[index])
        found = self._input(image)
        number = index - int(np.searchsorted(self.tiles.image, image))
        box = found.framing.tiles[number]
        pixels = box.of(found.canvas)
        return pixels, self._mask(image, box, found)

    def _input(self, image: int) -> ModelInput:
        found = self._kept.get(image)
        if found is None:
            frame = frame_from_file(self.samples[image].path, image, self.spec.white_level)
            found = self._preprocessor.prepare(frame)
            if found.canvas.nbytes <= self._room:
                self._room -= found.canvas.nbytes
                self._kept[image] = found
        return found

    def _mask(self, image: int, box: Box, found: ModelInput) -> Mask | None:
        sample = self.samples[image]
        if sample.label == 0:
            return np.zeros((box.height, box.width), np.uint8)
        if sample.mask is None:
            return None
        height, width = found.canvas.shape[:2]
        if image not in self._masks:
            canvas = mask_on_canvas(sample, found.placement)
            self._masks[image] = np.packbits(
                np.zeros((height, width), np.bool_) if canvas is None else canvas
            )
        return box.of(np.unpackbits(self._masks[image], count=height * width).reshape(height, width))


class Lessons:
    """Batches without end, each with `size` good copies and as many defective ones of every fold."""

    def __init__(
        self,
        exercises: Exercises,
        fold_of: NDArray[np.int64],
        backbone: Int8Model,
        copies: Copies,
        size: int,
        seed: int,
    ) -> None:
        """`fold_of` (tiles,)."""
        self._exercises, self._backbone, self._copies, self._size = exercises, backbone, copies, size
        self._fold_of, self._seed = fold_of, seed
        truth = exercises.tiles.truth
        self._good = [
            np.flatnonzero((truth == GOOD) & (fold_of == fold)) for fold in range(fold_of.max() + 1)
        ]
        bad = np.isin(truth, (DEFECTIVE, PERHAPS))
        self._bad = [np.flatnonzero(bad & (fold_of == fold)) for fold in range(fold_of.max() + 1)]

    def taught(self, count: int) -> Iterator[Lesson]:
        """So many batches, the same ones each time."""
        with ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(self._lesson, number) for number in range(min(AHEAD, count))]
            for number in range(count):
                yield waiting.pop(0).result()
                if number + AHEAD < count:
                    waiting.append(pool.submit(self._lesson, number + AHEAD))

    def _lesson(self, number: int) -> Lesson:
        rng = np.random.default_rng((self._seed, number))
        folds = len(self._good)
        drawn = [
            (
                int(rng.choice(self._drawable(fold, bad=bad, rng=rng))),
                bad,
                fold,
                int(rng.integers(len(MAKERS))),
            )
            for fold in range(folds)
            for bad in (False, True)
            for _ in range(self._size)
        ]
        copies = [self._copy(index, rng, maker if bad else None) for index, bad, _, maker in drawn]
        kept_from = [{fold, maker} if bad and self._copies.apart else {fold} for _, bad, fold, maker in drawn]
        stored = [self._backbone.outputs(tensor_of(pixels)) for pixels, _ in copies]
        cuts = [np.stack(maps) for maps in zip(*stored, strict=True)]
        shape = cuts[0].shape[1:3]
        return Lesson(
            cuts,
            np.stack([cells_of(mask, (shape[0], shape[1])) for _, mask in copies])[..., np.newaxis],
            np.array([[float(bad)] for _, bad, _, _ in drawn], np.float32),
            np.array([[fold in unseen for fold in range(folds)] for unseen in kept_from]),
        )

    def _drawable(self, fold: int, *, bad: bool, rng: np.random.Generator) -> NDArray[np.intp]:
        """A defective one may be a good one, with a defect to be made."""
        if not bad or not len(self._bad[fold]) or rng.random() < self._copies.made:
            return self._good[fold]
        return self._bad[fold]

    def _copy(self, index: int, rng: np.random.Generator, maker: int | None) -> tuple[Pixels, Mask | None]:
        """`maker`: of a made defect, where a defective copy is to be made of a good image."""
        pixels, mask = self._exercises.of(index)
        if maker is not None and self._exercises.tiles.truth[index] == GOOD:
            pixels, mask = _with_made(pixels, rng, maker, on_part=self._copies.on_part)
        still = rng.random() >= self._copies.moved
        own = self._copies.augmentation
        pixels, mask = (own.still if still else own).apply(pixels, mask, rng)
        if rng.random() < self._copies.varied:
            pixels = self._copies.variation.apply(pixels, rng)
        return pixels, mask


def _with_made(pixels: Pixels, rng: np.random.Generator, maker: int, *, on_part: bool) -> tuple[Pixels, Mask]:
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, np.newaxis], 3, 2)
    changed, mask = with_defect(colour, rng, part_of(colour) if on_part else None, maker)
    return changed if pixels.ndim == 3 else changed[:, :, 0], mask.astype(np.uint8)


def tensor_of(pixels: Pixels) -> Pixels:
    """(1, h, w, 3) of the model's input, gray or not."""
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, np.newaxis], 3, 2)
    return np.ascontiguousarray(colour[np.newaxis])


def cells_of(mask: Mask | None, shape: tuple[int, int]) -> Floats:
    """(h, w): the share of what each cell looks at that is defective; NaN without a mask.

    Of a defect too thin to make any cell defective the shares grow until one is.
    """
    if mask is None:
        return np.full(shape, np.nan, np.float32)
    shift = round(shift_px(mask.shape[1] // shape[1]))
    moved = np.pad(mask, ((0, shift), (0, shift)), mode="edge")[shift:, shift:]
    shares = cv2.resize(moved.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    greatest = float(shares.max())
    if 0 < greatest < LEAST_SHARE:
        return np.asarray(shares * (LEAST_SHARE / greatest), np.float32)
    return np.asarray(shares, np.float32)
