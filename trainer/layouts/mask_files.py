"""Which mask belongs to which image, told from their names: in a folder of masks, or beside the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from device.errors import FrameError
from device.image.frame import read_levels
from trainer.layouts.inventory import File
from trainer.layouts.words import Part, part_of, says_images, says_masks, without_mask_suffix

LOSSY = frozenset({".jpg", ".jpeg", ".jfif", ".jpe"})
TWINS_LOOKED_AT = 3  # pairs of one name in a folder, to tell whether the second is a mask of the first
MASK_LEVELS = 16  # of a mask; a photograph has more


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies: its part of the set, and the folders that say more than a part, images or masks."""

    part: Part | None
    folders: tuple[str, ...]

    @classmethod
    def of(cls, folders: Sequence[str]) -> Place:
        parts = [part for folder in folders if (part := part_of(folder))]
        kept = (f for f in folders if not part_of(f) and not says_images(f) and not says_masks(f))
        return cls(parts[0] if parts else None, tuple(kept))

    def fits(self, image: Place, name: str) -> bool:
        """Whether a mask here may be of that image: no folder of it says otherwise."""
        own = self.folders[:-1] if self.folders and self.folders[-1].lower() == name else self.folders
        left = iter(folder.lower() for folder in image.folders)
        return self.part in (None, image.part) and all(folder.lower() in left for folder in own)


def apart(files: Iterable[File]) -> tuple[list[File], list[File]]:
    """(images, masks) of some image files."""
    files = list(files)
    by_folder: dict[tuple[str, ...], list[File]] = {}
    for file in files:
        by_folder.setdefault(file.folders, []).append(file)
    masks = set()
    for folders, members in by_folder.items():
        if any(says_masks(folder) for folder in folders):
            masks.update(members)
        else:
            masks.update(_beside(members))
    return [file for file in files if file not in masks], [file for file in files if file in masks]


def _beside(members: list[File]) -> list[File]:
    """Of one folder: what is called NAME_mask beside NAME, or is a drawing in the name of a photograph."""
    stems = {file.stem.lower() for file in members}
    named = [
        file
        for file in members
        if (base := without_mask_suffix(file.stem).lower()) in stems and base != file.stem.lower()
    ]
    photographs = {file.stem.lower(): file for file in members if file.suffix in LOSSY}
    twins = [file for file in members if file.suffix not in LOSSY and file.stem.lower() in photographs]
    return named + (twins if twins and all(_is_drawing(file) for file in twins[:TWINS_LOOKED_AT]) else [])


def _is_drawing(file: File) -> bool:
    try:
        image, _ = read_levels(file.path)
    except FrameError:
        return False
    return len(np.unique(image)) <= MASK_LEVELS


class MaskIndex:
    """The masks of a set, by the names of the images that they may be of."""

    def __init__(self, masks: Iterable[File]) -> None:
        self._by_name: dict[str, list[tuple[File, Place]]] = {}
        for mask in masks:
            place = Place.of(mask.folders)
            names = {mask.stem.lower(), without_mask_suffix(mask.stem).lower()}
            names.update(folder.lower() for folder in place.folders[-1:])
            for name in names:
                self._by_name.setdefault(name, []).append((mask, place))

    def of(self, image: File) -> tuple[File, ...]:
        """Those of an image, by the folders that they have in common with it."""
        place = Place.of(image.folders)
        found = [
            (len(where.folders), mask)
            for name in dict.fromkeys((image.stem.lower(), image.base.lower()))
            for mask, where in self._by_name.get(name, ())
            if where.fits(place, name)
        ]
        nearest = max((depth for depth, _ in found), default=0)
        return tuple(dict.fromkeys(mask for depth, mask in found if depth == nearest))


def assigned(
    images: Sequence[tuple[File, int | None]], masks: Iterable[File]
) -> tuple[dict[File, tuple[File, ...]], list[str]]:
    """(the masks of each image that has some, what is not clear). `images`: with their labels.

    Masks are of defective images before they are of good ones; one that fits several of these is of none.
    """
    index = MaskIndex(masks)
    fitting: dict[File, list[tuple[File, int | None]]] = {}
    for image, label in images:
        for mask in index.of(image):
            fitting.setdefault(mask, []).append((image, label))
    found: dict[File, tuple[File, ...]] = {}
    problems = []
    for mask, owners in fitting.items():
        likely = [image for image, label in owners if label != 0] or [image for image, _ in owners]
        if len(likely) > 1:
            names = ", ".join(image.name for image in likely[:3])
            problems.append(f"{mask.name}: fits {len(likely)} images ({names}): used for none of them")
            continue
        found[likely[0]] = (*found.get(likely[0], ()), mask)
    return found, problems
