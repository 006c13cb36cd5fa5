"""Images in folders whose names say what they are: good/ and bad/, MVTec AD's layout and its kin.

    good/ bad/                      bad/scratch/ where defects have kinds
    train/good test/good test/bent  also valid/, ok/ and ko/, Normal/ and Anomaly/, Class1/ and Class1_def/
    ground_truth/bent/003_mask.png  or masks/003.png, 003_mask.png beside 003.png, several in bent/003/

All of it below folders of the same kind, one for each product, if wanted. A folder that says neither good nor
bad is a kind of defect where it lies beside a good one, and is named; where a plain `bad` lies there as well,
nobody knows, and it is refused. Where no folder says anything and every image has a mask, the masks tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from device.errors import DataError
from device.image.image_file import IMAGE_SUFFIXES
from trainer.layouts.inventory import File, Inventory, some
from trainer.layouts.listing import Entry, Listing
from trainer.layouts.mask_files import Place, apart, assigned
from trainer.layouts.words import (
    BAD_WORDS,
    Part,
    Split,
    is_bare,
    is_number,
    label_of,
    part_of,
    says_images,
    says_masks,
    sides_of,
    words_of,
)

Folders = tuple[str, ...]


class NothingSaid(DataError):
    """No name says which images are good; `why` without the root."""

    def __init__(self, root: Path, why: str) -> None:
        super().__init__(f"{root}: {why}")
        self.why = why


class Unclear(DataError):
    """A folder's name may say one thing or the other."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the folders above an image say. `product`: the folders above those."""

    label: int
    kind: str
    product: Folders


def read_folders(inventory: Inventory) -> Listing:
    """The listing of such a folder; DataError where it says nothing, or two things."""
    images, masks = apart(inventory.images)
    said = _Folders(image.folders for image in images)
    said.require_no_empty_class(inventory)
    meanings = {image: meaning for image in images if (meaning := said.meaning(image.folders))}
    if not meanings:
        return _labelled_by_masks(inventory, images, masks)
    found, problems = assigned([(image, meaning.label) for image, meaning in meanings.items()], masks)
    parts = {image: Place.of(image.folders).part for image in meanings}
    sides = sides_of(parts.values())
    products = {meaning.product for meaning in meanings.values()}
    entries = []
    for image, meaning in meanings.items():
        kind = "/".join((*meaning.product, meaning.kind)) if len(products) > 1 else meaning.kind
        entries.append(_entry(image, meaning.label, kind, found.get(image, ()), sides[parts[image]]))
    layout = "mvtec" if said.is_mvtec and _is_mvtec(entries) else "folders"
    problems += _without_mask(entries, layout) if found else []
    return Listing(
        inventory.root,
        layout,
        tuple(entries),
        tuple(problems),
        _split_rule(layout, set(parts.values())),
        tuple(said.notes(layout)),
    )


def unlabelled(inventory: Inventory) -> tuple[Entry, ...]:
    """Every image with its mask, and with a label where its folder says one, or where the names of all do."""
    images, masks = apart(inventory.images)
    labels = {image: _own_label(image.folders) for image in images}
    by_name = {image: None if is_number(image.stem) else label_of(image.stem) for image in images}
    if set(labels.values()) == {None} and set(by_name.values()) == {0, 1}:
        labels = by_name
    found, _ = assigned(list(labels.items()), masks)
    return tuple(
        _entry(image, label, "", found.get(image, ()), "unassigned") for image, label in labels.items()
    )


def _own_label(folders: Folders) -> int | None:
    said = [label for folder in folders if (label := label_of(folder)) is not None]
    return said[-1] if said else None


def _entry(image: File, label: int | None, kind: str, masks: Sequence[File], split: Split) -> Entry:
    paths = tuple(mask.path for mask in masks)
    mask = paths[0] if paths else None
    return Entry(image.name, image.path, label, kind, mask, image.name, split, paths[1:])


