"""Images that the model sees in tiles: which tiles of an image are defective, and what they say together.

An image that is seen as a whole is one tile, with the label of the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import PreprocessSpec
from device.image.geometry import Letterbox, Size
from device.inspection.framing import Framing
from device.inspection.preprocess import ModelInput, Pixels
from trainer.data.dataset import Sample, read_mask

MACS_PER_PX = 5969.0  # of MobileNetV2 1.0 without its top, multiply-adds a pixel of its input
GOOD, DEFECTIVE = 0, 1
PERHAPS = 2  # of a defective image without a mask: one of its tiles is, but nobody said which
UNCLEAR = -1  # shows a little of a defect that another tile shows: an example of nothing
LEAST_SHARE = 0.25  # of what the best tile shows of a defect: from here on a tile shows it as well
LEAST_PART = 0.1  # of the greatest part of a mask: smaller ones are its crumbs


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """All tiles of some images, image after image. `image`: the index of its image. `truth`: see above."""

    image: NDArray[np.intp]  # (n,), ascending
    truth: NDArray[np.int8]  # (n,)

    @classmethod
    def of(cls, samples: Sequence[Sample], spec: PreprocessSpec) -> Tiles:
        """Tiles as the device would cut them."""
        truths = [_truth(sample, framing_of(sample.size, spec)) for sample in samples]
        image = np.repeat(np.arange(len(truths)), [len(truth) for truth in truths])
        return cls(image, np.concatenate(truths))

    def __len__(self) -> int:
        return len(self.image)

    def part(self, chosen: NDArray[np.bool_]) -> Tiles:
        """Those of the chosen (n,)."""
        return Tiles(self.image[chosen], self.truth[chosen])

    @property
    def clear(self) -> NDArray[np.bool_]:
        """(n,): all but what shows a little of a defect."""
        return np.asarray(self.truth != UNCLEAR)

    def with_worst(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """(n,): the clear ones, but of those that may be defective only the greatest of each image."""
        chosen: NDArray[np.bool_] = self.clear & (self.truth != PERHAPS)
        perhaps = np.flatnonzero(self.truth == PERHAPS)
        ranked = perhaps[np.argsort(logits[perhaps], kind="stable")]
        chosen[list(dict(zip(self.image[ranked], ranked, strict=True)).values())] = True
        return chosen

    def greatest(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(images,): of each image's tiles the greatest of `values` (n,), as the device scores it."""
        starts = np.flatnonzero(np.diff(self.image, prepend=-1))
        return np.asarray(np.maximum.reduceat(values, starts), np.float64)

    def example(self, image: int) -> int:
        """Which of an image's tiles to show the quantizer: a defective one, and another place each time."""
        truth = self.truth[self.image == image]
        bad = np.flatnonzero(truth == DEFECTIVE)
        tiles = bad if len(bad) else np.arange(len(truth))
        return int(tiles[image % len(tiles)])


@lru_cache(maxsize=64)
def framing_of(size: Size, spec: PreprocessSpec) -> Framing:
    """How images of a size are cut."""
    return Framing.of(size, spec)


def macs(size: Size, spec: PreprocessSpec) -> float:
    """Multiply-adds of the whole backbone for an image of this size, all tiles together."""
    return len(framing_of(size, spec).tiles) * spec.size.width * spec.size.height * MACS_PER_PX


def cuts(model_input: ModelInput) -> Iterator[Pixels]:
    """Every input of the model for one image, (1, h, w, 3) each, in the order of Tiles."""
    return (model_input.cut(tile) for tile in model_input.framing.tiles)


def _truth(sample: Sample, framing: Framing) -> NDArray[np.int8]:
    count = len(framing.tiles)
    if count == 1 or sample.label == 0:
        return np.full(count, sample.label, np.int8)
    mask = read_mask(sample)
    if mask is None:
        return np.full(count, PERHAPS, np.int8)
    shown = _shown(mask, framing)
    truth = np.where(shown.any(1), UNCLEAR, GOOD).astype(np.int8)
    greatest = shown.max(0)
    defects = greatest >= LEAST_PART * greatest.max()
    truth[(shown >= LEAST_SHARE * greatest)[:, defects].any(1)] = DEFECTIVE
    return truth


def _shown(mask: NDArray[np.bool_], framing: Framing) -> NDArray[np.int64]:
    """(tiles, connected parts of the mask): px of the part that the tile shows."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    boxes = [framing.placement.inverse(tile) for tile in framing.tiles]
    return np.array([np.bincount(box.of(labels).ravel(), minlength=count)[1:] for box in boxes])


def mask_on_canvas(sample: Sample, placement: Letterbox) -> NDArray[np.bool_] | None:
    """The mask (h, w) as it lies on the canvas; nothing of it on the padding. None where it is not known."""
    content, target = placement.content, placement.target
    mask = read_mask(sample, Size(content.width, content.height))
    if mask is None:
        return None
    canvas = np.zeros((target.height, target.width), np.bool_)
    content.of(canvas)[:] = mask
    return canvas


def describe(spec: PreprocessSpec) -> dict[str, object]:
    """What one input of the model shows, for the log and for the record in a bundle."""
    size: dict[str, object] = {"input_px": [spec.size.width, spec.size.height]}
    if spec.tiles is None:
        return size
    return {**size, "tiles_px": [spec.tiles.width, spec.tiles.height], "overlap": spec.overlap}
