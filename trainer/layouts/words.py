"""The words that folders and lists use: for good and bad, train and test, masks. One list for every reader.

A name is split into its words ("NotGood_02" is not, good, 02), and words that say nothing (front, images,
numbers) are passed over. A name that then holds anything else is never taken for good: to take a defect for a
good part costs more than a question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "test", "unassigned"]
Part = Literal["train", "valid", "test"]

GOOD_WORDS = frozenset(
    {
        "good",
        "ok",
        "okay",
        "io",
        "pass",
        "passed",
        "normal",
        "nominal",
        "free",
        "clean",
        "fine",
        "accept",
        "accepted",
        "intact",
        "flawless",
        "gut",
        "bon",
    }
)
BAD_WORDS = frozenset(
    {
        "bad",
        "ng",
        "nok",
        "ko",
        "nio",
        "fail",
        "failed",
        "failure",
        "def",
        "defect",
        "defects",
        "defective",
        "reject",
        "rejects",
        "rejected",
        "anomaly",
        "anomalies",
        "anomalous",
        "anomalic",
        "abnormal",
        "fault",
        "faults",
        "faulty",
        "damaged",
        "scrap",
        "notok",
        "notgood",
        "schlecht",
        "fehlerhaft",
        "mauvais",
    }
)
NOT_WORDS = frozenset({"no", "non", "not", "without", "free"})
PART_WORDS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
    "testing": "test",
}
MASK_WORDS = frozenset(
    {
        "mask",
        "masks",
        "gt",
        "groundtruth",
        "ground",
        "truth",
        "label",
        "labels",
        "annotation",
        "annotations",
        "seg",
    }
)
IMAGE_WORDS = frozenset(
    {
        "image",
        "images",
        "img",
        "imgs",
        "picture",
        "pictures",
        "photo",
        "photos",
        "jpegimages",
        "data",
        "dataset",
        "rgb",
    }
)
SILENT_WORDS = IMAGE_WORDS | frozenset(
    {
        "front",
        "back",
        "top",
        "bottom",
        "left",
        "right",
        "side",
        "part",
        "parts",
        "sample",
        "samples",
        "product",
        "products",
        "set",
        "public",
        "private",
        "mixed",
    }
)
MASK_SUFFIX = re.compile(r"[ _.-]*(mask|label|gt|ground_?truth|seg)$", re.IGNORECASE)

_WORD = re.compile(r"[^\W\d_]+|\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: "NotGood_02" gives not, good, 02."""
    return [word.lower() for word in _WORD.findall(_HUMP.sub(" ", name))]


def is_number(name: str) -> bool:
    """Whether a name counts and says no more."""
    return all(word.isdigit() for word in words_of(name))


def label_of(name: str) -> int | None:
    """0 for a name that says good, 1 for one that says bad, None for one that says neither, or both."""
    if name.strip() in ("0", "0.0", "1", "1.0"):
        return int(float(name))
    said = [word for word in words_of(name) if not word.isdigit()]
    if (whole := _label_of_word("".join(said))) is not None:  # i.O., n_ok
        return whole
    said = [word for word in said if word not in SILENT_WORDS and word not in PART_WORDS]
    good, bad = (any(word in listed for word in said) for listed in (GOOD_WORDS - {"free"}, BAD_WORDS))
    denied = any(word in NOT_WORDS for word in said)
    if good and bad:
        return None
    if bad:
        return 0 if denied else 1
    if good and denied:
        return 1
    return 0 if said and all(word in GOOD_WORDS for word in said) else None


def _label_of_word(word: str) -> int | None:
    return 0 if word in GOOD_WORDS else 1 if word in BAD_WORDS else None


def is_bare(name: str) -> bool:
    """Whether a name that says bad says nothing beside it, so that it names no kind of defect."""
    if name.strip() in ("1", "1.0"):
        return True
    said = [word for word in words_of(name) if not word.isdigit()]
    silent = BAD_WORDS | GOOD_WORDS | NOT_WORDS | SILENT_WORDS | PART_WORDS.keys()
    return "".join(said) in BAD_WORDS or all(word in silent for word in said)


def part_of(name: str) -> Part | None:
    """Which part of a data set a name says: "test_public" is test; None where it says more, or nothing."""
    first, *others = [word for word in words_of(name) if not word.isdigit()] or [""]
    return PART_WORDS.get(first) if all(word in SILENT_WORDS for word in others) else None


def sides_of(parts: Iterable[Part | None]) -> dict[Part | None, Split]:
    """What the parts of a set are here.

    What is to validate on is trained on, as there are folds of that, or tested on where nothing else is.
    """
    valid: Split = "train" if "test" in set(parts) else "test"
    return {"train": "train", "valid": valid, "test": "test", None: "unassigned"}


def says_masks(name: str) -> bool:
    """Whether a folder of that name holds masks: "ground_truth", "bad_masks", but not "solder_mask"."""
    said = [word for word in words_of(name) if not word.isdigit()]
    others = [word for word in said if word not in MASK_WORDS]
    return len(others) < len(said) and all(
        word in SILENT_WORDS or word in PART_WORDS or _label_of_word(word) is not None for word in others
    )


def says_images(name: str) -> bool:
    """Whether a folder's name says no more than that there are images in it."""
    said = words_of(name)
    return bool(said) and all(word in IMAGE_WORDS for word in said)


def without_mask_suffix(stem: str) -> str:
    """What a mask's name says of its image: "003_mask", "003.gt" and "003_label" say "003"."""
    return MASK_SUFFIX.sub("", stem) or stem
