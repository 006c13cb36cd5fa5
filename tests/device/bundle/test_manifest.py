"""manifest.json, and comparing a folder with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fixtures_daemon import REPOSITORY

from device.bundle import manifest
from device.errors import BundleError

GOLDEN = REPOSITORY / "tests" / "golden"
FILES = {"model.tflite": b"model", "calibration.json": b"{}", "golden/a.png": b"", "split.csv": b"path\n"}


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / manifest.FILE).write_text(manifest.of_contents(files))
    return folder


def rewrite(folder: Path, change: Any) -> None:
    """Let `change` alter the list of files in the manifest."""
    path = folder / manifest.FILE
    content = json.loads(path.read_text())
    change(content["files"])
    path.write_text(json.dumps(content))


def test_the_golden_manifest_byte_for_byte() -> None:
    assert manifest.of_contents(FILES) == (GOLDEN / "manifest.json").read_text()


def test_what_was_written_is_verified(tmp_path: Path) -> None:
    entries = manifest.verify(write(tmp_path))
    assert entries.keys() == FILES.keys()
    assert entries["model.tflite"].size_bytes == 5


def test_a_signature_beside_it_is_not_listed(tmp_path: Path) -> None:
    (write(tmp_path) / manifest.SIGNATURE_FILE).write_text("signed")
    manifest.verify(tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_byte_in_any_file(tmp_path: Path, name: str, place: int) -> None:
    write(tmp_path)
    content = bytearray((tmp_path / name).read_bytes() or b"x")
    content[place] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        BundleError, match=f"{name}: (damaged or changed: must have sha256|must have 0 bytes, has 1)"
    ):
        manifest.verify(tmp_path)


def test_every_flipped_byte_of_the_manifest_itself(tmp_path: Path) -> None:
    path = write(tmp_path) / manifest.FILE
    content = path.read_bytes()
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1
        if json_or_none(flipped) == json.loads(content):
            continue  # white space for white space
        path.write_bytes(flipped)
        with pytest.raises(BundleError, match=str(tmp_path)):
            manifest.verify(tmp_path)


def json_or_none(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: missing, but listed in manifest.json"):
        manifest.verify(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "golden/b.png", "new/deep/file"])
def test_a_file_that_is_not_listed(tmp_path: Path, name: str) -> None:
    path = write(tmp_path) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(BundleError, match=f"{name}: not listed in manifest.json"):
        manifest.verify(tmp_path)


@pytest.mark.parametrize("name", ["model.tflite", "golden/a.png", "golden", manifest.FILE])
def test_a_link_even_to_the_same_content(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "bundle")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=f"{name}: must be a plain file, is a link"):
        manifest.verify(folder)


@pytest.mark.parametrize("name", ["model.tflite", "manifest.json"])
def test_a_pipe(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(BundleError, match=f"{name}: must be a plain file, is something else"):
        manifest.verify(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "/etc/passwd",
        "a/../b",
        "./a",
        "a//b",
        "a/",
        "",
        ".",
        "..",
        "a\\b",
        "a\nb",
        "a\n",
        "a/.b",
    ],
)
def test_a_path_that_is_not_plain(tmp_path: Path, path: str) -> None:
    write(tmp_path / "bundle")
    (tmp_path / "outside").write_bytes(b"model")
    rewrite(tmp_path / "bundle", lambda files: files[3].update(path=path))
    with pytest.raises(BundleError, match=r"files\[3\].path: must be a relative path of plain names inside"):
        manifest.verify(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"files\[0\].path: must be a relative path"):
        manifest.of_contents({path: b""})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda files: files.append(dict(files[0])),
            r"files\[4\].path: must be listed only once, got calibration.json",
        ),
        (lambda files: files[0].update(path="manifest.json"), r"files\[0\].path: must not be manifest.json"),
        (lambda files: files[0].pop("sha256"), r"files\[0\].sha256: missing"),
        (lambda files: files[0].update(mode=7), r"files\[0\].mode: unknown field"),
        (
            lambda files: files[0].update(size_bytes="5"),
            r'size_bytes: must be a whole number from 0, got "5"',
        ),
        (lambda files: files[0].update(sha256="AB" * 32), r"sha256: must be 64 lower-case hex digits"),
        (lambda files: files[0].update(size_bytes=99), r"calibration.json: must have 99 bytes, has 2"),
    ],
)
def test_a_manifest_that_is_not_as_it_should_be(tmp_path: Path, change: Any, message: str) -> None:
    rewrite(write(tmp_path), change)
    with pytest.raises(BundleError, match=message):
        manifest.verify(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "the whole: must be an object"),
        ('{"schema_version": 2, "files": []}', "schema_version: must be 1, got 2"),
        ('{"schema_version": 1}', "files: missing"),
        ('{"schema_version": 1, "files": [], "files": []}', "files: must stand only once"),
        ('{"schema_version": NaN, "files": []}', "must be finite"),
    ],
)
def test_a_text_that_is_no_manifest(tmp_path: Path, text: str, message: str) -> None:
    (write(tmp_path) / manifest.FILE).write_text(text)
    with pytest.raises(BundleError, match=f"manifest.json: .*{message}"):
        manifest.verify(tmp_path)
