"""What somebody else uploaded, taken in: only what the manifest lists, and nothing through a link."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_bundle import TinyModel

from device.bundle import manifest
from device.errors import BundleError
from device.rollout import intake

NAME = "tiny"


@pytest.fixture
def uploaded(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A good bundle as it lies in the incoming folder."""
    written = tiny_model.write(tmp_path / "made")
    return Path(shutil.copytree(written, tmp_path / "incoming" / NAME))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def take(uploaded: Path, models: Path) -> Path:
    return intake.take(uploaded.parent, uploaded.name, models, lambda draft: None)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def list_as(uploaded: Path, change: Callable[[list[dict[str, object]]], object]) -> None:
    """Rewrite the manifest's list of files."""
    content = json.loads((uploaded / manifest.FILE).read_text())
    change(content["files"])
    (uploaded / manifest.FILE).write_text(json.dumps(content))


def test_a_good_bundle_is_copied_whole(uploaded: Path, models: Path) -> None:
    draft = take(uploaded, models)
    assert draft.parent == models
    assert draft.name.startswith(".")
    assert files(draft) == files(uploaded)
    manifest.verify(draft)


def test_the_signature_comes_along_and_what_is_not_listed_does_not(uploaded: Path, models: Path) -> None:
    (uploaded / manifest.SIGNATURE_FILE).write_text("signature")
    (uploaded / "run-me.sh").write_text("#!/bin/sh\n")
    (uploaded / "model.tflite.~tmp~").write_text("half")
    draft = take(uploaded, models)
    assert manifest.SIGNATURE_FILE in files(draft)
    assert not {"run-me.sh", "model.tflite.~tmp~"} & files(draft)


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "/etc", "../incoming/tiny", ".hidden", "a\nb", "x" * 129]
)
def test_a_name_that_is_no_name(uploaded: Path, models: Path, name: str) -> None:
    with pytest.raises(BundleError, match="bundle name: must be"):
        intake.take(uploaded.parent, name, models, lambda draft: None)
    assert list(models.iterdir()) == []


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b", "golden//x", ".ssh/config"])
def test_a_path_that_leads_out_is_refused_by_the_manifest(uploaded: Path, models: Path, path: str) -> None:
    list_as(uploaded, lambda listed: listed.append({"path": path, "size_bytes": 1, "sha256": "0" * 64}))
    with pytest.raises(BundleError, match=r"manifest.json: .*path"):
        take(uploaded, models)
    assert list(models.iterdir()) == []


def replaced_by_link(uploaded: Path) -> None:
    shutil.move(uploaded / "model.tflite", uploaded.parent / "elsewhere")
    (uploaded / "model.tflite").symlink_to(uploaded.parent / "elsewhere")


def folder_as_link(uploaded: Path) -> None:
    shutil.move(uploaded / "golden", uploaded.parent / "golden")
    (uploaded / "golden").symlink_to(uploaded.parent / "golden")


def whole_as_link(uploaded: Path) -> None:
    shutil.move(uploaded, uploaded.parent / "real")
    uploaded.symlink_to(uploaded.parent / "real")


def second_name(uploaded: Path) -> None:
    os.link(uploaded / "model.tflite", uploaded.parent / "second")


def pipe(uploaded: Path) -> None:
    (uploaded / "model.tflite").unlink()
    os.mkfifo(uploaded / "model.tflite")


def manifest_as_link(uploaded: Path) -> None:
    shutil.move(uploaded / manifest.FILE, uploaded.parent / manifest.FILE)
    (uploaded / manifest.FILE).symlink_to(uploaded.parent / manifest.FILE)


@pytest.mark.parametrize(
    ("trick", "message"),
    [
        (replaced_by_link, "a link is on the way"),
        (folder_as_link, "a link is on the way"),
        (whole_as_link, "a link is on the way"),
        (manifest_as_link, "a link is on the way"),
        (second_name, "must be a file of its own, has 2 names"),
        (pipe, "must be a plain file"),
    ],
)
def test_only_plain_files(uploaded: Path, models: Path, trick: Callable[[Path], None], message: str) -> None:
    trick(uploaded)
    with pytest.raises(BundleError, match=message):
        take(uploaded, models)
    assert list(models.iterdir()) == []


def longer(uploaded: Path) -> None:
    with (uploaded / "model.tflite").open("ab") as file:
        file.write(b"more")


def shorter(uploaded: Path) -> None:
    os.truncate(uploaded / "model.tflite", 100)


def changed(uploaded: Path) -> None:
    content = bytearray((uploaded / "model.tflite").read_bytes())
    content[50] ^= 1
    (uploaded / "model.tflite").write_bytes(content)


def absent(uploaded: Path) -> None:
    (uploaded / "model.tflite").unlink()


def endless_manifest(uploaded: Path) -> None:
    os.truncate(uploaded / manifest.FILE, 1 << 30)


def huge(uploaded: Path) -> None:
    list_as(uploaded, lambda listed: listed[0].update(size_bytes=1 << 40))


def many(uploaded: Path) -> None:
    more = ({"path": f"f{n}", "size_bytes": 0, "sha256": "0" * 64} for n in range(intake.MOST_FILES))
    list_as(uploaded, lambda listed: listed.extend(more))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (longer, "must have at most [0-9]+ bytes, has more"),
        (shorter, "must have [0-9]+ bytes, has 100"),
        (changed, "damaged or changed"),
        (absent, "No such file"),
        (endless_manifest, "must have at most 262144 bytes, has more"),
        (huge, "must list at most 200 files, 268435456 bytes"),
        (many, "must list at most 200 files"),
    ],
)
def test_what_is_not_as_listed_is_refused_and_leaves_nothing(
    uploaded: Path, models: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(uploaded)
    with pytest.raises(BundleError, match=message):
        take(uploaded, models)
    assert list(models.iterdir()) == []
