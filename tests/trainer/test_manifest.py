"""A list of any data set, to be corrected and read again."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_data import make_dagm, make_mvtec, write_image, write_mask

from device.errors import DataError
from trainer.data.dataset import load
from trainer.manifest import manifest

REPOSITORY = Path(__file__).resolve().parents[2]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("make", [make_dagm, make_mvtec])
def test_what_is_written_is_read_as_the_same(tmp_path, make):
    root = make(tmp_path / "set")
    (tmp_path / "manifest.csv").write_text(manifest(root, "auto", tmp_path) + "\n")
    first, second = (load(path, protocol="given") for path in (root, tmp_path / "manifest.csv"))

    def told(dataset):
        return [(one.sha256, one.label, one.kind, one.split, one.mask is None) for one in dataset.samples]

    assert told(second) == told(first)


def test_what_the_masks_tell_is_written_as_labels(tmp_path):
    for number in range(2):
        write_image(tmp_path / f"{number}.png", number)
        write_mask(tmp_path / f"{number}_GT.png", marked=6 * number)
    found = {row["path"]: (row["label"], row["mask"]) for row in rows(manifest(tmp_path, "auto", tmp_path))}
    assert found == {"0.png": ("0", ""), "1.png": ("1", "1_GT.png")}


def test_where_nothing_is_said_labels_are_left_to_the_reader(tmp_path, caplog):
    write_image(tmp_path / "a/0.png", 0)
    write_image(tmp_path / "b/1.png", 1)
    found = rows(manifest(tmp_path, "auto", tmp_path))
    assert [(row["path"], row["label"]) for row in found] == [("a/0.png", ""), ("b/1.png", "")]
    assert "no folder says which images are good" in caplog.text
    assert "the column label is empty where nothing is said" in caplog.text


def test_an_ambiguous_folder_is_listed_without_a_label(tmp_path):
    for number, folder in enumerate(("good", "bad", "unsorted")):
        write_image(tmp_path / folder / "0.png", number)
    found = {row["path"]: row["label"] for row in rows(manifest(tmp_path, "auto", tmp_path))}
    assert found == {"good/0.png": "0", "bad/0.png": "1", "unsorted/0.png": ""}


def test_the_names_of_all_images_may_say_it(tmp_path, caplog):
    for number, name in enumerate(("good_1", "good_2", "bad_1")):
        write_image(tmp_path / f"{name}.png", number)
    found = rows(manifest(tmp_path, "auto", tmp_path))
    assert [row["label"] for row in found] == ["1", "0", "0"]
    assert "by the names of the images: look at it" in caplog.text
    write_image(tmp_path / "DSC_3.png", 3)
    assert {row["label"] for row in rows(manifest(tmp_path, "auto", tmp_path))} == {""}


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(DataError, match="found nothing"):
        manifest(tmp_path, "auto", tmp_path)


def test_names_that_cannot_be_written_are_counted(tmp_path, caplog):
    write_image(tmp_path / "good/0.png", 0)
    write_image(tmp_path / "bad/1.png", 1)
    (tmp_path / "bad/1.png").rename(tmp_path / os.fsdecode(b"bad/\xe4.png"))
    assert len(rows(manifest(tmp_path, "auto", tmp_path))) == 1
    assert "not listed, rename them to UTF-8: 1 of " in caplog.text


def test_the_command_writes_into_the_folder_that_it_reads(tmp_path):
    """The shell makes the file before the command looks at the folder; its paths are relative to it."""
    for number, folder in enumerate(("good", "good", "bad", "bad")):
        write_image(tmp_path / "set" / folder / f"{number}.png", number)
    with (tmp_path / "set/manifest.csv").open("w") as output:
        command = (sys.executable, "-m", "trainer.manifest", str(tmp_path / "set"))
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "set/manifest.csv").read_text().splitlines()[0] == "path,label,mask,group,split,kind"
    assert load(tmp_path / "set", protocol="given").format == "csv"
    assert load(tmp_path / "set", protocol="given").count(label=1) == 2
