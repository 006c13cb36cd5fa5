"""What the station says of one frame, and its form on the wire: one JSON object (verdict.schema.json)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from device.bundle.calibration import Thresholds
from device.image.geometry import Box, Size
from device.inspection.checks import Checks
from device.inspection.heat import Heat
from device.schemas import strict_json
from device.system.clock import rfc3339

SCHEMA_VERSION = 1

Word = Literal["OK", "NG", "MARGINAL", "ERROR"]
Method = Literal["evidence", "memory", "reference", "difference"]

_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS_IN_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Region:
    """A place that looks defective, in px of the captured frame.

    `area_px`: of the region itself, which fills its box only in part. `score`: how its strongest cell stands
    to what good images reach (GoodMaps.standing); of a bundle that does not know it, the score of a frame on
    which all that is pooled is like that cell. It ranks regions.
    `method`: the map it was cut from: the model's evidence, the distance from the memory of good parts, the
    difference from the golden reference, or that from the local background.
    """

    box: Box
    area_px: int
    score: float
    method: Method

    def __post_init__(self) -> None:
        _require(self.area_px >= 1, "region.area_px", ">= 1", self.area_px)
        _require(0 <= self.score <= 1, "region.score", "0..1", self.score)
        methods = get_args(Method)
        _require(self.method in methods, "region.method", f"one of {', '.join(methods)}", self.method)


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a frame that the model saw by itself, in px of the frame, and its score."""

    box: Box
    score: float

    def __post_init__(self) -> None:
        _require(0 <= self.score <= 1, "tile.score", "0..1", self.score)


@dataclass(frozen=True, slots=True)
class Votes:
    """How many (`ng`) of the last `of` frames were NG by themselves; `needed` of them make the word NG."""

    ng: int
    of: int
    needed: int

    def __post_init__(self) -> None:
        _require(0 <= self.ng <= self.of, "votes.ng", f"0..{self.of}", self.ng)
        _require(self.needed >= 1, "votes.needed", ">= 1", self.needed)


