"""What each layout says of its images, and what is said where it is wrong."""

from __future__ import annotations

import shutil

import pytest
from fixtures_data import make_dagm, make_manifest, make_mvtec, write_image

from device.errors import DataError
from trainer.layouts.layouts import detect, read_layout


def by_name(listing):
    return {entry.name: entry for entry in listing.entries}


# ---- DAGM


def test_a_dagm_class_folder(tmp_path):
    root = make_dagm(tmp_path / "Class8")
    entries = by_name(read_layout(root, "dagm"))

    assert len(entries) == 14
    bad = entries["Train/0001.PNG"]
    assert (bad.label, bad.kind, bad.split) == (1, "defective", "train")
    assert bad.mask == root / "Train/Label/0001_label.PNG"
    assert bad.group == "Train/0001.PNG"
    good = entries["Test/0004.PNG"]
    assert (good.label, good.kind, good.mask, good.split) == (0, "good", None, "test")


def test_several_dagm_classes_have_kinds_of_their_own(tmp_path):
    make_dagm(tmp_path / "Class1")
    make_dagm(tmp_path / "Class2")
    listing = read_layout(tmp_path, "auto")

    assert listing.format == "dagm"
    assert {entry.kind for entry in listing.entries} == {
        "Class1/good",
        "Class1/defective",
        "Class2/good",
        "Class2/defective",
    }
    assert "Class2/Train/0001.PNG" in by_name(listing)


def test_dagm_names_are_compared_without_case(tmp_path):
    root = make_dagm(tmp_path / "Class8")
    for name in ("Train/0001.PNG", "Train/Label/0001_label.PNG", "Train/0005.PNG"):
        (root / name).rename(root / name.replace(".PNG", ".png"))
    (root / "Train/Label/Labels.txt").rename(root / "Train/Label/labels.txt")
    listing = read_layout(root, "auto")

    assert listing.problems == ()
    assert by_name(listing)["Train/0001.png"].mask == root / "Train/Label/0001_label.png"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("9\t2\t0009.PNG\t0\t0", "line 9: must be INDEX 0|1 IMAGE 0 MASK|0, got '9 2 0009.PNG 0 0'"),
        ("9\t1", "line 9: must be INDEX 0|1 IMAGE 0 MASK|0, got '9 1'"),
        ("9\t0\t0009.PNG\t0\t0", "line 9: no such image: 0009.PNG"),
        ("4\t0\t0004.PNG\t0\t0", "line 9: 0004.PNG is listed twice"),
        ("4\t0\t0004.PNG\t0\t4_label.PNG", "line 9: 0004.PNG is marked good but has mask 4_label.PNG"),
    ],
)
def test_a_wrong_dagm_label_line_is_a_problem(tmp_path, line, problem):
    root = make_dagm(tmp_path / "Class8")
    with (root / "Train/Label/Labels.txt").open("a") as labels:
        labels.write(line + "\n")
    listing = read_layout(root, "dagm")

    assert len(listing.entries) == 14
    assert len(listing.problems) == 1
    assert listing.problems[0].startswith(f"Train/Label/Labels.txt {problem}")


def test_a_dagm_image_without_a_label_line_is_a_problem(tmp_path):
    root = make_dagm(tmp_path / "Class8")
    write_image(root / "Test" / "0099.PNG", 99)

    assert read_layout(root, "dagm").problems == ("Test/0099.PNG: not in Test/Label/Labels.txt: left out",)


def test_a_missing_dagm_mask_is_a_problem_and_the_image_is_kept(tmp_path):
    root = make_dagm(tmp_path / "Class8")
    (root / "Train/Label/0002_label.PNG").unlink()
    listing = read_layout(root, "dagm")

    assert by_name(listing)["Train/0002.PNG"].mask is None
    assert listing.problems == (
        "Train/Label/Labels.txt line 3: no mask 0002_label.PNG for defective 0002.PNG: kept without",
    )


def test_a_dagm_part_without_a_usable_line_is_an_error(tmp_path):
    root = make_dagm(tmp_path / "Class8")
    (root / "Test/Label/Labels.txt").write_text("1\n")

    with pytest.raises(DataError, match=r"Class8/Test: no labelled images"):
        read_layout(root, "dagm")


def test_a_dagm_part_without_labels_is_named(tmp_path):
    root = make_dagm(tmp_path / "Class8")
    (root / "Test/Label/Labels.txt").unlink()

    assert read_layout(root, "dagm").problems == (
        "Test: no Label/Labels.txt: its images are left out",
        "Test: 7 images left out: 0001.PNG, 0002.PNG, 0003.PNG and 4 more",
        "Test/Label: 3 images left out: 0001_label.PNG, 0002_label.PNG, 0003_label.PNG",
    )


