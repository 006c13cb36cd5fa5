"""DAGM 2007: ClassN/Train|Test/NNNN.PNG, ClassN/Train|Test/Label/Labels.txt and NNNN_label.PNG beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from device.errors import DataError
from trainer.layouts.inventory import File, Inventory
from trainer.layouts.listing import Entry, Listing
from trainer.layouts.text import read_text
from trainer.layouts.words import Split

LABELS = "labels.txt"
FORM = "must be INDEX 0|1 IMAGE 0 MASK|0"
ERRORS_SHOWN = 5

_SPACED = re.compile(r"(\d+)\s+(\S+)\s+(.*\S)\s+(\d+)\s+(0|\S.*\.\w+)")  # a name may have blanks in it


def dagm_units(inventory: Inventory) -> list[tuple[str, ...]]:
    """The class folders in an inventory: those with Train/Label/Labels.txt or Test/Label/Labels.txt."""
    return sorted({file.folders[:-2] for file in inventory.files if _is_labels(file)})


def read_dagm(inventory: Inventory) -> Listing:
    """DAGM 2007's layout: one class folder, or a folder of them. DataError where there is none."""
    units = dagm_units(inventory)
    if not units:
        raise DataError(f"{inventory.root}: no DAGM layout: no Train/Label/Labels.txt here or below")
    entries: list[Entry] = []
    problems: list[str] = []
    for unit in units:
        prefix = f"{'/'.join(unit)}/" if len(units) > 1 else ""
        for split in ("train", "test"):
            entries += _part(inventory, unit, split, prefix, problems)
    return Listing(
        inventory.root, "dagm", tuple(entries), tuple(problems), "DAGM's own Train and Test folders"
    )


def claimed(inventory: Inventory) -> Iterator[Path]:
    """The files that are no images and are read all the same."""
    return (file.path for file in inventory.files if _is_labels(file))


def _is_labels(file: File) -> bool:
    *_, part, label = ("", "", *map(str.lower, file.folders))
    return file.base.lower() == LABELS and label == "label" and part in ("train", "test")


def _part(
    inventory: Inventory, unit: tuple[str, ...], split: Split, prefix: str, problems: list[str]
) -> list[Entry]:
    """The entries of Train or Test of a class; what is wrong is appended to problems."""
    depth = len(unit)
    members = [
        file
        for file in inventory.files
        if file.folders[:depth] == unit
        and file.folders[depth : depth + 1]
        and file.folders[depth].lower() == split
    ]
    if not members:
        return []
    where = "/".join(members[0].folders[: depth + 1])
    listed = [file for file in members if _is_labels(file)]
    if not listed:
        problems.append(f"{where}: no Label/Labels.txt: its images are left out")
        return []
    found = list(_labelled(listed[0], members, split, prefix, problems))
    if not found:
        shown = "; ".join(problems[:ERRORS_SHOWN])
        raise DataError(f"{inventory.root / where}: no labelled images" + (f": {shown}" if shown else ""))
    return found


def _labelled(
    labels: File, members: Sequence[File], split: Split, prefix: str, problems: list[str]
) -> Iterator[Entry]:
    images = _Names(file for file in members if file.folders == labels.folders[:-1])
    masks = _Names(file for file in members if file.folders == labels.folders)
    wrong = ""
    used: set[str] = set()
    for number, line in enumerate(read_text(labels.path).splitlines(), start=1):
        fields = _fields(line)
        if not fields or (number == 1 and len(fields) == 1):  # the first line is a count, or just "1"
            continue
        where = f"{labels.name} line {number}"
        fault = _fault(fields, images, used)
        if fault:
            problems.append(f"{where}: {fault}")
            wrong += line.lower()
            continue
        label, image = int(fields[1]), images[fields[2]]
        used.add(image.name)
        mask = masks.get(fields[4]) if label else None
        if label and mask is None:
            problems.append(f"{where}: no mask {fields[4]} for defective {image.base}: kept without")
        kind = prefix + ("defective" if label else "good")
        yield Entry(image.name, image.path, label, kind, mask.path if mask else None, image.name, split)
    unlisted = [
        file.name for file in images.files if file.name not in used and file.base.lower() not in wrong
    ]
    problems += [f"{name}: not in {labels.name}: left out" for name in unlisted]


def _fields(line: str) -> list[str]:
    """Of a line, told apart by tabs, commas, semicolons or blanks; a name may have blanks in it."""
    for separator in "\t;,":
        if separator in line:
            return [part for field in line.split(separator) if (part := field.strip())]
    plain = line.split()
    if len(plain) > 5 and (spaced := _SPACED.fullmatch(line.strip())):
        return list(spaced.groups())
    return plain


def _fault(fields: Sequence[str], images: _Names, used: set[str]) -> str:
    """What is wrong with a label line, or ""."""
    if len(fields) != 5 or fields[1] not in ("0", "1"):
        return f"{FORM}, got {' '.join(fields)!r}: left out"
    image, mask = fields[2], fields[4]
    if fields[1] == "0" and mask != "0":
        return f"{image} is marked good but has mask {mask}: left out"
    found = images.get(image)
    if found is None:
        return f"no such image: {image}"
    if found.name in used:
        return f"{image} is listed twice: the first line counts"
    return ""


class _Names:
    """Files of a folder by their names: as written, or without regard to case where that is clear."""

    def __init__(self, files: Iterable[File]) -> None:
        self.files = list(files)
        self._exact: Mapping[str, File] = {file.base: file for file in self.files}
        self._folded: dict[str, list[File]] = {}
        for file in self.files:
            self._folded.setdefault(file.base.lower(), []).append(file)

    def get(self, name: str) -> File | None:
        alike = self._folded.get(name.lower(), [])
        return self._exact.get(name) or (alike[0] if len(alike) == 1 else None)

    def __getitem__(self, name: str) -> File:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found
