"""Label Studio: tasks with the model's regions as predictions, and its JSON export.

An image travels inside its task (a data: address), so that a project needs no storage to be set up: import
tasks.json, and paste config.xml under Labeling Interface > Code.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from device.errors import DataError
from device.image.geometry import Size
from device.schemas import strict_json
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

TASKS, CONFIG = "label-studio-tasks.json", "label-studio-config.xml"
_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".bmp": "image/bmp",
    ".webp": "image/webp",
}
_TOOLS = (
    ("RectangleLabels", "box"),
    ("PolygonLabels", "polygon"),
    ("EllipseLabels", "ellipse"),
    ("BrushLabels", "brush"),
)
_SHOWN = 50  # of 100: a brush's opacity from which a pixel counts


def export(pictures: Sequence[Picture], kinds: Sequence[str], folder: Path) -> list[Path]:
    """Write the files that Label Studio takes. Raises DataError: an image that no browser shows."""
    tasks = [_task(picture, kinds[0]) for picture in pictures]
    files = {TASKS: json.dumps(tasks), CONFIG: _config(kinds)}
    for name, content in files.items():
        (folder / name).write_text(content, "utf-8")
    return [folder / name for name in files]


def read(path: Path) -> list[Drawing]:
    """What an export of Label Studio (JSON, not JSON-MIN) says of each image. Raises DataError."""
    try:
        tasks = strict_json.parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: must be Label Studio's export as JSON: {error}") from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise DataError(f"{path}: must be Label Studio's export as JSON: a list of tasks")
    drawings = []
    for number, task in enumerate(tasks, 1):
        try:
            if (drawing := _drawing(task)) is not None:
                drawings.append(drawing)
        except MALFORMED as error:
            raise DataError(f"{path}: task {number}: is not as Label Studio writes it: {error!r}") from error
    return drawings


def _task(picture: Picture, kind: str) -> dict[str, Any]:
    suffix = picture.path.suffix.lower()
    if suffix not in _TYPES:
        raise DataError(f"{picture.path}: must be one of {', '.join(_TYPES)} to be shown in a browser")
    content = base64.b64encode(picture.path.read_bytes()).decode()
    task: dict[str, Any] = {
        "data": {
            "image": f"data:{_TYPES[suffix]};base64,{content}",
            "name": picture.name,
            "label": picture.label,
            "score": picture.score,
        }
    }
    if picture.suggestions:
        results = [
            {
                "id": f"region{number}",
                "type": "rectanglelabels",
                "from_name": "box",
                "to_name": "image",
                "original_width": picture.size.width,
                "original_height": picture.size.height,
                "image_rotation": 0,
                "score": suggestion.score,
                "value": {
                    **dict(
                        zip(
                            ("x", "y", "width", "height"),
                            (100 * share for share in suggestion.box),
                            strict=True,
                        )
                    ),
                    "rotation": 0,
                    "rectanglelabels": [kind],
                },
            }
            for number, suggestion in enumerate(picture.suggestions, 1)
        ]
        task["predictions"] = [{"model_version": picture.model, "score": picture.score, "result": results}]
    return task


def _config(kinds: Sequence[str]) -> str:
    labels = "".join(f"<Label value={quoteattr(kind)}/>" for kind in kinds)
    tools = "\n".join(f'  <{tag} name="{name}" toName="image">{labels}</{tag}>' for tag, name in _TOOLS)
    return f"""<View>
  <Header value="$name"/>
  <Image name="image" value="$image" zoom="true" zoomControl="true"/>
{tools}
  <Choices name="word" toName="image" choice="single">
    <Choice value="good"/><Choice value="defective"/>
  </Choices>
</View>
"""


def _drawing(task: dict[str, Any]) -> Drawing | None:
    """The latest annotation that was not skipped; None where there is none, or one that says nothing."""
    done = [one for one in task.get("annotations", ()) if not one.get("was_cancelled")]
    if not done:
        return None
    latest = max(done, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))
    results = latest["result"]
    sized = next((one for one in results if "original_width" in one), None)
    words = [found for one in results for found in _words(one)]
    if sized is None:
        return Drawing(task["data"]["name"], None, words[0] if words else None, ()) if words else None
    size = image_size(sized["original_width"], sized["original_height"])
    shapes = tuple(shape for one in results for shape in _shapes(one, size))
    return Drawing(task["data"]["name"], size, words[0] if words else None, shapes)


def _words(result: dict[str, Any]) -> Iterator[Word]:
    for choice in result.get("value", {}).get("choices", ()):
        if (found := word(choice)) is not None:
            yield found


def _shapes(result: dict[str, Any], size: Size) -> Iterator[Shape]:
    kind_key, value = result.get("type", ""), result.get("value", {})
    if kind_key not in ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels"):
        return
    [kind, *_] = value[kind_key]
    yield Shape(kind, _mask(kind_key, value, size))


def _mask(kind: str, value: dict[str, Any], size: Size) -> Mask:
    across, down = size.width / 100, size.height / 100
    turned = float(value.get("rotation", 0))
    match kind:
        case "rectanglelabels":
            x, y, width, height = (float(value[name]) for name in ("x", "y", "width", "height"))
            return rectangle(x * across, y * down, width * across, height * down, turned, size)
        case "ellipselabels":
            x, y, radius_x, radius_y = (float(value[name]) for name in ("x", "y", "radiusX", "radiusY"))
            return ellipse(x * across, y * down, radius_x * across, radius_y * down, turned, size)
        case "polygonlabels":
            return polygon([(float(x) * across, float(y) * down) for x, y in value["points"]], size)
        case _:
            opacity = decode_brush(value["rle"], 4 * size.width * size.height)
            return opacity.reshape(size.height, size.width, 4)[..., 3] >= _SHOWN


def decode_brush(packed: Sequence[int], count: int) -> NDArray[np.uint8]:
    """`count` bytes of a brush: Label Studio packs them as @thi.ng/rle-pack does. Raises ValueError.

    32 bits: how many words there are; 5: bits of a word, less one; 4 times 4: bits of a run's length, less
    one. Then runs: one bit, whether a word is repeated; two, which of the four widths; the length, less one;
    the words.
    """
    bits = np.unpackbits(np.array(packed, np.uint8))
    at = 0

    def take(width: int) -> int:
        nonlocal at
        if at + width > len(bits):
            raise ValueError("the brush's data end early")
        found = int("".join(map(str, bits[at : at + width].tolist())), 2)
        at += width
        return found

    def take_words(length: int) -> NDArray[np.uint8]:
        nonlocal at
        end = at + 8 * length
        if end > len(bits):
            raise ValueError("the brush's data end early")
        words, at = np.packbits(bits[at:end]), end
        return words

    total, word_bits = take(32), take(5) + 1
    if total != count or word_bits != 8:
        raise ValueError(f"the brush has {total} words of {word_bits} bits, must be {count} of 8")
    widths = [take(4) + 1 for _ in range(4)]
    found = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        is_run = take(1)
        length = take(widths[take(2)]) + 1
        if done + length > total:
            raise ValueError("the brush's data are longer than its image")
        if is_run:
            found[done : done + length] = take(word_bits)
        else:
            found[done : done + length] = take_words(length)
        done += length
    return found
