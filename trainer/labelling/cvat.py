"""CVAT: images with the model's regions as "CVAT for images 1.1", and the same format back.

CVAT shows images by their names, so a number before each name brings those first of which the model was least
certain; it is taken away on the way back.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from device.errors import DataError
from device.image.geometry import Size
from trainer.labelling.data_set import Picture
from trainer.labelling.drawn import (
    MALFORMED,
    Drawing,
    Mask,
    Shape,
    Word,
    ellipse,
    image_size,
    polygon,
    rectangle,
    word,
)

IMAGES, ANNOTATIONS, LABELS = "cvat-images.zip", "cvat-annotations.xml", "cvat-labels.json"
_WORDS = ("good", "defective")
_NUMBER = re.compile(r"^\d{5}-")
_INSIDE = "annotations.xml"
_SHAPES = ("box", "polygon", "ellipse", "mask")


def export(pictures: Sequence[Picture], kinds: Sequence[str], folder: Path) -> list[Path]:
    """Write the files that CVAT takes."""
    names = [f"{number:05d}-{picture.name.replace('/', '__')}" for number, picture in enumerate(pictures)]
    with zipfile.ZipFile(folder / IMAGES, "w", zipfile.ZIP_STORED) as images:
        for name, picture in zip(names, pictures, strict=True):
            images.write(picture.path, name)
    (folder / ANNOTATIONS).write_bytes(_annotations(names, pictures, kinds))
    labels = [{"name": kind, "type": "any"} for kind in kinds] + [
        {"name": name, "type": "tag"} for name in _WORDS
    ]
    (folder / LABELS).write_text(json.dumps(labels, indent=2) + "\n", "utf-8")
    return [folder / name for name in (IMAGES, ANNOTATIONS, LABELS)]


def read(path: Path) -> list[Drawing]:
    """What an export as "CVAT for images 1.1" (the .zip, or its annotations.xml) says. Raises DataError."""
    try:
        content = _content(path)
        root = ET.fromstring(content)  # noqa: S314 - one's own file; expat bounds entities
    except (OSError, KeyError, zipfile.BadZipFile, ET.ParseError) as error:
        raise DataError(f'{path}: must be an export as "CVAT for images 1.1": {error}') from error
    drawings = []
    for image in root.iter("image"):
        name = image.get("name", "")
        try:
            drawings.append(_drawing(image))
        except MALFORMED as error:
            raise DataError(f"{path}: image {name}: is not as CVAT writes it: {error!r}") from error
    return [drawing for drawing in drawings if drawing.label is not None]


def _content(path: Path) -> bytes:
    if path.suffix.lower() != ".zip":
        return path.read_bytes()
    with zipfile.ZipFile(path) as files:
        return files.read(_INSIDE)


def _annotations(names: Sequence[str], pictures: Sequence[Picture], kinds: Sequence[str]) -> bytes:
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for kind in (*kinds, *_WORDS):
        ET.SubElement(ET.SubElement(labels, "label"), "name").text = kind
    for number, (name, picture) in enumerate(zip(names, pictures, strict=True)):
        size = picture.size
        sides = {"width": str(size.width), "height": str(size.height)}
        image = ET.SubElement(root, "image", {"id": str(number), "name": name, **sides})
        for suggestion in picture.suggestions:
            x, y, width, height = suggestion.box
            ET.SubElement(image, "box", {
                "label": kinds[0], "source": "auto", "occluded": "0", "z_order": "0",
                "xtl": f"{x * size.width:.2f}", "ytl": f"{y * size.height:.2f}",
                "xbr": f"{(x + width) * size.width:.2f}", "ybr": f"{(y + height) * size.height:.2f}",
            })  # fmt: skip
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _drawing(image: ET.Element) -> Drawing:
    size = image_size(image.attrib["width"], image.attrib["height"])
    name = _NUMBER.sub("", Path(image.attrib["name"]).name).replace("__", "/")
    words = list(_words(image))
    shapes = tuple(Shape(one.attrib["label"], _mask(one, size)) for one in image if one.tag in _SHAPES)
    return Drawing(name, size, words[0] if words else None, shapes)


def _words(image: ET.Element) -> Iterator[Word]:
    for tag in image.iter("tag"):
        if (found := word(tag.attrib["label"])) is not None:
            yield found


def _mask(shape: ET.Element, size: Size) -> Mask:
    def number(name: str) -> float:
        return float(shape.attrib[name])

    turned = float(shape.get("rotation", "0"))
    match shape.tag:
        case "box":
            return _box(number("xtl"), number("ytl"), number("xbr"), number("ybr"), turned, size)
        case "ellipse":
            return ellipse(number("cx"), number("cy"), number("rx"), number("ry"), turned, size)
        case "polygon":
            corners = [corner.split(",") for corner in shape.attrib["points"].split(";")]
            return polygon([(float(x), float(y)) for x, y in corners], size)
        case _:
            return _runs(shape, size)


def _box(left: float, top: float, right: float, bottom: float, turned_deg: float, size: Size) -> Mask:
    """CVAT turns a box about its middle."""
    angle = np.radians(turned_deg)
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    half = np.array([(left - right) / 2, (top - bottom) / 2])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x, y = middle + turn @ half
    return rectangle(float(x), float(y), right - left, bottom - top, turned_deg, size)


def _runs(shape: ET.Element, size: Size) -> Mask:
    """Lengths of runs, outside and inside by turns, row by row of the mask's own box."""
    left, top, width, height = (int(float(shape.attrib[name])) for name in ("left", "top", "width", "height"))
    lengths = [int(run) for run in shape.attrib["rle"].split(",")]
    if min(lengths, default=0) < 0 or sum(lengths) != width * height:
        raise ValueError(f"rle must have {width * height} pixels, has {sum(lengths)}")
    if not (left >= 0 and top >= 0 and left + width <= size.width and top + height <= size.height):
        raise ValueError("the mask lies outside the image")
    inside = np.arange(len(lengths)) % 2 == 1
    mask = np.zeros((size.height, size.width), np.bool_)
    mask[top : top + height, left : left + width] = np.repeat(inside, lengths).reshape(height, width)
    return mask
