"""The data set that goes to a labelling tool and comes back: images with a manifest, as of `device export`.

    DIR/manifest.csv          path,label,...: docs/guide/data.md
    DIR/images/..., DIR/verdicts/<name of the image>.json      where the station's word is known

What was drawn comes back as DIR/masks/<name>.png and as columns of the manifest; the one before is kept.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from device.errors import DataError, StorageError
from device.image.frame import read_levels
from device.image.geometry import Size
from device.system import durable
from trainer.labelling.drawn import Drawing

MANIFEST = "manifest.csv"
MASKS = "masks"
VERDICTS = "verdicts"
_COLUMNS = ("mask", "kind")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A region that the model found, as shares of the image: left, top, width, height; its score 0..1."""

    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of the set. `name`: as in the manifest. `doubt`: 0 where the model was least certain, to 1."""

    name: str
    path: Path
    size: Size
    label: str
    suggestions: tuple[Suggestion, ...]
    model: str
    score: float | None
    doubt: float


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What came back into the manifest."""

    manifest: Path
    kept: Path
    masks: int
    relabelled: int
    untouched: int

    def __str__(self) -> str:
        return (
            f"{self.manifest}: {self.masks} masks, {self.relabelled} labels changed, {self.untouched} images "
            f"as they were; the manifest before is {self.kept.name}"
        )


def pictures(folder: Path) -> list[Picture]:
    """The images of the manifest, those first of which the model was least certain. Raises DataError."""
    _, rows = _read(folder)
    found = [_picture(folder, row) for row in rows]
    return sorted(found, key=lambda picture: (picture.doubt, picture.name))


def merge(folder: Path, drawings: Sequence[Drawing]) -> MergeResult:
    """Write masks and the new manifest. Raises DataError: an image that is not in it; StorageError."""
    columns, rows = _read(folder)
    by_name = {drawing.name: drawing for drawing in drawings}
    if unknown := by_name.keys() - {row["path"] for row in rows}:
        raise DataError(f"{folder / MANIFEST}: has no image {min(unknown)}, and {len(unknown)} in all")
    columns += [column for column in _COLUMNS if column not in columns]
    masks = relabelled = 0
    for row in rows:
        drawing = by_name.get(row["path"])
        if drawing is None or drawing.label is None:
            continue
        _require_size(folder, drawing)
        relabelled += (row["label"].strip().lower() in ("0", "ok", "good")) != (drawing.label == "good")
        row |= {"label": drawing.label, "mask": "", "kind": drawing.kind}
        if drawing.shapes:
            row["mask"] = f"{MASKS}/{Path(drawing.name).with_suffix('').as_posix().replace('/', '-')}.png"
            masks += 1
            durable.write(folder / row["mask"], _png(drawing))
    manifest = folder / MANIFEST
    kept = folder / f"manifest-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.csv"
    try:
        durable.write(kept, manifest.read_bytes())
    except OSError as error:
        raise StorageError(f"{manifest}: cannot be read: {error.strerror}") from error
    durable.write(manifest, _written(columns, rows))
    judged = sum(drawing.label is not None for drawing in by_name.values())
    return MergeResult(manifest, kept, masks, relabelled, len(rows) - judged)


def _read(folder: Path) -> tuple[list[str], list[dict[str, str]]]:
    path = folder / MANIFEST
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
            columns = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not {"path", "label"} <= set(columns):
        raise DataError(f"{path}: must have the columns path and label, has {', '.join(columns) or 'none'}")
    for number, row in enumerate(rows, 2):
        if None in row or any(value is None for value in row.values()):
            raise DataError(f"{path} line {number}: must have {len(columns)} fields")
    if not rows:
        raise DataError(f"{path}: has no image")
    return columns, rows


def _picture(folder: Path, row: Mapping[str, str]) -> Picture:
    path = folder / row["path"]
    image, _ = read_levels(path)
    said = _verdict(folder / VERDICTS / f"{path.stem}.json")
    score, threshold = said.get("score"), said.get("threshold")
    known = isinstance(score, int | float) and isinstance(threshold, int | float)
    return Picture(
        name=row["path"],
        path=path,
        size=Size(image.shape[1], image.shape[0]),
        label=row["label"],
        suggestions=tuple(_suggestions(said)),
        model=str(said.get("model", {}).get("version", "")) if isinstance(said.get("model"), dict) else "",
        score=float(score) if known else None,  # type: ignore[arg-type]
        doubt=abs(float(score) - float(threshold)) if known else 1.0,  # type: ignore[arg-type]
    )


def _verdict(path: Path) -> dict[str, Any]:
    """What the station said of it; nothing where that is not there, as for images from elsewhere."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _suggestions(said: Mapping[str, Any]) -> list[Suggestion]:
    regions = said.get("regions")
    found = regions if isinstance(regions, list) else []
    return [Suggestion(tuple(one["bbox_norm"]), float(one["score"])) for one in found]


def _require_size(folder: Path, drawing: Drawing) -> None:
    if drawing.size is None:
        return
    image, _ = read_levels(folder / drawing.name)
    if image.shape[:2] != (drawing.size.height, drawing.size.width):
        raise DataError(
            f"{drawing.name}: was drawn into at {drawing.size.width}x{drawing.size.height} px, and has "
            f"{image.shape[1]}x{image.shape[0]}"
        )


def _png(drawing: Drawing) -> bytes:
    content: bytes = cv2.imencode(".png", drawing.mask.astype(np.uint8) * 255)[1].tobytes()
    return content


def _written(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