def _labelled_by_masks(inventory: Inventory, images: Sequence[File], masks: Sequence[File]) -> Listing:
    """Every image has a mask, and is good where it marks nothing."""
    found, problems = assigned([(image, None) for image in images], masks)
    missing = [image.name for image in images if image not in found]
    if not images or missing:
        why = (
            f"; {len(missing)} of {len(images)} images have no mask that could tell: {some(missing)}"
            if masks
            else ""
        )
        raise NothingSaid(
            inventory.root, f"no folder says which images are good (good, ok, normal...) or bad{why}"
        )
    parts = {image: Place.of(image.folders).part for image in images}
    sides = sides_of(parts.values())
    entries = [_entry(image, None, "", found[image], sides[parts[image]]) for image in images]
    note = "labels by the masks, as no folder says good or bad: defective where something is marked"
    rule = _split_rule("folders", set(parts.values()))
    return Listing(inventory.root, "folders", tuple(entries), tuple(problems), rule, (note,))


# ---- what folders say


class _Folders:
    """What the names of all folders of a set say together."""

    def __init__(self, folders: Iterable[Folders]) -> None:
        self._nodes = {folder[:end] for folder in set(folders) for end in range(1, len(folder) + 1)}
        self._labels = self._without_containers(self._require_no_contradiction(self._labelled()))
        self._good = {self._product(node) for node, label in self._labels.items() if label == 0}
        self._bare = {
            self._product(node) for node, label in self._labels.items() if label == 1 and is_bare(node[-1])
        }
        self._kinds: set[str] = set()

    def meaning(self, folders: Folders) -> Meaning | None:
        """What the folders above an image say; None where that is nothing. DataError: it is not clear."""
        for end in range(1, len(folders) + 1):
            label = self._labels.get(folders[:end])
            if label is not None:
                below = [
                    folder for folder in folders[end:] if not part_of(folder) and not says_images(folder)
                ]
                kind = "good" if label == 0 else self._kind(folders[end - 1], below)
                return Meaning(label, kind, self._product(folders[:end]))
        return self._by_what_lies_beside(folders)

    def _by_what_lies_beside(self, folders: Folders) -> Meaning | None:
        place = Place.of(folders).folders
        for end, kind in enumerate(place):
            if place[:end] not in self._good:
                continue
            if place[:end] in self._bare:
                raise Unclear(
                    f"{'/'.join(folders)}: beside folders for good and for bad images, and says neither: "
                    "move it below the one where it belongs, or out of the data set"
                )
            self._kinds.add(kind)
            return Meaning(1, kind, place[:end])
        return None

    @staticmethod
    def _kind(folder: str, below: Sequence[str]) -> str:
        if below:
            return "/".join(below)
        return "defective" if is_bare(folder) else folder

    @staticmethod
    def _product(node: Folders) -> Folders:
        """The folders above one that says good or bad, without those that say train, test or images."""
        return Place.of(node[:-1]).folders

    @property
    def is_mvtec(self) -> bool:
        """Whether good ones are called so as MVTec does."""
        return {node[-1].lower() for node, label in self._labels.items() if label == 0} == {"good"}

    def notes(self, layout: str) -> list[str]:
        """How the names were understood, in words."""
        lines = []
        if layout != "mvtec":
            for label, word in ((0, "good"), (1, "defective")):
                names = sorted({node[-1] for node, own in self._labels.items() if own == label})
                if names:
                    lines.append(f"taken for {word}: {', '.join(names)}")
        if self._kinds:
            lines.append(
                f"taken for kinds of defect, as they lie beside good: {', '.join(sorted(self._kinds))}"
            )
        return lines

    def require_no_empty_class(self, inventory: Inventory) -> None:
        """Raises DataError for a folder that says what its images are, and has none."""
        names = [*inventory.empty, *("/".join(file.folders) for file in inventory.files)]
        for name in dict.fromkeys(names):
            folders = tuple(name.split("/")) if name else ()
            if not folders or folders in self._nodes or any(map(says_masks, folders)):
                continue
            in_part = (
                len(folders) > 1
                and part_of(folders[-2]) is not None
                and Place.of(folders[:-1]).folders in self._good
            )
            if in_part or label_of(folders[-1]) is not None:
                read, others = ", ".join(sorted(IMAGE_SUFFIXES)), inventory.not_read(folders)
                raise DataError(
                    f"{inventory.root / name}: an empty class: " + (others or f"no {read} file in it")
                )

    def _labelled(self) -> dict[Folders, int]:
        labels: dict[Folders, int] = {}
        children: dict[Folders, list[str]] = {}
        for node in sorted(self._nodes):
            children.setdefault(node[:-1], []).append(node[-1])
        for parent, names in children.items():
            for name, label in _labels_beside(names).items():
                labels[(*parent, name)] = label
        return labels

    @staticmethod
    def _require_no_contradiction(labels: dict[Folders, int]) -> dict[Folders, int]:
        """The labels given. Raises Unclear for "bad/good", with nothing but good ones below a plain `bad`."""
        for node, label in labels.items():
            below = [one for one in labels if one != node and one[: len(node)] == node]
            if is_bare(node[-1]) and below and all(labels[one] != label for one in below):
                raise Unclear(
                    f"{'/'.join(below[0])}: says the opposite of a folder above it: give one another name"
                )
        return labels

    def _without_containers(self, labels: dict[Folders, int]) -> dict[Folders, int]:
        """A folder with good and bad ones below it says neither: "defect_set/good"."""
        return {
            node: label
            for node, label in labels.items()
            if all(own == label for below, own in labels.items() if below[: len(node)] == node)
        }


