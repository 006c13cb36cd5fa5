"""Which images come first, and what comes back into the manifest."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import pytest
from fixtures_labelling import write_reviewed

from device.errors import DataError
from device.image.geometry import Size
from trainer.labelling import data_set
from trainer.labelling.drawn import Drawing, Shape, rectangle
from trainer.layouts.layouts import read_layout

SIZE = Size(64, 48)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_reviewed(tmp_path / "set")


def dent(name: str, size: Size = SIZE) -> Drawing:
    return Drawing(name, size, None, (Shape("dent", rectangle(10, 10, 8, 8, 0, size)),))


def test_the_most_uncertain_comes_first_with_the_regions_as_suggestions(folder: Path) -> None:
    found = data_set.pictures(folder)
    assert [picture.name for picture in found] == ["images/b.png", "images/a.png", "images/c.png"]
    assert [len(picture.suggestions) for picture in found] == [2, 2, 0]
    assert found[0].suggestions[0].box == (0.015625, 0.041667, 0.046875, 0.083333)
    (folder / "verdicts" / "b.json").unlink()
    assert data_set.pictures(folder)[-1].name == "images/b.png", "of what is not known nothing is certain"


def test_masks_labels_and_kinds_come_into_the_manifest_that_fit_reads(folder: Path) -> None:
    before = (folder / "manifest.csv").read_bytes()
    merged = data_set.merge(folder, [dent("images/b.png"), Drawing("images/a.png", SIZE, "good", ())])
    assert (merged.masks, merged.relabelled, merged.untouched) == (1, 1, 1)
    assert merged.kept.read_bytes() == before
    with (folder / "manifest.csv").open(newline="") as lines:
        rows = {row["path"]: row for row in csv.DictReader(lines)}
    assert rows["images/b.png"] == {
        "path": "images/b.png", "label": "defective", "mask": "masks/images-b.png", "group": "part b",
        "split": "", "kind": "dent",
    }  # fmt: skip
    assert rows["images/a.png"]["label"] == "good"
    assert rows["images/c.png"]["label"] == "ok", "nobody has said anything of it"
    mask = cv2.imread(str(folder / "masks" / "images-b.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (48, 64)
    assert set(mask.ravel().tolist()) == {0, 255}
    listing = read_layout(folder, "auto")
    assert {(entry.name, entry.label, entry.kind) for entry in listing.entries} == {
        ("images/a.png", 0, "good"), ("images/b.png", 1, "dent"), ("images/c.png", 0, "good"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("drawing", "said"),
    [
        (dent("images/z.png"), "has no image images/z.png, and 1 in all"),
        (dent("images/a.png", Size(640, 480)), "was drawn into at 640x480 px, and has 64x48"),
    ],
)
def test_what_does_not_fit_changes_nothing(folder: Path, drawing: Drawing, said: str) -> None:
    before = (folder / "manifest.csv").read_bytes()
    with pytest.raises(DataError, match=said):
        data_set.merge(folder, [drawing])
    assert (folder / "manifest.csv").read_bytes() == before


@pytest.mark.parametrize("content", ["", "path\n", "path,label\n", "path,label\na,b,c\n", "path,label\na\n"])
def test_a_manifest_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.csv").write_text(content)
    with pytest.raises(DataError, match=r"manifest\.csv"):
        data_set.pictures(tmp_path)
    (tmp_path / "manifest.csv").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        data_set.pictures(tmp_path)
