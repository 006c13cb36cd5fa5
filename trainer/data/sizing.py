"""The model's input, chosen from the data as a person would: by the usual image, not by the odd one.

Native size up to a limit, tiles beyond it, and smaller ones of the whole image where no defect is lost.
"""

from __future__ import annotations

import logging
import statistics
from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Colour, PreprocessSpec
from device.bundle.calibration import TrainedFrames
from device.errors import ConfigError
from device.image.geometry import Size
from trainer.config import InputConfig
from trainer.data.dataset import Sample, full_scale, read_mask
from trainer.data.tiling import framing_of, macs

log = logging.getLogger(__name__)

STEP = 32  # the last cut's stride: every size is a multiple of it
PADDING = 114  # mid gray around a letterboxed image
SMALLEST_QUANTILE = 0.05  # of the defects' widths: one stray mask does not decide
WHOLE_PX = (512, 384)  # greater sides at which larger images are also looked at as a whole
ALIKE = 1.15  # a size that differs by less than this from another one is not tried beside it
ONE_ASPECT, MOST = 1.1, 0.9  # so many of the images differ by less from the usual ratio of width to height
MANY_TILES = 4  # from more of them on, what each costs is worth a warning
USUAL = (0.02, 0.98)  # quantiles of what was trained on


def candidates(samples: Sequence[Sample], config: InputConfig, side: int | None) -> list[PreprocessSpec]:
    """The inputs to try, the greatest first; `side` fixes the greater side to one value.

    Raises ConfigError where `side` is not a multiple of 32 within 32..4096.
    """
    native = native_size(samples)
    longer = max(native.width, native.height)
    colour, white = _colour(samples), white_level(samples)
    if side is not None:
        if side % STEP or not STEP <= side <= 4096:
            raise ConfigError(f"--input-size: must be a multiple of {STEP} from {STEP} to 4096, got {side}")
        _warn_of_lost_defects(samples, config, side, longer)
        size = _rounded(native, side / longer)
        specs = [PreprocessSpec(size, config.resize, colour, PADDING, white_level=white)]
    else:
        scales = _scales(samples, config, longer)
        specs = list(dict.fromkeys(_spec(native, scale, config, colour, white) for scale in scales))
        specs = _affordable(specs, native, config)
    log.info(
        "images are %s (%s%s); inputs to try: %s",
        _sizes_in_words(samples),
        colour,
        f", level {white} is white" if white else "",
        ", ".join(_in_words(spec, native) for spec in specs),
    )
    _warn_of_many_tiles(specs, native)
    return specs


def native_size(samples: Sequence[Sample]) -> Size:
    """The medians of width and height, or where aspects differ a square of the median greater side."""
    sizes = [sample.size for sample in samples]
    if one_aspect(samples):
        return Size(
            round(statistics.median(size.width for size in sizes)),
            round(statistics.median(size.height for size in sizes)),
        )
    side = round(statistics.median(max(size.width, size.height) for size in sizes))
    return Size(side, side)


def one_aspect(samples: Sequence[Sample]) -> bool:
    """Whether most of the images have about the same ratio of width to height."""
    ratios = np.array([sample.size.width / sample.size.height for sample in samples])
    usual = np.median(ratios)
    near = (ratios < usual * ONE_ASPECT) & (ratios > usual / ONE_ASPECT)
    return bool(near.mean() >= MOST)


def white_level(samples: Sequence[Sample]) -> int | None:
    """Which level of images of more than 8 bits is white: the least full scale that holds all of them.

    None where all have 8 bits.
    """
    return full_scale(max(sample.peak for sample in samples))


def trained_frames(samples: Sequence[Sample]) -> TrainedFrames:
    """The usual sizes of what is trained on; the odd image is left out."""
    widths = np.array([sample.size.width for sample in samples])
    heights = np.array([sample.size.height for sample in samples])

    def usual(values: NDArray[np.int_]) -> tuple[int, int]:
        low, high = np.quantile(values, USUAL, method="nearest")
        return int(low), int(high)

    low, high = np.quantile(widths / heights, USUAL, method="nearest")
    return TrainedFrames(usual(widths), usual(heights), (round(float(low), 4), round(float(high), 4)))


