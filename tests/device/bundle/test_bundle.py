"""Bundles: what is loaded, what is refused, and how one is written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_bundle import GOLDEN, TinyModel, make_memory
from fixtures_daemon import REPOSITORY

from device.bundle import bundle as bundles
from device.bundle import manifest, trial
from device.bundle.bundle import Bundle, GoldenSpec, GoldenVector, MemorySpec, ReferenceSpec
from device.bundle.reference import GoldenReference
from device.errors import BundleError, StorageError
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


def tree(folder: Path) -> dict[str, bytes | str]:
    """Everything under a folder."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


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
    with pytest.raises(BundleError, match=name):
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


def test_writing_leaves_the_bundle_and_current_and_nothing_else(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    parent = tmp_path / "new" / "models"
    golden = {GOLDEN: tiny_model.golden}
    extra = {"split.csv": b"path,label\n", "report/roc.csv": b"1"}
    path = bundles.write(parent, "screw", tiny_model.content, tiny_model.calibration, golden, extra)
    assert path.parent == parent
    assert sorted(entry.name for entry in parent.iterdir()) == ["current", path.name]
    assert (parent / "current").readlink() == Path(path.name)
    assert {name for name in tree(path) if name != "manifest.json"} == {
        "model.tflite", "calibration.json", f"golden/{GOLDEN}", "split.csv", "report/roc.csv"
    }  # fmt: skip
    assert (path / "split.csv").read_bytes() == b"path,label\n"
    assert bundles.load(parent).path == path.resolve()


def test_others_may_read_it(tiny_model: TinyModel, tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        path = tiny_model.write(tmp_path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o755
    assert (path / "model.tflite").stat().st_mode & 0o777 == 0o644


def test_the_same_bundle_twice_is_refused(tiny_model: TinyModel, folder: Path) -> None:
    before = tree(folder.parent)
    with pytest.raises(StorageError, match=rf"{folder.name}: cannot be written: .*exists already"):
        tiny_model.write(folder.parent)
    assert tree(folder.parent) == before


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"../outside": b""}, "path: must be a relative path"),
        ({"/etc/x": b""}, "path: must be a relative path"),
        ({"manifest.json": b""}, "path: must not be manifest.json"),
        ({"model.tflite": b""}, "model.tflite: must not be among the extra files"),
        ({f"golden/{GOLDEN}": b""}, "must not be among the extra files"),
        ({"golden/more.png": b""}, "golden/more.png is in the bundle and has no score"),
    ],
)
def test_extra_files_that_are_refused(
    tiny_model: TinyModel, tmp_path: Path, extra: Any, message: str
) -> None:
    parent = tmp_path / "models"
    parent.mkdir()
    golden = {GOLDEN: tiny_model.golden}
    with pytest.raises(BundleError, match=message):
        bundles.write(parent, "tiny", tiny_model.content, tiny_model.calibration, golden, extra)
    assert tree(tmp_path) == {}


def test_content_that_would_not_be_loaded_is_not_written(tiny_model: TinyModel, tmp_path: Path) -> None:
    calibration, golden = tiny_model.calibration, {GOLDEN: tiny_model.golden}
    with pytest.raises(BundleError, match=r"bundle name: must be 1..64 letters"):
        bundles.write(tmp_path, "a/b", tiny_model.content, calibration, golden, {})
    with pytest.raises(BundleError, match="model_sha256: must be that of the model to write"):
        bundles.write(tmp_path, "tiny", b"another", calibration, golden, {})
    with pytest.raises(BundleError, match=f"golden/{GOLDEN} is not in the bundle"):
        bundles.write(tmp_path, "tiny", tiny_model.content, calibration, {}, {})
    vectors = GoldenSpec(0.1, (GoldenVector("golden.jpg", 0.5),))
    with pytest.raises(BundleError, match=r"golden.vectors\[0\].file: must be the name of a .png file"):
        bundles.write(
            tmp_path,
            "tiny",
            tiny_model.content,
            replace(calibration, golden=vectors),
            {"golden.jpg": b""},
            {},
        )
    nan = replace(calibration, metrics={"f1": float("nan")})
    with pytest.raises(BundleError, match=r"calibration.json: .*nan"):
        bundles.write(tmp_path, "tiny", tiny_model.content, nan, golden, {})
    assert tree(tmp_path) == {}


# ---- writing where the disk does not take it


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for half a bundle; pytest's own temporary files stay outside."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place))
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this user cannot mount: {done.stderr.strip()}")
    yield place
    subprocess.run(("umount", str(place)), check=True)


