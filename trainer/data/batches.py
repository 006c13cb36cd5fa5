"""Images in batches to learn from: the seed and an epoch's number alone decide what the epoch shows.

So a training that was killed and goes on sees what it would have seen. Model inputs are kept in memory as
uint8, gray ones as one channel, where they fit; else they are decoded anew by threads that run ahead.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import PreprocessSpec
from device.errors import ConfigError
from device.image.frame import frame_from_file
from device.image.geometry import Box, Size
from device.inspection.preprocess import Preprocessor
from trainer.config import SamplingConfig
from trainer.data.augment import Augmentation, Mask, Pixels
from trainer.data.dataset import Sample, read_mask
from trainer.data.tiling import framing_of
from trainer.steps import bar

log = logging.getLogger(__name__)

WORKERS = max(2, min(8, os.cpu_count() or 2))  # OpenCV works outside Python's lock
AHEAD = WORKERS + 1  # batches under way while one is learned from: it bounds the memory
AS_THEY_ARE = Augmentation()
EVEN = SamplingConfig(defective_share=0.5, class_weights="none")

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some images: `pixels` (n, h, w, 3) uint8, or features of them; `labels` and `weights` (n,).

    `cells` (n, h', w'): the share of each cell of the map that is defective, NaN where no mask tells; None
    for a network without a map. `indices` (n,): which of all images each is.
    """

    pixels: NDArray[Any]
    labels: Floats
    cells: Floats | None
    weights: Floats
    indices: Indices