def _scales(samples: Sequence[Sample], config: InputConfig, longer: int) -> list[float]:
    """At which scales to look at images with this greater side, the greatest first.

    Beyond max_size a scale means tiles. Large images are looked at as a whole as well, unless masks say that
    their defects would be lost.
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
    wholes = [side / longer for side in WHOLE_PX if longer > max(WHOLE_PX) >= side <= config.max_size]
    wholes += [whole] if tiled and smallest else []
    others = [greatest * scale for scale in config.scales]
    seen = [
        scale
        for scale in (*wholes, *others)
        if scale == max(others) or not smallest or smallest * scale >= config.min_defect_px
    ]
    return sorted(_unlike(seen), reverse=True)


def _unlike(scales: Sequence[float]) -> list[float]:
    """Those that differ from all before them; the greatest always."""
    kept = [max(scales)]
    for scale in scales:
        if all(max(scale / other, other / scale) >= ALIKE for other in kept):
            kept.append(scale)
    return kept


def _spec(
    native: Size, scale: float, config: InputConfig, colour: Colour, white: int | None
) -> PreprocessSpec:
    """One input for the whole image where that is not larger than max_size, else tiles of that scale."""
    size = _rounded(native, scale)
    if round(max(native.width, native.height) * scale) <= config.max_size:
        return PreprocessSpec(size, config.resize, colour, PADDING, white_level=white)
    side = -(-min(config.tile_size, config.max_size) // STEP) * STEP
    tile = Size(min(side, size.width), min(side, size.height))
    shown = Size(round(tile.width / scale), round(tile.height / scale))
    return PreprocessSpec(
        *(tile, config.resize, colour, PADDING),
        tiles=shown,
        overlap=config.tile_overlap,
        white_level=white,
    )


# ---- what an input costs


def _affordable(specs: list[PreprocessSpec], native: Size, config: InputConfig) -> list[PreprocessSpec]:
    """Those of at most max_macs, or where there is none the cheapest, with a warning."""
    if not config.max_macs:
        return specs
    kept = [spec for spec in specs if macs(native, spec) <= config.max_macs]
    if kept:
        return kept
    cheapest = min(specs, key=lambda spec: macs(native, spec))
    log.warning(
        "[input] max_macs is %.3g, and the cheapest input takes %.3g multiply-adds: %s",
        *(config.max_macs, macs(native, cheapest), _in_words(cheapest, native)),
    )
    return [cheapest]


def _warn_of_many_tiles(specs: Sequence[PreprocessSpec], native: Size) -> None:
    for spec in specs:
        count = len(framing_of(native, spec).tiles)
        if count > MANY_TILES:
            log.warning(
                "%s: each image costs as much as %d; smaller inputs or [input] max_macs are cheaper",
                *(_in_words(spec, native), count),
            )


def _in_words(spec: PreprocessSpec, native: Size) -> str:
    size = f"{spec.size.width}x{spec.size.height}"
    if spec.tiles is not None:
        count = len(framing_of(native, spec).tiles)
        size += f" in {count} tiles of {spec.tiles.width}x{spec.tiles.height} px"
    return f"{size} ({macs(native, spec) / 1e9:.2g} G multiply-adds)"


def _sizes_in_words(samples: Sequence[Sample]) -> str:
    counts = Counter(sample.size for sample in samples)
    if len(counts) == 1:
        [size] = counts
        return f"{size.width}x{size.height}"
    by_area = sorted(counts, key=lambda size: (size.width * size.height, size.width))
    ends = " to ".join(f"{size.width}x{size.height}" for size in (by_area[0], by_area[-1]))
    native = native_size(samples)
    if one_aspect(samples):
        return f"{ends}, usually {native.width}x{native.height}"
    return f"{ends}, of different aspects, shown as {native.width}x{native.height}"


# ---- defects, rounding, colour


def _warn_of_lost_defects(samples: Sequence[Sample], config: InputConfig, side: int, longer: int) -> None:
    smallest = _smallest_defect_px(samples)
    if smallest and smallest * side / longer < config.min_defect_px:
        log.warning(
            "--input-size %d: the smallest defects shrink to %.1f px from %.1f; [input] min_defect_px is %g",
            *(side, smallest * side / longer, smallest, config.min_defect_px),
        )


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
    """Gray where the three channels of every image are the same: colour may be what is wrong with one."""
    return "rgb" if any(sample.coloured for sample in samples) else "gray"
