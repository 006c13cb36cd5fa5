"""The layouts on disk that the trainer reads: DAGM's, MVTec's and a CSV manifest.

Each reader turns a path into a Listing of what the layout *claims*; dataset.py opens the files and checks.
Names are compared without regard to case: DAGM is shipped with both .PNG and .png.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from device.errors import DataError
from device.image.image_file import IMAGE_SUFFIXES

Split = Literal["train", "test", "unassigned"]

LABEL_WORDS = {"0": 0, "ok": 0, "good": 0, "1": 1, "ng": 1, "defective": 1}
SPLIT_WORDS: dict[str, Split] = {"train": "train", "test": "test", "": "unassigned"}
COLUMNS_NEEDED = ("path", "label")
COLUMNS_OPTIONAL = ("mask", "group", "split", "kind")
MANIFEST = "manifest.csv"
ERRORS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One image as the layout describes it; nothing of it has been opened."""

    name: str  # as the layout writes it, relative to the root where it lies under it
    path: Path
    label: int
    kind: str
    mask: Path | None
    group: str
    split: Split


@dataclass(frozen=True, slots=True)
class Listing:
    """What a layout says, and what was wrong with how it says it."""

    root: Path
    format: str
    entries: tuple[Entry, ...]
    problems: tuple[str, ...]
    split_rule: str


def read_layout(path: Path, format: str) -> Listing:
    """The listing of a data set. DataError where the path or the format is not what it should be."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    chosen = detect(path) if format == "auto" else format
    if chosen not in FORMATS:
        raise DataError(f"format must be auto, {', '.join(FORMATS)}, got {format!r}")
    listing = READERS[chosen](path)
    if not listing.entries:
        shown = "; ".join(listing.problems[:ERRORS_SHOWN])
        raise DataError(f"{path}: no images found ({chosen} layout)" + (f": {shown}" if shown else ""))
    return listing


def detect(path: Path) -> str:
    """The format of a path, told by its marks: "dagm", "mvtec" or "csv"; DataError naming what was found."""
    if path.is_file():
        if path.suffix.lower() == ".csv":
            return "csv"
        raise DataError(f"{path}: a file must be a .csv manifest, got {path.suffix or 'no suffix'!r}")
    matching = [name for name, mark in (("dagm", _is_dagm), ("mvtec", _is_mvtec)) if _units(path, mark)]
    matching += ["csv"] if (path / MANIFEST).is_file() else []
    if len(matching) == 1:
        return matching[0]
    looked_for = (
        f"DAGM (ClassN/Train/Label/Labels.txt), MVTec (train/good and test/KIND), {MANIFEST} or a .csv file"
    )
    if matching:
        names = " and ".join(matching)
        raise DataError(f"{path}: holds the layouts {names}: say which is meant with the format option")
    found = ", ".join(child.name for child in _children(path)[:8]) or "nothing"
    raise DataError(f"{path}: looked for {looked_for}, found {found}")


# ---- DAGM 2007: ClassN/Train|Test/NNNN.PNG, ClassN/Train|Test/Label/Labels.txt and NNNN_label.PNG


def read_dagm(path: Path) -> Listing:
    """DAGM 2007's layout: one class folder, or a folder of them."""
    units = _units(path, _is_dagm)
    if not units:
        raise DataError(f"{path}: no DAGM layout: no Train/Label/Labels.txt here or one folder below")
    entries: list[Entry] = []
    problems: list[str] = []
    for unit in units:
        prefix = f"{unit.name}/" if len(units) > 1 else ""
        for part, split in _parts(unit):
            labels_file = _find(part, "Label", "Labels.txt")
            if labels_file is None:
                problems.append(f"{part.relative_to(path)}: no Label/Labels.txt: its images are left out")
                continue
            found = list(_dagm_part(path, labels_file, split, prefix, problems))
            if not found:
                raise DataError(f"{part}: no labelled images: " + "; ".join(problems[-ERRORS_SHOWN:]))
            entries += found
    return Listing(path, "dagm", tuple(entries), tuple(problems), "DAGM's own Train and Test folders")


