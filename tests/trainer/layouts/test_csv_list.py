"""Lists of images as people and programs write them."""

from __future__ import annotations

import pytest
from fixtures_data import write_image, write_mask

from device.errors import DataError
from trainer.layouts.csv_list import read_csv, shortened
from trainer.layouts.layouts import read_layout


def listed(folder, text, name="list.csv", encoding="utf-8"):
    for number in range(3):
        write_image(folder / f"img/{number}.png", number)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    return read_csv(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_write(tmp_path, separator, encoding):
    rows = [["Path", "Label", "Split"], ["img/0.png", "n.i.O.", "test"], ["img/1.png", "pass", "val"]]
    text = "".join(separator.join(row) + "\r\n" for row in rows)
    listing = listed(tmp_path, text, encoding=encoding)
    assert [(entry.label, entry.split) for entry in listing.entries] == [(1, "test"), (0, "train")]
    assert listing.problems == ()


def test_other_names_of_columns_and_windows_paths(tmp_path):
    listing = listed(tmp_path, "filename,class\nimg\\0.png,OK\n")
    assert [(entry.label, entry.path) for entry in listing.entries] == [(0, tmp_path / "img/0.png")]


def test_visas_list_lies_beside_its_folders(tmp_path):
    write_mask(tmp_path / "m.png")
    text = (
        "object,split,label,image,mask\ncandle,train,normal,img/0.png,\ncandle,test,anomaly,img/1.png,m.png\n"
    )
    listing = listed(tmp_path, text, "split_csv/1cls.csv")
    assert listing.root == tmp_path
    assert [(entry.kind, entry.split) for entry in listing.entries] == [
        ("candle/good", "train"),
        ("candle/defective", "test"),
    ]
    assert listing.entries[1].mask == tmp_path / "m.png"


def test_a_manifest_in_capitals_and_what_it_does_not_name(tmp_path):
    listed(tmp_path, "path,label\nimg/0.png,ok\nimg/1.png,ng\n", "MANIFEST.CSV")
    listing = read_layout(tmp_path, "auto")
    assert listing.format == "csv"
    assert listing.problems == ("img: 1 image left out: 2.png",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"path,label,mask\nimg/0.png,0,\n', "not CSV: unexpected end of data"),
        ('path,label\n"img/0.png,0\n', "not CSV: unexpected end of data"),
        ('path,label\n"img/0.png"x,0\n', "not CSV: ',' expected"),
        ("path,label\nimg/0.png,\n", "line 2: label must be one of 0, ok, good"),
        (f"path,label\nimg/0.png,{'x' * 500}\n", r"x\.\.\. \(500 characters\)"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        listed(tmp_path, text)


@pytest.mark.parametrize("name", ["data:image/png;base64," + "A" * 5000, "a" * 300 + ".png", "no\0such.png"])
def test_a_name_that_no_file_can_have_is_a_problem(tmp_path, name):
    listing = listed(tmp_path, f'path,label,mask\nimg/0.png,1,"{name}"\n"{name}",0,\n')
    assert len(listing.entries) == 1
    assert "line 2: no such mask: " in listing.problems[0]
    assert "line 3: no such image: " in listing.problems[1]
    assert all(len(problem) < 200 for problem in listing.problems)


def test_only_long_texts_are_shortened():
    assert shortened("abc") == "abc"
    assert shortened("x" * 81) == "x" * 80 + "... (81 characters)"
