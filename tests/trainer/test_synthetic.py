"""The generated data set: readable, reproducible, its defects not given away by simple statistics."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from device.errors import StorageError
from trainer.data.dataset import load
from trainer.synthetic import DEFECTS, TEXTURES, generate, main, render

ROOT = Path(__file__).resolve().parents[2]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_trainer_reads_it_without_a_problem(tmp_path):
    generate(tmp_path / "set", images=40, size=64, defective_share=0.3)
    dataset = load(tmp_path / "set")

    assert dataset.format == "dagm"
    assert dataset.problems == ()
    assert dataset.count() == 40
    assert dataset.count(label=1) == 12
    for name in ("Class1", "Class2", "Class3", "Class4"):
        assert dataset.count(kind=f"{name}/defective") == 3
        assert 1 <= dataset.count(kind=f"{name}/defective", split="test") <= 2
    assert all(sample.has_truth for sample in dataset.samples)


def test_one_texture_is_one_class(tmp_path):
    generate(tmp_path / "set", images=11, size=64, defective_share=0.5, textures=["weave"])
    dataset = load(tmp_path / "set")

    assert [path.name for path in (tmp_path / "set").iterdir()] == ["Class1"]
    assert dataset.count() == 11
    assert abs(dataset.count(label=1) - 5.5) < 1
    assert abs(dataset.count(split="test") - 5.5) < 2


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("first", 3), ("second", 3), ("third", 4)):
        generate(tmp_path / name, images=12, size=64, seed=seed)

    assert files(tmp_path / "first") == files(tmp_path / "second")
    assert files(tmp_path / "first") != files(tmp_path / "third")


def test_no_two_images_are_the_same(tmp_path):
    generate(tmp_path / "set", images=24, size=64)
    images = [content for name, content in files(tmp_path / "set").items() if "Label" not in name]

    assert len(images) == len(set(images)) == 24


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_changes_what_its_mask_marks_and_nothing_else(texture, defect):
    for seed in range(5):
        good, nothing = render(texture, None, 128, np.random.default_rng(seed))
        bad, mask = render(texture, defect, 128, np.random.default_rng(seed))
        change = np.abs(bad.astype(float) - good)

        assert bad.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        assert not nothing.any()
        assert 0.001 < (mask > 0).mean() < 0.12
        assert change[mask > 0].max() > 1.2 * good.std()
        assert change[mask == 0].max() < 0.8 * 13.0  # half a deviation at the greatest contrast, and rounding


@pytest.mark.parametrize("texture", TEXTURES)
def test_mean_and_deviation_do_not_tell_defects(texture):
    """A test that a grey card could pass would say nothing of a detector."""
    kinds = list(DEFECTS)
    labels = np.array([number % 2 for number in range(160)])
    features = []
    for number, label in enumerate(labels):
        kind = kinds[number // 2 % len(kinds)] if label else None
        image, _ = render(texture, kind, 96, np.random.default_rng((7, number)))
        features.append([image.mean(), image.std()])
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(model, np.array(features), labels, cv=5, method="decision_function")

    assert roc_auc_score(labels, scores) < 0.7
    for column in np.array(features).T:
        assert 0.35 < roc_auc_score(labels, column) < 0.65


def test_an_image_is_small_enough_to_keep(tmp_path):
    generate(tmp_path / "set", images=16, size=256)

    assert all(len(content) <= 40_000 for content in files(tmp_path / "set").values())


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(StorageError, match="must be a new or empty folder"):
        generate(tmp_path, images=4, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")

    assert main(["--out", str(tmp_path / "file" / "below"), "--images", "16"]) == 9
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/file/below: cannot write: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--images", "0"],
        ["--images", "15"],
        ["--size", "8"],
        ["--seed", "-1"],
        ["--defective-share", "1.1"],
        ["--textures", "silk"],
    ],
)
def test_a_wrong_command_line_is_refused(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path / "set"), *arguments])

    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_the_command(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "trainer.synthetic",
            "--out",
            tmp_path / "set",
            "--images",
            "16",
            "--size",
            "64",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path}/set\n", "")
    assert load(tmp_path / "set").count() == 16
