"""The trainer's data set: every image opened once and checked, labelled, and on one side of a split.

`load` reads a layout (trainer.layouts), looks at every file, and names what is wrong with it. A fault of one
image is a problem, kept in Dataset.problems; a fault that would make training meaningless is a DataError.
docs/guide/data.md says which is which.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import logging
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from device.errors import DataError, FrameError
from device.image.decode import Levels
from device.image.frame import Pixels, read_image, read_levels
from device.image.geometry import Size
from device.image.image_file import page_count
from trainer.data import grouping, masks, near_duplicates
from trainer.data.grouping import Grouping
from trainer.data.near_duplicates import Glance
from trainer.data.splits import few, folds, held_out
from trainer.layouts.inventory import some
from trainer.layouts.layouts import read_layout
from trainer.layouts.listing import Entry
from trainer.layouts.words import Split
from trainer.steps import bar

__all__ = [
    "Dataset",
    "Protocol",
    "Sample",
    "Split",
    "SplitRow",
    "folds",
    "load",
    "read_mask",
    "read_shown",
    "read_split_csv",
    "split_csv",
]

log = logging.getLogger(__name__)

Protocol = Literal["supervised", "good-only", "given"]

MUCH = 0.5  # of an image: a mask that marks more is looked at twice
MIN_MASK_PX = 8  # editors leave a stray pixel or two behind: a mask that marks fewer marks nothing
LEAST_GOOD = 10  # images: fewer say nothing of how good ones differ
MIXED_SCALES = 1.5  # of the data sets' median sizes, from which a warning says what becomes of the defects
FULL_SCALES = (1023, 4095, 16383, 65535)  # of 10, 12, 14 and 16 bits
PAGED_SUFFIXES = (".png", ".tif", ".tiff", ".webp")  # of files that may hold more than one picture
SCALE_OF = 9  # images, whose sizes say how large all are glanced at
SPARSE = 8  # px between those that mostly tell whether an image has colours
DECODERS = 4  # OpenCV decodes outside Python's lock; more threads than this wait for the disk
SPLITS = get_args(Split)
SPLIT_COLUMNS = ("path", "label", "group", "split", "sha256")


@dataclass(frozen=True, slots=True)
class Sample:
    """One readable image and what is known of it."""

    name: str  # path relative to the data set's root, "/" between parts; as written in a CSV manifest
    path: Path
    label: int  # 0 good, 1 defective
    kind: str  # "good", or the kind of defect; what splits are stratified by
    mask: Path | None  # a usable mask of the defect; always None for a good image
    group: str  # images of one group are never separated by a split
    split: Split  # "unassigned" only with protocol "given", where a manifest leaves the split empty
    sha256: str  # of the file's bytes, hex
    size: Size  # px
    more_masks: tuple[Path, ...] = ()  # of further defects of the same image
    inverted: bool = False  # the masks mark what is not defective
    marked_ratio: float = 0.0  # how much of the image its masks mark, 0..1
    peak: int = 0  # the greatest level of an image of more than 8 bits; 0 for one of 8
    coloured: bool = True  # its three channels are not the same

    @property
    def masks(self) -> tuple[Path, ...]:
        return ((self.mask,) if self.mask else ()) + self.more_masks

    @property
    def has_truth(self) -> bool:
        """Whether every pixel's truth is known: a good image, or a defective one with a usable mask."""
        return self.label == 0 or self.mask is not None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Checked samples in the order of their names, and what was wrong with the others.

    `name`: of its folder or manifest, or of its `sets` where several were united; their names then stand
    before those of images, kinds and groups.
    """

    root: Path
    format: str
    samples: tuple[Sample, ...]
    problems: tuple[str, ...]
    digest: str  # SHA-256 over every sample's name, label, group, split and bytes
    split_rule: str
    name: str = ""
    sets: tuple[Dataset, ...] = ()
    notes: tuple[str, ...] = ()  # how the layout was understood

    @property
    def train(self) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.split == "train")

    @property
    def test(self) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.split == "test")

    def count(self, *, split: Split | None = None, label: int | None = None, kind: str | None = None) -> int:
        """How many samples match what is given."""
        return sum(
            (split is None or sample.split == split)
            and (label is None or sample.label == label)
            and (kind is None or sample.kind == kind)
            for sample in self.samples
        )

    def summary(self) -> tuple[str, ...]:
        """Lines for the log: what was read, one line a kind, how many problems."""
        kinds = sorted({(sample.label, sample.kind) for sample in self.samples})
        lines = [f"{self.root}: {len(self.samples)} images ({self.format}), split by {self.split_rule}"]
        for label, kind in kinds:
            members = [sample for sample in self.samples if sample.kind == kind and sample.label == label]
            splits = Counter(sample.split for sample in members)
            parts = [f"{splits[split]} {split}" for split in ("train", "test", "unassigned") if splits[split]]
            lines.append(f"  {kind}: {', '.join(parts)}{_masks_in_words(members) if label else ''}")
        lines += [f"  {note}" for note in self.notes]
        lines.append(f"  problems: {len(self.problems)}")
        return tuple(lines)


def _masks_in_words(members: Sequence[Sample]) -> str:
    """How many have masks, and the share of an image that is marked in the middle one of them."""
    ratios = [sample.marked_ratio for sample in members if sample.mask]
    return f", {len(ratios)} masks" + (
        f" marking {statistics.median(ratios):.1%} of an image" if ratios else ""
    )


def load(
    path: str | Path | Sequence[str | Path],
    format: str = "auto",
    *,
    seed: int = 0,
    test_share: float = 0.5,
    protocol: Protocol = "supervised",
    limit: int = 0,
    groups: Grouping = "found",
) -> Dataset:
    """Read and check the data set at `path`: a folder, or a .csv manifest; or unite several.

    protocol "supervised" gives every image a side and refuses what cannot be trained on: images of a folder
    whose train part holds no defects (MVTec's) are split anew, empty splits are filled, both with `seed` and
    `test_share`, stratified by kind, groups kept together. "good-only" keeps the layout's own split; what is
    empty in it is filled in the same way with good images, and all defective ones are in test. "given" keeps
    the layout's own split and asks only for one readable image. `limit`: at most so many good and so many
    defective images of each part of each data set; 0: all. `groups` "found": images that show the same thing
    (near_duplicates.py) are of one group, beside those that the layout gives; "given": its own alone, and so
    with protocol "given". Raises DataError.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    named = zip(paths, _names(paths), strict=True)
    sets = [
        _load_one(one, format, seed, test_share, protocol, limit, groups, name if len(paths) > 1 else "")
        for one, name in named
    ]
    dataset = sets[0] if len(sets) == 1 else _united(sets)
    if protocol == "supervised":
        _require_both_labels(dataset.root if len(sets) == 1 else dataset.name, dataset.samples)
    elif protocol == "good-only":
        _require_good(dataset.root if len(sets) == 1 else dataset.name, dataset.samples)
    for line in dataset.summary():
        log.info("%s", line)
    for problem in dataset.problems:
        log.warning("%s", problem)
    return dataset


def _load_one(
    path: Path,
    format: str,
    seed: int,
    test_share: float,
    protocol: Protocol,
    limit: int,
    groups: Grouping,
    name: str,
) -> Dataset:
    """`name`: what its images, kinds and groups are called after, if anything."""
    listing = read_layout(path, format)
    entries = _limited(path, listing.entries, limit, seed)
    scale = None if groups == "given" or protocol == "given" else _scale(entries)
    opened = _open_all(listing.root, entries, scale)
    faults = [one for one in opened if isinstance(one, str)]
    if len(faults) == len(opened):
        raise DataError(f"{path}: none of {len(entries)} images is usable: {commonest(faults)}")
    judged, mask_problems = _judged([one for one in opened if isinstance(one, OpenedImage)])
    samples, copies = _without_copies(judged)
    glances = {one.sha256: one.glance for one in opened if isinstance(one, OpenedImage)}
    grouped = _grouped(samples, [glances[sample.sha256] for sample in samples])
    found = grouping.note(samples, grouped)
    samples = grouped
    # the cause first: what made images unusable, before what the layout lacks
    problems = (*faults, *mask_problems, *copies, *listing.problems)
    if not samples:
        raise DataError(f"{path}: none of {len(entries)} images is usable: {commonest(problems)}")
    rule = listing.split_rule
    if protocol == "supervised":
        _require_mostly_readable(path, faults, len(opened))
        samples, rule = _divide(samples, listing.format, rule, seed, test_share)
    elif protocol == "good-only":
        _require_mostly_readable(path, faults, len(opened))
        samples, rule = _divide_good(samples, rule, seed, test_share)
    if found:
        problems = (*problems, *grouping.problems(samples))
    if name:
        samples = [_of_set(name, sample) for sample in samples]
        problems = tuple(f"{name}: {problem}" for problem in problems)
    samples.sort(key=lambda sample: sample.name)
    return Dataset(
        listing.root,
        listing.format,
        tuple(samples),
        problems,
        _digest(samples),
        rule or "no split given",
        name or _names([path])[0],
        notes=(*listing.notes, *([found] if found else [])),
    )


# ---- several data sets, and few images of them


def _names(paths: Sequence[Path]) -> list[str]:
    """What data sets are called: their folder or manifest; DataError where one is given twice."""
    found: list[str] = []
    for path in paths:
        if [other.resolve() for other in paths].count(path.resolve()) > 1:
            raise DataError(f"{path}: given twice: it must be given once")
        plain = path.stem if path.suffix.lower() == ".csv" else path.resolve().name
        name, number = plain, 2
        while name in found:
            name, number = f"{plain}-{number}", number + 1
        found.append(name)
    return found


def _of_set(name: str, sample: Sample) -> Sample:
    """Named after its set: those of two sets are not taken for one, and splits are stratified by set."""
    return replace(
        sample,
        name=f"{name}/{sample.name}",
        kind=f"{name}/{sample.kind}",
        group=f"{name}/{sample.group}",
    )


def _united(sets: Sequence[Dataset]) -> Dataset:
    samples, copies = _without_copies(sample for one in sets for sample in one.samples)
    samples.sort(key=lambda sample: sample.name)
    problems = [problem for one in sets for problem in one.problems] + copies
    sides = {one.name: _median_side(one.samples) for one in sets}
    if max(sides.values()) > MIXED_SCALES * min(sides.values()):
        shown = ", ".join(f"{name} {side:.0f} px" for name, side in sides.items())
        problems.append(
            f"the data sets have images of different sizes (median of the greater side: {shown}): "
            "one model sees all of them at one size, so a defect is larger or smaller to it; "
            "where that matters, train apart"
        )
    return Dataset(
        Path(os.path.commonpath([one.root.resolve() for one in sets])),
        "+".join(dict.fromkeys(one.format for one in sets)),
        tuple(samples),
        tuple(problems),
        _digest(samples),
        "; ".join(f"{one.name}: {one.split_rule}" for one in sets),
        "+".join(one.name for one in sets),
        tuple(sets),
        tuple(f"{one.name}: {note}" for one in sets for note in one.notes),
    )


def _median_side(samples: Sequence[Sample]) -> float:
    return float(statistics.median(max(sample.size.width, sample.size.height) for sample in samples))


def _limited(path: Path, entries: Sequence[Entry], limit: int, seed: int) -> list[Entry]:
    """At most `limit` good and as many defective ones of each part, of all kinds in proportion."""
    if not limit:
        return list(entries)
    kept: list[Entry] = []
    for split in dict.fromkeys(entry.split for entry in entries):
        for label, word in ((0, "good"), (1, "defective"), (None, "unlabelled")):
            members = [entry for entry in entries if entry.split == split and entry.label == label]
            if 0 < len(members) < limit:
                log.warning("%s: limit %d: only %d %s images in %s", path, limit, len(members), word, split)
            kept += few(members, limit, seed)
    return kept


def full_scale(peak: int) -> int | None:
    """Which level is white where `peak` is the greatest: the least full scale above it; None: 8 bits."""
    return next(level for level in FULL_SCALES if level >= peak) if peak else None


def read_shown(sample: Sample) -> Pixels:
    """The image for a person to look at, RGB uint8 (H, W, 3). Raises FrameError."""
    return read_image(sample.path, full_scale(sample.peak))[0]


def read_mask(sample: Sample, size: Size | None = None) -> NDArray[np.bool_] | None:
    """Which pixels are defective, bool (H, W); None where that is not known (see Sample.has_truth).

    Resized to `size` where one is given: a pixel is defective where any of what it covers is, so a hair-thin
    crack survives shrinking. Raises FrameError where the file has become unreadable since `load`.
    """
    wanted = size or sample.size
    if sample.label == 0:
        return np.zeros((wanted.height, wanted.width), dtype=np.bool_)
    if sample.mask is None:
        return None
    mask = masks.read(sample.masks).marked ^ sample.inverted
    if mask.shape == (wanted.height, wanted.width):
        return mask
    coverage = cv2.resize(
        mask.astype(np.float32), (wanted.width, wanted.height), interpolation=cv2.INTER_AREA
    )
    return np.asarray(coverage > 0)


# ---- which image went where, as a bundle records it


@dataclass(frozen=True, slots=True)
class SplitRow:
    """One line of a bundle's split.csv."""

    path: str
    label: int
    group: str
    split: Split
    sha256: str


def split_csv(dataset: Dataset) -> bytes:
    """The split as a bundle keeps it: CSV of path,label,group,split,sha256, a line for each image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SPLIT_COLUMNS)
    writer.writerows((s.name, s.label, s.group, s.split, s.sha256) for s in dataset.samples)
    return text.getvalue().encode()


def read_split_csv(content: bytes, source: str = "split.csv") -> dict[str, SplitRow]:
    """The inverse of split_csv, by the images' sha256; DataError names `source` and the damaged line."""
    rows = list(csv.reader(io.StringIO(content.decode(errors="replace"), newline="")))
    if not rows or tuple(rows[0]) != SPLIT_COLUMNS:
        raise DataError(f"{source} line 1: must be {','.join(SPLIT_COLUMNS)}, got {rows[0] if rows else []}")
    recorded: dict[str, SplitRow] = {}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(SPLIT_COLUMNS) or row[1] not in ("0", "1") or row[3] not in SPLITS:
            raise DataError(f"{source} line {line}: must be {','.join(SPLIT_COLUMNS)}, got {row}")
        path, label, group, split, sha256 = row
        known: Split = "train" if split == "train" else "test" if split == "test" else "unassigned"
        recorded[sha256] = SplitRow(path, int(label), group, known, sha256)
    return recorded


# ---- opening the files


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image that can be read, and what its masks say if they can be used.

    `read_as`: see masks.Mask. `all_corners`: are marked. `problem`: why it has no masks.
    """

    entry: Entry
    sha256: str
    size: Size
    pages: int
    peak: int
    coloured: bool
    glance: Glance | None
    marked_ratio: float = 0.0
    all_corners: bool = False
    read_as: str = ""
    problem: str = ""


def _scale(entries: Sequence[Entry]) -> float:
    """Of the glances at the images: told from a few, since all need the same."""
    sizes = []
    for entry in entries[:: -(-len(entries) // SCALE_OF)]:
        with contextlib.suppress(FrameError):
            height, width = read_levels(entry.path)[0].shape[:2]
            sizes.append(Size(width, height))
    return near_duplicates.scale_for(sizes) if sizes else 1.0


def _open_all(root: Path, entries: Sequence[Entry], scale: float | None) -> list[OpenedImage | str]:
    """Open every image and mask once, in parallel."""
    with ThreadPoolExecutor(DECODERS) as pool:
        opened = pool.map(partial(_open, scale=scale), entries)
        return list(bar(opened, f"checking {root}", len(entries)))


def _open(entry: Entry, scale: float | None) -> OpenedImage | str:
    """What an entry's files hold, or why its image is left out. `scale`: of a glance at it, if any."""
    try:
        image, sha256 = read_levels(entry.path)
    except FrameError as error:
        return f"{entry.name}: left out: {str(error).removeprefix(f'{entry.path}: ')}"
    size = Size(image.shape[1], image.shape[0])
    pages = _page_count(entry.path) if entry.path.suffix.lower() in PAGED_SUFFIXES else 1
    peak = int(image.max()) if image.dtype != np.uint8 else 0
    coloured = _is_coloured(image[::SPARSE, ::SPARSE]) or _is_coloured(image)
    glance = None if scale is None else near_duplicates.glance(image, scale)
    opened = OpenedImage(entry, sha256, size, pages, peak, coloured, glance)
    if not entry.masks:
        return opened
    try:
        mask = masks.read(entry.masks)
    except FrameError as error:
        fault = f"kept without its mask: {error}"
    else:
        height, width = mask.marked.shape
        if (width, height) == (size.width, size.height):
            return replace(
                opened, marked_ratio=mask.ratio, all_corners=mask.all_corners, read_as=mask.read_as
            )
        fault = f"mask {entry.masks[0].name} must be {size.width}x{size.height}, got {width}x{height}"
        fault += ": kept without"
    if entry.label is None:
        return f"{entry.name}: left out, as its mask cannot tell its label: {fault}"
    return replace(opened, problem=f"{entry.name}: {fault}")


def _page_count(path: Path) -> int:
    """As image_file.page_count, of a file that was read just now: mapped, as most of it is not needed."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return page_count(content)


def _is_coloured(image: Levels) -> bool:
    return any(not np.array_equal(image[:, :, 0], image[:, :, other]) for other in (1, 2))


def _judged(opened: Sequence[OpenedImage]) -> tuple[list[Sample], list[str]]:
    """(samples, problems): what the masks of a set say together.

    Where every mask marks most of its image and all its corners, they mark what is *not* defective.
    """
    usable = [one for one in opened if one.entry.masks and not one.problem]
    inverted = bool(usable) and all(one.all_corners and one.marked_ratio > MUCH for one in usable)
    samples, problems = [], []
    for one in opened:
        sample, problem = _sample(one, inverted=inverted)
        samples.append(sample)
        if problem:
            problems.append(problem)
    pages = [one.entry.name for one in opened if one.pages > 1]
    if pages:
        have = "image has" if len(pages) == 1 else "images have"
        problems.append(
            f"{len(pages)} {have} several pages or frames, of which only the first is used: {some(pages)}"
        )
    return samples, [*_of_all_masks(usable, samples, inverted=inverted), *problems]


def _sample(opened: OpenedImage, *, inverted: bool) -> tuple[Sample, str]:
    """(sample, problem). A good image has no mask to use; one that marks pixels contradicts it."""
    entry, size, problem = opened.entry, opened.size, opened.problem
    ratio = 1 - opened.marked_ratio if inverted else opened.marked_ratio
    marked = round(ratio * size.width * size.height)
    label = int(marked >= MIN_MASK_PX) if entry.label is None else entry.label
    usable = bool(entry.masks) and not problem
    if usable and label == 0:
        if marked and entry.label == 0:
            problem = f"{entry.name}: good, but its mask marks {marked} px: mask ignored"
        usable = False
    elif usable and marked < MIN_MASK_PX:
        problem = f"{entry.name}: mask {entry.masks[0].name} is empty ({marked} px marked): kept without"
        usable = False
    sample = Sample(
        name=entry.name,
        path=entry.path,
        label=label,
        kind=entry.kind or ("good", "defective")[label],
        mask=entry.masks[0] if usable else None,
        group=entry.group,
        split=entry.split,
        sha256=opened.sha256,
        size=size,
        more_masks=entry.masks[1:] if usable else (),
        inverted=usable and inverted,
        marked_ratio=ratio if usable else 0.0,
        peak=opened.peak,
        coloured=opened.coloured,
    )
    return sample, problem


def _of_all_masks(
    usable: Sequence[OpenedImage], samples: Sequence[Sample], *, inverted: bool
) -> Iterator[str]:
    """What to look at in the masks of a set, a line for each kind."""
    if inverted:
        yield (
            f"all {len(usable)} masks mark most of their images and all their corners: taken for inverted, "
            "so that what they leave out is defective"
        )
    for read_as, count in sorted(Counter(one.read_as for one in usable if one.read_as).items()):
        yield f"{count} masks are {read_as}: read as such"
    much = [sample for sample in samples if sample.marked_ratio > MUCH]
    if much:
        greatest = max(sample.marked_ratio for sample in much)
        yield (
            f"{len(much)} masks mark more than half of their image (up to {greatest:.0%}), inverted? "
            + some([sample.name for sample in much])
        )


def _without_copies(samples: Iterable[Sample]) -> tuple[list[Sample], list[str]]:
    """Of images that are byte for byte the same, the first; none where their labels contradict each other.

    A copy on the other side of a split would be tested on what was trained on.
    """
    same: dict[str, list[Sample]] = {}
    for sample in samples:
        same.setdefault(sample.sha256, []).append(sample)
    unique: list[Sample] = []
    problems: list[str] = []
    for first, *copies in same.values():
        if any(copy.label != first.label for copy in copies):
            names = ", ".join(sample.name for sample in (first, *copies))
            problems.append(f"{names}: the same image labelled good and defective: all left out")
            continue
        unique.append(first)
        problems += [
            f"{copy.name}: duplicate image, the same bytes as {first.name}: left out" for copy in copies
        ]
    return unique, problems


# ---- splitting, and what cannot be trained on


def _grouped(samples: list[Sample], glances: Sequence[Glance | None]) -> list[Sample]:
    """In groups of what shows the same thing, if they were glanced at."""
    seen = [one for one in glances if one is not None]
    return grouping.together(samples, near_duplicates.groups(seen)) if len(seen) == len(samples) else samples


def _divide(
    samples: list[Sample], format: str, given_rule: str, seed: int, test_share: float
) -> tuple[list[Sample], str]:
    """(samples each on a side, the rule in words)."""
    half = "half" if test_share == 0.5 else f"{test_share:g}"
    if format == "mvtec" or (format == "folders" and _trains_on_good_only(samples)):
        samples = [replace(sample, split="unassigned") for sample in samples]
        whose = "MVTec's" if format == "mvtec" else "all"
        rule = f"supervised re-split of {whose} images, seed {seed}, {half} held out"
        rule += ": not MVTec's own protocol" if format == "mvtec" else ": its train part holds no defects"
    else:
        rule = f"groups stratified by kind, seed {seed}, {half} held out"
        rule = f"{given_rule}; where it is empty, {rule}" if given_rule else rule
    samples = grouping.following(samples)
    open_samples = [sample for sample in samples if sample.split == "unassigned"]
    if not open_samples:
        return samples, given_rule
    testing = held_out(open_samples, test_share, seed)
    return [_on_its_side(sample, testing) for sample in samples], rule


def _trains_on_good_only(samples: Sequence[Sample]) -> bool:
    labels = {sample.label for sample in samples if sample.split == "train"}
    return labels == {0} and all(sample.split != "unassigned" for sample in samples)


def _divide_good(
    samples: list[Sample], given_rule: str, seed: int, test_share: float
) -> tuple[list[Sample], str]:
    """The sides of samples for good-only: groups with a defective image that has no side are in test."""
    samples = grouping.following(samples)
    open_samples = [sample for sample in samples if sample.split == "unassigned"]
    if not open_samples:
        return samples, given_rule
    defective = {sample.group for sample in open_samples if sample.label == 1}
    good = [sample for sample in open_samples if sample.group not in defective]
    testing = held_out(good, test_share, seed) | defective
    rule = f"good groups by seed {seed}, {test_share:g} held out, defective ones in test"
    rule = f"{given_rule}; where it is empty, {rule}" if given_rule else rule
    return [_on_its_side(sample, frozenset(testing)) for sample in samples], rule


def _require_good(path: str | Path, samples: Sequence[Sample]) -> None:
    labels = Counter(sample.label for sample in samples if sample.split == "train")
    if labels[0] < LEAST_GOOD:
        raise DataError(
            f"{path}: learning from good images alone needs {LEAST_GOOD} or more in train, found {labels[0]}"
        )
    if labels[1]:
        log.info("%d defective images of train are not used: --mode good-only", labels[1])


def _on_its_side(sample: Sample, testing: frozenset[str]) -> Sample:
    if sample.split != "unassigned":
        return sample
    return replace(sample, split="test" if sample.group in testing else "train")


def _require_mostly_readable(path: str | Path, faults: Sequence[str], count: int) -> None:
    if len(faults) * 2 > count:
        raise DataError(f"{path}: {len(faults)} of {count} images cannot be read: {commonest(faults)}")


def commonest(faults: Sequence[str]) -> str:
    """Of faults "NAME: WHAT: ...", the one that most of them share: with a file that has it, and how many."""
    counts = Counter(_what(fault) for fault in faults)
    what, count = counts.most_common(1)[0]
    first = next(fault for fault in faults if _what(fault) == what)
    return first + (f" (and {count - 1} more like it)" if count > 1 else "")


def _what(fault: str) -> str:
    """A fault without the names and numbers in it."""
    return re.sub(r"\d+", "0", fault.partition(": ")[2])


def _require_both_labels(path: str | Path, samples: Sequence[Sample]) -> None:
    labels = Counter(sample.label for sample in samples if sample.split == "train")
    if not labels[0] or not labels[1]:
        hint = ": --mode good-only learns from good images alone" if labels[0] >= LEAST_GOOD else ""
        raise DataError(
            f"{path}: supervised training needs good and defective images in train, "
            f"found {labels[0]} good and {labels[1]} defective{hint}"
        )


def _digest(samples: Iterable[Sample]) -> str:
    lines = sorted(f"{s.name}\0{s.label}\0{s.group}\0{s.split}\0{s.sha256}\n" for s in samples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
