"""Pictures of misjudged images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import make_image
from fixtures_data import write_mask
from fixtures_trainer import make_sample

from device.errors import StorageError
from device.image.frame import frame_from_file
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Verdict
from trainer import mistakes
from trainer.data.dataset import Sample

SIDE = 64


@dataclass(frozen=True)
class Inspected:
    """As trainer.evaluate has it."""

    sample: Sample
    verdict: Verdict


def inspected(pipeline: Pipeline, folder: Path, name: str, *, label: int, bright: bool) -> Inspected:
    path = folder / name
    mask = write_mask(folder / f"{name}.mask.png", side=SIDE, marked=20) if label else None
    sample = make_sample(path, (SIDE, SIDE), 1, label=label, mask=mask)
    spot = (8, 8, 20, 20) if bright else None
    assert cv2.imwrite(str(path), make_image(width=SIDE, height=SIDE, spot=spot))
    return Inspected(sample, pipeline.inspect(frame_from_file(path, 0)))


@pytest.fixture
def pipeline(tiny_bundle) -> Pipeline:
    return Pipeline(tiny_bundle, "test", "test")


def test_only_mistakes_are_drawn_each_by_its_kind(pipeline, tmp_path):
    all_four = [
        inspected(pipeline, tmp_path, "found.png", label=1, bright=True),
        inspected(pipeline, tmp_path, "missed.png", label=1, bright=False),
        inspected(pipeline, tmp_path, "passed.png", label=0, bright=False),
        inspected(pipeline, tmp_path, "rejected.png", label=0, bright=True),
    ]
    assert [mistakes.is_mistake(one) for one in all_four] == [False, True, False, True]
    found = mistakes.write(tmp_path / "made" / "here", pipeline, all_four)
    assert [path.name.split("-")[0] for path in found] == ["missed", "rejected"]
    assert [path.name.split("-")[2] for path in found] == ["missed", "rejected"]  # the image's own name
    picture = cv2.imread(str(found[0]))
    assert picture.shape == (SIDE, 2 * SIDE + mistakes.GAP_PX, 3)
    below = picture[20:, :SIDE].astype(int)  # the headline, which is green too
    green = np.argwhere(below[:, :, 1] - below[:, :, 2] > 60)
    assert green.max(0).tolist() == [7, 27]  # the outline of what was missed


def test_a_folder_that_cannot_be_made(pipeline, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"--mistakes .*file/below: cannot be written: Not a directory"):
        mistakes.write(tmp_path / "file" / "below", pipeline, [])
