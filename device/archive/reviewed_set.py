"""Reviewed images as a data set that the trainer reads: copies of the images and a CSV manifest beside them.

    DIR/manifest.csv        path,label,mask,group,split   (docs/guide/data.md; mask and split are empty)
    DIR/images/<event_id>.jpg
    DIR/verdicts/<event_id>.json

A group holds what a split must not separate: images of one part, where parts have an id; else, of a camera
that runs freely, images of one session that are near each other in time, for they may show the same part. An
image that was triggered without a part id is a group of its own.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from device.archive import image_store
from device.archive.review import Review, reviews
from device.errors import ReviewError, StorageError
from device.system import durable

MANIFEST = "manifest.csv"
COLUMNS = ("path", "label", "mask", "group", "split")
FREE_RUN = "free-run"


@dataclass(frozen=True, slots=True)
class Export:
    """What came out. `unsure`: left out, since nobody knows; `missing`: reviewed, and the image is gone."""

    manifest: Path
    ok: int
    ng: int
    unsure: int
    missing: int
    groups: int

    def __str__(self) -> str:
        found = f"{self.ok + self.ng} images ({self.ok} ok, {self.ng} ng) in {self.groups} groups"
        return f"{self.manifest}: {found}; left out: {self.unsure} unsure, {self.missing} without an image"


@dataclass(frozen=True, slots=True)
class _Item:
    """A reviewed image and what its verdict says of where it comes from."""

    said: Review
    image: Path
    session_id: str
    part_id: str | None
    trigger: str
    captured: datetime


def export(state: Path, target: Path, apart_s: float) -> Export:
    """Write the reviewed images of a state folder to `target`, which appears complete or not at all.

    `apart_s`: images of a freely running camera less than this apart are of one group. Raises ReviewError:
    nothing to export. StorageError: `target` is there already, or the disk.
    """
    words = reviews(state)
    labels = Counter(said.label for said in words.values())
    said_clearly = [said for said in words.values() if said.label != "unsure"]
    items = [item for said in said_clearly if (item := _item(state, said)) is not None]
    if not items:
        raise ReviewError(
            f"{state}: no reviewed image to export: {len(words)} events reviewed, {labels['unsure']} of them "
            f"unsure, {len(said_clearly)} without an image"
        )
    groups = _groups(items, timedelta(seconds=apart_s))
    try:
        _write(target, items, groups)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error}") from error
    found = Counter(item.said.label for item in items)
    return Export(
        manifest=target / MANIFEST,
        ok=found["ok"],
        ng=found["ng"],
        unsure=labels["unsure"],
        missing=len(said_clearly) - len(items),
        groups=len(set(groups.values())),
    )


def _item(state: Path, said: Review) -> _Item | None:
    """None where the image is gone, or its verdict cannot be read."""
    try:
        image = image_store.find(state / image_store.FOLDER, said.event_id)
        if image is None:
            return None
        verdict = json.loads(image.with_suffix(image_store.SIDECAR).read_bytes())
        return _Item(
            said,
            image,
            verdict["session_id"],
            verdict["part_id"],
            verdict["trigger"],
            datetime.fromisoformat(verdict["ts"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _groups(items: Sequence[_Item], apart: timedelta) -> dict[str, str]:
    """The group of each event."""
    groups: dict[str, str] = {}
    last: dict[str, _Item] = {}  # of each session, the freely taken image before
    for item in sorted(items, key=lambda item: item.captured):
        event_id = item.said.event_id
        if item.part_id is not None:
            groups[event_id] = f"part {item.part_id}"
        elif item.trigger != FREE_RUN:
            groups[event_id] = event_id
        else:
            before = last.get(item.session_id)
            near = before is not None and item.captured - before.captured < apart
            groups[event_id] = groups[before.said.event_id] if before is not None and near else event_id
            last[item.session_id] = item
    return groups


def _write(target: Path, items: Sequence[_Item], groups: Mapping[str, str]) -> None:
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    durable.make_folder(target.parent)
    draft = target.parent / f".{target.name}-{secrets.token_hex(4)}.draft"
    try:
        for folder in (draft, draft / "images", draft / "verdicts"):
            folder.mkdir()
        listing = io.StringIO()
        writer = csv.writer(listing, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_row(draft, item, groups) for item in items)
        durable.create(draft / MANIFEST, listing.getvalue().encode())
        durable.sync_folders(draft)
        draft.rename(target)
        durable.sync_folder(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _row(draft: Path, item: _Item, groups: Mapping[str, str]) -> tuple[str, ...]:
    """Copy an image with its verdict; its line of the manifest."""
    copy = f"images/{item.image.name}"
    durable.create(draft / copy, item.image.read_bytes())
    sidecar = item.image.with_suffix(image_store.SIDECAR)
    durable.create(draft / "verdicts" / sidecar.name, sidecar.read_bytes())
    return copy, item.said.label, "", groups[item.said.event_id], ""
