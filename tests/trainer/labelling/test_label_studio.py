"""Label Studio's own export, and what is sent to it. tests/data/label_studio.json: its own."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from fixtures_daemon import REPOSITORY
from fixtures_labelling import write_reviewed

from device.errors import DataError
from trainer.labelling import data_set, label_studio

EXPORTED = REPOSITORY / "tests" / "data" / "label_studio.json"


def test_tasks_carry_their_image_and_the_models_regions(tmp_path: Path) -> None:
    folder = write_reviewed(tmp_path / "set")
    files = label_studio.export(data_set.pictures(folder), ("scratch", 'dent "deep"'), tmp_path)
    first, *_, last = json.loads(files[0].read_text())
    content = base64.b64decode(first["data"]["image"].removeprefix("data:image/png;base64,"))
    assert content == (folder / "images" / "b.png").read_bytes()
    [prediction] = first["predictions"]
    assert prediction["result"][0]["value"] == {
        "x": 1.5625, "y": pytest.approx(4.1667), "width": pytest.approx(4.6875),
        "height": pytest.approx(8.3333), "rotation": 0, "rectanglelabels": ["scratch"],
    }  # fmt: skip
    assert "predictions" not in last
    root = ET.fromstring(files[1].read_text())  # noqa: S314 - our own
    assert [label.get("value") for label in root.find("BrushLabels")] == ["scratch", 'dent "deep"']


def test_every_tool_of_label_studio_comes_back_as_a_mask() -> None:
    """Drawn in Label Studio 1.x over images of 256 x 256 px, and exported by it as JSON."""
    found = {drawing.name: drawing for drawing in label_studio.read(EXPORTED)}
    shapes = found["images/part07.png"].shapes
    assert [shape.kind for shape in shapes] == ["scratch", "scratch", "dent", "dent"]
    box, polygon, ellipse, brush = (shape.mask for shape in shapes)
    assert box[44, 35]
    assert box.sum() == 70 * 88
    assert polygon.sum() == pytest.approx(0.5 * 0.2 * 256 * 0.2 * 256, rel=0.05)
    assert ellipse.sum() == pytest.approx(np.pi * 0.1 * 256 * 0.05 * 256, rel=0.05)
    assert np.array_equal(np.argwhere(brush).min(0), (100, 120))
    assert brush.sum() == 30 * 20
    assert found["images/part07.png"].label == "defective"
    assert found["images/part01.png"].label == "good"
    assert "images/part02.png" not in found, "nobody has looked at it"


def task(result: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    annotation = {"result": result, "was_cancelled": False, "updated_at": "2026-01-02", **more}
    return [{"data": {"name": "a.png"}, "annotations": [annotation]}]


SIZES = {"original_width": 64, "original_height": 48}


def test_the_latest_word_counts_and_what_was_skipped_does_not(tmp_path: Path) -> None:
    good = {"type": "choices", "value": {"choices": ["good"]}}
    bad = {"type": "choices", "value": {"choices": ["defective"]}}
    tasks = task([good])
    tasks[0]["annotations"] += [
        {"result": [bad], "was_cancelled": True, "updated_at": "2026-01-05"},
        {"result": [bad], "was_cancelled": False, "updated_at": "2026-01-01"},
    ]
    (tmp_path / "e.json").write_text(json.dumps(tasks))
    assert [drawing.word for drawing in label_studio.read(tmp_path / "e.json")] == ["good"]


@pytest.mark.parametrize(
    "content",
    [
        "", "{}", "[1]", '[{"id": 1}]', json.dumps([{"data": {}, "annotations": [{"result": 3}]}]),
        json.dumps(task([{"type": "polygonlabels", **SIZES, "value": {"polygonlabels": ["d"]}}])),
        json.dumps(task([{"type": "brushlabels", **SIZES, "value": {"brushlabels": ["d"], "rle": [1, 2]}}])),
        json.dumps(task([{"type": "brushlabels", **SIZES, "value": {"brushlabels": [], "rle": []}}])),
        json.dumps(task([{"type": "brushlabels", **SIZES, "value": {"brushlabels": ["d"], "rle": [9**30]}}])),
        "[" * 100_000, json.dumps([{"data": {}, "annotations": [None]}]),
        json.dumps(task([{"type": "x", "original_width": 1e400, "original_height": 1}])),
        json.dumps(task([{"type": "x", "original_width": 10**5, "original_height": 10**5}])),
        json.dumps(task([{"type": "x", "original_width": -64, "original_height": -64}])),
    ],
)  # fmt: skip
def test_what_is_no_export_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(DataError, match=r"e\.json"):
        label_studio.read(tmp_path / "e.json")