class Images:
    """The model's input for each sample, and which of its pixels are defective."""

    def __init__(self, samples: Sequence[Sample], preprocess: PreprocessSpec, cache_bytes: int) -> None:
        """Reads all of them where they fit into `cache_bytes`. Raises FrameError; ConfigError with tiles."""
        if preprocess.tiles is not None:
            raise ConfigError(
                "[input] tile_size: images that are seen in tiles cannot be learned from in batches"
            )
        self._samples, self._preprocessor = samples, Preprocessor(preprocess)
        self._preprocess = preprocess
        self._pixels: NDArray[np.uint8] | None = None
        self._masks: dict[int, NDArray[np.uint8]] = {}  # packed bits, of defective images with a mask
        needed = self._needed_bytes()
        if needed <= cache_bytes:
            self._pixels = self._read()
            return
        log.info(
            "%d images take %.1f GB and [input] cache_bytes is %.1f GB: they are decoded anew in every epoch",
            len(samples),
            needed / 1e9,
            cache_bytes / 1e9,
        )

    @property
    def size(self) -> Size:
        return self._preprocess.size

    @property
    def cached(self) -> bool:
        return self._pixels is not None

    def content(self, index: int) -> Box:
        """Where in the model's input the image lies; around it is padding."""
        return framing_of(self._samples[index].size, self._preprocess).placement.content

    def of(self, index: int) -> tuple[Pixels, Mask | None]:
        """(the input (h, w, 3), or (h, w) of a gray one; its content's mask, None where it is not known)."""
        if self._pixels is None:
            return self._decoded(index), self._mask(index)
        box = self.content(index)
        if index in self._masks:
            bits = np.unpackbits(self._masks[index], count=box.area_px)
            return self._pixels[index], bits.reshape(box.height, box.width)
        good = self._samples[index].label == 0
        return self._pixels[index], np.zeros((box.height, box.width), np.uint8) if good else None

    def _needed_bytes(self) -> int:
        pixels = self.size.width * self.size.height
        masks = sum(sample.mask is not None for sample in self._samples)
        return len(self._samples) * pixels * len(self._channels or (1,)) + masks * pixels // 8

    @property
    def _channels(self) -> tuple[int, ...]:
        return () if self._preprocess.colour == "gray" else (3,)

    def _read(self) -> NDArray[np.uint8]:
        size = self.size
        pixels = np.empty((len(self._samples), size.height, size.width, *self._channels), np.uint8)

        def read(index: int) -> None:
            pixels[index] = self._decoded(index)
            mask = self._mask(index) if self._samples[index].mask else None
            if mask is not None:
                self._masks[index] = np.packbits(mask)

        with ThreadPoolExecutor(WORKERS) as pool:
            done = pool.map(read, range(len(self._samples)))
            deque(bar(done, "reading", len(self._samples)), maxlen=0)
        return pixels

    def _decoded(self, index: int) -> Pixels:
        path, white = self._samples[index].path, self._preprocess.white_level
        return self._preprocessor.prepare(frame_from_file(path, index, white)).canvas

    def _mask(self, index: int) -> Mask | None:
        box = self.content(index)
        mask = read_mask(self._samples[index], Size(box.width, box.height))
        return None if mask is None else mask.astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Images, or some of them (`only`), in the proportions of `sampling`, each copy augmented anew.

    `grid`: (rows, columns) of the network's map, if it has one.
    """

    images: Images
    labels: Floats
    grid: tuple[int, int] | None
    batch_size: int
    seed: int
    only: Indices
    augmentation: Augmentation = AS_THEY_ARE
    sampling: SamplingConfig = EVEN

    @classmethod
    def read(
        cls,
        samples: Sequence[Sample],
        preprocess: PreprocessSpec,
        grid: tuple[int, int] | None,
        batch_size: int,
        seed: int,
        *,
        augmentation: Augmentation = AS_THEY_ARE,
        sampling: SamplingConfig = EVEN,
        cache_bytes: int = 2**62,
    ) -> Batches:
        """Raises FrameError for an image or mask that has become unreadable."""
        images = Images(samples, preprocess, cache_bytes)
        labels = np.array([sample.label for sample in samples], np.float32)
        everything = np.arange(len(samples))
        return cls(images, labels, grid, batch_size, seed, everything, augmentation, sampling)

    def part(self, chosen: NDArray[np.bool_]) -> Batches:
        """Some of all images; nothing is copied."""
        return replace(self, only=np.flatnonzero(chosen))

    def __len__(self) -> int:
        """Batches of an epoch, the same in each."""
        return math.ceil(sum(self._counts()) / self.batch_size)

    def epoch(self, index: int) -> Iterator[Batch]:
        """Every image once or oftener, in a new order."""
        rng = np.random.default_rng([self.seed, index])
        pairs = zip(self._by_label(), self._counts(), strict=True)
        order = rng.permutation(np.concatenate([_repeated(members, count, rng) for members, count in pairs]))
        weights = self._weights()[self.labels[order].astype(int)]
        return self._in_batches(order, weights, partial(self._augmented, index))

    def judge(self) -> Iterator[Batch]:
        """Every image once, as it is, in its order."""
        return self._in_batches(self.only, np.ones(len(self.only), np.float32), self._plain)

    # ---- how often each image comes

    def _by_label(self) -> tuple[Indices, Indices]:
        """(good, defective)."""
        labels = self.labels[self.only]
        return self.only[labels == 0], self.only[labels == 1]

    def _counts(self) -> tuple[int, int]:
        """How many (good, defective) images an epoch has: all, those of the scarcer label repeated."""
        good, bad = (len(members) for members in self._by_label())
        share = self.sampling.defective_share
        if not share or not good or not bad:
            return good, bad
        return max(good, round(bad * (1 - share) / share)), max(bad, round(good * share / (1 - share)))

    def _weights(self) -> Floats:
        """Of a good and of a defective image; "balanced": either label weighs the same in an epoch."""
        counts = np.array(self._counts(), np.float32)
        if self.sampling.class_weights == "none" or not counts.all():
            return np.ones(2, np.float32)
        return np.asarray(counts.sum() / (2 * counts), np.float32)

    # ---- batches

    def _in_batches(self, order: Indices, weights: Floats, row: Any) -> Iterator[Batch]:
        """In their order, built by threads that run AHEAD batches ahead."""
        starts = range(0, len(order), self.batch_size)
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                for start in starts:
                    part = slice(start, start + self.batch_size)
                    waiting.append(pool.submit(self._batch, order[part], weights[part], start, row))
                    if len(waiting) > AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _batch(self, chosen: Indices, weights: Floats, start: int, row: Any) -> Batch:
        size = self.images.size
        pixels = np.empty((len(chosen), size.height, size.width, 3), np.uint8)
        cells = None if self.grid is None else np.empty((len(chosen), *self.grid), np.float32)
        for place, index in enumerate(chosen):
            image, mask = row(int(index), start + place)
            pixels[place] = image if image.ndim == 3 else image[:, :, np.newaxis]
            if cells is not None and self.grid is not None:
                cells[place] = cell_truth(mask, self.images.content(int(index)), size, self.grid)
        return Batch(pixels, self.labels[chosen], cells, weights, chosen)

    def _plain(self, index: int, place: int) -> tuple[Pixels, Mask | None]:
        return self.images.of(index)

    def _augmented(self, epoch: int, index: int, place: int) -> tuple[Pixels, Mask | None]:
        """A copy of its own for each place in an epoch; padding stays where it is."""
        canvas, mask = self.images.of(index)
        if self.augmentation == AS_THEY_ARE:
            return canvas, mask
        box = self.images.content(index)
        rng = np.random.default_rng([self.seed, epoch, place])
        copy, moved = self.augmentation.apply(np.ascontiguousarray(box.of(canvas)), mask, rng)
        if copy.shape == canvas.shape:
            return copy, moved
        canvas = canvas.copy()
        box.of(canvas)[:] = copy
        return canvas, moved


def _repeated(members: Indices, count: int, rng: np.random.Generator) -> Indices:
    """`count` of them, each as often as any other to within one."""
    if not len(members):
        return members
    whole, rest = divmod(count, len(members))
    return np.concatenate([np.tile(members, whole), rng.choice(members, rest, replace=False)])


def cell_truth(mask: Mask | None, content: Box, size: Size, grid: tuple[int, int]) -> Floats:
    """The share of each cell (rows, columns) of an input that is defective; NaN where no mask tells."""
    rows, columns = grid
    if mask is None:
        return np.full(grid, np.nan, np.float32)
    if (content.width, content.height) != (size.width, size.height):
        whole = np.zeros((size.height, size.width), np.uint8)
        content.of(whole)[:] = mask
        mask = whole
    blocks = mask.reshape(rows, size.height // rows, columns, size.width // columns)
    return np.asarray(blocks.mean((1, 3)), dtype=np.float32)