def _dagm_part(
    root: Path, labels_file: Path, split: Split, prefix: str, problems: list[str]
) -> Iterator[Entry]:
    """The entries of Train or Test; what is wrong is appended to problems."""
    images, masks = _by_name(labels_file.parent.parent), _by_name(labels_file.parent)
    where = labels_file.relative_to(root)
    listed: set[str] = set()
    for number, line in enumerate(_text(labels_file).splitlines(), start=1):
        fields = line.split()
        if not fields or (number == 1 and len(fields) == 1):  # the first line is a count, or just "1"
            continue
        fault = _dagm_fault(fields, images, listed)
        if fault:
            problems.append(f"{where} line {number}: {fault}")
            continue
        label, image, mask = int(fields[1]), images[fields[2].lower()], fields[4]
        listed.add(image.name.lower())
        if label and mask.lower() not in masks:
            problems.append(f"{where} line {number}: no mask {mask} for defective {image.name}: kept without")
        name = image.relative_to(root).as_posix()
        kind = prefix + ("defective" if label else "good")
        yield Entry(name, image, label, kind, masks.get(mask.lower()) if label else None, name, split)
    unlisted = sorted(images.keys() - listed)
    problems += [f"{images[key].relative_to(root)}: not in {where}: left out" for key in unlisted]


def _dagm_fault(fields: list[str], images: dict[str, Path], listed: set[str]) -> str:
    """What is wrong with a label line, or ""."""
    form = "must be INDEX 0|1 IMAGE 0 MASK|0"
    if len(fields) != 5 or fields[1] not in ("0", "1"):
        return f"{form}, got {' '.join(fields)!r}: left out"
    image, mask = fields[2], fields[4]
    if fields[1] == "0" and mask != "0":
        return f"{image} is marked good but has mask {mask}: left out"
    if image.lower() not in images:
        return f"no such image: {image}"
    if image.lower() in listed:
        return f"{image} is listed twice: the first line counts"
    return ""


def _is_dagm(folder: Path) -> bool:
    return any(_find(part, "Label", "Labels.txt") for part, _ in _parts(folder))


# ---- MVTec AD: CATEGORY/train/good, CATEGORY/test/KIND, CATEGORY/ground_truth/KIND/NNN_mask.png


def read_mvtec(path: Path) -> Listing:
    """MVTec AD's layout: one category folder, or a folder of them. The split is MVTec's own."""
    units = _units(path, _is_mvtec)
    if not units:
        raise DataError(f"{path}: no MVTec layout: no train/good and test here or one folder below")
    entries: list[Entry] = []
    problems: list[str] = []
    for unit in units:
        prefix = f"{unit.name}/" if len(units) > 1 else ""
        for part, split in _parts(unit):
            for folder in (child for child in _children(part) if child.is_dir()):
                entries += _mvtec_kind(path, unit, folder, split, prefix, problems)
    return Listing(path, "mvtec", tuple(entries), tuple(problems), "MVTec's own train and test folders")


def _mvtec_kind(
    root: Path, unit: Path, folder: Path, split: Split, prefix: str, problems: list[str]
) -> Iterator[Entry]:
    images = _by_name(folder)
    if not images:
        raise DataError(f"{folder}: an empty class: no {', '.join(sorted(IMAGE_SUFFIXES))} file in it")
    label = int(folder.name.lower() != "good")
    truth = _find(unit, "ground_truth", folder.name) if label else None
    masks = {path.stem.lower(): path for path in _by_name(truth).values()} if truth else {}
    for _, image in sorted(images.items()):
        name = image.relative_to(root).as_posix()
        mask = masks.get(f"{image.stem.lower()}_mask")
        if label and mask is None:
            problems.append(
                f"{name}: no ground_truth/{folder.name}/{image.stem}_mask.png: kept without a mask"
            )
        yield Entry(name, image, label, prefix + folder.name, mask, name, split)


def _is_mvtec(folder: Path) -> bool:
    test = _find(folder, "test")
    kinds = test is not None and any(
        child.is_dir() and child.name.lower() != "label" for child in _children(test)
    )
    return kinds or _find(folder, "train", "good") is not None


# ---- CSV manifest: path,label,mask,group,split (and, if wanted, kind)


