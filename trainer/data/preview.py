"""A sheet of images beside the copies that [augment] makes of them, to look at before anything is trained.

A row is one image: as it is, then copies of it, the outline of its mask drawn in. Defective images first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from device.errors import StorageError
from device.image.geometry import Size
from trainer.config import AugmentConfig, TrainerConfig
from trainer.data import dataset as datasets
from trainer.data.augment import Augmentation, Grain, Mask
from trainer.data.dataset import Sample, read_mask, read_shown
from trainer.data.splits import few

log = logging.getLogger(__name__)

ROWS = 8
COPIES = 7
CELL_PX = 176
GAP_PX = 4
LARGEST_PX = 1024  # the greater side that copies are made at
OUTLINE = (255, 60, 0)
GROUND = 32
GRAIN_IMAGES = 16  # that the direction of the grain is measured on

Pixels = NDArray[np.uint8]


def of_fit(
    path: Path, config: TrainerConfig, *, data: Sequence[Path], format: str, limit: int | None, seed: int
) -> Path:
    """`trainer.fit --preview-augmentation FILE.png`: the path of the sheet. Raises EdgeVisionError."""
    most = config.data.limit if limit is None else limit
    dataset = datasets.load(data, format, seed=seed, protocol="given", limit=most)
    warn(dataset.samples, config.augment)
    augmentation = Augmentation.of(config.augment, mirrored=True, turned=True)
    if "auto" in (
        config.augment.flip_horizontal,
        config.augment.flip_vertical,
        config.augment.quarter_turns,
    ):
        log.info('"auto" is shown as done; in training it is where the probe ranks better with such copies')
    write(path, sheet(_shown(dataset.samples, seed), augmentation, seed))
    return path


def warn(samples: Sequence[Sample], config: AugmentConfig) -> None:
    """Say in the log where the settings turn a grain that the images have."""
    augmentation = Augmentation.of(config, mirrored=False, turned=False)
    if not (augmentation.rotation_deg or augmentation.quarter_turns):
        return
    good = [sample for sample in samples if sample.label == 0]
    images = [read_shown(sample) for sample in few(good, GRAIN_IMAGES, 0)]
    objection = Grain.of(images).objection(augmentation) if images else ""
    if objection:
        log.warning("%s", objection)


def _shown(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Defective and good ones, of all kinds in turn."""
    halves = [
        few([sample for sample in samples if sample.label == label], ROWS // 2, seed) for label in (1, 0)
    ]
    return halves[0] + halves[1]


def sheet(samples: Sequence[Sample], augmentation: Augmentation, seed: int) -> Pixels:
    """(h, w, 3) RGB: a row a sample, the image itself and COPIES of it. Raises FrameError."""
    return np.concatenate(
        [_row(sample, augmentation, seed + number) for number, sample in enumerate(samples)]
    )


def _row(sample: Sample, augmentation: Augmentation, seed: int) -> Pixels:
    pixels, mask = _read(sample)
    rng = np.random.default_rng(seed)
    pairs = [(pixels, mask), *(augmentation.apply(pixels, mask, rng) for _ in range(COPIES))]
    return np.concatenate([_cell(*pair) for pair in pairs], axis=1)


def _read(sample: Sample) -> tuple[Pixels, Mask | None]:
    image = read_shown(sample)
    scale = min(1.0, LARGEST_PX / max(sample.size.width, sample.size.height))
    size = Size(max(1, round(sample.size.width * scale)), max(1, round(sample.size.height * scale)))
    mask = read_mask(sample, size)
    if scale < 1:
        image = np.asarray(
            cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_AREA), np.uint8
        )
    return image, None if mask is None else mask.astype(np.uint8)


def _cell(pixels: Pixels, mask: Mask | None) -> Pixels:
    """An image within CELL_PX, its mask's outline over it, a gap around it."""
    height, width = pixels.shape[:2]
    scale = CELL_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shown = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    if mask is not None and mask.any():
        small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        outlines, _ = cv2.findContours(small.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        shown = np.ascontiguousarray(shown)
        cv2.drawContours(shown, outlines, -1, OUTLINE, 1)
    cell = np.full((CELL_PX + GAP_PX, CELL_PX + GAP_PX, 3), GROUND, np.uint8)
    cell[: size[1], : size[0]] = shown
    return cell


def write(path: Path, image: Pixels) -> None:
    """As PNG, whatever the name ends in. Raises StorageError."""
    encoded = cv2.imencode(".png", np.ascontiguousarray(image[:, :, ::-1]))[1]
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise StorageError(f"--preview-augmentation {path}: cannot be written: {error.strerror}") from None
