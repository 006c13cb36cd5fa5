"""From good images alone to a bundle that knows what is strange."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from benchmarks import good_only as benchmark
from device.bundle import bundle as bundles
from device.errors import DataError
from device.image.frame import frame_from_file
from device.inspection.pipeline import Pipeline
from trainer import config as configs
from trainer import fit
from trainer.data import dataset as datasets
from trainer.recipes.good_only import _Moments, features_model

SIDE = 64
CONFIG = """
[good_only]
input_px = 64
images = 12
made_defects = 6
folds = 2
pooling_shares = [0.1]
sigmas = [0.0]
"""


def a_texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.integers(90, 150, (SIDE, SIDE), dtype=np.uint8), (0, 0), 1.5)


def write(folder: Path, good: int, defective: int = 3) -> Path:
    """In MVTec's layout."""
    for part, count, first in (("train/good", good, 0), ("test/good", 3, 100), ("test/spot", defective, 200)):
        if count:
            (folder / part).mkdir(parents=True)
        for number in range(count):
            image = a_texture(first + number)
            if part == "test/spot":
                image[20:44, 20:44] = 255
            cv2.imwrite(str(folder / part / f"{number:03}.png"), image)
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle from twelve textures and a random network."""
    folder = tmp_path_factory.mktemp("taught")
    write(folder / "data", 12)
    (folder / "fit.toml").write_text(CONFIG)
    done = fit.main(
        [
            *("--data", str(folder / "data"), "--out", str(folder / "out"), "--mode", "good-only"),
            *("--weights", "none", "--config", str(folder / "fit.toml")),
        ]
    )
    assert done == 0
    return folder


def test_the_bundle_is_complete(taught: Path) -> None:
    bundle = bundles.load(taught / "out")
    memory = bundle.memory()
    assert memory is not None
    assert memory.nbytes <= 8 * 2**20
    assert bundle.calibration.thresholds.ng == 0.5
    assert "12 good images" in bundle.calibration.thresholds.rule
    assert bundle.calibration.training["recipe"] == "good parts only"
    assert bundle.calibration.metrics["int8"]["n_defective"] == 0


def test_what_is_strange_scores_higher_than_what_is_not(taught: Path) -> None:
    pipeline = Pipeline(bundles.load(taught / "out"), "station", "session")
    scores = {
        kind: [
            pipeline.inspect(frame_from_file(path, 0)).score
            for path in sorted((taught / "data/test" / kind).glob("*.png"))
        ]
        for kind in ("good", "spot")
    }
    assert min(scores["spot"]) > max(scores["good"])


def test_a_region_names_the_memory(taught: Path) -> None:
    pipeline = Pipeline(bundles.load(taught / "out"), "station", "session")
    verdict = pipeline.inspect(frame_from_file(taught / "data/test/spot/000.png", 0))
    assert verdict.verdict == "NG"
    assert verdict.regions[0].method == "memory"


def test_the_report_tells_of_good_images_and_made_defects(taught: Path) -> None:
    page = (bundles.load(taught / "out").path / "report.html").read_text()
    for words in (
        "false rejects at NG",
        "made defects at NG",
        "0 of 12;",
        "What was compared",
        "[good_only]",
    ):
        assert words in page
    assert page.count("data:image/jpeg;base64,") >= 3


def test_the_benchmark_says_what_light_alone_tells(tmp_path: Path) -> None:
    write(tmp_path / "data", 12)
    for path in (tmp_path / "data/test/good").glob("*.png"):
        cv2.imwrite(str(path), np.asarray(cv2.imread(str(path)) * 0.8, np.uint8))
    samples = list(datasets.load(tmp_path / "data", "mvtec", protocol="good-only").samples)
    train = [sample for sample in samples if sample.split == "train"]
    test = [sample for sample in samples if sample.split == "test"]
    assert "1.000 ± 0.000 from the good ones of test (95 levels)" in benchmark.light(train, test)
    swapped = benchmark.held_out(samples, 2)
    assert [sum(one.split == "train" for one in swapped), len(swapped)] == [10, 15]
    assert {one.kind for one in swapped if one.split == "test"} == {"good", "spot"}
    benchmark.manifest(swapped, tmp_path / "data.csv")
    again = datasets.load(tmp_path / "data.csv", "csv", protocol="good-only")
    assert (len(again.train), len(again.test), again.count(split="test", label=1)) == (10, 5, 3)
    with pytest.raises(DataError, match=r"--held-out: must be 1\.\.2"):
        benchmark.held_out(samples, 3)


def test_too_few_good_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data", 9)
    done = fit.main(
        [
            *("--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")),
            *("--mode", "good-only", "--weights", "none"),
        ]
    )
    assert done == 8
    assert "learning from good images alone needs 10 or more in train, found 9" in capsys.readouterr().err


def test_data_without_any_defect(tmp_path: Path) -> None:
    write(tmp_path / "data", 11, defective=0)
    dataset = datasets.load(tmp_path / "data", "mvtec", protocol="good-only")
    assert (len(dataset.train), dataset.count(label=1)) == (11, 0)


def test_defects_in_train_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "data", 12)
    lines = [f"data/train/good/{number:03}.png,good,g{number},train" for number in range(12)]
    lines += ["data/test/spot/000.png,defective,x,train", "data/test/spot/001.png,defective,y,"]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,group,split", *lines]))
    with caplog.at_level(logging.INFO):
        dataset = datasets.load(tmp_path / "all.csv", "csv", protocol="good-only", groups="given")
    assert "1 defective images of train are not used: --mode good-only" in caplog.text
    assert [sample.split for sample in dataset.samples if sample.group == "y"] == ["test"]


def test_the_settings_of_the_memory() -> None:
    assert configs.load(None).good_only.images == 500


def test_whitened_features_have_unit_variance_on_one_grid() -> None:
    rng = np.random.default_rng(1)
    image = keras.Input((8, 8, 3))
    coarse = keras.layers.AveragePooling2D(2)(image)
    base = keras.Model(image, [image, coarse])
    images = (rng.normal(0, 1, (200, 8, 8, 3)) @ rng.normal(0, 1, (3, 3)) + 5).astype(np.float32)
    moments = [_Moments(3), _Moments(3)]
    for one, maps in zip(moments, base.predict(images, verbose=0), strict=True):
        one.add(maps)
    found = features_model(base, [one.whitening() for one in moments]).predict(images, verbose=0)
    assert found.shape == (200, 8, 8, 6)
    assert found.mean((0, 1, 2)) == pytest.approx(np.zeros(6), abs=0.1)
    # of the mean of 9 cells of white noise
    assert np.cov(found[:, 4, 4, :3].T) * 9 == pytest.approx(np.eye(3), abs=0.35)