# ---- MVTec


def test_an_mvtec_category(tmp_path):
    root = make_mvtec(tmp_path / "screw")
    listing = read_layout(root, "mvtec")
    entries = by_name(listing)

    assert len(entries) == 20
    bent = entries["test/bent/001.png"]
    assert (bent.label, bent.kind, bent.split) == (1, "bent", "test")
    assert bent.mask == root / "ground_truth/bent/001_mask.png"
    assert entries["train/good/003.png"].split == "train"
    assert listing.split_rule == "MVTec's own train and test folders"


def test_several_mvtec_categories(tmp_path):
    make_mvtec(tmp_path / "screw")
    make_mvtec(tmp_path / "nut", kinds=["bent"])
    listing = read_layout(tmp_path, "auto")

    assert listing.format == "mvtec"
    assert {entry.kind for entry in listing.entries} == {
        "nut/good",
        "nut/bent",
        "screw/good",
        "screw/bent",
        "screw/crack",
    }


def test_a_missing_mvtec_mask_is_a_problem(tmp_path):
    root = make_mvtec(tmp_path / "screw")
    (root / "ground_truth/crack/002_mask.png").unlink()
    listing = read_layout(root, "mvtec")

    assert by_name(listing)["test/crack/002.png"].mask is None
    assert listing.problems == (
        "test/crack/002.png: no ground_truth/crack/002_mask.png: kept without a mask",
    )


def test_an_empty_mvtec_class_is_an_error(tmp_path):
    root = make_mvtec(tmp_path / "screw")
    (root / "test" / "stripped").mkdir()

    with pytest.raises(DataError, match=r"test/stripped: an empty class"):
        read_layout(root, "mvtec")


# ---- CSV


def test_a_manifest(tmp_path):
    manifest = make_manifest(
        tmp_path,
        [
            "path,label,mask,group,split",
            "images/00.png,OK,,,train",
            "images/01.png,good,,tile 7,",
            "images/02.png,0,,tile 7,test",
            "images/08.png,NG,images/00.png,,",
            "images/09.png,Defective,,,test",
        ],
    )
    listing = read_layout(manifest, "auto")
    entries = by_name(listing)

    assert listing.format == "csv"
    assert [entries[f"images/{n}.png"].label for n in ("00", "01", "02", "08", "09")] == [0, 0, 0, 1, 1]
    assert entries["images/00.png"].group == "images/00.png"
    assert entries["images/01.png"].split == "test"  # its group's
    assert entries["images/08.png"].split == "unassigned"
    assert entries["images/08.png"].mask == tmp_path / "images/00.png"
    assert entries["images/08.png"].kind == "defective"


def test_a_manifest_may_leave_columns_out_and_name_kinds(tmp_path):
    manifest = make_manifest(tmp_path, ["\ufefflabel,path,kind", "1,images/08.png,crack", "0,images/00.png,"])
    entries = by_name(read_layout(manifest, "csv"))

    assert entries["images/08.png"].kind == "crack"
    assert entries["images/00.png"].kind == "good"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["path,label", "images/00.png,0", "images/01.png,maybe"],
            "line 3: label must be one of 0, ok, good",
        ),
        (
            ["path,label,split", "images/00.png,0,later"],
            "line 2: split must be train, test or empty, got 'later'",
        ),
        (["path,label", ",0"], "line 2: path is empty"),
        (["path,label", "images/00.png,0,1"], "line 2: 2 fields expected, found more"),
        (["path,mask", "images/00.png,"], "line 1: no column 'label'"),
        (["path,label,spilt", "images/00.png,0,test"], "line 1: unknown or repeated column 'spilt'"),
        (["path,label,label", "images/00.png,0,1"], "line 1: unknown or repeated column 'label'"),
        (["path,label", '"images/00.png,0'], "not CSV"),
        (
            ["path,label,group,split", "images/00.png,0,g1,train", "images/01.png,0,g1,test"],
            "group 'g1' has rows in train and in test",
        ),
        (["path,label"], "no images found"),
        (["path,label", "images/77.png,0"], "line 2: no such image: images/77.png"),
    ],
)
def test_a_wrong_manifest_is_an_error_that_names_the_line(tmp_path, rows, message):
    manifest = make_manifest(tmp_path, rows)

    with pytest.raises(DataError) as caught:
        read_layout(manifest, "csv")

    assert message in str(caught.value)
    assert str(manifest) in str(caught.value)
    assert caught.value.exit_code == 8


