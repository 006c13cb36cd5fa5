"""What the frozen int8 backbone sees in each image, cached once: the mean of every channel of every cut.

And some cells of the images whose masks say which of them are defective (trainer.network.cells).

The mean of a linear head's evidence map is the head applied to these means, so whole candidates are fitted
and compared on a few thousand numbers an image. The features come from the quantized network itself: the head
is fitted to what the device will compute, not to the float network that it was made from.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import PreprocessSpec
from device.image.frame import frame_from_file
from device.inspection.framing import Framing, counted_in_tiles, index_of
from device.inspection.preprocess import ModelInput, Preprocessor
from trainer.data.dataset import Sample
from trainer.data.tiling import mask_on_canvas
from trainer.network import cells
from trainer.network.cells import Cells
from trainer.network.export import Int8Model
from trainer.network.network import CHANNELS, STRIDES, Cuts, Head, map_stride
from trainer.steps import bar

log = logging.getLogger(__name__)

MOST_CELLS = 4096  # of each set of views, about: a fit to so many takes seconds

Pixels = NDArray[np.uint8]
View = Callable[[Pixels], Pixels]  # of a (1, h, w, 3) tensor


def _lit(gain: float) -> View:
    """Every level times `gain`: an exposure as much longer or shorter."""
    levels = np.clip(np.round(np.arange(256) * gain), 0, 255).astype(np.uint8)
    return lambda x: levels[x]


LIT = "lit"
# Each of the first three lists is added to those before it: the image itself; mirrored; turned by a quarter.
# The last, the image in other light, may be added to any of them.
VIEWS: dict[str, tuple[View, ...]] = {
    "as is": (lambda x: x,),
    "mirrored": (lambda x: x[:, :, ::-1], lambda x: x[:, ::-1], lambda x: x[:, ::-1, ::-1]),
    "turned": (
        lambda x: x.transpose(0, 2, 1, 3),
        lambda x: x.transpose(0, 2, 1, 3)[:, :, ::-1],
        lambda x: x.transpose(0, 2, 1, 3)[:, ::-1],
        lambda x: x.transpose(0, 2, 1, 3)[:, ::-1, ::-1],
    ),
    LIT: tuple(_lit(gain) for gain in (0.75, 1.3)),
}


def view_names(
    tiles: int, preprocess: PreprocessSpec, *, turn: bool, max_megapixels: float
) -> tuple[str, ...]:
    """Of the first three of VIEWS as many as the budget of pixels allows.

    `tiles`: of all images. `turn`: whether a quarter turn gives such an image again.
    """
    each = _megapixels(tiles, preprocess)
    names = ["as is"]
    if 4 * each <= max_megapixels:
        names.append("mirrored")
        if turn and 8 * each <= max_megapixels:
            names.append("turned")
    return tuple(names)


def may_be_lit(tiles: int, preprocess: PreprocessSpec, max_megapixels: float) -> bool:
    """Whether the same budget allows copies in other light, of one size of input only."""
    return len(VIEWS[LIT]) * _megapixels(tiles, preprocess) <= max_megapixels


def _megapixels(tiles: int, preprocess: PreprocessSpec) -> float:
    return tiles * preprocess.size.width * preprocess.size.height / 1e6


def inputs(samples: Sequence[Sample], preprocess: PreprocessSpec, why: str) -> Iterator[ModelInput]:
    """The samples as the device would feed them to the model, one at a time, with a progress bar."""
    preprocessor = Preprocessor(preprocess)
    what = f"{why} at {preprocess.size.width}x{preprocess.size.height}"
    for seq, sample in enumerate(bar(samples, what)):
        yield preprocessor.prepare(frame_from_file(sample.path, seq, preprocess.white_level))


class CachingModel:
    """An int8 model that remembers the first images that it was shown, as int8: `room` of them.

    The candidates of a search are judged on the same images, one after the other.
    """

    def __init__(self, model: Int8Model, room: int) -> None:
        self._model, self._room = model, room
        self._seen: dict[bytes, list[NDArray[np.int8]]] = {}  # by the digest of the pixels

    def run(self, tensor: Pixels) -> Iterator[NDArray[np.float32]]:
        """As Int8Model.run."""
        digest = hashlib.blake2b(tensor.data, digest_size=16).digest()
        stored = self._seen.get(digest)
        if stored is None:
            stored = self._model.outputs(tensor)
            if len(self._seen) < self._room:
                self._seen[digest] = stored
        return self._model.real(stored)


@dataclass(frozen=True, slots=True, eq=False)
class ExtractedFeatures:
    """`means`: (views, tiles, channels of all cuts). `cells`: of all views together."""

    means: NDArray[np.float32]
    cells: Cells


def extract(
    backbone: Int8Model | CachingModel, samples: Sequence[Sample], preprocess: PreprocessSpec, views: str
) -> ExtractedFeatures:
    """What the views of that name show, the tiles of one image after those of another.

    `backbone`: its outputs are the cuts of STRIDES.
    """
    ways = VIEWS[views]
    rows: list[list[NDArray[np.float32]]] = []
    known: list[Cells] = []
    prepared = inputs(samples, preprocess, f"features {views}")
    for sample, model_input in zip(samples, prepared, strict=True):
        framing = model_input.framing
        canvas = mask_on_canvas(sample, framing.placement)
        few = max(1, MOST_CELLS // (len(samples) * len(framing.tiles) * len(ways)))
        for tile, box in enumerate(framing.tiles):
            rows.append([])
            for number, view in enumerate(ways):
                cuts = list(backbone.run(np.ascontiguousarray(view(model_input.cut(box)))))
                counted = [_counted(framing, tile, cut.shape[:2], view) for cut in cuts]
                means = [cut[index_of(part)].mean((0, 1)) for cut, part in zip(cuts, counted, strict=True)]
                rows[-1].append(np.concatenate(means))
                if canvas is not None:
                    mask = view(box.of(canvas).astype(np.uint8)[np.newaxis, :, :, np.newaxis])[0, :, :, 0]
                    rng = np.random.default_rng((len(rows), number))
                    truth = cells.truth(np.ascontiguousarray(mask), counted[0])
                    known.append(cells.sampled(cuts, truth, few, len(rows) - 1, rng))
    return ExtractedFeatures(np.asarray(rows, dtype=np.float32).swapaxes(0, 1), Cells.of(known))


def channels_of(features: NDArray[np.float32], cuts: Cuts) -> NDArray[np.float32]:
    """The channels of some cuts among those of all, on the last axis."""
    ends = np.cumsum(list(CHANNELS.values()))
    columns = {
        cut: slice(int(end) - CHANNELS[cut], int(end)) for cut, end in zip(CHANNELS, ends, strict=True)
    }
    return np.concatenate([features[..., columns[cut]] for cut in cuts], axis=-1)


def _counted(framing: Framing, tile: int, shape: tuple[int, ...], view: View) -> NDArray[np.bool_]:
    """(h, w): the cells of a tile's map that the device would pool, where a view has them."""
    height, width = shape
    counted = np.zeros((1, height, width, 1), np.uint8)
    counted[0][counted_in_tiles(framing, (height, width))[tile][2]] = 1
    return view(counted)[0, :, :, 0] > 0


def evidence(cuts: Sequence[NDArray[np.float32]], head: Head) -> NDArray[np.float32]:
    """The maps (h, w, heads) of linear heads on one image's cuts: what network.evidence_model computes."""
    stride = map_stride(head.cuts)
    total: NDArray[np.float32] | float = 0.0
    start = 0
    for cut, features in zip(STRIDES, cuts, strict=True):
        if cut not in head.cuts:
            continue
        weights = head.weights[start : start + features.shape[2]]
        start += features.shape[2]
        total = total + _on_grid(features @ weights, STRIDES[cut], stride)
    return np.asarray(total + head.bias, dtype=np.float32)


def _on_grid(values: NDArray[np.float32], own: int, wanted: int) -> NDArray[np.float32]:
    """Each head's map (h, w) of (h, w, heads), interpolated as network.evidence_model does."""
    if own == wanted:
        return values
    height, width, heads = values.shape
    size = (width * own // wanted, height * own // wanted)
    maps = [cv2.resize(values[:, :, head], size, interpolation=cv2.INTER_LINEAR) for head in range(heads)]
    return np.stack(maps, axis=2)
