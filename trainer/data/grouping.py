"""Groups of images that a split must not separate: what the layout says, and what shows the same thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trainer.layouts.inventory import some

if TYPE_CHECKING:
    from trainer.data.dataset import Sample

Grouping = Literal["found", "given"]  # from the pixels beside the layout's own, or the layout's own alone
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
FEW_GOOD, FEW_DEFECTIVE = 10, 4  # things: of fewer, folds and figures say little


def together(samples: Sequence[Sample], numbers: NDArray[np.intp]) -> list[Sample]:
    """The samples in groups that join the layout's own with those of equal numbers, named after the first."""
    leader: dict[str, str] = {}

    def led_by(group: str) -> str:
        while leader.setdefault(group, group) != group:
            group = leader[group]
        return group

    first: dict[int, str] = {}
    for sample, number in zip(samples, numbers.tolist(), strict=True):
        one, other = led_by(first.setdefault(number, sample.group)), led_by(sample.group)
        leader[other] = one
    return [replace(sample, group=led_by(sample.group)) for sample in samples]


def following(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, with images of no side on the side of their group, where that has one."""
    sides: dict[str, set[str]] = {}
    for sample in samples:
        if sample.split != "unassigned":
            sides.setdefault(sample.group, set()).add(sample.split)
    only = {group: next(iter(found)) for group, found in sides.items() if len(found) == 1}
    return [
        replace(sample, split=only[sample.group])  # type: ignore[arg-type]
        if sample.split == "unassigned" and sample.group in only
        else sample
        for sample in samples
    ]


def note(before: Sequence[Sample], after: Sequence[Sample]) -> str:
    """What was found, in words; nothing where nothing was."""
    given, found = (len({sample.group for sample in part}) for part in (before, after))
    if given == found:
        return ""
    return (
        f"groups: these {len(after)} images show {found} things; those that show the same thing, by their "
        "pixels, stay on one side of a split (--groups given: the layout's own groups alone)"
    )


def problems(samples: Sequence[Sample]) -> Iterator[str]:
    """Where groups lie on both sides of a given split, and where they leave too few to learn from."""
    both = {sample.group for sample in samples if sample.split == "train"}
    leaks = [sample.name for sample in samples if sample.split == "test" and sample.group in both]
    if leaks:
        yield (
            f"{len(leaks)} images of test show the same thing as images of train, which flatters what is "
            f"measured on them: {some(leaks)}"
        )
    trained = [sample for sample in samples if sample.split == "train"]
    for label, word, few in ((0, "good", FEW_GOOD), (1, "defective", FEW_DEFECTIVE)):
        images = [sample.group for sample in trained if sample.label == label]
        things = len(set(images))
        if things < few and things < len(images):
            most = Counter(images).most_common(1)[0][1]
            yield (
                f"the {len(images)} {word} images of train show {things} things only (one of them "
                f"{most} times): how a model does on others is hardly known; take images of more parts"
            )
