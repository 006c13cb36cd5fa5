"""Folders that say what their images are, as people and published sets name them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from fixtures_data import write_image, write_mask

from device.errors import DataError
from trainer.layouts.folders import NothingSaid, Unclear, read_folders, unlabelled
from trainer.layouts.inventory import Inventory


def images(root: Path, *folders: str, count: int = 2, suffix: str = ".png") -> None:
    """So many images in each folder, 000 and on, each of its own bytes."""
    for folder in folders:
        for number in range(count):
            path = root / folder / f"{number:03d}{suffix}"
            write_image(path, hash_of(str(path)))


def hash_of(text: str) -> int:
    return sum(ord(letter) * 31**at for at, letter in enumerate(text)) % 2**32


def listed(root: Path):
    return read_folders(Inventory.of(root))


def labels(root: Path) -> dict[str, int | None]:
    return {entry.name: entry.label for entry in listed(root).entries}


def kinds(root: Path) -> Counter[tuple[str, str]]:
    return Counter((entry.kind, entry.split) for entry in listed(root).entries)


# ---- the commonest of all


def test_good_and_bad(tmp_path):
    images(tmp_path, "good", "bad")
    listing = listed(tmp_path)
    assert listing.format == "folders"
    assert kinds(tmp_path) == {("good", "unassigned"): 2, ("defective", "unassigned"): 2}
    assert listing.notes == ("taken for good: good", "taken for defective: bad")
    assert (listing.problems, listing.split_rule) == ((), "")


def test_kinds_below_bad_and_cameras_below_good(tmp_path):
    images(tmp_path, "good/cam0", "good/cam1", "bad/scratch", "bad/dent")
    assert {kind for kind, _ in kinds(tmp_path)} == {"good", "scratch", "dent"}


def test_train_and_test_above_them(tmp_path):
    images(tmp_path, "train/good", "train/bad", "val/good", "val/bad", "test/good", "test/bad")
    assert kinds(tmp_path)["defective", "train"] == 4
    assert listed(tmp_path).split_rule == (
        "the set's own train and test folders, its validation folder counted as train"
    )
    shutil.rmtree(tmp_path / "test")
    assert kinds(tmp_path)["defective", "test"] == 2


def test_no_word_for_good_is_taken_for_a_kind_of_defect(tmp_path):
    images(tmp_path, "train/good", "test/OK", "test/NG")
    assert Counter(labels(tmp_path).values()) == {0: 4, 1: 2}


def test_a_word_of_neither_kind_is_a_defect_beside_good_and_is_named(tmp_path):
    images(tmp_path, "ok", "scratch")
    assert {kind for kind, _ in kinds(tmp_path)} == {"good", "scratch"}
    assert "taken for kinds of defect, as they lie beside good: scratch" in listed(tmp_path).notes


def test_beside_good_and_bad_it_is_not_guessed(tmp_path):
    images(tmp_path, "good", "bad", "unsorted")
    with pytest.raises(
        Unclear, match="unsorted: beside folders for good and for bad images, and says neither"
    ):
        listed(tmp_path)


def test_folders_that_say_nothing(tmp_path):
    images(tmp_path, "a", "b")
    with pytest.raises(NothingSaid, match="no folder says which images are good"):
        listed(tmp_path)


def test_a_folder_of_both_says_neither(tmp_path):
    images(tmp_path, "defect_set/train/ok_front", "defect_set/train/def_front")
    assert Counter(labels(tmp_path).values()) == {0: 2, 1: 2}
    assert {kind for kind, _ in kinds(tmp_path)} == {"good", "defective"}


@pytest.mark.parametrize(
    "folders", [("bad/good", "good/bad"), ("good", "bad", "bad/ok"), ("test/ng/ok", "ok")]
)
def test_a_folder_that_says_the_opposite_of_the_one_above_is_refused(tmp_path, folders):
    images(tmp_path, *folders)
    with pytest.raises(Unclear, match="says the opposite of a folder above it"):
        listed(tmp_path)


def test_a_folder_that_is_named_after_defects_may_hold_good_ones(tmp_path):
    images(tmp_path, "defect_detection/train/good", "defect_detection/test/good")
    assert set(labels(tmp_path).values()) == {0}


def test_photographs_and_videos_that_are_not_read_are_told_the_way(tmp_path):
    for name in ("good/1.HEIC", "good/2.heic", "bad/1.MOV"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"bad: an empty class: 1 .mov file: take pictures out of them first"):
        listed(tmp_path)
    images(tmp_path, "bad")
    with pytest.raises(DataError, match=r"good: an empty class: 2 .heic files: convert them first: magick"):
        listed(tmp_path)


def test_zero_and_one_say_something_together_only(tmp_path):
    images(tmp_path, "set/0", "set/1")
    assert Counter(labels(tmp_path).values()) == {0: 2, 1: 2}
    images(tmp_path, "set/2")
    shutil.rmtree(tmp_path / "set/0")
    with pytest.raises(NothingSaid):
        listed(tmp_path)


def test_images_that_lie_beside_their_folders_are_not_taken(tmp_path):
    images(tmp_path, "good", "bad", ".")
    assert not any("/" not in name for name in labels(tmp_path))


def test_an_empty_class_is_an_error(tmp_path):
    images(tmp_path, "good")
    (tmp_path / "bad").mkdir()
    with pytest.raises(DataError, match="bad: an empty class"):
        listed(tmp_path)
    (tmp_path / "bad/a.heic").write_text("x")
    with pytest.raises(DataError, match="bad: an empty class"):
        listed(tmp_path)


# ---- published sets


def test_btad(tmp_path):
    for product in ("01", "02"):
        images(tmp_path, f"{product}/train/ok", f"{product}/test/ok", f"{product}/test/ko", suffix=".bmp")
        for number in range(2):
            write_mask(tmp_path / product / f"ground_truth/ko/{number:03d}.png")
    listing = listed(tmp_path)
    assert {entry.kind for entry in listing.entries} == {"01/good", "01/defective", "02/good", "02/defective"}
    masks = {entry.name: entry.mask for entry in listing.entries if entry.label}
    assert masks["02/test/ko/001.bmp"] == tmp_path / "02/ground_truth/ko/001.png"
    assert all(masks.values())


def test_visa(tmp_path):
    for product in ("candle", "pcb1"):
        images(tmp_path, f"{product}/Data/Images/Normal", f"{product}/Data/Images/Anomaly", suffix=".JPG")
        write_mask(tmp_path / product / "Data/Masks/Anomaly/000.png")
        write_mask(tmp_path / product / "Data/Masks/Anomaly/001.png")
    listing = listed(tmp_path)
    assert {entry.kind for entry in listing.entries} == {
        "candle/good",
        "candle/defective",
        "pcb1/good",
        "pcb1/defective",
    }
    assert all(entry.mask for entry in listing.entries if entry.label)


def test_mvtec_loco_has_several_masks_for_one_image(tmp_path):
    images(tmp_path, "train/good", "validation/good", "test/good", "test/logical_anomalies", suffix=".png")
    for number in range(2):
        for part in range(number + 1):
            write_mask(tmp_path / f"ground_truth/logical_anomalies/{number:03d}/{part:03d}.png")
    listing = listed(tmp_path)
    assert (listing.format, listing.problems) == ("mvtec", ())
    masks = {entry.path.stem: len(entry.masks) for entry in listing.entries if entry.label}
    assert masks == {"000": 1, "001": 2}


def test_mvtec_ad_2(tmp_path):
    images(
        tmp_path / "can",
        "train/good",
        "validation/good",
        "test_public/good",
        "test_public/bad",
        "test_private",
    )
    write_mask(tmp_path / "can/test_public/ground_truth/bad/000_mask.png")
    listing = listed(tmp_path)
    assert Counter(entry.split for entry in listing.entries) == {"train": 4, "test": 4}
    assert sum(entry.mask is not None for entry in listing.entries) == 1
    assert not any("private" in entry.name for entry in listing.entries)


def test_dagm_of_the_competition(tmp_path):
    images(tmp_path, "Class1", "Class1_def", "Class2", "Class2_def")
    assert {entry.label for entry in listed(tmp_path).entries if "_def" in entry.name} == {1}
    assert {entry.label for entry in listed(tmp_path).entries if "_def" not in entry.name} == {0}


def test_magnetic_tiles(tmp_path):
    for kind in ("MT_Free", "MT_Crack", "MT_Break"):
        images(tmp_path, f"{kind}/Imgs", suffix=".jpg")
        write_mask(tmp_path / kind / "Imgs/000.png", marked=0 if kind == "MT_Free" else 6)
        write_mask(tmp_path / kind / "Imgs/001.png", marked=0 if kind == "MT_Free" else 6)
    listing = listed(tmp_path)
    assert {entry.kind for entry in listing.entries} == {"good", "MT_Crack", "MT_Break"}
    assert len(listing.entries) == 6
    assert all(entry.mask for entry in listing.entries if entry.label)


def test_kolektor_says_it_by_masks_alone(tmp_path):
    for part in ("kos01", "kos02"):
        images(tmp_path, part, suffix=".jpg")
        write_mask(tmp_path / part / "000_label.bmp", marked=0)
        write_mask(tmp_path / part / "001_label.bmp")
    listing = listed(tmp_path)
    assert {entry.label for entry in listing.entries} == {None}
    assert "labels by the masks" in listing.notes[0]
    (tmp_path / "kos02/001_label.bmp").unlink()
    with pytest.raises(NothingSaid, match=r"1 of 4 images have no mask that could tell: kos02/001\.jpg"):
        listed(tmp_path)


# ---- masks


def test_a_set_with_masks_says_where_one_is_missing(tmp_path):
    images(tmp_path, "good", "bad")
    write_mask(tmp_path / "masks/000.png")
    listing = listed(tmp_path)
    assert listing.problems == ("bad/001.png: no mask: kept without a mask",)


def test_two_images_of_one_name_do_not_share_a_mask(tmp_path):
    images(tmp_path, "train/good", "test/bent")
    write_image(tmp_path / "test/bent/000.jpg", 77)
    write_mask(tmp_path / "ground_truth/bent/000_mask.png")
    listing = listed(tmp_path)
    assert not any(entry.mask for entry in listing.entries)
    assert listing.problems[0] == (
        "ground_truth/bent/000_mask.png: fits 2 images (test/bent/000.jpg, test/bent/000.png): "
        "used for none of them"
    )


def test_unlabelled_lists_what_can_be_said(tmp_path):
    images(tmp_path, "good", "bad", "unsorted")
    write_mask(tmp_path / "bad/000_mask.png")
    found = {entry.name: entry for entry in unlabelled(Inventory.of(tmp_path))}
    assert len(found) == 6
    assert [found[f"{folder}/000.png"].label for folder in ("good", "bad", "unsorted")] == [0, 1, None]
    assert found["bad/000.png"].mask == tmp_path / "bad/000_mask.png"
