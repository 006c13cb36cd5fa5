"""Which file is a mask, and of which image."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures_data import write_image, write_mask

from trainer.layouts.inventory import Inventory
from trainer.layouts.mask_files import Place, apart, assigned


def pairs(root: Path, *defective: str) -> dict[str, list[str]]:
    """Of each image the names of its masks; `defective`: names of images, the others are good."""
    images, masks = apart(Inventory.of(root).images)
    found, _ = assigned([(image, int(image.name in defective)) for image in images], masks)
    return {image.name: [mask.name for mask in found.get(image, ())] for image in images}


@pytest.mark.parametrize(
    "mask",
    [
        "masks/1.png",
        "ground_truth/bad/1_mask.png",
        "bad/1_mask.png",
        "bad/1_GT.png",
        "bad/1.gt.png",
        "bad/masks/1.bmp",
        "Label/1_label.PNG",
        "masks/bad/1.jpg.png",
        "masks/1/scratch.png",
    ],
)
def test_names_that_masks_have(tmp_path, mask):
    write_image(tmp_path / "bad/1.jpg", 1)
    write_image(tmp_path / "good/1.jpg", 2)
    write_mask(tmp_path / mask)
    assert pairs(tmp_path, "bad/1.jpg") == {"bad/1.jpg": [mask], "good/1.jpg": []}


def test_the_nearest_folder_decides(tmp_path):
    for folder in ("scratch", "dent"):
        write_image(tmp_path / "bad" / folder / "1.png", len(folder))
        write_mask(tmp_path / "masks" / folder / "1.png")
    found = pairs(tmp_path, "bad/scratch/1.png", "bad/dent/1.png")
    assert found == {"bad/dent/1.png": ["masks/dent/1.png"], "bad/scratch/1.png": ["masks/scratch/1.png"]}


def test_train_and_test_do_not_share_masks(tmp_path):
    for part in ("train", "test"):
        write_image(tmp_path / part / "bad/1.png", len(part))
        write_mask(tmp_path / part / "masks/1.png")
    found = pairs(tmp_path, "train/bad/1.png", "test/bad/1.png")
    assert found["test/bad/1.png"] == ["test/masks/1.png"]


def test_a_photograph_of_the_same_name_is_no_mask(tmp_path):
    write_image(tmp_path / "bad/1.jpg", 1)
    write_image(tmp_path / "bad/1.png", 2)
    assert pairs(tmp_path, "bad/1.jpg", "bad/1.png") == {"bad/1.jpg": [], "bad/1.png": []}


def test_a_place_is_what_says_more_than_a_part():
    place = Place.of(("candle", "Data", "Images", "test", "Anomaly"))
    assert place == Place("test", ("candle", "Anomaly"))
    assert Place(None, ("Anomaly",)).fits(place, "000")
    assert not Place("train", ("Anomaly",)).fits(place, "000")
    assert not Place(None, ("other",)).fits(place, "000")
