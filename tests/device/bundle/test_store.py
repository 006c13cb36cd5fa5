"""Bundles beside each other: how one is published, which is in use, and what a cut or a full disk leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures_bundle import GOLDEN, TinyModel, make_bundle, tree
from fixtures_daemon import REPOSITORY

from device.bundle import bundle as bundles
from device.bundle import store, trial
from device.bundle.bundle import Contents, GoldenSpec, GoldenVector
from device.errors import BundleError, StorageError


@pytest.fixture
def folder(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A bundle in use."""
    return tiny_model.write(tmp_path / "bundles")


# ---- publishing


def test_writing_leaves_the_bundle_and_current_and_nothing_else(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    parent = tmp_path / "new" / "models"
    golden = {GOLDEN: tiny_model.golden}
    extra = {"split.csv": b"path,label\n", "report/roc.csv": b"1"}
    path = make_bundle(parent, "screw", tiny_model.content, tiny_model.calibration, golden, extra)
    assert path.parent == parent
    assert sorted(entry.name for entry in parent.iterdir()) == ["current", path.name]
    assert (parent / "current").readlink() == Path(path.name)
    assert {name for name in tree(path) if name != "manifest.json"} == {
        "model.tflite", "calibration.json", "MODEL_CARD.md", f"golden/{GOLDEN}", "split.csv", "report/roc.csv"
    }  # fmt: skip
    assert (path / "split.csv").read_bytes() == b"path,label\n"
    assert bundles.load(parent).path == path.resolve()


def contents(model: TinyModel) -> Contents:
    return Contents(model.content, model.calibration, {GOLDEN: model.golden})


def test_what_is_published_is_not_in_use(tiny_model: TinyModel, folder: Path) -> None:
    path = store.publish(folder.parent, "another", contents(tiny_model))
    assert bundles.load(path).name == path.name == f"another-{tiny_model.calibration.version}"
    assert store.current_name(folder.parent) == folder.name
    assert set(store.names(folder.parent)) == {folder.name, path.name}


def test_what_is_not_proven_gets_no_name(tiny_model: TinyModel, folder: Path) -> None:
    before = tree(folder.parent)

    def refuse(made: bundles.Bundle) -> None:
        bundles.load(made.path)  # it is whole, and nobody takes it for a bundle yet
        assert store.names(folder.parent) == [folder.name]
        raise BundleError("another score")

    with pytest.raises(BundleError, match="another score"):
        store.publish(folder.parent, "another", contents(tiny_model), refuse)
    assert tree(folder.parent) == before


def test_the_newest_stay_and_those_in_use_whatever_their_age(models: Path) -> None:
    first, _, third = names(models)
    store.activate(models, first)
    newest = [store.draft_path(models, "cut-off"), *(models / f"new-2027010{n}T000000Z-x" for n in (1, 2))]
    for made in newest:
        shutil.copytree(models / first, made)
    store.prune(models, most=2)
    assert set(store.names(models)) == {first, third, newest[1].name, newest[2].name}
    assert not newest[0].exists()


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
        make_bundle(parent, "tiny", tiny_model.content, tiny_model.calibration, golden, extra)
    assert tree(tmp_path) == {}


def test_content_that_would_not_be_loaded_is_not_written(tiny_model: TinyModel, tmp_path: Path) -> None:
    calibration, golden = tiny_model.calibration, {GOLDEN: tiny_model.golden}
    with pytest.raises(BundleError, match=r"bundle name: must be 1..64 letters"):
        make_bundle(tmp_path, "a/b", tiny_model.content, calibration, golden, {})
    with pytest.raises(BundleError, match="model_sha256: must be that of the model to write"):
        make_bundle(tmp_path, "tiny", b"another", calibration, golden, {})
    with pytest.raises(BundleError, match=f"golden/{GOLDEN} is not in the bundle"):
        make_bundle(tmp_path, "tiny", tiny_model.content, calibration, {}, {})
    vectors = GoldenSpec(0.1, (GoldenVector("golden.jpg", 0.5),))
    with pytest.raises(BundleError, match=r"golden.vectors\[0\].file: must be the name of a .png file"):
        make_bundle(
            tmp_path,
            "tiny",
            tiny_model.content,
            replace(calibration, golden=vectors),
            {"golden.jpg": b""},
            {},
        )
    nan = replace(calibration, metrics={"f1": float("nan")})
    with pytest.raises(BundleError, match=r"calibration.json: .*nan"):
        make_bundle(tmp_path, "tiny", tiny_model.content, nan, golden, {})
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
        make_bundle(
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
from device.bundle import bundle, store
def die(*args, **keywords): os.kill(os.getpid(), signal.SIGKILL)
count = [0]
def sync(descriptor):
    count[0] += 1
    if count[0] == int(sys.argv[2]): die()
os.fsync = sync
source = bundle.load(sys.argv[1])
golden = {v.file: source.golden_path(v).read_bytes() for v in source.calibration.golden.vectors}
contents = bundle.Contents(source.model_path.read_bytes(), source.calibration, golden)
store.lead_to(store.publish(Path(sys.argv[1]), "newer", contents))
"""


@pytest.mark.parametrize("moment", [1, 4, 7, 8, 9])
def test_a_process_that_is_killed_leaves_current_whole(folder: Path, moment: int) -> None:
    """At the last moment the new bundle is already in place; either way `current` leads to a whole one."""
    command = (sys.executable, "-c", KILLED, str(folder.parent), str(moment))
    root = REPOSITORY
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    loaded = bundles.load(folder.parent)
    assert loaded.name == folder.name if moment < 9 else loaded.name.startswith("newer-")


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
    assert store.activate(models, first) == third
    assert (store.current_name(models), store.previous_name(models)) == (first, third)
    assert store.activate(models, second) == first
    assert (store.current_name(models), store.previous_name(models)) == (second, first)
    assert store.activate(models, second) == second  # in use already: nothing changes
    assert store.previous_name(models) == first
    assert bundles.load(models).name == second
    assert [path.name for path in models.glob(".*")] == [trial.FILE]


def test_roll_back_and_forth(models: Path) -> None:
    first, _, third = names(models)
    store.activate(models, first)
    assert store.rollback(models) == third
    assert store.rollback(models) == first


def test_what_fails_leads_back_to_what_was_tried_last(models: Path) -> None:
    """And not to one that was pushed while no service ran, and never opened."""
    first, second, third = sorted(store.names(models))
    assert store.current_name(models) == third
    store.activate(models, first)
    store.activate(models, second)
    found = store.go_back(models)
    assert (found.bundle, found.before) == (second, third)
    assert store.current_name(models) == third


def test_back_to_what_was_tried_needs_no_trial(models: Path) -> None:
    first, _, third = sorted(store.names(models))
    store.activate(models, first)
    assert store.rollback(models) == third
    assert trial.read(models) is None
    assert store.previous_name(models) == first


def test_nothing_to_roll_back_to(models: Path) -> None:
    with pytest.raises(BundleError, match="previous: no bundle was in use before"):
        store.rollback(models)
    store._switch(models / "previous", store.current_name(models))
    with pytest.raises(BundleError, match="which is in use already"):
        store.rollback(models)
    assert store.previous_name(models) == ""


def test_a_damaged_bundle_is_not_activated(models: Path) -> None:
    first, _, third = names(models)
    (models / first / "model.tflite").write_bytes(b"")
    with pytest.raises(BundleError, match=r"model\.tflite"):
        store.activate(models, first)
    assert store.current_name(models) == third
    assert not (models / "previous").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "current", "previous", "../x", "/etc", "a/b", "nothing"])
def test_a_name_that_is_no_bundle_beside_the_others(models: Path, name: str) -> None:
    with pytest.raises(BundleError):
        store.activate(models, name)


def test_only_a_folder_of_bundles_has_links(models: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is one bundle; a folder of bundles"):
        store.rollback(models / names(models)[0])
    with pytest.raises(BundleError, match="does not exist"):
        store.activate(tmp_path / "no", "x")


def test_keep_undoes_only_what_was_rejected(models: Path) -> None:
    first, second, third = names(models)
    store.keep(models, first, second)  # `current` leads elsewhere by now
    assert store.current_name(models) == third
    store.keep(models, first, third)
    assert store.current_name(models) == first
    store.keep(models, first, "")
    assert store.current_name(models) == first


def test_links_that_cannot_be_written(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(link: Path, target: str) -> None:
        raise OSError(28, "No space left on device")

    first, _, third = names(models)
    monkeypatch.setattr(store, "_switch", full)
    with pytest.raises(StorageError, match=f"cannot be switched to {first}: No space left"):
        store.activate(models, first)
    with pytest.raises(StorageError, match="cannot be switched back"):
        store.keep(models, first, third)
