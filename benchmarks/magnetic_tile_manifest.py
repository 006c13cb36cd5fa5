"""Write a CSV manifest of the magnetic tile surface defect set, for `python -m trainer.fit --data FILE`.

    python benchmarks/magnetic_tile_manifest.py --images DIR --out FILE [--no-split | --test-share R]
                                                [--near N] [--seed N]

DIR holds MT_Free/Imgs, MT_Crack/Imgs and so on: an image expE_num_N.jpg, its mask expE_num_N.png. The same
tile N was taken at several exposures E, so N is the group and no N lies on both sides of the split. The
images of one tile mostly have numbers of their own all the same, 10 to 100 apart: --near 100 makes one
group of numbers that follow one another no further apart, and only such a split asks about tiles that were
never seen.

The split column is filled here: tiles stratified by kind of defect, R of them (default 0.5) in test.
--no-split leaves it to trainer.fit, whose --mode good-only takes good tiles alone for train. The grain of a
tile is vertical: train without 90-degree rotation.

Exit codes: 0 done, 2 wrong command line, 8 no such images, 9 cannot write.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer

from device.errors import DataError, EdgeVisionError, StorageError
from trainer.data.splits import held_out

NAME = re.compile(r"exp\d+_num_(?P<tile>\d+)")
GOOD = "free"


@dataclass(frozen=True, slots=True)
class Tile:
    """One image of a tile."""

    image: Path
    mask: Path | None
    label: int
    kind: str
    group: str


def tiles(images: Path) -> list[Tile]:
    """Every image under MT_*/Imgs. DataError where there are none or a name is not expE_num_N."""
    found = [_tile(path) for path in sorted(images.glob("MT_*/Imgs/*.jpg"))]
    if not found:
        raise DataError(f"{images}: no MT_*/Imgs/*.jpg")
    return found


def _tile(path: Path) -> Tile:
    match = NAME.fullmatch(path.stem)
    if match is None:
        raise DataError(f"{path}: name must be expE_num_N.jpg")
    kind = path.parent.parent.name.removeprefix("MT_").lower()
    label = int(kind != GOOD)
    mask = path.with_suffix(".png")
    return Tile(path, mask if label and mask.is_file() else None, label, kind, match["tile"])


def together(found: Sequence[Tile], near: int) -> list[Tile]:
    """The same, with one group for all numbers that follow one another at most `near` apart: its first."""
    group: dict[int, int] = {}
    last = None
    for number in sorted({int(tile.group) for tile in found}):
        group[number] = number if last is None or number - last > near else group[last]
        last = number
    return [replace(tile, group=str(group[int(tile.group)])) for tile in found]


def manifest(found: Sequence[Tile], folder: Path, test_share: float | None, seed: int) -> str:
    """The CSV text, paths relative to `folder`; `test_share` None: without a split."""
    testing = frozenset() if test_share is None else held_out(found, test_share, seed)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "mask", "group", "split", "kind"))
    for tile in found:
        mask = os.path.relpath(tile.mask, folder) if tile.mask else ""
        split = "" if test_share is None else "test" if tile.group in testing else "train"
        writer.writerow((os.path.relpath(tile.image, folder), tile.label, mask, tile.group, split, tile.kind))
    return text.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Write a manifest of the magnetic tile set, split by tile.")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="the folder of MT_*")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .csv to write")
    share = parser.add_mutually_exclusive_group()
    share.add_argument("--test-share", type=float, default=0.5, metavar="R", help="default 0.5")
    share.add_argument("--no-split", action="store_true", help="leave it to trainer.fit")
    parser.add_argument(
        "--near", type=int, default=0, metavar="N", help="numbers of one group, default 0: one"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    options = parser.parse_args(arguments)
    try:
        found = tiles(options.images.resolve())
        if options.near:
            found = together(found, options.near)
        test_share = None if options.no_split else options.test_share
        text = manifest(found, options.out.resolve().parent, test_share, options.seed)
        _write(options.out, text)
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: {len(found)} images, {sum(tile.label for tile in found)} defective")
    return 0


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{out}: cannot write: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
