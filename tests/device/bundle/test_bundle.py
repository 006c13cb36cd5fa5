"""Bundles: what is loaded, what is refused, and how one is written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import GOLDEN, TinyModel, make_bundle, make_memory

from device.bundle import bundle as bundles
from device.bundle import manifest
from device.bundle.bundle import Bundle, MemorySpec, ReferenceSpec
from device.bundle.reference import GoldenReference
from device.errors import BundleError
from device.image.geometry import Size


@pytest.fixture
def folder(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return tiny_model.write(tmp_path / "bundles")


def seal(folder: Path) -> None:
    """Write the manifest anew, as somebody would who changed a file on purpose."""
    (folder / manifest.FILE).unlink()
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / manifest.FILE).write_text(manifest.of_contents(files))


# ---- reading


def test_a_bundle_by_its_folder_and_by_current(tiny_model: TinyModel, folder: Path) -> None:
    by_folder, by_current = bundles.load(folder), bundles.load(folder.parent)
    assert by_folder == by_current == bundles.load(str(folder.parent / "current"))
    assert by_folder.path == folder.resolve()
    assert by_folder.name == folder.name == f"tiny-20260304T050607Z-{by_folder.sha256[:8]}"
    assert by_folder.calibration == tiny_model.calibration
    assert by_folder.model_path.read_bytes() == tiny_model.content


def test_a_switch_of_current_does_not_pull_a_loaded_bundle_away(tiny_model: TinyModel, folder: Path) -> None:
    loaded = bundles.load(folder.parent)
    newer = tiny_model.write(folder.parent, created="2027-01-01T00:00:00Z")
    assert loaded.path == folder.resolve()
    assert bundles.load(folder.parent).path == newer.resolve()


@pytest.mark.parametrize("name", ["model.tflite", "calibration.json", f"golden/{GOLDEN}", "manifest.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_flipped_byte_in_any_file(folder: Path, name: str, share: float) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 4
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}|damaged or changed: must have"):  # a digest is hit as well
        bundles.load(folder)


def test_a_file_too_many(folder: Path) -> None:
    (folder / "golden" / "notes.txt").touch()
    with pytest.raises(BundleError, match=r"golden/notes.txt: not listed in manifest.json"):
        bundles.load(folder)


@pytest.mark.parametrize("name", ["model.tflite", "calibration.json"])
def test_what_every_bundle_must_list(folder: Path, name: str) -> None:
    (folder / name).unlink()
    seal(folder)
    with pytest.raises(BundleError, match=f"manifest.json: files: must list {name}"):
        bundles.load(folder)


def test_a_field_of_the_calibration(folder: Path) -> None:
    content = json.loads((folder / "calibration.json").read_text())
    content["thresholds"]["ng"] = "0.5"
    (folder / "calibration.json").write_text(json.dumps(content))
    seal(folder)
    with pytest.raises(
        BundleError, match=r'tiny-.*/calibration.json: thresholds.ng: must be a number 0..1, got "0.5"'
    ):
        bundles.load(folder)


def test_another_model(folder: Path) -> None:
    (folder / "model.tflite").write_bytes(b"another")
    seal(folder)
    with pytest.raises(
        BundleError, match=r"calibration.json: model_sha256: must be that of model.tflite, [0-9a-f]{64}"
    ):
        bundles.load(folder)


@pytest.mark.parametrize("change", ["missing", "more"])
def test_golden_images_that_are_not_those_of_the_calibration(folder: Path, change: str) -> None:
    golden = folder / "golden" / GOLDEN
    if change == "missing":
        golden.unlink()
    else:
        (folder / "golden" / "more.png").touch()
    seal(folder)
    expected = (
        f"{GOLDEN} is not in the bundle"
        if change == "missing"
        else "more.png is in the bundle and has no score"
    )
    with pytest.raises(BundleError, match=rf"calibration.json: golden.vectors: golden/{expected}"):
        bundles.load(folder)


def test_folders_that_hold_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere: must be a folder, does not exist"):
        bundles.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"must hold a bundle \(manifest.json\) or a link `current` to one"):
        bundles.load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"file: must be a folder, is a file"):
        bundles.load(tmp_path / "file")


def test_a_current_that_leads_nowhere_or_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("gone")
    with pytest.raises(BundleError, match=r"current: leads to gone, where there is no manifest.json"):
        bundles.load(tmp_path)
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("current")
    with pytest.raises(BundleError, match=r"current: leads to current"):
        bundles.load(tmp_path)


# ---- golden scores


def test_golden_scores_within_the_tolerance(tiny_bundle: bundles.Bundle) -> None:
    expected = tiny_bundle.calibration.golden.vectors[0].score
    asked: list[Path] = []
    bundles.check_golden(tiny_bundle, lambda path: asked.append(path) or expected - 0.0199)
    assert asked == [tiny_bundle.path / "golden" / GOLDEN]


@pytest.mark.parametrize("off", [0.021, -0.021, float("nan")])
def test_a_golden_score_that_is_off(tiny_bundle: bundles.Bundle, off: float) -> None:
    expected = tiny_bundle.calibration.golden.vectors[0].score
    message = rf"golden/{GOLDEN}: must score {expected:.6f} within 0.02, scores {expected + off:.6f} here"
    with pytest.raises(BundleError, match=message):
        bundles.check_golden(tiny_bundle, lambda path: expected + off)


# ---- writing


def test_the_calibration_is_on_the_disk_as_it_was_given(tiny_model: TinyModel, folder: Path) -> None:
    assert (folder / "calibration.json").read_text() == tiny_model.calibration.to_json()


# ---- the golden reference


def with_reference(
    tiny_model: TinyModel, parent: Path, content: bytes | None, spec: ReferenceSpec | None
) -> Path:
    localization = replace(tiny_model.calibration.localization, reference=spec)
    calibration = replace(tiny_model.calibration, localization=localization)
    extra = {} if content is None else {"reference.npz": content}
    return make_bundle(parent, "tiny", tiny_model.content, calibration, {GOLDEN: tiny_model.golden}, extra)


MEMORY = make_memory(np.array([[-77], [-70]], np.int8), centre=20.0, spread=4.0)


def with_memory(model: TinyModel, folder: Path, content: bytes | None, spec: MemorySpec | None) -> Path:
    extra = {} if content is None else {"memory.npz": content}
    calibration = replace(model.calibration, memory=spec)
    return make_bundle(folder, "tiny", model.content, calibration, {GOLDEN: model.golden}, extra)


def a_reference(side: int) -> bytes:
    mean = np.full((side, side), 50, np.float32)
    return GoldenReference(mean, mean / 10).to_bytes()


def test_a_golden_reference_travels_in_the_bundle(tiny_model: TinyModel, tmp_path: Path) -> None:
    with_reference(tiny_model, tmp_path, a_reference(64), ReferenceSpec(8.0, 0.25))
    bundle = bundles.load(tmp_path)
    assert bundle.calibration.localization.reference == ReferenceSpec(8.0, 0.25)
    reference = bundle.reference()
    assert reference is not None
    assert reference.size == Size(64, 64)


def test_a_bundle_without_one(tiny_bundle: Bundle) -> None:
    assert tiny_bundle.reference() is None


@pytest.mark.parametrize(
    ("side", "spec", "message"),
    [
        (
            None,
            ReferenceSpec(8.0, 0.25),
            "localization.reference: must be given with reference.npz, and only",
        ),
        (64, None, "localization.reference: must be given with reference.npz, and only with it"),
        (65, ReferenceSpec(8.0, 0.25), "reference.npz: mean must be within the input, "),
    ],
)
def test_a_reference_that_does_not_fit_its_calibration(
    tiny_model: TinyModel, tmp_path: Path, side: int | None, spec: ReferenceSpec | None, message: str
) -> None:
    content = None if side is None else a_reference(side)
    with pytest.raises(BundleError, match=re.escape(message)):
        with_reference(tiny_model, tmp_path, content, spec)


def test_a_damaged_reference_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"reference\.npz: "):
        with_reference(tiny_model, tmp_path, b"no archive", ReferenceSpec(8.0, 0.25))


def test_a_memory_travels_in_the_bundle(tiny_model: TinyModel, tmp_path: Path) -> None:
    with_memory(tiny_model, tmp_path, MEMORY.good.to_bytes(), MEMORY.spec)
    memory = bundles.load(tmp_path).memory()
    assert memory is not None
    assert np.array_equal(memory.good.items, MEMORY.good.items)


@pytest.mark.parametrize(
    ("content", "spec", "message"),
    [
        (None, MEMORY.spec, "memory: must be given with memory.npz, and only with it"),
        (MEMORY.good.to_bytes(), None, "memory: must be given with memory.npz, and only with it"),
        (b"no archive", MEMORY.spec, "memory.npz: "),
    ],
)
def test_a_memory_that_does_not_fit_its_calibration(
    tiny_model: TinyModel, tmp_path: Path, content: bytes | None, spec: MemorySpec | None, message: str
) -> None:
    with pytest.raises(BundleError, match=re.escape(message)):
        with_memory(tiny_model, tmp_path, content, spec)
