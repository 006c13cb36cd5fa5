"""The layouts on disk that the trainer reads: DAGM's, folders named good and bad (as MVTec's are), CSV lists.

Each reader turns a path into a Listing of what the layout *claims*; trainer.data.dataset opens the files.
Every file below a folder is either in the listing or counted among its problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from device.errors import DataError
from trainer.layouts.csv_list import MANIFEST, manifest_of, read_csv
from trainer.layouts.dagm import claimed, dagm_units, read_dagm
from trainer.layouts.folders import NothingSaid, Unclear, read_folders
from trainer.layouts.inventory import Inventory, way_from
from trainer.layouts.listing import Listing

ERRORS_SHOWN = 5
LOOKED_FOR = (
    "DAGM (ClassN/Train/Label/Labels.txt), folders that say good and bad (good/ and bad/; MVTec (train/good "
    f"and test/KIND) among them), {MANIFEST} or a .csv file"
)


def read_layout(path: Path, format: str) -> Listing:
    """The listing of a data set. DataError where the path or the format is not what it should be."""
    if format != "auto" and format not in FORMATS:
        raise DataError(f"format must be auto, {', '.join(FORMATS)}, got {format!r}")
    try:
        folder, file = path.is_dir(), path.is_file()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not folder and not file:
        raise DataError(f"{path}: no such file or folder")
    listing = _read_folder(path, format) if folder else _read_file(path, format)
    if not listing.entries:
        shown = "; ".join(listing.problems[:ERRORS_SHOWN])
        raise DataError(
            f"{path}: no images found ({listing.format} layout)" + (f": {shown}" if shown else "")
        )
    return listing


def detect(path: Path) -> str:
    """The format of a path, told by its marks; DataError naming what was found."""
    return read_layout(path, "auto").format


def to_list(path: Path) -> str:
    """The command that writes a list of what lies at the path."""
    return f"python -m trainer.manifest {path} > {MANIFEST}"


def _read_file(path: Path, format: str) -> Listing:
    if format not in ("auto", "csv"):
        raise DataError(f"{path}: format {format} is a folder, got a file")
    if path.suffix.lower() not in (".csv", ".tsv"):
        way = f": {way_from(path.suffix.lower())}" if way_from(path.suffix.lower()) else ""
        raise DataError(f"{path}: a file must be a .csv manifest, got {path.suffix or 'no suffix'!r}{way}")
    return read_csv(path)


def _read_folder(path: Path, format: str) -> Listing:
    inventory = Inventory.of(path)
    listing = _auto(inventory) if format == "auto" else READERS[format](inventory)
    used = [path for entry in listing.entries for path in (entry.path, *entry.masks)]
    explained = {problem.partition(": ")[0] for problem in listing.problems}
    left_out = inventory.left_out((*_absolute(used), *_absolute(_texts(inventory))), explained)
    return replace(listing, problems=(*listing.problems, *left_out))


def _auto(inventory: Inventory) -> Listing:
    if manifest_of(inventory):
        return read_manifest(inventory)
    dagm = bool(dagm_units(inventory))
    try:
        folders = read_folders(inventory)
    except NothingSaid as nothing:
        if dagm:
            return read_dagm(inventory)
        found = ", ".join(inventory.top()[:8]) or "nothing"
        raise NothingSaid(
            inventory.root,
            f"looked for {LOOKED_FOR}, found {found}: {nothing.why}; " + _way_from(inventory),
        ) from None
    except Unclear as unclear:
        raise Unclear(
            f"{inventory.root}/{unclear}; or say it image by image: {to_list(inventory.root)}"
        ) from None
    if dagm:
        raise DataError(
            f"{inventory.root}: holds the layouts dagm and {folders.format}: "
            "say which is meant with the format option"
        )
    return folders


def _way_from(inventory: Inventory) -> str:
    """What would make a data set of it."""
    list_them = f"to say it image by image: {to_list(inventory.root)}"
    return "; ".join(filter(None, (inventory.not_read(), list_them if inventory.images else "")))


def read_manifest(inventory: Inventory) -> Listing:
    """manifest.csv in a folder."""
    manifest = manifest_of(inventory)
    if manifest is None:
        raise DataError(f"{inventory.root}: a CSV manifest must be a file, or {MANIFEST} in a folder")
    return read_csv(manifest.path)


def read_mvtec(inventory: Inventory) -> Listing:
    """MVTec AD's layout: one category folder, or a folder of them."""
    try:
        return replace(read_folders(inventory), format="mvtec")
    except NothingSaid as nothing:
        raise DataError(
            f"{inventory.root}: no MVTec layout: no train/good and test here or below: {nothing.why}"
        ) from None


READERS: dict[str, Callable[[Inventory], Listing]] = {
    "dagm": read_dagm,
    "mvtec": read_mvtec,
    "csv": read_manifest,
    "folders": read_folders,
}
FORMATS = tuple(READERS)


def _texts(inventory: Inventory) -> list[Path]:
    """The files that are read and are no images."""
    manifest = manifest_of(inventory)
    return [*claimed(inventory), *([manifest.path] if manifest else [])]


def _absolute(paths: Iterable[Path]) -> list[Path]:
    return [path.absolute() for path in paths]
