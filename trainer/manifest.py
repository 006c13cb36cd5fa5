"""Write what a data set says of its images as a CSV list, to be read, corrected and used as --data.

    python -m trainer.manifest PATH [--format F] > manifest.csv

Of a folder whose names do not say which images are good, every image is listed without a label, for you to
fill in; with one where the names of all images say it (good_001.jpg, bad_001.jpg). Paths are relative to the
folder of the file that is written. What is not clear goes to standard error.
Exit codes are those of device.errors, 130 after Ctrl-C. docs/guide/data.md has the columns.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from device.errors import FrameError
from trainer import command
from trainer.data import masks
from trainer.data.dataset import MIN_MASK_PX
from trainer.layouts.csv_list import COLUMNS
from trainer.layouts.folders import NothingSaid, Unclear, unlabelled
from trainer.layouts.inventory import Inventory
from trainer.layouts.layouts import FORMATS, read_layout
from trainer.layouts.listing import Entry

log = logging.getLogger(__name__)


def manifest(path: Path, layout: str, folder: Path) -> str:
    """The list of the images at the path, with paths relative to a folder. Raises DataError."""
    entries = _entries(path, layout)
    writable = [entry for entry in entries if _is_text(entry)]
    if len(writable) < len(entries):
        log.warning(
            "not listed, rename them to UTF-8: %d of %d images", len(entries) - len(writable), len(entries)
        )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_row(entry, folder) for entry in writable)
    return text.getvalue().removesuffix("\n")


def _entries(path: Path, layout: str) -> Sequence[Entry]:
    try:
        listing = read_layout(path, layout)
    except (NothingSaid, Unclear) as unclear:
        entries = unlabelled(Inventory.of(path))
        if not entries:
            raise
        log.warning("%s", unclear)
        if any(entry.label is None for entry in entries):
            log.warning("the column label is empty where nothing is said: 0 or good, 1 or bad")
        else:
            log.warning("the column label is by the names of the images: look at it")
        return entries
    _warn((*listing.notes, *listing.problems))
    return listing.entries


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        log.warning("%s", line)


def _row(entry: Entry, folder: Path) -> tuple[str, ...]:
    """In the order of COLUMNS."""
    label, kind = entry.label, entry.kind
    if label is None and entry.masks:
        label = _by_mask(entry)
        kind = ("good", "defective")[label] if label is not None else ""
    group = "" if entry.group == entry.name else entry.group
    split = "" if entry.split == "unassigned" else entry.split
    mask = _relative(entry.mask, folder) if entry.mask and label != 0 else ""
    return (_relative(entry.path, folder), "" if label is None else str(label), mask, group, split, kind)


def _by_mask(entry: Entry) -> int | None:
    try:
        return int(masks.read(entry.masks).marked.sum() >= MIN_MASK_PX)
    except FrameError as error:
        log.warning("%s: its mask cannot tell its label: %s", entry.name, error)
        return None


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _is_text(entry: Entry) -> bool:
    try:
        str(entry.path).encode()
    except UnicodeEncodeError:
        return False
    return True


def folder_of_output() -> Path:
    """Where standard output is a file: its folder, so that a list in it finds its images; else this one."""
    try:
        target = Path(f"/proc/self/fd/{sys.stdout.fileno()}").readlink()
    except (OSError, ValueError):  # another system than Linux, or no file at all
        return Path.cwd()
    return target.parent if target.is_file() else Path.cwd()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.manifest",
        description="Write what a data set says of its images as a CSV list.",
        epilog="exit codes: 0 done, 2 wrong command line, 8 data set",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a folder, or a .csv list")
    parser.add_argument("--format", choices=("auto", *FORMATS), default="auto", help="layout; default auto")
    options = parser.parse_args(arguments)
    folder = folder_of_output()
    return command.run(lambda: manifest(options.path, options.format, folder))


if __name__ == "__main__":
    sys.exit(main())
