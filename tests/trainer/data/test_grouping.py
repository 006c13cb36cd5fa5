"""Groups that join what the layout says with what shows the same thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures_trainer import make_sample

from trainer.data import grouping
from trainer.data.dataset import Sample


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Six, each of its own group."""
    return [make_sample(tmp_path / f"{number}.png", (8, 8), number) for number in range(6)]


def named(samples: list[Sample], *groups: str) -> list[Sample]:
    return [Sample(**{**_fields(one), "group": group}) for one, group in zip(samples, groups, strict=True)]


def on_sides(samples: list[Sample], *sides: str) -> list[Sample]:
    return [Sample(**{**_fields(one), "split": side}) for one, side in zip(samples, sides, strict=True)]


def _fields(sample: Sample) -> dict[str, object]:
    return {name: getattr(sample, name) for name in Sample.__slots__}


def test_what_shows_the_same_thing_joins_the_groups_that_were_given(samples) -> None:
    given = named(samples, "a", "a", "b", "c", "d", "e")
    joined = grouping.together(given, np.array([0, 1, 1, 2, 3, 3]))
    assert [one.group for one in joined] == ["a", "a", "a", "c", "d", "d"]


def test_chains_of_both_kinds_are_one_group(samples) -> None:
    given = named(samples, "z", "y", "y", "x", "x", "w")
    assert {one.group for one in grouping.together(given, np.array([5, 5, 4, 4, 3, 3]))} == {"z"}


def test_images_without_a_side_follow_their_group(samples) -> None:
    given = on_sides(
        named(samples, "a", "a", "b", "b", "c", "c"),
        "train", "unassigned", "test", "unassigned", "unassigned", "unassigned",
    )  # fmt: skip
    sides = [one.split for one in grouping.following(given)]
    assert sides == ["train", "train", "test", "test", "unassigned", "unassigned"]


def test_a_group_on_both_sides_leads_nobody(samples) -> None:
    given = on_sides(
        named(samples, "a", "a", "a", "b", "b", "c"), "train", "test", *["unassigned"] * 3, "test"
    )
    assert grouping.following(given) == given


def test_a_leak_is_named_and_too_few_things_are(samples) -> None:
    given = on_sides(named(samples, "a", "a", "a", "b", "b", "c"), *["train"] * 2, "test", *["train"] * 3)
    leak, few = grouping.problems(given)
    assert leak.startswith("1 images of test show the same thing as images of train")
    assert leak.endswith(": 2.png")
    assert few.startswith("the 5 good images of train show 3 things only (one of them 2 times)")


def test_nothing_is_said_where_every_image_shows_its_own_thing(samples) -> None:
    assert list(grouping.problems(samples)) == []
    assert grouping.note(samples, samples) == ""
    assert "these 6 images show 1 things" in grouping.note(samples, named(samples, *"aaaaaa"))
