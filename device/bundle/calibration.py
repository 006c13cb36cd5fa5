"""What a model's numbers mean: the content of a bundle's calibration.json, as frozen values.

calibration.schema.json is the contract of the file. Everything in it is strict but `training` (where the
model comes from) and `metrics` (how good it was), which are objects of any content for people to read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from device.errors import BundleError
from device.image.geometry import Polygon, ResizeMode, Size
from device.image.region_of_interest import RegionOfInterest
from device.image.tiles import STEP
from device.schemas import strict_json

SCHEMA_VERSION = 3
FILE = "calibration.json"
MOST_CHANNELS = 256  # squares of int8 differences of so many add up to less than 2**24, exact in float32
MOST_ITEMS = 65536
MOST_LEVEL_SIDE = 64
MOST_SHARPENED = 10.0
MOST_TOLERANCE = 0.2  # of golden scores: beyond it they would prove nothing
BEYOND = 0.1  # of good images: their greatest cell lies above what is said to be reached
LEAST_REACH = 1e-3  # above the usual, a logit: nothing is divided by 0
SHARE = 0.4  # of the way from the usual to a peak, where no mask tells how far down a region goes
OTHER_SIZE, OTHER_ASPECT = 1.25, 1.1  # factors from which a frame is not like those that were trained on

Colour = Literal["rgb", "gray"]
PoolingKind = Literal["mean", "top"]
MemoryKind = Literal["nearest", "position"]


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How a frame becomes the model's input.

    `size`: of the input, px. `resize`: see geometry.Letterbox. `colour` "gray": luma in all three channels.
    `pad_value`: the level 0..255 around a letterboxed image, and beyond the edge of a tiled one.
    `roi`, `ignore`: see RegionOfInterest; in px of the frame.
    `tiles`: how much of the frame one input shows, frame px; as many as it takes cover the frame. None: one
    input shows all of it, whatever its size. `overlap`: the least share of its side, 0..0.5, that a tile has
    in common with its neighbour.
    `white_level`: of images of more than 8 bits, the level that becomes 255; None: there are none.
    """

    size: Size
    resize: ResizeMode
    colour: Colour
    pad_value: int
    roi: tuple[Polygon, ...] = ()
    ignore: tuple[Polygon, ...] = ()
    tiles: Size | None = None
    overlap: float = 0.0
    white_level: int | None = None

    def __post_init__(self) -> None:
        _require_choice("preprocess.resize", self.resize, ResizeMode)
        _require_choice("preprocess.colour", self.colour, Colour)
        _require(0 <= self.pad_value <= 255, "preprocess.pad_value", "0..255", self.pad_value)
        _require(0 <= self.overlap <= 0.5, "preprocess.overlap", "0..0.5", self.overlap)
        legal = self.tiles is None or self.size.width % STEP == self.size.height % STEP == 0
        _require(legal, "preprocess.size", f"multiples of {STEP} with tiles", str(self.size))
        legal = self.white_level is None or 255 < self.white_level < 65536
        _require(legal, "preprocess.white_level", "256..65535", self.white_level)

    @property
    def region(self) -> RegionOfInterest:
        """What the bundle looks at."""
        return RegionOfInterest(self.roi, self.ignore)


@dataclass(frozen=True, slots=True)
class TrainedFrames:
    """The usual images that a model was trained on: the least and the greatest width, height and aspect.

    `aspect_ratio`: of width to height.
    """

    width_px: tuple[int, int]
    height_px: tuple[int, int]
    aspect_ratio: tuple[float, float]

    def __post_init__(self) -> None:
        for name in ("width_px", "height_px", "aspect_ratio"):
            least, greatest = getattr(self, name)
            legal = 0 < least <= greatest < math.inf
            _require(legal, f"frames.{name}", "[least, greatest], above 0", [least, greatest])

    def unlike(self, size: Size) -> str:
        """How an image of that size differs from all of them, in words; "" where it does not much."""
        ranges = {
            f"{size.width} px wide": (size.width, self.width_px, OTHER_SIZE),
            f"{size.height} px high": (size.height, self.height_px, OTHER_SIZE),
            f"of aspect {size.width / size.height:.2f}": (
                size.width / size.height,
                self.aspect_ratio,
                OTHER_ASPECT,
            ),
        }
        odd = [
            f"{words} (trained on {least:g} to {greatest:g})"
            for words, (value, (least, greatest), factor) in ranges.items()
            if not least / factor <= value <= greatest * factor
        ]
        return ", ".join(odd)


