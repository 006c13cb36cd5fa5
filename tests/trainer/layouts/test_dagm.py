"""DAGM's Labels.txt, as it is shipped and as people rewrite it."""

from __future__ import annotations

import pytest
from fixtures_data import make_dagm

from trainer.layouts.dagm import read_dagm
from trainer.layouts.inventory import Inventory
from trainer.layouts.layouts import read_layout


def rewritten(root, change):
    """The class with every line of its lists changed."""
    for part in ("Train", "Test"):
        path = root / part / "Label/Labels.txt"
        path.write_text("\n".join(change(line) for line in path.read_text().splitlines()) + "\n")
    return root


@pytest.mark.parametrize("separator", [",", ";", " ", ", "])
def test_other_separators(tmp_path, separator):
    root = make_dagm(tmp_path / "Class8")
    rewritten(root, lambda line: separator.join(line.split()))
    listing = read_layout(root, "auto")
    assert (listing.format, listing.problems, len(listing.entries)) == ("dagm", (), 14)


@pytest.mark.parametrize("separator", ["\t", " "])
def test_names_with_blanks(tmp_path, separator):
    root = make_dagm(tmp_path / "Class8")
    for path in [*root.rglob("*.PNG")]:
        path.rename(path.with_name(f"part {path.name}"))
    rewritten(
        root,
        lambda line: separator.join(
            f"part {word}" if word.endswith(".PNG") else word for word in line.split()
        ),
    )
    listing = read_dagm(Inventory.of(root))
    assert (listing.problems, len(listing.entries)) == ((), 14)
    assert sum(entry.mask is not None for entry in listing.entries) == 6


def test_an_image_of_a_wrong_line_is_not_said_to_be_unlisted(tmp_path):
    root = rewritten(make_dagm(tmp_path / "Class8"), lambda line: line.replace("4\t0\t0004", "4\t7\t0004"))
    problems = read_dagm(Inventory.of(root)).problems
    assert len(problems) == 2
    assert all("must be INDEX 0|1 IMAGE 0 MASK|0" in problem for problem in problems)


def test_names_that_differ_in_case_only_are_told_apart(tmp_path):
    root = make_dagm(tmp_path / "Class8")
    (root / "Train/a.PNG").write_bytes((root / "Train/0005.PNG").read_bytes())
    (root / "Train/A.PNG").write_bytes((root / "Train/0006.PNG").read_bytes())
    with (root / "Train/Label/Labels.txt").open("a") as labels:
        labels.write("8\t0\ta.PNG\t0\t0\n9\t0\tA.PNG\t0\t0\n10\t0\ta.png\t0\t0\n")
    listing = read_dagm(Inventory.of(root))
    assert len(listing.entries) == 16
    assert listing.problems == ("Train/Label/Labels.txt line 11: no such image: a.png",)


def test_classes_may_lie_deeper(tmp_path):
    make_dagm(tmp_path / "dagm/part1/Class1")
    listing = read_layout(tmp_path, "auto")
    assert {entry.kind for entry in listing.entries} == {"good", "defective"}
