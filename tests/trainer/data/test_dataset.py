"""The data set: each image opened and checked, on one side of a split, what is wrong counted and named."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_data import SIDE, make_dagm, make_manifest, make_mvtec, write_image, write_mask
from sklearn.metrics import adjusted_rand_score

from device.errors import DataError
from device.image.geometry import Size
from trainer.data.dataset import folds, load, read_mask, read_split_csv, split_csv

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data"


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs the real images in ../shared/data/{name}")
    return path


def by_name(dataset):
    return {sample.name: sample for sample in dataset.samples}


# ---- samples


def test_a_sample_says_what_its_file_is(tmp_path):
    root = make_dagm(tmp_path / "Class1")
    sample = by_name(load(root))["Train/0001.PNG"]

    assert sample.path == root / "Train/0001.PNG"
    assert sample.sha256 == hashlib.sha256(sample.path.read_bytes()).hexdigest()
    assert sample.size == Size(SIDE, SIDE)
    assert sample.has_truth


def test_dagm_keeps_its_official_split(tmp_path):
    dataset = load(make_dagm(tmp_path / "Class1", good=4, defective=3))

    assert {sample.name.split("/")[0].lower() for sample in dataset.train} == {"train"}
    assert dataset.split_rule == "DAGM's own Train and Test folders"
    assert dataset.count(split="train", label=1) == 3
    assert dataset.count(split="test", kind="good") == 4
    assert dataset.count() == len(dataset.train) + len(dataset.test) == 14


def test_the_summary_has_a_line_for_each_kind(tmp_path):
    root = make_mvtec(tmp_path / "screw")
    (root / "ground_truth/crack/000_mask.png").unlink()

    assert load(root, protocol="given").summary() == (
        f"{root}: 20 images (mvtec), split by MVTec's own train and test folders",
        "  good: 8 train, 4 test",
        "  bent: 4 test, 4 masks marking 6.2% of an image",
        "  crack: 4 test, 3 masks marking 6.2% of an image",
        "  taken for kinds of defect, as they lie beside good: bent, crack",
        "  problems: 1",
    )


# ---- splits


def test_mvtec_is_split_anew_for_supervised_training_and_says_so(tmp_path):
    root = make_mvtec(tmp_path / "screw")
    dataset = load(root, seed=0)

    assert dataset.split_rule == (
        "supervised re-split of MVTec's images, seed 0, half held out: not MVTec's own protocol"
    )
    for kind, count in (("good", 6), ("bent", 2), ("crack", 2)):
        assert dataset.count(kind=kind, split="train") == dataset.count(kind=kind, split="test") == count
    assert load(root, seed=1).train != dataset.train
    assert "0.25 held out" in load(root, test_share=0.25).split_rule
    assert load(root, test_share=0.25).count(split="test") == 5


def test_mvtec_keeps_its_own_split_where_asked(tmp_path):
    dataset = load(make_mvtec(tmp_path / "screw"), protocol="given")

    assert {sample.kind for sample in dataset.train} == {"good"}
    assert dataset.count(split="test") == 12


def test_the_split_does_not_depend_on_where_the_data_lies(tmp_path):
    first = load(make_mvtec(tmp_path / "here" / "screw"))
    second = load(make_mvtec(tmp_path / "there" / "screw"))

    assert [sample.split for sample in first.samples] == [sample.split for sample in second.samples]
    assert first.digest == second.digest


def test_empty_splits_of_a_manifest_are_filled_by_group(tmp_path):
    rows = [f"images/{n:02d}.png,{int(n >= 8)},tile {n // 2}," for n in range(12)]
    rows[0] = "images/00.png,0,tile 0,train"
    dataset = load(make_manifest(tmp_path, ["path,label,group,split", *rows]))
    sides: dict[str, set[str]] = {}
    for sample in dataset.samples:
        sides.setdefault(sample.group, set()).add(sample.split)

    assert all(len(side) == 1 for side in sides.values())
    assert sides["tile 0"] == {"train"}
    assert Counter(next(iter(side)) for side in sides.values()) == {"train": 3, "test": 3}
    assert dataset.split_rule == (
        "the split column of manifest.csv; "
        "where it is empty, groups stratified by kind, seed 0, half held out"
    )


def test_empty_splits_stay_empty_where_the_given_split_is_asked_for(tmp_path):
    manifest = make_manifest(tmp_path, ["path,label", "images/00.png,0", "images/08.png,1"])
    dataset = load(manifest, protocol="given")

    assert dataset.count(split="unassigned") == 2
    assert dataset.train == dataset.test == ()
    assert dataset.split_rule == "no split given"


def test_a_full_split_column_is_the_rule(tmp_path):
    rows = [f"images/{n:02d}.png,{int(n >= 8)},{'test' if n % 2 else 'train'}" for n in range(12)]
    dataset = load(make_manifest(tmp_path, ["path,label,split", *rows]), seed=5)

    assert dataset.split_rule == "the split column of manifest.csv"
    assert dataset.count(split="test") == 6


def test_folds_follow_the_samples(tmp_path):
    dataset = load(make_dagm(tmp_path / "Class1"))
    numbers = folds(dataset.train, 3, seed=0)

    assert len(numbers) == len(dataset.train)
    assert sorted(numbers[:3]) == [0, 1, 2]  # the three defective ones


# ---- problems: named, counted, and the rest goes on


def test_unreadable_images_are_left_out_and_named(tmp_path):
    root = make_dagm(tmp_path / "Class1")
    whole = (root / "Train/0005.PNG").read_bytes()
    (root / "Train/0005.PNG").write_bytes(whole[: len(whole) // 2])
    (root / "Train/0006.PNG").write_bytes(b"")
    (root / "Test/0007.PNG").write_text("no picture")
    dataset = load(root)

    assert dataset.count() == 11
    assert len(dataset.problems) == 3
    for name in ("Train/0005.PNG", "Train/0006.PNG", "Test/0007.PNG"):
        assert sum(problem.startswith(f"{name}: left out: ") for problem in dataset.problems) == 1


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: write_mask(path, side=12), "must be 24x24, got 12x12: kept without"),
        (lambda path: write_mask(path, marked=0), "is empty (0 px marked): kept without"),
        (lambda path: write_mask(path, marked=2), "is empty (4 px marked): kept without"),
        (lambda path: path.write_bytes(b""), "kept without its mask"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named_and_the_image_kept(tmp_path, make, problem):
    root = make_dagm(tmp_path / "Class1")
    make(root / "Test/Label/0002_label.PNG")
    dataset = load(root)
    sample = by_name(dataset)["Test/0002.PNG"]

    assert dataset.count() == 14
    assert sample.mask is None
    assert not sample.has_truth
    assert read_mask(sample) is None
    assert len(dataset.problems) == 1
    assert dataset.problems[0].startswith("Test/0002.PNG: ")
    assert problem in dataset.problems[0]


def masked(tmp_path, draw, count=3):
    """good/ and bad/ of so many images each, and masks/N.png that `draw` makes of a mask."""
    for number in range(count):
        write_image(tmp_path / f"good/g{number}.png", number)
        write_image(tmp_path / f"bad/{number}.png", 50 + number, defective=True)
        path = write_mask(tmp_path / f"masks/{number}.png")
        cv2.imwrite(str(path), draw(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)))
    return load(tmp_path, protocol="given")


def test_inverted_masks_are_turned_and_that_is_said(tmp_path):
    dataset = masked(tmp_path, lambda mask: 255 - mask)
    bad = [sample for sample in dataset.samples if sample.label]
    assert {int(read_mask(sample).sum()) for sample in bad} == {36}
    assert "  defective: 3 unassigned, 3 masks marking 6.2% of an image" in dataset.summary()
    assert dataset.problems[0].startswith("all 3 masks mark most of their images and all their corners")


def test_a_mask_of_more_than_half_is_warned_of(tmp_path):
    first = iter((True, False, False))

    def draw(mask):
        return 255 - mask if next(first) else mask

    dataset = masked(tmp_path, draw)
    assert dataset.problems == (
        "1 masks mark more than half of their image (up to 94%), inverted? bad/0.png",
    )
    assert [int(read_mask(one).sum()) for one in dataset.samples if one.label] == [540, 36, 36]


def test_masks_that_are_read_in_another_way_are_counted(tmp_path):
    dataset = masked(tmp_path, lambda mask: np.dstack([np.full_like(mask, 255)] * 3 + [mask]))
    assert {int(read_mask(sample).sum()) for sample in dataset.samples if sample.label} == {36}
    assert dataset.problems == ("3 masks are a drawing on a transparent ground: read as such",)


def test_where_the_mask_tells_the_label_one_that_cannot_leaves_the_image_out(tmp_path):
    for number in range(6):
        write_image(tmp_path / f"{number}.png", number)
        write_mask(tmp_path / f"{number}_GT.png", marked=6 * (number % 2))
    write_mask(tmp_path / "1_GT.png", side=12)
    (tmp_path / "3_GT.png").write_bytes(b"")
    dataset = load(tmp_path, protocol="given")
    assert [(sample.name, sample.label) for sample in dataset.samples] == [
        ("0.png", 0),
        ("2.png", 0),
        ("4.png", 0),
        ("5.png", 1),
    ]
    assert sum("its mask cannot tell its label" in problem for problem in dataset.problems) == 2
    assert dataset.count(kind="defective") == 1


def test_a_limit_takes_of_images_whose_mask_tells_the_label(tmp_path):
    for number in range(6):
        write_image(tmp_path / f"{number}.png", number)
        write_mask(tmp_path / f"{number}_GT.png", marked=6 * (number % 2))
    assert load(tmp_path, protocol="given", limit=4).count() == 4


def test_several_masks_of_an_image_mark_together(tmp_path):
    write_image(tmp_path / "good/0.png", 0)
    write_image(tmp_path / "bad/1.png", 1)
    for number, (row, column) in enumerate(((2, 2), (14, 14))):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[row : row + 6, column : column + 6] = 200
        (tmp_path / "masks/1").mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / f"masks/1/{number}.png"), mask)
    [bad] = [sample for sample in load(tmp_path, protocol="given").samples if sample.label]
    assert len(bad.masks) == 2
    assert int(read_mask(bad).sum()) == 72


def test_the_cause_is_said_first_and_counted(tmp_path):
    """All images are floats; that their masks are missing follows from nothing else."""
    root = make_mvtec(tmp_path / "screw")
    shutil.rmtree(root / "ground_truth/bent")
    for path in [*(root / "train").rglob("*.png"), *(root / "test").rglob("*.png")]:
        assert cv2.imwrite(str(path.with_suffix(".tif")), np.ones((24, 24), np.float32))
        path.unlink()
    with pytest.raises(DataError) as caught:
        load(root)
    assert "none of 20 images is usable: " in str(caught.value)
    assert "left out: must have 8 or 16 bits a channel, got float32 (and 19 more like it)" in str(
        caught.value
    )


def test_problems_of_images_come_before_what_the_layout_lacks(tmp_path):
    root = make_mvtec(tmp_path / "screw")
    (root / "ground_truth/bent/000_mask.png").unlink()
    (root / "test/crack/001.png").write_bytes(b"")
    problems = load(root, protocol="given").problems
    assert [problem.partition(":")[0] for problem in problems] == [
        "test/crack/001.png",
        "test/bent/000.png",
    ]


def test_further_pages_of_a_tiff_are_counted(tmp_path):
    write_image(tmp_path / "good/0.png", 0)
    pages = [np.full((24, 24), level, np.uint8) for level in (50, 60, 70)]
    (tmp_path / "bad").mkdir()
    assert cv2.imwritemulti(str(tmp_path / "bad/1.tif"), pages)
    assert load(tmp_path, protocol="given").problems == (
        "1 image has several pages or frames, of which only the first is used: bad/1.tif",
    )


def test_names_that_are_no_utf8_are_read_split_and_written(tmp_path):
    for number in range(4):
        write_image(tmp_path / f"good/{number}.png", number)
        bad = write_image(tmp_path / f"bad/{number}.png", 50 + number)
        bad.rename(bad.with_name(os.fsdecode(b"Geh\xe4use%d.png" % number)))
    dataset = load(tmp_path)
    assert dataset.count(label=1) == 4
    assert len(dataset.digest) == 64
    assert len(read_split_csv(split_csv(dataset))) == 8


def test_a_set_that_trains_on_good_parts_only_is_split_anew(tmp_path):
    for number in range(4):
        write_image(tmp_path / f"train/ok/{number}.png", number)
        write_image(tmp_path / f"test/ko/{number}.png", 50 + number)
    dataset = load(tmp_path)
    assert dataset.count(split="train", label=1) == dataset.count(split="test", label=1) == 2
    assert dataset.split_rule == (
        "supervised re-split of all images, seed 0, half held out: its train part holds no defects"
    )
    assert load(tmp_path, protocol="given").count(split="train", label=1) == 0


def test_a_duplicate_is_left_out_so_that_it_cannot_be_on_both_sides(tmp_path):
    root = make_dagm(tmp_path / "Class1")
    shutil.copy(root / "Train/0005.PNG", root / "Test/0006.PNG")
    dataset = load(root)

    assert "Test/0006.PNG" not in by_name(dataset)
    assert "Train/0005.PNG" in by_name(dataset)
    assert dataset.problems == ("Test/0006.PNG: duplicate image, the same bytes as Train/0005.PNG: left out",)


def test_the_same_image_with_two_labels_is_left_out_altogether(tmp_path):
    root = make_dagm(tmp_path / "Class1")
    shutil.copy(root / "Train/0001.PNG", root / "Train/0005.PNG")
    dataset = load(root)

    assert dataset.count() == 12
    assert dataset.problems == (
        "Train/0001.PNG, Train/0005.PNG: the same image labelled good and defective: all left out",
    )


def test_a_good_image_with_a_mask_that_marks_something_is_named(tmp_path):
    rows = [f"images/{n:02d}.png,{int(n >= 8)},mask.png" for n in range(12)]
    write_mask(tmp_path / "mask.png")
    dataset = load(make_manifest(tmp_path, ["path,label,mask", *rows]))

    assert len(dataset.problems) == 8
    assert dataset.problems[0] == "images/00.png: good, but its mask marks 36 px: mask ignored"
    assert dataset.count(label=1) == 4


def test_an_empty_mask_of_a_good_image_is_no_problem(tmp_path):
    rows = [f"images/{n:02d}.png,{int(n >= 8)},{'empty.png' if n < 8 else ''}" for n in range(12)]
    write_mask(tmp_path / "empty.png", marked=0)

    assert load(make_manifest(tmp_path, ["path,label,mask", *rows])).problems == ()


# ---- errors: training would be meaningless


def test_one_label_in_train_is_an_error(tmp_path):
    manifest = make_manifest(tmp_path, ["path,label", *(f"images/{n:02d}.png,0" for n in range(8))])

    with pytest.raises(DataError, match="good and defective images in train, found 4 good and 0 defective"):
        load(manifest)
    assert load(manifest, protocol="given").count() == 8


def test_mostly_unreadable_images_are_an_error(tmp_path):
    root = make_dagm(tmp_path / "Class1")
    broken = [root / part / f"{n:04d}.PNG" for part in ("Train", "Test") for n in (1, 2, 4, 5)]
    for path in broken:
        path.write_bytes(b"\x89PNG")

    with pytest.raises(DataError, match="8 of 14 images cannot be read"):
        load(root)
    assert load(root, protocol="given").count() == 6


def test_no_usable_image_is_an_error_whatever_is_asked(tmp_path):
    manifest = make_manifest(tmp_path, ["path,label", "images/00.png,0"], images=1)
    (tmp_path / "images/00.png").write_bytes(b"")

    with pytest.raises(DataError, match=r"none of 1 images is usable: images/00\.png: left out"):
        load(manifest, protocol="given")


# ---- masks


def test_masks_are_bool_and_of_the_image(tmp_path):
    samples = by_name(load(make_dagm(tmp_path / "Class1")))
    mask = read_mask(samples["Train/0001.PNG"])
    good = read_mask(samples["Train/0005.PNG"])

    assert mask is not None
    assert good is not None
    assert mask.dtype == good.dtype == np.bool_
    assert mask.shape == good.shape == (SIDE, SIDE)
    assert mask.sum() == 36
    assert mask[8:14, 8:14].all()
    assert not good.any()


def test_a_mask_may_hold_ones_instead_of_255(tmp_path):
    root = make_dagm(tmp_path / "Class1")
    write_mask(root / "Train/Label/0001_label.PNG", value=1)
    mask = read_mask(by_name(load(root))["Train/0001.PNG"])

    assert mask is not None
    assert mask.sum() == 36


def test_a_thin_defect_survives_shrinking(tmp_path):
    root = make_dagm(tmp_path / "Class1")
    line = np.zeros((SIDE, SIDE), np.uint8)
    line[11, :] = 255
    cv2.imwrite(str(root / "Train/Label/0001_label.PNG"), line)
    mask = read_mask(by_name(load(root))["Train/0001.PNG"], Size(6, 4))

    assert mask is not None
    assert mask.shape == (4, 6)
    assert mask.any(axis=1).tolist() == [False, True, False, False]
    assert mask[1].all()


# ---- digest and record


def test_the_digest_changes_with_bytes_label_and_split(tmp_path):
    header = "path,label,group,split"
    rows = [f"images/{n:02d}.png,{int(n >= 8)},,{'test' if n % 2 else 'train'}" for n in range(12)]
    digests = [load(make_manifest(tmp_path, [header, *rows])).digest]
    changes = ("images/00.png,1,,train", "images/00.png,0,,test", "images/00.png,0,g,train")
    digests += [load(make_manifest(tmp_path, [header, row, *rows[1:]])).digest for row in changes]
    manifest = make_manifest(tmp_path, [header, *rows])
    write_image(tmp_path / "images/00.png", 1234)
    digests.append(load(manifest).digest)

    assert len(set(digests)) == 5


def test_the_digest_does_not_depend_on_the_order_of_rows(tmp_path):
    rows = [f"images/{n:02d}.png,{int(n >= 8)}" for n in range(12)]
    first = load(make_manifest(tmp_path, ["path,label", *rows]))
    second = load(make_manifest(tmp_path, ["path,label", *reversed(rows)]))

    assert first == second


# ---- several data sets, and few images of them


def test_two_data_sets_are_united_each_by_its_own_rule(tmp_path):
    paths = [make_dagm(tmp_path / "Class1"), make_mvtec(tmp_path / "bolt", seed=5000)]
    dataset = load(paths)
    alone = [load(path) for path in paths]
    assert len(dataset.samples) == sum(len(one.samples) for one in alone)
    assert (dataset.name, dataset.format, dataset.root) == ("Class1+bolt", "dagm+mvtec", tmp_path.resolve())
    assert {sample.kind for sample in dataset.samples} == {
        *("Class1/good", "Class1/defective", "bolt/good", "bolt/bent", "bolt/crack")
    }
    sides = {sample.name: sample.split for sample in dataset.samples}
    for one in alone:
        assert all(sides[f"{one.name}/{sample.name}"] == sample.split for sample in one.samples)
    assert dataset.split_rule.startswith(
        "Class1: DAGM's own Train and Test folders; bolt: supervised re-split"
    )
    assert [one.name for one in dataset.sets] == ["Class1", "bolt"]
    assert load(paths).digest == dataset.digest != load(paths[:1]).digest


def test_data_sets_of_one_name_are_told_apart(tmp_path):
    paths = [make_dagm(tmp_path / line / "parts", seed=seed) for line, seed in (("a", 0), ("b", 1000))]
    names = {sample.name.split("/")[0] for sample in load(paths).samples}
    assert names == {"parts", "parts-2"}


def test_folds_are_stratified_by_data_set_and_kind(tmp_path):
    paths = [make_dagm(tmp_path / f"Class{n}", good=8, defective=4, seed=2000 * n) for n in (1, 2)]
    train = load(paths).train
    counts = Counter((fold, sample.kind) for fold, sample in zip(folds(train, 2, 0), train, strict=True))
    assert set(counts.values()) == {2, 4}


def test_an_image_of_both_sets_counts_once(tmp_path):
    paths = [make_dagm(tmp_path / "a"), make_dagm(tmp_path / "b")]
    dataset = load(paths)
    assert len(dataset.samples) == 14
    assert all("duplicate image" in problem for problem in dataset.problems)
    assert {sample.name[0] for sample in dataset.samples} == {"a"}


def test_the_same_path_twice_is_an_error(tmp_path):
    path = make_dagm(tmp_path / "a")
    with pytest.raises(DataError, match="a: given twice"):
        load([path, tmp_path / "b" / ".." / "a"])


def test_sets_of_different_scale_are_told(tmp_path):
    dataset = load([make_dagm(tmp_path / "a"), resized(make_dagm(tmp_path / "b", seed=3000), 48)])
    [problem] = [problem for problem in dataset.problems if "different sizes" in problem]
    assert "a 24 px, b 48 px" in problem


def resized(root: Path, side: int) -> Path:
    for path in root.rglob("*.PNG"):
        assert cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (side, side)))
    return root


def test_one_label_is_enough_in_a_set_of_several(tmp_path):
    """Good parts of one line, defective ones of another."""
    write_image(tmp_path / "ok" / "a.png", 1)
    (tmp_path / "ok/manifest.csv").write_text("path,label,split\na.png,ok,train\n")
    assert len(load([tmp_path / "ok", make_dagm(tmp_path / "Class1")]).train) == 8
    with pytest.raises(DataError, match="found 1 good and 0 defective"):
        load([tmp_path / "ok"])


def test_a_limit_is_of_each_label_of_each_part(tmp_path, caplog):
    dataset = load(make_dagm(tmp_path / "a", good=6, defective=4), limit=3)
    for split in ("train", "test"):
        assert [dataset.count(split=split, label=label) for label in (0, 1)] == [3, 3]
    assert "limit" not in caplog.text
    assert (
        load(tmp_path / "a", limit=3).digest == dataset.digest != load(tmp_path / "a", limit=3, seed=1).digest
    )


def test_a_limit_beyond_the_data_takes_all_and_says_so(tmp_path, caplog):
    dataset = load(make_dagm(tmp_path / "a", good=6, defective=4), limit=5)
    assert [dataset.count(split="train", label=label) for label in (0, 1)] == [5, 4]
    assert "a: limit 5: only 4 defective images in train" in caplog.text


def test_split_csv_and_back(tmp_path):
    rows = [f'"images/{n:02d}.png",{int(n >= 8)},"tile ""{n}"", left"' for n in range(12)]
    dataset = load(make_manifest(tmp_path, ["path,label,group", *rows]))
    content = split_csv(dataset)
    recorded = read_split_csv(content)

    assert content.splitlines()[0] == b"path,label,group,split,sha256"
    assert len(recorded) == 12
    for sample in dataset.samples:
        line = recorded[sample.sha256]
        assert (line.path, line.label, line.group, line.split, line.sha256) == (
            sample.name,
            sample.label,
            sample.group,
            sample.split,
            sample.sha256,
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: must be path,label,group,split,sha256, got"),
        (b"path,label\n", "line 1: must be"),
        (b"path,label,group,split,sha256\na,0,a,train,ff\nb,2,b,train,ee\n", "line 3: must be"),
        (b"path,label,group,split,sha256\na,0,a,sometimes,ff\n", "line 2: must be"),
        (b"path,label,group,split,sha256\na,0\n", "line 2: must be"),
    ],
)
def test_a_damaged_split_csv_is_named(content, message):
    with pytest.raises(DataError, match=f"bundle/split.csv {message}"):
        read_split_csv(content, "bundle/split.csv")


# ---- real images


@pytest.mark.shared_data
def test_dagm_class_8():
    dataset = load(shared("dagm/Class8"))

    # One label of the original set is broken: two stray pixels.
    assert dataset.problems == ("Train/1951.PNG: mask 1951_label.PNG is empty (2 px marked): kept without",)
    assert (dataset.count(split="train", label=0), dataset.count(split="train", label=1)) == (250, 110)
    assert (dataset.count(split="test", label=0), dataset.count(split="test", label=1)) == (130, 50)
    assert sum(sample.has_truth for sample in dataset.samples) == 539


@pytest.mark.shared_data
def test_mvtec_screw():
    dataset = load(shared("mvtec/screw"))

    assert dataset.problems == ("2 files left out, .txt is no image that is read: license.txt, readme.txt",)
    assert dataset.count(label=0) == 84
    assert dataset.count(label=1) == 30
    for kind in ("scratch_head", "scratch_neck", "thread_side", "thread_top", "manipulated_front"):
        assert dataset.count(kind=kind, split="train") == 3


@pytest.mark.shared_data
def test_the_magnetic_tile_manifest(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import magnetic_tile_manifest

    images, manifest = shared("magnetic_tile"), tmp_path / "tiles.csv"
    assert magnetic_tile_manifest.main(["--images", str(images), "--out", str(manifest)]) == 0
    dataset = load(manifest, groups="given")

    assert dataset.count(label=0) == 642
    assert {kind: dataset.count(kind=kind) for kind in ("blowhole", "break", "crack", "fray", "uneven")} == {
        "blowhole": 77,
        "break": 64,
        "crack": 45,
        "fray": 18,
        "uneven": 70,
    }
    assert abs(dataset.count(split="test") - 458) <= 1
    assert len(dataset.problems) == 2
    assert all("MT_Uneven" in problem and "is empty" in problem for problem in dataset.problems)
    assert "magnetic_tile_manifest" in sys.modules
    leak = load(manifest).problems[-1]
    assert re.match(r"4\d\d images of test show the same thing as images of train", leak)


@pytest.mark.shared_data
def test_tiles_are_told_from_their_pixels(tmp_path, monkeypatch):
    """They agree with the numbers in the names, as far as these are right.

    0.87 is about all that a right grouping can reach: numbers less than 100 apart join tiles of different
    shape (3504 to 3981: three), and some tiles come again thousands later (53011 is 65001, 5907 is 13526, as
    their scratches show).
    """
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import magnetic_tile_manifest

    images, manifest = shared("magnetic_tile"), tmp_path / "tiles.csv"
    given = ["--images", str(images), "--out", str(manifest), "--no-split"]
    assert magnetic_tile_manifest.main([*given, "--near", "100"]) == 0
    by_name = {sample.sha256: sample.group for sample in load(manifest, protocol="given").samples}
    assert magnetic_tile_manifest.main(given) == 0
    found = load(manifest)

    numbers = [by_name[sample.sha256] for sample in found.samples]
    groups = [sample.group for sample in found.samples]
    assert adjusted_rand_score(numbers, groups) > 0.87
    assert 220 <= len(set(groups)) <= 245
    tile = {sample.name.rpartition("_")[2]: sample.group for sample in found.samples}
    assert tile["53011.jpg"] == tile["65001.jpg"]
    assert len({tile["3504.jpg"], tile["3667.jpg"], tile["3786.jpg"]}) == 3
    assert len({(sample.group, sample.split) for sample in found.samples}) == len(set(groups))


def videos(folder: Path, *, runs: int = 6, frames: int = 8) -> Path:
    """A manifest of what a camera saw that drifts over a scene, another in each run: the last half is bad."""
    rng = np.random.default_rng(0)
    lines = ["path,label"]
    for run in range(runs):
        scene = rng.integers(0, 255, (40, 40), dtype=np.uint8)
        large = cv2.resize(scene, (240, 240), interpolation=cv2.INTER_CUBIC)
        for frame in range(frames):
            seen = large[frame : frame + 200, 2 * frame : 2 * frame + 200] * rng.uniform(0.8, 1.0)
            name = f"{run}-{frame}.png"
            noisy = np.clip(seen + rng.normal(0, 3, seen.shape), 0, 255).astype(np.uint8)
            assert cv2.imwrite(str(folder / name), noisy)
            lines.append(f"{name},{int(run >= runs // 2)}")
    manifest = folder / "m.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def test_frames_of_one_video_stay_on_one_side(tmp_path):
    dataset = load(videos(tmp_path))

    assert len({sample.group for sample in dataset.samples}) == 6
    for run in range(6):
        assert len({sample.split for sample in dataset.samples if sample.name.startswith(f"{run}-")}) == 1
    assert "  groups: these 48 images show 6 things" in "\n".join(dataset.summary())
    assert len([problem for problem in dataset.problems if "things only" in problem]) == 2
    assert len(set(folds(dataset.samples, 3, 0))) == 3


def test_given_groups_alone_are_the_choice_of_who_knows_better(tmp_path):
    dataset = load(videos(tmp_path), groups="given")

    assert len({sample.group for sample in dataset.samples}) == 48
    assert "groups:" not in "\n".join(dataset.summary())
    assert dataset.problems == ()


def test_a_tile_manifest_keeps_the_exposures_of_a_tile_together(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import magnetic_tile_manifest

    for tile in range(6):
        for exposure in (1, 2):
            seed = 10 * tile + exposure
            kind = "MT_Free" if tile < 4 else "MT_Crack"
            folder = tmp_path / "tiles" / kind / "Imgs"
            write_image(folder / f"exp{exposure}_num_{tile}.jpg", seed, defective=tile >= 4)
            write_mask(folder / f"exp{exposure}_num_{tile}.png", marked=6 if tile >= 4 else 0)
    manifest = tmp_path / "elsewhere.csv"
    assert magnetic_tile_manifest.main(["--images", str(tmp_path / "tiles"), "--out", str(manifest)]) == 0
    dataset = load(manifest)

    assert dataset.problems == ()
    assert {sample.group: sample.split for sample in dataset.samples}.keys() == {str(n) for n in range(6)}
    for tile in range(6):
        assert len({sample.split for sample in dataset.samples if sample.group == str(tile)}) == 1
    assert dataset.count(kind="crack", split="test") == 2
    assert all(sample.mask for sample in dataset.samples if sample.label)
    given = ["--images", str(tmp_path / "tiles"), "--out", str(manifest), "--no-split"]
    assert magnetic_tile_manifest.main(given) == 0
    assert {sample.split for sample in load(manifest, protocol="given").samples} == {"unassigned"}
    found = [
        magnetic_tile_manifest.Tile(tmp_path, None, 0, "free", group) for group in ("40", "9", "31", "52")
    ]
    near = magnetic_tile_manifest.together(found, 10)
    assert [tile.group for tile in near] == ["31", "9", "31", "52"]
    assert magnetic_tile_manifest.main(["--images", str(tmp_path), "--out", str(manifest)]) == 8
    assert "no MT_*/Imgs/*.jpg" in capsys.readouterr().err
