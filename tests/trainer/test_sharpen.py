"""A head beside a memory: it helps where it can, and is left out where it cannot."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import TinyModel, make_bundle, make_frame, make_image, make_memory, png_bytes

from device.bundle import bundle as bundles
from device.bundle.bundle import Bundle
from device.bundle.memory import FILE
from device.errors import BundleError
from device.inspection.pipeline import Pipeline
from trainer import config as configs
from trainer import fit, sharpen
from trainer.data import dataset as datasets
from trainer.data.dataset import Dataset

HEADER = b"path,label,group,split,sha256\n"
MEMORY = make_memory(np.array([[-77]], np.int8), spread=8.0)


@pytest.fixture
def start(tiny_model: TinyModel, tmp_path: Path) -> Bundle:
    """It knows gray parts: what is darker is as strange to it as what is brighter."""
    [vector] = tiny_model.calibration.golden.vectors
    golden = replace(tiny_model.calibration.golden, vectors=(replace(vector, score=1.0),), tolerance=0.2)
    calibration = replace(tiny_model.calibration, memory=MEMORY.spec, golden=golden)
    files = {
        FILE: MEMORY.good.to_bytes(),
        "split.csv": b"path,label,group,split,sha256\nold.png,0,old.png,train,aa\n",
    }
    path = make_bundle(
        tmp_path / "models", "good", tiny_model.content, calibration, {vector.file: tiny_model.golden}, files
    )
    return bundles.load(path)


def spotted(seed: int, level: int, side: int) -> np.ndarray:
    """A part with a square of one gray level somewhere."""
    image = make_image(seed=seed)
    x, y = np.random.default_rng(seed).integers(0, 64 - side, 2)
    image[y : y + side, x : x + side] = level
    return image


def known(folder: Path, defects: int, level: int) -> Dataset:
    """20 good parts, dark dirt on every other one, and a few defects of a gray level."""
    folder.mkdir()
    rows = ["path,label,mask,group,split,kind"]
    for seed in range(20 + defects):
        good = seed < 20
        image = spotted(seed, 0, 24) if good and seed % 2 else make_image(seed=seed)
        if not good:
            image = spotted(seed, level, 16)
        (folder / f"{seed}.png").write_bytes(png_bytes(image))
        rows.append(f"{seed}.png,{int(not good)},,{seed},train,{'good' if good else 'dent'}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return datasets.load(folder / "manifest.csv")


def test_five_known_defects_teach_what_dirt_is_not(start: Bundle, tmp_path: Path) -> None:
    dataset = known(tmp_path / "data", 5, 85)
    path = sharpen.sharpen(start, dataset, tmp_path / "out", configs.load(None), 0)
    sharp = bundles.load(path)
    assert sharp.calibration.metrics["memory"]["ap"] < 0.7
    assert sharp.calibration.metrics["int8"]["ap"] > sharp.calibration.metrics["memory"]["ap"] + 0.2
    memory, before = sharp.memory(), start.memory()
    assert memory is not None
    assert before is not None
    assert memory.good.head.shape == (2,)
    assert np.array_equal(memory.good.items, before.good.items)
    assert sharp.sha256 == start.sha256
    pipeline = Pipeline(sharp, "press-4", "s")
    dirt = [pipeline.inspect(make_frame(spotted(seed, 0, 24))).score for seed in range(100, 110)]
    dents = [pipeline.inspect(make_frame(spotted(seed, 85, 16))).score for seed in range(200, 210)]
    assert np.median(dents) > np.median(dirt)
    assert sharp.calibration.training["recipe"] == "sharpened"
    assert sharp.calibration.training["from"] == start.name


def test_what_was_trained_on_before_and_now_is_in_the_split(start: Bundle, tmp_path: Path) -> None:
    dataset = known(tmp_path / "data", 5, 85)
    path = sharpen.sharpen(start, dataset, tmp_path / "out", configs.load(None), 0)
    recorded = datasets.read_split_csv((path / "split.csv").read_bytes())
    assert recorded["aa"].split == "train"
    assert len(recorded) == len(dataset.samples) + 1


def test_a_head_that_gains_no_more_than_luck_is_left_out(
    start: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = known(tmp_path / "data", 5, 255)  # so bright that the memory ranks them without a fault
    with caplog.at_level(logging.INFO):
        path = sharpen.sharpen(start, dataset, tmp_path / "out", configs.load(None), 0)
    assert "no head is taken" in caplog.text
    sharp = bundles.load(path)
    memory, found = sharp.memory(), sharp.calibration.metrics
    assert memory is not None
    assert not len(memory.good.head)
    assert found["gain"] <= found["gain_standard_error"]
    assert found["int8"] == found["memory"]


def test_where_the_memory_has_seen_good_images_all_are_judged_by_one_that_has_not(
    start: Bundle, tmp_path: Path
) -> None:
    dataset = known(tmp_path / "data", 4, 85)
    lines = b"".join(
        f"{s.name},0,{s.group},train,{s.sha256}\n".encode() for s in dataset.train if not s.label
    )
    header = b"path,label,group,split,sha256\n"
    for content, differs in ((header, False), (header + lines, True)):
        (start.path / "split.csv").write_bytes(content)
        ground = sharpen._ground(start, dataset.train, 5, 0)
        memory = start.memory()
        assert memory is not None
        same = np.array(
            [
                np.array_equal(found, memory.evidence(one.parts[0]))
                for [(found, _)], one in zip(ground.judged, ground.seen, strict=True)
            ]
        )
        good = np.array([not sample.label for sample in ground.samples])
        assert any(same[good]) is not differs
        assert any(same[~good]) is not differs  # judged by the same as the good ones


def test_a_bundle_without_a_memory_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    plain = bundles.load(tiny_model.write(tmp_path / "plain"))
    with pytest.raises(BundleError, match="has no memory; --from takes what --mode good-only made"):
        sharpen.sharpen(plain, known(tmp_path / "data", 3, 85), tmp_path / "out", configs.load(None), 0)


def test_the_command_sharpens_and_refuses_what_contradicts_it(
    start: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known(tmp_path / "data", 4, 85)
    data_file = tmp_path / "data" / "manifest.csv"
    given = ["--from", str(start.path), "--data", str(data_file), "--out", str(tmp_path / "out")]
    assert fit.main(given) == 0
    assert bundles.load(Path(capsys.readouterr().out.strip())).calibration.training["recipe"] == "sharpened"
    assert fit.main([*given, "--mode", "good-only"]) == 3
    assert "--from: needs --mode supervised" in capsys.readouterr().err