def test_the_first_wrong_rows_are_shown_and_the_others_counted(tmp_path):
    manifest = make_manifest(tmp_path, ["path,label", *(f"images/{n:02d}.png,x" for n in range(9))])

    with pytest.raises(DataError) as caught:
        read_layout(manifest, "csv")

    assert str(caught.value).count("label must be") == 5
    assert str(caught.value).endswith("; and 4 more")


def test_files_that_a_manifest_names_and_are_not_there_are_problems(tmp_path):
    manifest = make_manifest(
        tmp_path,
        ["path,label,mask", "images/00.png,0,", "images/55.png,0,", "images/08.png,1,images/none.png"],
    )
    listing = read_layout(manifest, "csv")

    assert listing.problems == (
        "manifest.csv line 3: no such image: images/55.png",
        "manifest.csv line 4: no such mask: images/none.png: kept without",
    )
    assert len(listing.entries) == 2


# ---- which layout


def test_detect_tells_the_layouts_apart(tmp_path):
    make_dagm(tmp_path / "dagm" / "Class1")
    make_mvtec(tmp_path / "mvtec" / "screw")

    assert detect(tmp_path / "dagm") == "dagm"
    assert detect(tmp_path / "dagm" / "Class1") == "dagm"
    assert detect(tmp_path / "mvtec") == "mvtec"
    assert detect(tmp_path / "mvtec" / "screw") == "mvtec"


def test_detect_knows_mvtec_by_its_test_folder_alone(tmp_path):
    root = make_mvtec(tmp_path / "screw")
    shutil.rmtree(root / "train")

    assert detect(root) == "mvtec"


def test_detect_says_what_it_looked_for_and_found(tmp_path):
    write_image(tmp_path / "a.png", 0)
    (tmp_path / "stuff").mkdir()

    with pytest.raises(DataError, match=r"looked for DAGM .*MVTec .*\.csv file, found a\.png, stuff"):
        detect(tmp_path)


def test_detect_finds_nothing_in_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match="found nothing"):
        detect(tmp_path)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("images/_annotations.coco.json", "annotations of COCO, YOLO or VOC go through a labelling tool"),
        ("good.zip", "1 .zip file: unpack them first"),
        ("good.mp4", "1 .mp4 file: take pictures out of them first: ffmpeg"),
    ],
)
def test_what_is_not_read_is_told_the_way(tmp_path, name, way):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=way):
        read_layout(tmp_path, "auto")
    with pytest.raises(DataError, match=way.partition(": ")[2] or way):
        read_layout(tmp_path / name, "auto")


def test_a_folder_of_both_layouts_is_not_guessed(tmp_path):
    make_dagm(tmp_path / "Class1")
    make_mvtec(tmp_path / "screw")

    with pytest.raises(DataError, match="the layouts dagm and mvtec: say which"):
        detect(tmp_path)


def test_a_folder_with_a_manifest_is_a_data_set(tmp_path):
    make_manifest(tmp_path, ["path,label", "images/00.png,ok", "images/11.png,ng"])

    assert detect(tmp_path) == "csv"
    listing = read_layout(tmp_path, "auto")
    assert (listing.root, listing.format) == (tmp_path, "csv")
    assert by_name(listing)["images/11.png"].label == 1
    make_dagm(tmp_path / "Class1")
    assert detect(tmp_path) == "csv"  # somebody said it image by image


@pytest.mark.parametrize(("format", "message"), [("dagm", "no DAGM layout"), ("mvtec", "no MVTec layout")])
def test_the_wrong_format_is_said(tmp_path, format, message):
    with pytest.raises(DataError, match=message):
        read_layout(tmp_path, format)


def test_paths_that_cannot_be_a_data_set(tmp_path):
    image = write_image(tmp_path / "a.png", 0)

    with pytest.raises(DataError, match="no such file or folder"):
        read_layout(tmp_path / "nowhere", "auto")
    with pytest.raises(DataError, match=r"must be a \.csv manifest, got '\.png'"):
        read_layout(image, "auto")
    with pytest.raises(DataError, match=r"must be a file, or manifest\.csv in a folder"):
        read_layout(tmp_path, "csv")
    with pytest.raises(DataError, match="format must be auto, dagm, mvtec, csv, folders, got 'coco'"):
        read_layout(tmp_path, "coco")