def test_a_full_disk(tiny_model: TinyModel, full_disk: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be written: .*No space left on device") as caught:
        bundles.write(
            full_disk,
            "tiny",
            tiny_model.content,
            tiny_model.calibration,
            {GOLDEN: tiny_model.golden},
            {"large.bin": b"x" * 100_000},
        )
    assert caught.value.exit_code == 9
    assert list(full_disk.iterdir()) == []


def test_a_parent_that_is_a_file(tiny_model: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(StorageError, match=r"models/tiny-.*: cannot be written: .*Not a directory"):
        tiny_model.write(tmp_path / "models")
    assert tree(tmp_path) == {"models": b"in the way"}


@pytest.mark.parametrize("call", ["fsync", "replace", "rename", "symlink"])
def test_a_system_call_that_fails_leaves_what_was_there(
    tiny_model: TinyModel, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = tree(folder.parent)

    def fail(*args: Any, **keywords: Any) -> None:
        raise OSError(5, "Input/output error", str(args[0]))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError, match=r"cannot be written: .*Input/output error"):
            tiny_model.write(folder.parent, created="2027-01-01T00:00:00Z")
    assert tree(folder.parent) == before
    assert sorted(entry.name for entry in folder.parent.iterdir()) == sorted(["current", folder.name])
    assert bundles.load(folder.parent).path == folder.resolve()


def test_a_current_that_is_a_folder_is_not_replaced(tiny_model: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        tiny_model.write(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


def test_an_interruption_leaves_what_was_there(
    tiny_model: TinyModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(folder.parent)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tiny_model.write(folder.parent, created="2027-01-01T00:00:00Z")
    assert tree(folder.parent) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from device.bundle import bundle
def die(*args, **keywords): os.kill(os.getpid(), signal.SIGKILL)
count = [0]
def sync(descriptor):
    count[0] += 1
    if count[0] == int(sys.argv[2]): die()
os.fsync = sync
source = bundle.load(sys.argv[1])
golden = {v.file: source.golden_path(v).read_bytes() for v in source.calibration.golden.vectors}
bundle.write(sys.argv[1], "newer", source.model_path.read_bytes(), source.calibration, golden, {})
"""


@pytest.mark.parametrize("moment", [1, 4, 6, 7])
def test_a_process_that_is_killed_leaves_current_whole(folder: Path, moment: int) -> None:
    """At the last moment the new bundle is already in place; either way `current` leads to a whole one."""
    command = (sys.executable, "-c", KILLED, str(folder.parent), str(moment))
    root = REPOSITORY
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    loaded = bundles.load(folder.parent)
    assert loaded.name == folder.name if moment < 7 else loaded.name.startswith("newer-")


def test_the_calibration_is_on_the_disk_as_it_was_given(tiny_model: TinyModel, folder: Path) -> None:
    assert (folder / "calibration.json").read_text() == tiny_model.calibration.to_json()


# ---- in use


@pytest.fixture
def models(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """Three bundles, made and so activated one after the other."""
    for day in (1, 2, 3):
        tiny_model.write(tmp_path, created=f"2026-03-0{day}T05:06:07Z")
    return tmp_path


def names(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir() if not path.is_symlink())


def test_activate_switches_both_links(models: Path) -> None:
    first, second, third = names(models)
    assert bundles.activate(models, first) == third
    assert (bundles.current_name(models), bundles.previous_name(models)) == (first, third)
    assert bundles.activate(models, second) == first
    assert (bundles.current_name(models), bundles.previous_name(models)) == (second, first)
    assert bundles.activate(models, second) == second  # in use already: nothing changes
    assert bundles.previous_name(models) == first
    assert bundles.load(models).name == second
    assert [path.name for path in models.glob(".*")] == [trial.FILE]


def test_roll_back_and_forth(models: Path) -> None:
    first, _, third = names(models)
    bundles.activate(models, first)
    assert bundles.rollback(models) == third
    assert bundles.rollback(models) == first


def test_nothing_to_roll_back_to(models: Path) -> None:
    with pytest.raises(BundleError, match="previous: no bundle was in use before"):
        bundles.rollback(models)
    bundles._switch(models / "previous", bundles.current_name(models))
    with pytest.raises(BundleError, match="which is in use already"):
        bundles.rollback(models)
    assert bundles.previous_name(models) == ""


def test_a_damaged_bundle_is_not_activated(models: Path) -> None:
    first, _, third = names(models)
    (models / first / "model.tflite").write_bytes(b"")
    with pytest.raises(BundleError, match=r"model\.tflite"):
        bundles.activate(models, first)
    assert bundles.current_name(models) == third
    assert not (models / "previous").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "current", "previous", "../x", "/etc", "a/b", "nothing"])
def test_a_name_that_is_no_bundle_beside_the_others(models: Path, name: str) -> None:
    with pytest.raises(BundleError):
        bundles.activate(models, name)


def test_only_a_folder_of_bundles_has_links(models: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is one bundle; a folder of bundles"):
        bundles.rollback(models / names(models)[0])
    with pytest.raises(BundleError, match="does not exist"):
        bundles.activate(tmp_path / "no", "x")


def test_keep_undoes_only_what_was_rejected(models: Path) -> None:
    first, second, third = names(models)
    bundles.keep(models, first, second)  # `current` leads elsewhere by now
    assert bundles.current_name(models) == third
    bundles.keep(models, first, third)
    assert bundles.current_name(models) == first
    bundles.keep(models, first, "")
    assert bundles.current_name(models) == first


def test_links_that_cannot_be_written(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(link: Path, target: str) -> None:
        raise OSError(28, "No space left on device")

    first, _, third = names(models)
    monkeypatch.setattr(bundles, "_switch", full)
    with pytest.raises(StorageError, match=f"cannot be switched to {first}: No space left"):
        bundles.activate(models, first)
    with pytest.raises(StorageError, match="cannot be switched back"):
        bundles.keep(models, first, third)


# ---- the golden reference


def with_reference(
    tiny_model: TinyModel, parent: Path, content: bytes | None, spec: ReferenceSpec | None
) -> Path:
    localization = replace(tiny_model.calibration.localization, reference=spec)
    calibration = replace(tiny_model.calibration, localization=localization)
    extra = {} if content is None else {"reference.npz": content}
    return bundles.write(parent, "tiny", tiny_model.content, calibration, {GOLDEN: tiny_model.golden}, extra)


MEMORY = make_memory(np.array([[-77], [-70]], np.int8), centre=20.0, spread=4.0)


def with_memory(model: TinyModel, folder: Path, content: bytes | None, spec: MemorySpec | None) -> Path:
    extra = {} if content is None else {"memory.npz": content}
    calibration = replace(model.calibration, memory=spec)
    return bundles.write(folder, "tiny", model.content, calibration, {GOLDEN: model.golden}, extra)


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
