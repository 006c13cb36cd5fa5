"""The sheet that shows what [augment] does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_data import make_dagm
from fixtures_trainer import make_sample

from device.errors import StorageError
from trainer import fit
from trainer.config import load as load_config
from trainer.data import preview
from trainer.data.augment import Augmentation
from trainer.data.dataset import load


@pytest.fixture
def dagm(tmp_path: Path) -> Path:
    return make_dagm(tmp_path / "Class3")


def cells(image: np.ndarray) -> np.ndarray:
    """(rows, columns, h, w, 3)."""
    step = preview.CELL_PX + preview.GAP_PX
    rows, columns = image.shape[0] // step, image.shape[1] // step
    return image.reshape(rows, step, columns, step, 3).swapaxes(1, 2)


def outlined(cell: np.ndarray) -> bool:
    return bool((cell == preview.OUTLINE).all(2).any())


def test_the_command_writes_a_sheet_and_trains_nothing(dagm, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert fit.main(["--data", str(dagm), "--preview-augmentation", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    shown = cells(cv2.imread(str(out))[:, :, ::-1])
    assert shown.shape[:2] == (8, 1 + preview.COPIES)
    assert [outlined(row[0]) for row in shown] == [True] * 4 + [False] * 4
    assert all(outlined(cell) for row in shown[:4] for cell in row)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Class3", "sheet.png"]


def test_the_first_of_a_row_is_the_image_as_it_is(dagm):
    samples = [sample for sample in load(dagm).samples if sample.label == 0][:2]
    shown = cells(preview.sheet(samples, Augmentation(), 0))
    for row in shown:
        for cell in row[1:]:
            np.testing.assert_array_equal(cell, row[0])
    moved = cells(preview.sheet(samples, Augmentation(flip_vertical=True, brightness=0.3), 0))
    np.testing.assert_array_equal(moved[:, 0], shown[:, 0])
    assert len({cell.tobytes() for cell in moved[0]}) > 4


def test_an_oblong_image_keeps_its_shape(tmp_path):
    sample = make_sample(tmp_path / "a.png", (200, 50), 0)
    cell = cells(preview.sheet([sample], Augmentation(), 0))[0, 0]
    assert (cell[preview.CELL_PX // 4 :] == preview.GROUND).all()


def test_a_sheet_that_cannot_be_written(dagm, tmp_path, capsys):
    with pytest.raises(StorageError, match="cannot be written: No such file"):
        preview.write(tmp_path / "nowhere" / "sheet.png", np.zeros((4, 4, 3), np.uint8))
    given = ["--data", str(dagm), "--preview-augmentation", str(tmp_path / "nowhere" / "sheet.png")]
    assert fit.main(given) == StorageError.exit_code
    assert "sheet.png: cannot be written" in capsys.readouterr().err


def test_a_result_must_be_asked_for(dagm, capsys):
    with pytest.raises(SystemExit) as caught:
        fit.main(["--data", str(dagm)])
    assert caught.value.code == 2
    assert "--out --preview-augmentation is required" in capsys.readouterr().err


def test_turning_a_grain_is_warned_of(tmp_path, caplog):
    samples = []
    for number in range(3):
        sample = make_sample(tmp_path / f"{number}.png", (64, 64), number)
        lines = (128 + 60 * np.sin(np.arange(64) * 1.3 + number)).astype(np.uint8)
        assert cv2.imwrite(str(sample.path), np.tile(lines, (64, 1)))
        samples.append(sample)
    config = load_config(None).augment
    preview.warn(samples, config)
    assert not caplog.text
    preview.warn(samples, replace(config, rotation_deg=45.0))
    assert "[augment] rotation_deg = 45: the images have a grain at 90 degrees" in caplog.text
