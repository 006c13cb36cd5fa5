"""Splits and folds: exact to within a group, together, the same everywhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.errors import DataError
from trainer.data.splits import blocks, few, folds, held_out


@dataclass(frozen=True)
class Part:
    label: int
    kind: str
    group: str
    name: str = ""


def parts(**counts: int) -> list[Part]:
    """So many single-image groups of each kind."""
    return [
        Part(int(kind != "good"), kind, f"{kind} {number}")
        for kind, count in counts.items()
        for number in range(count)
    ]


kind_counts = st.dictionaries(
    st.sampled_from(("good", "bent", "crack", "dent")), st.integers(1, 20), min_size=1
)


@given(kind_counts, st.floats(0, 1), st.integers(0, 5))
def test_held_out_is_exact_to_within_one_group_overall_and_in_each_kind(counts, share, seed):
    members = parts(**counts)
    testing = held_out(members, share, seed)

    assert abs(len(testing) - share * len(members)) <= 1
    for kind, count in counts.items():
        of_kind = sum(member.group in testing for member in members if member.kind == kind)
        assert abs(of_kind - share * count) < 1 + 1e-9


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(("good", "bent", "crack"))), min_size=1))
def test_a_group_of_several_kinds_stays_on_one_side(pairs):
    members = [Part(int(kind != "good"), kind, f"tile {number}") for number, kind in pairs]
    groups = {member.group for member in members}

    testing = held_out(members, 0.5, seed=1)

    assert testing <= groups
    assert abs(len(testing) - len(groups) / 2) <= 0.5


def test_the_split_depends_on_names_and_seed_only():
    members = parts(good=30, bent=10)

    assert held_out(members, 0.5, seed=3) == held_out(list(reversed(members)), 0.5, seed=3)
    assert held_out(members, 0.5, seed=3) != held_out(members, 0.5, seed=4)


def test_the_split_of_known_names_is_known():
    """A split is part of what a bundle records: a change of the rule must not go unnoticed."""
    testing = held_out(parts(good=6, bent=4), 0.5, seed=0)

    assert sorted(testing) == ["bent 0", "bent 3", "good 0", "good 1", "good 3"]


def test_a_share_outside_0_to_1_is_refused():
    with pytest.raises(DataError, match=r"test_share must be 0\.\.1, got 1\.5"):
        held_out(parts(good=3), 1.5, seed=0)


def test_folds_are_balanced_in_each_kind():
    members = parts(good=23, bent=7, crack=2)

    numbers = folds(members, 5, seed=0)

    for kind in ("good", "bent", "crack"):
        counts = Counter(fold for fold, member in zip(numbers, members, strict=True) if member.kind == kind)
        assert max(counts.values()) - min(counts.get(fold, 0) for fold in range(5)) <= 1


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(("good", "bent", "crack"))), min_size=4),
    st.integers(2, 6),
    st.integers(0, 3),
)
def test_every_fold_leaves_both_labels_to_train_on_and_no_group_is_cut(pairs, k, seed):
    members = [Part(int(kind != "good"), kind, f"tile {number}") for number, kind in pairs]
    groups = {label: {member.group for member in members if member.label == label} for label in (0, 1)}
    if min(len(groups[0]), len(groups[1])) < 2:
        with pytest.raises(DataError, match="needs 2 or more groups"):
            folds(members, k, seed)
        return

    numbers = folds(members, k, seed)

    assert len({(member.group, fold) for member, fold in zip(members, numbers, strict=True)}) == len(
        groups[0] | groups[1]
    )
    for held in range(k):
        kept = [member for member, fold in zip(members, numbers, strict=True) if fold != held]
        assert {member.label for member in kept} == {0, 1}


def test_folds_need_two_groups_of_each_label():
    same_tile = [Part(1, "bent", "tile 1"), Part(1, "bent", "tile 1")]

    with pytest.raises(DataError, match="groups of defective images, found 1"):
        folds([*parts(good=9), *same_tile], 3, seed=0)


def test_one_fold_is_no_cross_validation():
    with pytest.raises(DataError, match="2 or more folds, got 1"):
        folds(parts(good=4, bent=4), 1, seed=0)


# ---- a few of many


def test_a_few_are_of_all_kinds_in_proportion():
    members = [Part(0, "good", f"g{n}") for n in range(80)] + [Part(0, "other", f"o{n}") for n in range(40)]
    chosen = few(members, 30, 0)
    assert Counter(member.kind for member in chosen) == {"good": 20, "other": 10}
    assert chosen == [member for member in members if member in chosen]
    assert few(members, 30, 0) == chosen != few(members, 30, 1)


def test_a_few_are_never_more_than_asked_for_and_from_whole_groups():
    members = [Part(0, "good" if n < 50 else "other", f"g{n // 5}") for n in range(100)]
    chosen = few(members, 12, 0)
    assert len(chosen) == 12
    assert {member.kind for member in chosen} == {"good", "other"}
    assert sorted(Counter(member.group for member in chosen).values()) == [2, 5, 5]
    assert few(members, 100, 0) == members == few(members, 1000, 0)


# ---- blocks


def frames(*groups: str) -> list[Part]:
    """Images that are numbered as they were taken, listed as a folder lists them."""
    taken = [Part(0, "good", group, f"run/{number}.png") for number, group in enumerate(groups)]
    return sorted(taken, key=lambda part: part.name)


def test_blocks_follow_one_another_in_time() -> None:
    taken = frames(*map(str, range(30)))
    by_number = sorted(zip((int(part.group) for part in taken), blocks(taken, 3), strict=True))
    assert [block for _, block in by_number] == [0] * 10 + [1] * 10 + [2] * 10


def test_a_block_never_divides_a_group() -> None:
    taken = frames(*"aaaaaabbbbccccccccdd")
    found = {(part.group, block) for part, block in zip(taken, blocks(taken, 3), strict=True)}
    assert found == {("a", 0), ("b", 1), ("c", 2), ("d", 2)}


def test_there_are_no_more_blocks_than_groups_and_none_is_empty() -> None:
    assert blocks(frames(*"aaaaaaaaab"), 5) == [0] * 9 + [1]
    assert blocks(frames(*"abc"), 10) == [0, 1, 2]


def test_one_group_alone_is_divided_all_the_same() -> None:
    assert blocks(frames(*"aaaa"), 2) == [0, 0, 1, 1]


def test_images_that_show_one_thing_cannot_be_cross_validated() -> None:
    members = [Part(1, "bent", "one"), Part(1, "bent", "one"), *parts(good=4)]
    with pytest.raises(DataError, match="groups of defective images, found 1: they show the same thing, or"):
        folds(members, 2, 0)