@dataclass(frozen=True, slots=True)
class Quantization:
    """real = (stored - zero_point) * scale (Jacob et al., CVPR 2018)."""

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        positive = math.isfinite(self.scale) and self.scale > 0
        _require(positive, "quantization.scale", "a finite number > 0", self.scale)


@dataclass(frozen=True, slots=True)
class Pooling:
    """How the evidence map becomes one logit.

    `kind` "mean": the mean of all its cells, with share 1. "top": of the ceil(share * n) greatest of n cells.
    `sharpened`: so many times what a cell stands out from those about it is added to it before.
    """

    kind: PoolingKind
    share: float
    sharpened: float = 0.0

    def __post_init__(self) -> None:
        _require_choice("pooling.kind", self.kind, PoolingKind)
        _require(0 < self.share <= 1, "pooling.share", "0 < share <= 1", self.share)
        _require(
            0 <= self.sharpened <= MOST_SHARPENED, "pooling.sharpened", f"0..{MOST_SHARPENED}", self.sharpened
        )
        _require(self.kind != "mean" or self.share == 1, "pooling.share", "1 with kind mean", self.share)


@dataclass(frozen=True, slots=True)
class ScoreCalibration:
    """The pooled logit as a probability of NG (Platt, Advances in Large Margin Classifiers, 1999)."""

    slope: float
    offset: float

    def __post_init__(self) -> None:
        rising = math.isfinite(self.slope) and self.slope > 0
        _require(rising, "score_calibration.slope", "a finite number > 0", self.slope)
        _require(math.isfinite(self.offset), "score_calibration.offset", "a finite number", self.offset)

    def score(self, pooled: float) -> float:
        """1 / (1 + exp(-(slope * pooled + offset))), 0..1."""
        return sigmoid(self.slope * pooled + self.offset)

    def logits(self, evidence: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of each cell: the logit of the score of an image of which all that is pooled is like this cell."""
        return np.asarray(self.slope * evidence + self.offset, np.float32)


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow for any finite logit."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    grown = math.exp(logit)
    return grown / (1.0 + grown)


@dataclass(frozen=True, slots=True)
class ThresholdRow:
    """What an NG threshold did on the images it was chosen on. A ratio without a case is None."""

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    tp: int
    fp: int
    tn: int
    fn: int


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores from `ng` on are NG, from `marginal` on MARGINAL, the others OK.

    `rule`: how they were chosen, in words. `table`: what other thresholds would have done.
    """

    ng: float
    marginal: float
    rule: str
    table: tuple[ThresholdRow, ...]

    def __post_init__(self) -> None:
        _require(0 <= self.ng <= 1, "thresholds.ng", "0..1", self.ng)
        legal = 0 <= self.marginal <= self.ng
        _require(legal, "thresholds.marginal", f"0..{self.ng} (thresholds.ng)", self.marginal)


@dataclass(frozen=True, slots=True)
class ReferenceSpec:
    """How the golden reference is used.

    `cut`: standard deviations from which a difference counts. `least_response`: of the correlation's peak,
    0..1; below it the image is not aligned with the reference, and not compared.
    """

    cut: float
    least_response: float

    def __post_init__(self) -> None:
        _require(0 < self.cut < math.inf, "localization.reference.cut", "a finite number > 0", self.cut)
        response = self.least_response
        _require(0 <= response <= 1, "localization.reference.least_response", "0..1", response)


@dataclass(frozen=True, slots=True)
class Level:
    """By how much good images exceed their own usual at each place: at edges, corners, holes that lie still.

    `rows`: logits >= 0, over the image, MOST_LEVEL_SIDE rows and columns at most; none: nowhere.
    """

    rows: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        widths = {len(row) for row in self.rows}
        legal = len(widths) <= 1 and max(len(self.rows), *widths, 0) <= MOST_LEVEL_SIDE and 0 not in widths
        expected = f"rows of one length, {MOST_LEVEL_SIDE} at most"
        _require(legal, "localization.good.level", expected, f"{len(self.rows)} rows of {sorted(widths)}")
        legal = all(math.isfinite(value) and value >= 0 for row in self.rows for value in row)
        _require(legal, "localization.good.level", "finite numbers >= 0", "others")

    def over(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """What is to be taken from a map (h, w) of the image."""
        if not self.rows:
            return np.zeros(shape, np.float32)
        known = np.array(self.rows, np.float32)
        rows, columns = (
            np.arange(cells) * side // cells for cells, side in zip(shape, known.shape, strict=True)
        )
        return np.asarray(known[rows[:, np.newaxis], columns], np.float32)


@dataclass(frozen=True, slots=True)
class GoodMaps:
    """What the evidence maps of good images reach, in logits, less their level at each place.

    `usual`: the median of their cells. `reach`: above it lies the greatest cell of one good image in ten.
    `share`: how far down a region goes, 0..1, from its own peak (1) to what is usual (0).
    """

    usual: float
    reach: float
    share: float
    level: Level = field(default_factory=Level)

    def __post_init__(self) -> None:
        _require(math.isfinite(self.usual), "localization.good.usual", "a finite number", self.usual)
        legal = math.isfinite(self.reach) and self.reach > self.usual
        _require(legal, "localization.good.reach", f"more than {self.usual} (good.usual)", self.reach)
        _require(0 <= self.share < 1, "localization.good.share", "0 <= share < 1", self.share)

    @classmethod
    def of(cls, usual: float, peaks: Sequence[float], level: Level | None = None) -> GoodMaps:
        """From the greatest cell of each good image."""
        reach = float(np.quantile(peaks, 1 - BEYOND))
        return cls(usual, max(reach, usual + LEAST_REACH), SHARE, level or Level())

    def standing(self, peak: float) -> float:
        """0..1: 0.5 is what good images reach, 0.75 as far again from the usual, 0.9 four times as far."""
        beyond = (peak - self.reach) / (self.reach - self.usual)
        return 0.5 + 0.5 * beyond / (1 + abs(beyond))

    def logits(self, evidence: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of each cell, for a heat map: 0 is what good images reach, -4 the usual."""
        return np.asarray((evidence - self.reach) * np.float32(4 / (self.reach - self.usual)), np.float32)


@dataclass(frozen=True, slots=True)
class LocalizationSpec:
    """How regions are cut out of the evidence map, and out of a difference map where that gives none.

    `cut`: logit from which evidence belongs to a region, or "otsu": chosen for each map (Otsu, IEEE SMC
    1979). `min_area_px`: smaller regions are dropped, frame px. `difference_sigma_px`: of the Gaussian that
    is the background, model input px. `difference_cut`: gray levels from which a difference counts.
    `shift_px`: how far right of and below its own middle a cell looks, model input px: MobileNetV2 pads its
    strided convolutions on one side only. `reference`: of the golden reference in the bundle's reference.npz,
    which speaks before the Gaussian background does; None: there is none. `good`: what a map is compared
    with; None in a bundle from before it was kept, then a map is compared with itself alone.
    """

    cut: float | Literal["otsu"]
    min_area_px: int
    difference_sigma_px: float
    difference_cut: float
    shift_px: float
    reference: ReferenceSpec | None = None
    good: GoodMaps | None = None

    def __post_init__(self) -> None:
        legal = math.isfinite(self.cut) if isinstance(self.cut, (int, float)) else self.cut == "otsu"
        _require(legal, "localization.cut", 'a finite number or "otsu"', self.cut)
        _require(self.min_area_px >= 0, "localization.min_area_px", ">= 0", self.min_area_px)
        sigma_px = self.difference_sigma_px
        _require(0 < sigma_px <= 100, "localization.difference_sigma_px", "0 < sigma <= 100", sigma_px)
        _require(0 <= self.shift_px <= 64, "localization.shift_px", "0..64", self.shift_px)
        _require(0 < self.difference_cut <= 255, "localization.difference_cut", "0..255", self.difference_cut)


@dataclass(frozen=True, slots=True)
class Reference:
    """Mean and standard deviation of a quantity on good training images."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Reference:
        """Of the values of one image each."""
        numbers = np.asarray(list(values), np.float64)
        return cls(float(np.mean(numbers)), float(np.std(numbers)))

    def __post_init__(self) -> None:
        _require(math.isfinite(self.mean), "drift_reference mean", "a finite number", self.mean)
        _require(0 <= self.sd < math.inf, "drift_reference sd", "a finite number >= 0", self.sd)


@dataclass(frozen=True, slots=True)
class DriftReference:
    """What good images looked like: see checks.Checks for all but the score.

    `evidence` is None in a bundle from before it was kept; then it is not watched. `pooled`: the logit behind
    the score, which is not watched; None in a bundle from before it was kept.
    """

    brightness_ratio: Reference
    focus: Reference
    score: Reference
    evidence: Reference | None = None
    pooled: Reference | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """A quantity of pictures. `usual`, `sd`: on good training images.

    What lies below `low` or above `high` the model was not seen to bear; None: no bound.
    """

    usual: float
    sd: float
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        for name in ("usual", "sd", "low", "high"):
            value = getattr(self, name)
            legal = (value is None and name in ("low", "high")) or math.isfinite(value)
            _require(legal, f"familiar {name}", "a finite number", value)
        _require(self.sd > 0, "familiar sd", "> 0", self.sd)
        low, high = (self.usual if bound is None else bound for bound in (self.low, self.high))
        _require(low <= self.usual <= high, "familiar usual", f"{self.low}..{self.high}", self.usual)


@dataclass(frozen=True, slots=True)
class FamiliarRanges:
    """The pictures that the model can judge; any other is MARGINAL (inspection.familiar).

    `rate`: the share of good parts' pictures that was allowed to lie outside. The ranges are of
    checks.Checks.brightness_ratio and evidence, and of checks.Look. `smear`, `fineness`: None in a bundle
    from before they were kept; then they are not looked at.
    """

    rate: float
    brightness: Range
    sharpness: Range
    warmth: Range
    slope_x: Range
    slope_y: Range
    evidence: Range
    smear: Range | None = None
    fineness: Range | None = None

    def __post_init__(self) -> None:
        _require(0 < self.rate < 1, "familiar.rate", "0 < rate < 1", self.rate)


@dataclass(frozen=True, slots=True)
class GoldenVector:
    """An image of the bundle (a name in its folder golden/) and the score it must give."""

    file: str
    score: float


@dataclass(frozen=True, slots=True)
class GoldenSpec:
    """The golden images, and how far a score may be off: interpreters differ by a few steps."""

    tolerance: float
    vectors: tuple[GoldenVector, ...]

    def __post_init__(self) -> None:
        expected = f"0..{MOST_TOLERANCE}"
        _require(0 <= self.tolerance <= MOST_TOLERANCE, "golden.tolerance", expected, self.tolerance)
        _require(bool(self.vectors), "golden.vectors", "one vector or more", self.vectors)
        names = [vector.file for vector in self.vectors]
        _require(len(set(names)) == len(names), "golden.vectors", "each file only once", names)


@dataclass(frozen=True, slots=True)
class MemorySpec:
    """How the model's features become evidence, where the bundle has a memory of good parts (memory.npz).

    `kind` "nearest": a cell's distance is that to the nearest row; "position": to the row of its own place,
    row by row of the map, for parts that lie still. `channels`: of the features; rows have the first
    `row_channels` of them. `items`: how many rows. `sigma_cells`: of the Gaussian over the distances; 0 for
    none. `upright`: the part of an image is turned before the model sees it (upright.py).
    `centre`, `spread`: of a cell's distance, `usual`: of the median of an image's, `image_centre`,
    `image_spread`: of the distance of the whole image.
    The evidence of a cell is (cell - centre) / spread. The score's is pooled from cells * usual / median,
    which takes out light and focus, plus image_weight * (image - image_centre) / image_spread.
    """

    kind: MemoryKind
    channels: int
    row_channels: int
    items: int
    upright: bool
    sigma_cells: float
    usual: float
    centre: float
    spread: float
    image_weight: float
    image_centre: float
    image_spread: float

    def __post_init__(self) -> None:
        _require_choice("memory.kind", self.kind, MemoryKind)
        _require(1 <= self.channels <= MOST_CHANNELS, "memory.channels", f"1..{MOST_CHANNELS}", self.channels)
        legal = 1 <= self.row_channels <= self.channels
        _require(legal, "memory.row_channels", f"1..{self.channels} (memory.channels)", self.row_channels)
        _require(1 <= self.items <= MOST_ITEMS, "memory.items", f"1..{MOST_ITEMS}", self.items)
        _require(0 <= self.sigma_cells <= 8, "memory.sigma_cells", "0..8", self.sigma_cells)
        _require(0 <= self.image_weight < math.inf, "memory.image_weight", "0 or more", self.image_weight)
        for name in ("centre", "image_centre"):
            value = getattr(self, name)
            _require(math.isfinite(value), f"memory.{name}", "a finite number", value)
        for name in ("usual", "spread", "image_spread"):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"memory.{name}", "a finite number > 0", value)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The whole of calibration.json. `created` is RFC 3339, `model_sha256` hex.

    `memory`: None where the model gives evidence itself. `frames`: None in a bundle from before it was kept.
    `familiar`: None where every picture is judged.
    """

    schema_version: int
    model_id: str
    created: str
    model_sha256: str
    preprocess: PreprocessSpec
    input_quantization: Quantization
    output_quantization: Quantization
    pooling: Pooling
    score_calibration: ScoreCalibration
    thresholds: Thresholds
    localization: LocalizationSpec
    drift_reference: DriftReference
    golden: GoldenSpec
    training: dict[str, Any]
    metrics: dict[str, Any]
    memory: MemorySpec | None = None
    frames: TrainedFrames | None = None
    familiar: FamiliarRanges | None = None

    def __post_init__(self) -> None:
        known = self.schema_version == SCHEMA_VERSION
        _require(known, "schema_version", str(SCHEMA_VERSION), self.schema_version)
        digest = self.model_sha256
        _require(re.fullmatch(r"[0-9a-f]{64}", digest), "model_sha256", "64 hex digits", digest)
        _parse_time(self.created)

    def heat(self, evidence: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits of a heat map for evidence of any shape: on the scale of good images, where known."""
        good = self.localization.good
        return self.score_calibration.logits(evidence) if good is None else good.logits(evidence)

    @property
    def created_utc(self) -> datetime:
        """`created` as a time."""
        return _parse_time(self.created)

    @property
    def version(self) -> str:
        """When and what: <UTC yyyymmddThhmmssZ>-<first 8 digits of the model's SHA-256>."""
        return f"{self.created_utc:%Y%m%dT%H%M%SZ}-{self.model_sha256[:8]}"

    def to_json(self) -> str:
        """The text of calibration.json. Raises BundleError: a number not finite, a value not JSON's."""
        try:
            return json.dumps(self._content(), indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise BundleError(f"{FILE}: {error}") from None

    def _content(self) -> dict[str, Any]:
        content = asdict(self)
        for name in ("roi", "ignore"):
            polygons = getattr(self.preprocess, name)
            content["preprocess"][name] = [polygon.corners for polygon in polygons]
        for name in ("evidence", "pooled"):
            if getattr(self.drift_reference, name) is None:
                del content["drift_reference"][name]
        if self.familiar is None:
            del content["familiar"]
        else:
            content["familiar"] = {name: one for name, one in content["familiar"].items() if one is not None}
        if self.localization.good is None:
            del content["localization"]["good"]
        else:
            content["localization"]["good"]["level"] = self.localization.good.level.rows
        if self.preprocess.white_level is None:
            del content["preprocess"]["white_level"]
        if self.frames is None:
            del content["frames"]
        if not self.pooling.sharpened:
            del content["pooling"]["sharpened"]
        return content

    @classmethod
    def from_json(cls, text: str | bytes, source: str = FILE) -> Calibration:
        """The inverse of to_json; what an older version lacked is as it was then.

        Raises BundleError naming `source`, the field and what is wrong.
        """
        try:
            content = _upgraded(strict_json.parse(text))
            strict_json.check(content, strict_json.schema("calibration"))
            return cls(**{name: _PARSERS.get(name, _as_is)(value) for name, value in content.items()})
        except ValueError as error:
            raise BundleError(f"{source}: {error}") from None


def _as_is(value: Any) -> Any:
    return value


def _upgraded(content: Any) -> Any:
    """Version 1 knew no region of interest, tiles or golden reference: it looked at all of a frame as one.

    Versions 1 and 2 knew no memory of good parts.
    """
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in (1, 2) or isinstance(version, bool):
        return content
    upgraded = {**content, "schema_version": SCHEMA_VERSION, "memory": None}
    if version == 2:
        return upgraded
    for section, added in _ADDED_IN_2.items():
        if isinstance(content.get(section), dict):
            upgraded[section] = {**content[section], **added}
    return upgraded


_ADDED_IN_2: dict[str, dict[str, Any]] = {
    "preprocess": {"roi": [], "ignore": [], "tiles": None, "overlap": 0.0},
    "localization": {"reference": None},
}


def _preprocess(value: dict[str, Any]) -> PreprocessSpec:
    parsed = {
        "size": Size(**value["size"]),
        "roi": _polygons(value["roi"]),
        "ignore": _polygons(value["ignore"]),
        "tiles": Size(**value["tiles"]) if value["tiles"] else None,
    }
    return PreprocessSpec(**{**value, **parsed})


def _localization(value: dict[str, Any]) -> LocalizationSpec:
    reference, good = value["reference"], value.get("good")
    parsed = {
        "reference": ReferenceSpec(**reference) if reference else None,
        "good": _good_maps(good) if good else None,
    }
    return LocalizationSpec(**{**value, **parsed})


def _good_maps(value: dict[str, Any]) -> GoodMaps:
    level = Level(tuple(tuple(row) for row in value["level"]))
    return GoodMaps(**{**value, "level": level})


def _polygons(value: list[list[list[int]]]) -> tuple[Polygon, ...]:
    return tuple(Polygon(tuple((x, y) for x, y in corners)) for corners in value)


def _thresholds(value: dict[str, Any]) -> Thresholds:
    return Thresholds(**{**value, "table": tuple(ThresholdRow(**row) for row in value["table"])})


def _drift_reference(value: dict[str, Any]) -> DriftReference:
    return DriftReference(**{name: Reference(**item) for name, item in value.items()})


def _familiar(value: dict[str, Any]) -> FamiliarRanges:
    return FamiliarRanges(value["rate"], **{name: Range(**value[name]) for name in value if name != "rate"})


def _golden(value: dict[str, Any]) -> GoldenSpec:
    return GoldenSpec(value["tolerance"], tuple(GoldenVector(**vector) for vector in value["vectors"]))


_PARSERS: dict[str, Any] = {
    "preprocess": _preprocess,
    "input_quantization": lambda value: Quantization(**value),
    "output_quantization": lambda value: Quantization(**value),
    "pooling": lambda value: Pooling(**value),
    "score_calibration": lambda value: ScoreCalibration(**value),
    "thresholds": _thresholds,
    "localization": _localization,
    "drift_reference": _drift_reference,
    "golden": _golden,
    "familiar": _familiar,
    "memory": lambda value: MemorySpec(**value) if value else None,
    "frames": lambda value: TrainedFrames(**{name: tuple(pair) for name, pair in value.items()}),
}


def _parse_time(text: str) -> datetime:
    """An RFC 3339 time as UTC. Raises ValueError where the text is not one, or has no offset."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError(f"created: must be an RFC 3339 time with its offset, got {strict_json.shown(text)}")
    return time.astimezone(UTC)


def _require(legal: object, field: str, expected: str, found: object) -> None:
    if not legal:
        raise ValueError(f"{field}: must be {expected}, got {strict_json.shown(found)}")


def _require_choice(field: str, found: str, choices: object) -> None:
    names = get_args(choices)
    _require(found in names, field, f"one of {', '.join(names)}", found)