@dataclass(frozen=True, slots=True)
class Model:
    """The model behind a verdict: its id, Calibration.version, and the SHA-256 of its file in hex."""

    id: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one frame. ERROR is a frame that could not be judged; only then is there no score.

    `captured_ns`: UTC, and not to be trusted unless `clock_synced`. `historical`: delivered later than it
    should have been. `threshold`: the score from which a frame is NG. `image_size` and `image_sha256` are
    None where unknown. `timing_ms`: duration of each stage. `reason`: why ERROR, or why a
    picture cannot be judged and is MARGINAL (NG where other frames outvote it) whatever its score; else None.
    `votes`: None without voting. `tiles`: empty where the frame was looked at as a whole. `camera_metadata`:
    what the camera says of the frame (exposure_us, analogue_gain). `heat`: where the model saw something, of
    what was not OK by itself; it does not travel with the verdict.
    """

    event_id: str
    session_id: str
    seq: int
    historical: bool
    captured_ns: int
    clock_synced: bool
    station: str
    part_id: str | None
    trigger: str
    verdict: Word
    score: float | None
    threshold: float
    model: Model
    regions: tuple[Region, ...]
    image_size: Size | None
    image_sha256: str | None
    image_path: str | None
    timing_ms: Mapping[str, float]
    camera: str
    checks: Checks | None
    reason: str | None = None
    votes: Votes | None = None
    tiles: tuple[Tile, ...] = ()
    camera_metadata: Mapping[str, float | str] = field(default_factory=dict)
    heat: Heat | None = field(default=None, compare=False, repr=False)

    @property
    def at_the_gate(self) -> Word:
        """The word for the line's wires: a doubt about the picture lets no part pass that scores NG."""
        doubted = self.verdict == "MARGINAL" and self.reason is not None
        return "NG" if doubted and self.score is not None and self.score >= self.threshold else self.verdict

    def __post_init__(self) -> None:
        _require(self.verdict in get_args(Word), "verdict", "OK, NG, MARGINAL or ERROR", self.verdict)
        legal = self.reason is None or self.verdict != "OK"
        _require(legal, "reason", "null with OK", self.reason)
        if self.verdict == "ERROR":
            _require(self.score is None, "score", "null with ERROR", self.score)
        else:
            legal = self.score is not None and 0 <= self.score <= 1
            _require(legal, "score", f"0..1 with {self.verdict}", self.score)
        found = self.verdict in ("NG", "MARGINAL")
        _require(found or not self.regions, "regions", f"empty with {self.verdict}", len(self.regions))
        located = self.image_size is not None or not self.regions
        _require(located, "image_size", "known where there are regions", self.image_size)
        _require("name" not in self.camera_metadata, "camera_metadata", "without `name`", self.camera)
        _require(self.seq >= 0, "seq", ">= 0", self.seq)

    def to_json(self) -> str:
        """The verdict as one line of compact JSON. The time is cut to whole milliseconds."""
        size = self.image_size
        content = {
            "schema": SCHEMA_VERSION,
            "event_id": self.event_id,
            "session_id": self.session_id,
            "seq": self.seq,
            "historical": self.historical,
            "ts": rfc3339(self.captured_ns),
            "clock_synced": self.clock_synced,
            "station": self.station,
            "part_id": self.part_id,
            "trigger": self.trigger,
            "verdict": self.verdict,
            "reason": self.reason,
            "votes": _votes_content(self.votes),
            "score": self.score,
            "threshold": self.threshold,
            "model": {"id": self.model.id, "version": self.model.version, "sha256": self.model.sha256},
            "regions": [_region_content(region, size) for region in self.regions if size is not None],
            "tiles": [{"bbox_px": _box_content(tile.box), "score": tile.score} for tile in self.tiles],
            "image": {
                "w": size.width if size else None,
                "h": size.height if size else None,
                "sha256": self.image_sha256,
                "path": self.image_path,
            },
            "timing_ms": dict(self.timing_ms),
            "camera": {"name": self.camera, **self.camera_metadata},
            "checks": {
                "brightness_ratio": self.checks.brightness_ratio if self.checks else None,
                "focus": self.checks.focus if self.checks else None,
                "evidence": self.checks.evidence if self.checks else None,
            },
        }
        return _to_json(content)

    @classmethod
    def from_json(cls, text: str | bytes) -> Verdict:
        """The inverse of to_json, up to its milliseconds. Raises ValueError naming the wrong field."""
        content = strict_json.parse(text)
        strict_json.check(content, strict_json.schema("verdict"))
        image, checks, camera = content["image"], content["checks"], content["camera"]
        same = (
            "event_id",
            "session_id",
            "seq",
            "historical",
            "clock_synced",
            "station",
            "part_id",
            "trigger",
            "verdict",
            "reason",
            "score",
            "threshold",
            "timing_ms",
        )
        return cls(
            **{name: content[name] for name in same},
            captured_ns=_ns(content["ts"]),
            model=Model(**content["model"]),
            regions=tuple(_region(region) for region in content["regions"]),
            image_size=None if image["w"] is None else Size(image["w"], image["h"]),
            image_sha256=image["sha256"],
            image_path=image["path"],
            camera=camera["name"],
            checks=None if checks["focus"] is None else Checks(**checks),
            votes=Votes(**content["votes"]) if content["votes"] else None,
            tiles=tuple(Tile(Box(*tile["bbox_px"]), tile["score"]) for tile in content["tiles"]),
            camera_metadata={key: value for key, value in camera.items() if key != "name"},
        )


def event_id(session_id: str, seq: int) -> str:
    """The name of a verdict everywhere: that number in that session."""
    return f"{session_id}-{seq:08d}"


def as_historical(payload: str) -> str:
    """What to_json() gave, as a verdict that is delivered late. Nothing else of it changes, not even a digit.

    The text that is replaced cannot stand inside a string: there a backslash precedes each quotation mark.
    """
    return payload.replace('"historical":false', '"historical":true', 1)


def decide(score: float, thresholds: Thresholds) -> Word:
    """NG from thresholds.ng on, MARGINAL from thresholds.marginal on, else OK. ValueError: not a number."""
    if math.isnan(score):
        raise ValueError("score must be 0..1, got NaN")
    if score >= thresholds.ng:
        return "NG"
    return "MARGINAL" if score >= thresholds.marginal else "OK"


def _region_content(region: Region, size: Size) -> dict[str, Any]:
    box = region.box
    return {
        "bbox_px": _box_content(box),
        "bbox_norm": [round(share, 6) for share in box.normalized(size)],
        "area_px": region.area_px,
        "score": region.score,
        "method": region.method,
    }


def _box_content(box: Box) -> list[int]:
    return [box.x, box.y, box.width, box.height]


def _votes_content(votes: Votes | None) -> dict[str, int] | None:
    return {"ng": votes.ng, "of": votes.of, "needed": votes.needed} if votes else None


def _region(content: dict[str, Any]) -> Region:
    return Region(Box(*content["bbox_px"]), content["area_px"], content["score"], content["method"])


def _ns(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1) * _NS_IN_MS


def _require(legal: bool, field: str, expected: str, found: object) -> None:
    if not legal:
        raise ValueError(f"{field}: must be {expected}, got {found!r}")