def read_manifest(path: Path) -> Listing:
    """A CSV manifest, or manifest.csv in a folder; paths are relative to the manifest's own folder.

    Wrong rows are a DataError naming their lines.
    """
    if path.is_dir():
        path /= MANIFEST
    if not path.is_file():
        raise DataError(f"{path.parent}: a CSV manifest must be a file, or {MANIFEST} in a folder")
    entries: list[Entry] = []
    problems: list[str] = []
    faults: list[str] = []
    for line, row in _rows(path):
        fault = _row_fault(row)
        if fault:
            faults.append(f"line {line}: {fault}")
        elif not (path.parent / row["path"]).is_file():
            problems.append(f"{path.name} line {line}: no such image: {row['path']}")
        else:
            entries.append(_row_entry(path, line, row, problems))
    if faults:
        more = f"; and {len(faults) - ERRORS_SHOWN} more" if len(faults) > ERRORS_SHOWN else ""
        raise DataError(f"{path}: " + "; ".join(faults[:ERRORS_SHOWN]) + more)
    entries = _with_group_splits(path, entries)
    given = sum(entry.split != "unassigned" for entry in entries)
    rule = f"the split column of {path.name}" if given else ""
    return Listing(path.parent, "csv", tuple(entries), tuple(problems), rule)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) with every known column present, stripped, "" where empty."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), restkey="surplus", strict=True)
    header = [name.strip().lower() for name in reader.fieldnames or ()]
    known = COLUMNS_NEEDED + COLUMNS_OPTIONAL
    for name in COLUMNS_NEEDED:
        if name not in header:
            raise DataError(f"{path} line 1: no column {name!r}: columns are {','.join(known)}, got {header}")
    for name in header:
        if name not in known or header.count(name) > 1:
            raise DataError(
                f"{path} line 1: unknown or repeated column {name!r}: columns are {','.join(known)}"
            )
    reader.fieldnames = header
    try:
        for raw in reader:
            if "surplus" in raw:
                raise DataError(f"{path} line {reader.line_num}: {len(header)} fields expected, found more")
            yield reader.line_num, {name: (raw.get(name) or "").strip() for name in known}
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: not CSV: {error}") from error


def _row_fault(row: dict[str, str]) -> str:
    """What is wrong with a manifest's row, or ""."""
    if not row["path"]:
        return "path is empty"
    if row["label"].lower() not in LABEL_WORDS:
        return f"label must be one of {', '.join(LABEL_WORDS)}, got {row['label']!r}"
    if row["split"].lower() not in SPLIT_WORDS:
        return f"split must be train, test or empty, got {row['split']!r}"
    return ""


def _row_entry(path: Path, line: int, row: dict[str, str], problems: list[str]) -> Entry:
    label = LABEL_WORDS[row["label"].lower()]
    mask = path.parent / row["mask"] if row["mask"] else None
    if mask is not None and not mask.is_file():
        problems.append(f"{path.name} line {line}: no such mask: {row['mask']}: kept without")
        mask = None
    kind = row["kind"] or ("defective" if label else "good")
    image = path.parent / row["path"]
    group = row["group"] or row["path"]
    return Entry(row["path"], image, label, kind, mask, group, SPLIT_WORDS[row["split"].lower()])


def _with_group_splits(path: Path, entries: list[Entry]) -> list[Entry]:
    """Rows without a split follow their group's; DataError where a group is given both."""
    given: dict[str, Split] = {}
    for entry in entries:
        if entry.split != "unassigned" and given.setdefault(entry.group, entry.split) != entry.split:
            raise DataError(f"{path}: group {entry.group!r} has rows in train and in test: it must be in one")
    return [
        Entry(e.name, e.path, e.label, e.kind, e.mask, e.group, given.get(e.group, "unassigned"))
        for e in entries
    ]


READERS: dict[str, Callable[[Path], Listing]] = {"dagm": read_dagm, "mvtec": read_mvtec, "csv": read_manifest}
FORMATS = tuple(READERS)


# ---- folders


def _units(path: Path, mark: Callable[[Path], bool]) -> list[Path]:
    """The folder itself where it carries the layout's marks, else the folders in it that do."""
    if not path.is_dir():
        return []
    if mark(path):
        return [path]
    return [child for child in _children(path) if child.is_dir() and mark(child)]


def _parts(unit: Path) -> list[tuple[Path, Split]]:
    """The train and test folders of a class or category, those that exist."""
    wanted: tuple[Split, Split] = ("train", "test")
    return [(part, split) for split in wanted if (part := _find(unit, split)) is not None]


def _find(folder: Path, *names: str) -> Path | None:
    """folder/names[0]/names[1]... without regard to case, or None."""
    for name in names:
        matching = [child for child in _children(folder) if child.name.lower() == name.lower()]
        if not matching:
            return None
        folder = matching[0]
    return folder


def _children(folder: Path) -> list[Path]:
    return (
        sorted(child for child in folder.iterdir() if not child.name.startswith("."))
        if folder.is_dir()
        else []
    )


def _by_name(folder: Path) -> dict[str, Path]:
    """The image files of a folder by their lower-case names."""
    files = (child for child in _children(folder) if child.suffix.lower() in IMAGE_SUFFIXES)
    return {child.name.lower(): child for child in files if child.is_file()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: must be UTF-8 text: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
