"""A list of images as CSV: path,label and, if wanted, mask,group,split,kind. Commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from device.errors import DataError
from trainer.layouts.inventory import File, Inventory
from trainer.layouts.listing import Entry, Listing
from trainer.layouts.text import read_text
from trainer.layouts.words import Split, label_of, part_of, sides_of

MANIFEST = "manifest.csv"
COLUMNS_NEEDED = ("path", "label")
COLUMNS_OPTIONAL = ("mask", "group", "split", "kind")
COLUMNS = COLUMNS_NEEDED + COLUMNS_OPTIONAL
ALSO_CALLED = {
    "image": "path",
    "image_path": "path",
    "file": "path",
    "filename": "path",
    "file_name": "path",
    "class": "label",
    "verdict": "label",
    "mask_path": "mask",
    "object": "product",
    "category": "product",
}
LABELS_SHOWN = "0, ok, good, normal... or 1, ng, bad, defective..."
ERRORS_SHOWN = 5
TEXT_SHOWN = 80


def manifest_of(inventory: Inventory) -> File | None:
    """manifest.csv of a folder, in whatever case it is written; an empty one is about to be written."""
    found = [file for file in inventory.files if not file.folders and file.base.lower() == MANIFEST]
    return next((file for file in found if file.path.stat().st_size), None)


def read_csv(path: Path) -> Listing:
    """The images that a list names, relative to its own folder, or where none is there to the folder above.

    Wrong rows are a DataError naming their lines; images that are not there are problems.
    """
    rows = list(_rows(path))
    root = _root(path, rows)
    sides = sides_of(part_of(row["split"]) for _, row in rows)
    entries: list[Entry] = []
    problems: list[str] = []
    faults: list[str] = []
    for line, row in rows:
        where = f"{path.name} line {line}"
        if fault := _fault(row):
            faults.append(f"line {line}: {fault}")
        elif (image := _file(root, row["path"])) is None:
            problems.append(f"{where}: no such image: {shortened(row['path'])}")
        else:
            entries.append(_entry(root, where, row, image, sides[part_of(row["split"])], problems))
    if faults:
        more = f"; and {len(faults) - ERRORS_SHOWN} more" if len(faults) > ERRORS_SHOWN else ""
        raise DataError(f"{path}: " + "; ".join(faults[:ERRORS_SHOWN]) + more)
    entries = _with_group_splits(path, entries)
    given = sum(entry.split != "unassigned" for entry in entries)
    rule = f"the split column of {path.name}" if given else ""
    return Listing(root, "csv", tuple(entries), tuple(problems), rule)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) with every known column present, stripped, "" where empty."""
    text = read_text(path)
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(
        io.StringIO(text, newline=""), restkey="surplus", strict=True, delimiter=separator
    )
    try:
        reader.fieldnames = header = _header(path, reader.fieldnames or ())
        for raw in reader:
            if "surplus" in raw:
                raise DataError(f"{path} line {reader.line_num}: {len(header)} fields expected, found more")
            yield reader.line_num, {name: (raw.get(name) or "").strip() for name in (*COLUMNS, "product")}
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: not CSV: {error}") from error


def _header(path: Path, names: Sequence[str]) -> list[str]:
    header = [ALSO_CALLED.get(name.strip().lower(), name.strip().lower()) for name in names]
    columns = f"columns are {','.join(COLUMNS)}"
    for name in COLUMNS_NEEDED:
        if name not in header:
            raise DataError(f"{path} line 1: no column {name!r}: {columns}, got {shortened(str(header))}")
    for name in header:
        if name not in (*COLUMNS, "product") or header.count(name) > 1:
            raise DataError(f"{path} line 1: unknown or repeated column {shortened(name)!r}: {columns}")
    return header


def _fault(row: dict[str, str]) -> str:
    """What is wrong with a row, or ""."""
    if not row["path"]:
        return "path is empty"
    if label_of(row["label"]) is None:
        return f"label must be one of {LABELS_SHOWN}, got {shortened(row['label'])!r}"
    if row["split"] and part_of(row["split"]) is None:
        return f"split must be train, test or empty, got {shortened(row['split'])!r}"
    return ""


def _root(path: Path, rows: list[tuple[int, dict[str, str]]]) -> Path:
    """What paths are relative to: the list's folder, or the one above it if only there an image is found."""
    for root in (path.parent, path.resolve().parent.parent):
        if any(_file(root, row["path"]) for _, row in rows[:ERRORS_SHOWN]):
            return root
    return path.parent


def _file(root: Path, name: str) -> Path | None:
    """The file of that name, written with either slash; None where there is none."""
    for path in dict.fromkeys((root / name, root / PureWindowsPath(name).as_posix())):
        try:
            if name and path.is_file():
                return path
        except OSError:  # a name that no file can have, or a folder that may not be entered
            continue
    return None


def _entry(
    root: Path, where: str, row: dict[str, str], image: Path, split: Split, problems: list[str]
) -> Entry:
    label = label_of(row["label"]) or 0
    mask = _file(root, row["mask"])
    if row["mask"] and mask is None:
        problems.append(f"{where}: no such mask: {shortened(row['mask'])}: kept without")
    kind = row["kind"] or ("defective" if label else "good")
    kind = f"{row['product']}/{kind}" if row["product"] else kind
    return Entry(row["path"], image, label, kind, mask, row["group"] or row["path"], split)


def _with_group_splits(path: Path, entries: list[Entry]) -> list[Entry]:
    """Rows without a split follow their group's; DataError where a group is given both."""
    given: dict[str, Split] = {}
    for entry in entries:
        if entry.split != "unassigned" and given.setdefault(entry.group, entry.split) != entry.split:
            raise DataError(f"{path}: group {entry.group!r} has rows in train and in test: it must be in one")
    return [replace(entry, split=given.get(entry.group, "unassigned")) for entry in entries]


def shortened(text: str) -> str:
    """What a message can hold of a text from outside."""
    return text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}... ({len(text)} characters)"
