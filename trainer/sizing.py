"""The model's input, chosen from the data: native size up to a limit, and smaller where no defect is lost."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence

import cv2
import numpy as np

from device.bundle import Colour, PreprocessSpec
from device.errors import ConfigError
from device.frame import read_image
from device.geometry import Size
from trainer.config import InputConfig
from trainer.data import Sample, read_mask

log = logging.getLogger(__name__)

STEP = 32  # the last cut's stride: every size is a multiple of it
PADDING = 114  # mid gray around a letterboxed image
SMALLEST_QUANTILE = 0.05  # of the defects' widths: one stray mask does not decide
COLOUR_SAMPLES = 16


def candidates(samples: Sequence[Sample], config: InputConfig, side: int | None) -> list[PreprocessSpec]:
    """The inputs to try, the greatest first; `side` fixes the greater side to one value.

    Raises ConfigError where `side` is not a multiple of 32 within 32..4096.
    """
    native = native_size(samples)
    longer = max(native.width, native.height)
    if side is not None:
        if side % STEP or not STEP <= side <= 4096:
            raise ConfigError(f"--input-size: must be a multiple of {STEP} from {STEP} to 4096, got {side}")
        sides = [float(side)]
    else:
        sides = _sides(samples, config, longer)
    sizes = dict.fromkeys(_rounded(native, each / longer) for each in sides)
    colour = _colour(samples)
    log.info(
        "images are %dx%d (%s); inputs to try: %s",
        native.width,
        native.height,
        colour,
        ", ".join(f"{size.width}x{size.height}" for size in sizes),
    )
    return [PreprocessSpec(size, config.resize, colour, PADDING) for size in sizes]


def native_size(samples: Sequence[Sample]) -> Size:
    """The greatest size of the images; where they differ in aspect, a square of the median greater side."""
    sizes = {sample.size for sample in samples}
    if one_aspect(samples):
        return max(sizes, key=lambda size: (size.width, size.height))
    side = round(statistics.median(max(sample.size.width, sample.size.height) for sample in samples))
    return Size(side, side)


def one_aspect(samples: Sequence[Sample]) -> bool:
    """Whether all images have the same ratio of width to height, within 2 percent."""
    ratios = [sample.size.width / sample.size.height for sample in samples]
    return max(ratios) <= 1.02 * min(ratios)


def _sides(samples: Sequence[Sample], config: InputConfig, longer: int) -> list[float]:
    greatest = min(float(longer), float(config.max_size))
    smallest_defect = _smallest_defect_px(samples)
    left = smallest_defect * greatest / longer if smallest_defect else None
    if greatest < longer:
        log.warning(
            "images have up to %d px on a side and [input] max_size is %d: defects shrink%s; "
            "raise max_size, or crop to the part",
            longer,
            config.max_size,
            f" to {left:.1f} px from {smallest_defect:.1f}" if left else "",
        )
    return [
        greatest * scale
        for scale in sorted(config.scales, reverse=True)
        if scale == max(config.scales) or left is None or left * scale >= config.min_defect_px
    ]


def _smallest_defect_px(samples: Sequence[Sample]) -> float | None:
    """How narrow defects are: SMALLEST_QUANTILE of the lesser sides of each image's widest defect.

    None without masks.
    """
    widths: list[float] = []
    for sample in samples:
        mask = read_mask(sample) if sample.mask else None
        if mask is not None:
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
            parts = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
            widths.append(float(parts.min(1).max()))
    return float(np.quantile(widths, SMALLEST_QUANTILE)) if widths else None


def _rounded(native: Size, scale: float) -> Size:
    """Up to the next multiple of STEP, so that rounding never shrinks."""
    return Size(
        *(max(STEP, -(-round(side * scale) // STEP) * STEP) for side in (native.width, native.height))
    )


def _colour(samples: Sequence[Sample]) -> Colour:
    """Gray where the three channels of a few images are the same."""
    step = max(1, len(samples) // COLOUR_SAMPLES)
    images = (read_image(sample.path)[0] for sample in samples[::step])
    return "gray" if all((image == image[:, :, :1]).all() for image in images) else "rgb"
