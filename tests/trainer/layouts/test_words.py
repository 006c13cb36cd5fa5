"""One list of words for every reader: what says good, what says bad, and what says nothing."""

from __future__ import annotations

import pytest

from trainer.layouts.words import (
    is_bare,
    is_number,
    label_of,
    part_of,
    says_images,
    says_masks,
    sides_of,
    without_mask_suffix,
)


@pytest.mark.parametrize(
    "name",
    [
        "good",
        "Good",
        "OK",
        "okay",
        "io",
        "i.O.",
        "pass",
        "normal",
        "Free",
        "0",
        "ok_front",
        "good_02",
        "defect_free",
        "NonDefective",
        "no_defects",
        "train_good",
    ],
)
def test_words_for_good(name):
    assert label_of(name) == 0


@pytest.mark.parametrize(
    "name",
    [
        "bad",
        "NG",
        "nok",
        "KO",
        "nio",
        "n.i.O.",
        "n_ok",
        "fail",
        "defect",
        "Defects",
        "1",
        "def_front",
        "Anomaly",
        "abnormal",
        "reject",
        "not_good",
        "NotOK",
        "defect_scratch",
        "Class1_def",
        "bad-02",
    ],
)
def test_words_for_bad(name):
    assert label_of(name) == 1


@pytest.mark.parametrize(
    "name",
    [
        "scratch",
        "ok_scratched",
        "good_bad",
        "cam0",
        "01",
        "2",
        "unsorted",
        "train",
        "front",
        "images",
        "Freeway",
        "goods",
        "token",
        "maybe",
    ],
)
def test_what_says_neither_is_never_taken_for_good(name):
    assert label_of(name) is None


def test_a_number_is_no_word() -> None:
    assert [is_number(name) for name in ("0", "0012", "1.5", "good_1")] == [True, True, True, False]


def test_a_bare_word_names_no_kind_of_defect():
    assert [is_bare(name) for name in ("NG", "bad_02", "1", "not ok", "test_bad")] == [True] * 5
    assert [is_bare(name) for name in ("defect_scratch", "Class1_def")] == [False] * 2


def test_parts_of_a_set():
    names = ("train", "Training", "test_public", "test_private_mixed", "val", "validation", "Train_Images")
    assert [part_of(name) for name in names] == ["train", "train", "test", "test", "valid", "valid", "train"]
    assert [part_of(name) for name in ("test_mark", "contest", "good", "")] == [None] * 4


def test_what_is_to_validate_on_is_tested_on_where_nothing_else_is():
    assert sides_of(["train", "valid", "test"])["valid"] == "train"
    assert sides_of(["train", "valid", None])["valid"] == "test"


def test_folders_of_masks_and_of_images():
    assert all(says_masks(name) for name in ("ground_truth", "GT", "masks", "bad_masks", "Label", "Masks_02"))
    assert not any(says_masks(name) for name in ("solder_mask", "good", "images", ""))
    assert all(says_images(name) for name in ("Images", "imgs", "Data", "rgb"))
    assert not any(says_images(name) for name in ("good", "image_of_cam", ""))


@pytest.mark.parametrize("stem", ["003_mask", "003-label", "003_GT", "003.mask", "003_ground_truth", "003"])
def test_the_name_of_a_masks_image(stem):
    assert without_mask_suffix(stem) == "003"


def test_a_name_that_is_a_suffix_stays():
    assert without_mask_suffix("mask") == "mask"
