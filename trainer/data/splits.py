"""Who is trained on and who is held out: stratified by kind, a group never separated, the same everywhere.

Groups are put in an order by the SHA-256 of (seed, group), so a split depends on names and seed alone: not on
the order of a folder listing, the machine, or a random generator's version.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil, floor
from typing import Protocol, TypeVar

from device.errors import DataError


class Member(Protocol):
    """What a splitter needs to know of an image."""

    @property
    def label(self) -> int | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def group(self) -> str: ...


class NamedMember(Member, Protocol):
    """One whose place in time its name tells."""

    @property
    def name(self) -> str: ...


Stratum = tuple[tuple[int, ...], tuple[str, ...]]


def held_out(members: Iterable[Member], share: float, seed: int) -> frozenset[str]:
    """The groups to hold out for testing: `share` of all groups, and of each kind's, to within one group.

    Systematic sampling over the groups in stratified order: group i is taken where
    floor(i*share + 1/2) steps.
    Raises DataError where share is not in 0..1.
    """
    if not 0.0 <= share <= 1.0:
        raise DataError(f"test_share must be 0..1, got {share}")
    groups = _stratified(members, seed)
    return frozenset(
        group
        for index, group in enumerate(groups)
        if floor((index + 1) * share + 0.5) > floor(index * share + 0.5)
    )


Some = TypeVar("Some", bound=Member)


def few(members: Sequence[Some], count: int, seed: int) -> list[Some]:
    """At most `count` of them in their order, of all strata in proportion; whole groups where they fit."""
    if len(members) <= count:
        return list(members)
    order = _stratified(members, seed)
    wanted = min(
        len(order), ceil(count * len(order) / len(members))
    )  # groups, as large as they are on average
    first = [order[index * len(order) // wanted] for index in range(wanted)]
    place = {group: index for index, group in enumerate(dict.fromkeys([*first, *order]))}
    ranked = sorted(range(len(members)), key=lambda index: place[members[index].group])
    return [members[index] for index in sorted(ranked[:count])]


def folds(samples: Sequence[Member], k: int, seed: int) -> list[int]:
    """The fold 0..k-1 of each sample, for cross-validation: stratified by kind, groups kept together.

    A kind may have fewer samples than k: its groups then lie in different folds. With two or more groups of
    each label every fold leaves both labels to train on; with fewer, DataError.
    """
    if k < 2:
        raise DataError(f"cross-validation needs 2 or more folds, got {k}")
    require_folds(samples)
    fold_of = {group: index % k for index, group in enumerate(_stratified(samples, seed))}
    return [fold_of[sample.group] for sample in samples]


def blocks(samples: Sequence[NamedMember], k: int) -> list[int]:
    """The block of each sample: k of about equal size, of what follows one another by name.

    So in time, where a camera counts its images: what was taken in one minute is alike in light and place,
    and is judged by what was taken at another. Groups are kept together, as far as there are several. "2"
    comes before "10". There are fewer blocks where there are not so many groups.
    """
    order = sorted(range(len(samples)), key=lambda index: _natural(samples[index].name))
    several = len({sample.group for sample in samples}) > 1
    group_of = [sample.group if several else sample.name for sample in samples]
    sizes = Counter(group_of)
    block_of: dict[str, int] = {}
    before = 0
    for group in dict.fromkeys(group_of[index] for index in order):
        block_of[group] = int((before + sizes[group] / 2) * k / len(samples))
        before += sizes[group]
    number = {block: index for index, block in enumerate(sorted(set(block_of.values())))}
    return [number[block_of[group]] for group in group_of]


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers by their value: each part is (number, "") or (-1, text)."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def require_folds(samples: Sequence[Member]) -> None:
    """Raises DataError where one fold could not be judged by what is learned on another."""
    for label, word in ((0, "good"), (1, "defective")):
        found = len({sample.group for sample in samples if sample.label == label})
        if found < 2:
            several = sum(sample.label == label for sample in samples) > found
            why = ": they show the same thing, or are given as one group" if several else ""
            way = "; --mode good-only learns from good images alone" if label else ""
            raise DataError(
                f"cross-validation needs 2 or more groups of {word} images, found {found}{why}{way}"
            )


def _stratified(members: Iterable[Member], seed: int) -> list[str]:
    """All groups, stratum after stratum, in a seeded order inside each.

    A stratum is the labels and kinds that a group holds. Good-only, mixed and defective-only groups follow
    one another, so the groups of either label lie side by side; `folds` rests on that.
    """
    labels: dict[str, set[int]] = {}
    kinds: dict[str, set[str]] = {}
    for member in members:
        labels.setdefault(member.group, set()).add(-1 if member.label is None else member.label)
        kinds.setdefault(member.group, set()).add(member.kind)

    def key(group: str) -> tuple[Stratum, str]:
        stratum = (tuple(sorted(labels[group])), tuple(sorted(kinds[group])))
        return stratum, hashlib.sha256(f"{seed}\0{group}".encode()).hexdigest()

    return sorted(labels, key=key)
