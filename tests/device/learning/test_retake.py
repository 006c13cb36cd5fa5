"""The golden and the drift reference anew, from good parts as they look now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import TinyModel, make_bundle, make_image, png_bytes
from fixtures_daemon import errors, run_device

from device.bundle import bundle as bundles
from device.bundle import store
from device.bundle.bundle import Bundle
from device.bundle.calibration import ReferenceSpec
from device.bundle.reference import FILE, GoldenReference
from device.errors import ConfigError, DataError
from device.image.frame import Pixels
from device.learning import retake
from device.learning.collect import CollectionPlan
from device.learning.retake import LEAST, RetakeOptions


def part(seed: int, gain: float = 1.0, spot: tuple[int, int, int, int] | None = None) -> Pixels:
    """The same part each time, with a sensor's noise; `gain`: of the lamp."""
    noise = np.random.default_rng(seed).normal(0, 1.5, (96, 128, 3))
    shapes = np.random.default_rng(9).uniform(0, 40, (12, 18)).astype(np.float32)
    shapes = cv2.resize(shapes, (128, 96), interpolation=cv2.INTER_NEAREST)
    image = make_image(width=128, height=96, seed=1, spot=spot) + shapes[..., np.newaxis]
    return np.asarray((image * gain + noise).clip(0, 255), np.uint8)


def write(folder: Path, images: list[Pixels]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        (folder / f"{number:03d}.png").write_bytes(png_bytes(image))
    return folder


def write_bundle(model: TinyModel, models: Path) -> Path:
    """One with a golden reference, whose pixels are those of nothing that is shown here."""
    size = model.calibration.preprocess.size
    flat = np.full((size.height, size.width), 100, np.float32)
    localization = replace(model.calibration.localization, reference=ReferenceSpec(5.0, 0.1))
    calibration = replace(model.calibration, localization=localization)
    files = {FILE: GoldenReference(flat, flat * 0).to_bytes(), "report.html": b"<p>"}
    [vector] = calibration.golden.vectors
    return make_bundle(models, "tiny", model.content, calibration, {vector.file: model.golden}, files)


@pytest.fixture
def config(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A station whose camera shows 24 good parts in a brighter light, once."""
    write_bundle(tiny_model, tmp_path / "models")
    write(tmp_path / "images", [part(seed, 1.1) for seed in range(24)])
    path = tmp_path / "config.toml"
    path.write_text(
        '[station]\nname = "press-4"\nstate = "state"\n'
        '[bundle]\npath = "models"\n[camera]\nsource = "images"\n'
    )
    return path


def test_from_the_camera_to_references_that_are_activated_and_undone(config: Path) -> None:
    models = config.parent / "models"
    before = bundles.load(models)
    done = run_device("retake", "--config", config, "--count", "20", "--interval", "0")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    made = bundles.load(Path(done.stdout.strip()))
    assert store.current_name(models) == before.name, "it is not in use yet"
    assert made.name != before.name
    assert "references of 20 good pictures" in done.stderr

    old, new = before.calibration, made.calibration
    assert made.sha256 == before.sha256
    assert (new.thresholds, new.golden, new.memory) == (old.thresholds, old.golden, old.memory)
    assert (made.path / "report.html").read_bytes() == b"<p>"
    assert new.training["retaken"] == {"from": before.name, "good_images": 20}
    usual = float(np.mean([cv2.cvtColor(part(s, 1.1), cv2.COLOR_RGB2GRAY).mean() for s in range(20)])) / 255
    assert new.drift_reference.brightness_ratio.mean == pytest.approx(usual, abs=0.03)
    assert new.localization.reference != old.localization.reference
    reference = made.reference()
    assert reference is not None
    assert reference.sd.mean() < 10, "of a part that lies still"

    assert run_device("activate", made.name, "--config", config).returncode == 0
    assert store.current_name(models) == made.name
    assert run_device("rollback", "--config", config).returncode == 0
    assert store.current_name(models) == before.name


def test_defective_parts_make_no_reference(config: Path, tmp_path: Path) -> None:
    spotted = [part(seed, spot=(16, 24, 40, 40) if seed % 4 == 0 else None) for seed in range(24)]
    done = run_device("retake", "--config", config, "--images", write(tmp_path / "bad", spotted))
    assert done.returncode == 8
    assert "6 of 24 pictures are NG by the model in use, at most 10% may be" in errors(done)[-1]
    assert len([path for path in (tmp_path / "models").iterdir() if not path.is_symlink()]) == 1


def test_parts_that_do_not_lie_still_make_none_where_the_bundle_has_one(config: Path, tmp_path: Path) -> None:
    """A texture, another one in each picture."""
    loose = [make_image(width=128, height=96, seed=seed) for seed in range(24)]
    done = run_device("retake", "--config", config, "--images", write(tmp_path / "loose", loose))
    assert done.returncode == 8
    assert "these frames give no golden reference" in errors(done)[-1]


def test_too_few_that_are_fit(config: Path, tmp_path: Path) -> None:
    few = [part(seed) for seed in range(LEAST - 1)] + [np.zeros((96, 128, 3), np.uint8)]
    done = run_device("retake", "--config", config, "--images", write(tmp_path / "few", few))
    assert done.returncode == 8
    assert f"{LEAST - 1} pictures that are fit: {LEAST} or more are needed" in errors(done)[-1]
    assert "left out" in done.stderr
    assert "black" in done.stderr


def test_where_signatures_are_asked_for_it_is_refused_as_learning_is(config: Path) -> None:
    (config.parent / "signers").write_text("")
    config.write_text(config.read_text().replace("[bundle]\n", '[bundle]\nsigners = "signers"\n'))
    done = run_device("retake", "--config", config, "--images", config.parent / "images")
    assert done.returncode == 13
    assert "allow_learned" in errors(done)[-1]


@pytest.mark.parametrize(("count", "interval_s"), [(LEAST - 1, 1.0), (10_001, 1.0), (40, -1.0)])
def test_options_out_of_range_are_named(count: int, interval_s: float) -> None:
    with pytest.raises(ConfigError, match=r"--count|--interval"):
        RetakeOptions(plan=CollectionPlan(count, interval_s))


def test_a_bundle_without_a_golden_reference_gets_none(tiny_bundle: Bundle) -> None:
    with pytest.raises(DataError):
        retake.look(None, [], None)  # type: ignore[arg-type]
    assert FILE not in retake._files(tiny_bundle)