def _labels_beside(names: Sequence[str]) -> dict[str, int]:
    """The labels of those folders of one parent that say one.

    Of words that all of them have, none says anything: MT_Free beside MT_Crack. Class1 is good beside
    Class1_def, which has its name and a word for bad. 0 and 1 say something together only.
    """
    labels = {name: label for name in names if (label := label_of(name)) is not None}
    if not {"0", "1"} <= set(names):
        labels = {name: label for name, label in labels.items() if name not in ("0", "1")}
    common = set.intersection(*(set(words_of(name)) for name in names)) if len(names) > 1 else set()
    for name in names:
        own = words_of(name)
        if name in labels:
            continue
        if (label_of(" ".join(word for word in own if word not in common)) == 0 and common) or any(
            own and words_of(other)[: len(own)] == own and _bad_words(words_of(other)[len(own) :])
            for other in names
        ):
            labels[name] = 0
    return labels


def _bad_words(words: Sequence[str]) -> bool:
    return bool(words) and all(word in BAD_WORDS for word in words)


# ---- splits, and what is missing


def _split_rule(layout: str, parts: set[Part | None]) -> str:
    if parts == {None}:
        return ""
    rule = (
        "MVTec's own train and test folders" if layout == "mvtec" else "the set's own train and test folders"
    )
    if "valid" in parts:
        rule += ", its validation folder counted as " + sides_of(parts)["valid"]
    return rule


def _is_mvtec(entries: Sequence[Entry]) -> bool:
    """In parts, and no defective image to train on."""
    return all(
        entry.split != "unassigned" and (entry.split != "train" or entry.label == 0) for entry in entries
    )


def _without_mask(entries: Sequence[Entry], layout: str) -> list[str]:
    """A line for each defective image without a mask in a set that has masks."""
    lines = []
    for entry in entries:
        if entry.label == 1 and entry.mask is None:
            kind, stem = entry.path.parent.name, entry.path.stem
            missing = f"no ground_truth/{kind}/{stem}_mask.png" if layout == "mvtec" else "no mask"
            lines.append(f"{entry.name}: {missing}: kept without a mask")
    return lines
