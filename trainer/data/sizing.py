"""The model's input, chosen from the data: native size up to a limit, and smaller where no defect is lost."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence

import cv2
import numpy as np

from device.bundle.bundle import Colour, PreprocessSpec
from device.errors import ConfigError
from device.image.frame import read_image
from device.image.geometry import Size
from trainer.config import InputConfig
from trainer.data.dataset import Sample, read_mask
from trainer.data.tiling import framing_of

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
    colour = _colour(samples)
    if side is not None:
        if side % STEP or not STEP <= side <= 4096:
            raise ConfigError(f"--input-size: must be a multiple of {STEP} from {STEP} to 4096, got {side}")
        smallest = _smallest_defect_px(samples)
        if smallest and smallest * side / longer < config.min_defect_px:
            log.warning(
                "--input-size %d: the smallest defects shrink to %.1f px from %.1f; [input] min_defect_px "
                "is %g",
                *(side, smallest * side / longer, smallest, config.min_defect_px),
            )
        specs = [PreprocessSpec(_rounded(native, side / longer), config.resize, colour, PADDING)]
    else:
        scales = _scales(samples, config, longer)
        specs = list(dict.fromkeys(_spec(native, scale, config, colour) for scale in scales))
    words = [_in_words(spec, native) for spec in specs]
    log.info(
        "images are %dx%d (%s); inputs to try: %s", native.width, native.height, colour, ", ".join(words)
    )
    return specs


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


def _scales(samples: Sequence[Sample], config: InputConfig, longer: int) -> list[float]:
    """At which scales to look at images with this greater side, the greatest first.

    Beyond max_size a scale means tiles. Then the scale at which the whole image is an input is also tried,
    but only where masks say that it shows the defects.
    """
    whole = min(1.0, config.max_size / longer)
    tiled = whole < 1 and config.tile_size > 0
    smallest = _smallest_defect_px(samples)
    if whole < 1 and not tiled:
        log.warning(
            "images have up to %d px on a side, [input] max_size is %d and tile_size 0: defects shrink%s",
            longer,
            config.max_size,
            f" to {smallest * whole:.1f} px from {smallest:.1f}" if smallest else "",
        )
    greatest = 1.0 if tiled else whole
    scales = [
        greatest * scale
        for scale in sorted(config.scales, reverse=True)
        if scale == max(config.scales) or not smallest or smallest * greatest * scale >= config.min_defect_px
    ]
    if tiled and smallest and smallest * whole >= config.min_defect_px:
        scales.append(whole)
    return sorted(set(scales), reverse=True)


def _spec(native: Size, scale: float, config: InputConfig, colour: Colour) -> PreprocessSpec:
    """One input for the whole image where that is not larger than max_size, else tiles of that scale."""
    size = _rounded(native, scale)
    if round(max(native.width, native.height) * scale) <= config.max_size:
        return PreprocessSpec(size, config.resize, colour, PADDING)
    side = -(-min(config.tile_size, config.max_size) // STEP) * STEP
    tile = Size(min(side, size.width), min(side, size.height))
    shown = Size(round(tile.width / scale), round(tile.height / scale))
    return PreprocessSpec(tile, config.resize, colour, PADDING, tiles=shown, overlap=config.tile_overlap)


def _in_words(spec: PreprocessSpec, native: Size) -> str:
    size = f"{spec.size.width}x{spec.size.height}"
    if spec.tiles is None:
        return size
    count = len(framing_of(native, spec).tiles)
    return f"{size} in {count} tiles of {spec.tiles.width}x{spec.tiles.height} px"


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
