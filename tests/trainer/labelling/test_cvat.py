"""CVAT's own format, there and back. tests/data/cvat.xml: written by datumaro, CVAT's own library."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from fixtures_daemon import REPOSITORY
from fixtures_labelling import write_reviewed

from device.errors import DataError
from trainer.labelling import cvat, data_set

EXPORTED = REPOSITORY / "tests" / "data" / "cvat.xml"


def document(image: str) -> str:
    return f'<annotations><version>1.1</version><image id="0" {image}</image></annotations>'


def write(path: Path, inside: str, name: str = "00003-images__a.png") -> Path:
    path.write_text(document(f'name="{name}" width="64" height="48">{inside}'))
    return path


def test_images_are_numbered_by_doubt_and_carry_the_regions(tmp_path: Path) -> None:
    folder = write_reviewed(tmp_path / "set")
    images, annotations, labels = cvat.export(data_set.pictures(folder), ("dent",), tmp_path)
    with zipfile.ZipFile(images) as files:
        assert files.namelist() == ["00000-images__b.png", "00001-images__a.png", "00002-images__c.png"]
        assert files.read("00000-images__b.png") == (folder / "images" / "b.png").read_bytes()
    root = ET.fromstring(annotations.read_text())  # noqa: S314 - our own
    assert [len(image) for image in root.iter("image")] == [2, 2, 0]
    assert '"dent"' in labels.read_text()
    assert {drawing.name for drawing in cvat.read(annotations)} == {"images/a.png", "images/b.png"}


def test_every_shape_of_cvat_comes_back_as_a_mask() -> None:
    [drawing] = cvat.read(EXPORTED)
    kinds = {shape.kind: shape.mask for shape in drawing.shapes}
    assert kinds.keys() == {"box", "polygon", "mask"}
    assert kinds["box"].sum() == 20 * 10
    assert kinds["polygon"].sum() == pytest.approx(200, rel=0.06)
    expected = np.zeros((48, 64), bool)
    expected[4:9, 40:44] = True
    expected[6, 42] = False
    assert np.array_equal(kinds["mask"], expected)


def test_words_turned_boxes_and_ellipses(tmp_path: Path) -> None:
    good = write(tmp_path / "good.xml", '<tag label="good" source="manual"/>')
    assert [(one.name, one.label) for one in cvat.read(good)] == [("images/a.png", "good")]
    assert cvat.read(write(tmp_path / "none.xml", "")) == [], "nobody has said anything"
    turned = '<box label="d" xtl="20" ytl="20" xbr="40" ybr="24" rotation="90"/>'
    [drawing] = cvat.read(write(tmp_path / "turned.xml", turned))
    ys, xs = np.nonzero(drawing.mask)
    assert (ys.min(), ys.max()) == (pytest.approx(12, abs=1), pytest.approx(31, abs=1))
    assert (xs.min(), xs.max()) == (pytest.approx(28, abs=1), pytest.approx(31, abs=1))
    oval = '<ellipse label="d" cx="30" cy="20" rx="10" ry="5"/>'
    [drawing] = cvat.read(write(tmp_path / "oval.xml", oval))
    assert drawing.mask.sum() == pytest.approx(np.pi * 50, rel=0.05)


def test_the_zip_is_read_as_it_is_downloaded(tmp_path: Path) -> None:
    write(tmp_path / "annotations.xml", '<tag label="ng"/>')
    with zipfile.ZipFile(tmp_path / "job.zip", "w") as files:
        files.write(tmp_path / "annotations.xml", "annotations.xml")
    assert cvat.read(tmp_path / "job.zip")[0].label == "defective"


@pytest.mark.parametrize(
    "inside",
    [
        '<box label="d"/>', '<polygon label="d" points="1,2;3"/>', '<box xtl="1" ytl="1" xbr="2" ybr="2"/>',
        '<mask label="d" left="0" top="0" width="4" height="4" rle="3,4"/>',
        '<mask label="d" left="62" top="0" width="4" height="4" rle="16"/>',
        '<mask label="d" left="0" top="0" width="4" height="4" rle="-1,17"/>',
    ],
)  # fmt: skip
def test_a_shape_that_is_none_is_named_with_its_image(tmp_path: Path, inside: str) -> None:
    with pytest.raises(DataError, match=r"image 00003-images__a\.png"):
        cvat.read(write(tmp_path / "e.xml", inside))


@pytest.mark.parametrize("side", ["1000000", "-64", "0", "inf"])
def test_an_image_of_a_size_that_none_has_is_named_before_its_mask_is_made(tmp_path: Path, side: str) -> None:
    polygon = '<polygon label="d" points="1,1;3,1;3,3"/>'
    text = f'<annotations><image name="a.png" width="{side}" height="{side}">{polygon}</image></annotations>'
    (tmp_path / "e.xml").write_text(text)
    with pytest.raises(DataError, match=r"image a\.png: is not as CVAT writes it"):
        cvat.read(tmp_path / "e.xml")


@pytest.mark.parametrize("name", ["e.xml", "e.zip", "none.xml"])
def test_a_file_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "e.xml").write_text("<annotations>")
    (tmp_path / "e.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="CVAT for images"):
        cvat.read(tmp_path / name)
