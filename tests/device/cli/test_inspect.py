"""`inspect`, as a person calls it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_broker import DEADLINE_S
from fixtures_bundle import TinyModel
from fixtures_daemon import REPOSITORY, command_line, errors, run_device, write_images

from device.cli import inspect
from device.errors import BundleError, StorageError
from device.image.geometry import Polygon
from device.inspection.verdict import Verdict


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", "ono")
    return tmp_path / "images"


def test_a_folder_gives_a_readable_line_an_image(images: Path, bundles_folder: Path) -> None:
    done = run_device("inspect", images, "--bundle", bundles_folder)
    assert done.returncode == 0
    assert errors(done) == []
    first, second, third = done.stdout.splitlines()
    assert first.split()[0] == third.split()[0] == "OK"
    word, score, path, at, corner, size = second.split()
    assert (word, path, at) == ("NG", str(images / "part2.png"), "at")
    assert 0.6 <= float(score) <= 1
    x, y = map(int, corner.split(","))
    width, height = map(int, size.split("x"))
    assert x <= 30  # the spot is 24 x 24 px at 30, 40
    assert x + width >= 54
    assert y <= 40
    assert y + height >= 64


def test_json_is_one_verdict_a_line_and_nothing_else(images: Path, bundles_folder: Path) -> None:
    done = run_device(
        "inspect", images / "part2.png", images / "part1.png", "--bundle", bundles_folder, "--json"
    )
    verdicts = [Verdict.from_json(line) for line in done.stdout.splitlines()]
    assert [v.verdict for v in verdicts] == ["NG", "OK"]
    assert [v.seq for v in verdicts] == [0, 1]
    assert [v.image_path for v in verdicts] == [str(images / "part2.png"), str(images / "part1.png")]
    assert verdicts[0].image_sha256 == hashlib.sha256((images / "part2.png").read_bytes()).hexdigest()


def test_bad_images_are_errors_and_the_others_are_inspected(images: Path, bundles_folder: Path) -> None:
    write_images(images, "oxo")
    (images / "part4.png").write_text("no image")
    (images / "empty").mkdir()
    done = run_device(
        "inspect", images, images / "nowhere.png", images / "empty", "--bundle", bundles_folder, "--json"
    )
    assert done.returncode == 5
    assert [json.loads(line)["image"]["path"][-9:] for line in done.stdout.splitlines()] == [
        "part1.png",
        "part3.png",
    ]
    truncated, no_image, missing, empty = errors(done)
    assert truncated.startswith(f"error: {images}/part2.png: truncated PNG")
    assert no_image.startswith(f"error: {images}/part4.png: is not a PNG")
    assert missing == f"error: {images}/nowhere.png: cannot be read: No such file or directory"
    assert empty.startswith(f"error: {images}/empty: no image directly in this folder")


def test_annotated_pictures_of_one_name_do_not_clash(
    images: Path, bundles_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    write_images(other, "nn")
    sources = [images / "part1.png", other / "part1.png", other / "part2.png"]
    out = tmp_path / "deep" / "out"
    assert inspect.inspect_images(sources, bundles_folder, as_json=False, annotated=out) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    names = sorted(path.name for path in out.iterdir())
    assert [name.rsplit("-", 1)[0] for name in names] == ["part1", "part1", "part2"]
    for source in sources:
        digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
        picture = cv2.imread(str(out / f"{source.stem}-{digest}.png"))
        assert picture.shape == (96, 128, 3)
        assert (picture != cv2.imread(str(source))).any()


def test_the_heat_map_shows_the_defect_and_keeps_to_what_is_looked_at(
    images: Path, tiny_model: TinyModel, tmp_path: Path
) -> None:
    """The spot of part2 is at 30, 40, 24 x 24 px of 128 x 96: once looked at, once under an ignore mask."""
    masked = replace(tiny_model.calibration.preprocess, ignore=(rectangle(26, 40, 60, 64),))
    found = {}
    for name, changes in (("whole", {}), ("masked", {"preprocess": masked})):
        bundle = tiny_model.write(tmp_path / name, **changes)
        out = tmp_path / f"{name}-out"
        done = run_device(
            "inspect", images / "part2.png", "--bundle", bundle, "--annotate", out, "--heat-map"
        )
        assert done.returncode == 0, done.stderr
        plain, heat = sorted(out.iterdir(), key=lambda path: len(path.name))
        assert heat.name == f"{plain.stem}-heat.png"
        found[name] = cv2.cvtColor(cv2.imread(str(heat)), cv2.COLOR_BGR2RGB).astype(int)
    middle = (slice(45, 60), slice(35, 50))
    assert (found["whole"][middle][..., 0] - found["whole"][middle][..., 2] > 60).all()  # warm
    assert np.ptp(found["masked"][middle], axis=2).max() <= 2  # gray
    assert (found["masked"][middle] == 255 * 4 // 10).all()  # and dark


def rectangle(left: int, top: int, right: int, bottom: int) -> Polygon:
    return Polygon(((left, top), (right, top), (right, bottom), (left, bottom)))


def test_a_picture_that_cannot_be_written_leaves_nothing_behind(
    images: Path, bundles_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    digest = hashlib.sha256((images / "part1.png").read_bytes()).hexdigest()[:12]
    blocked = out / f"part1-{digest}.png"
    blocked.mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot be written: Is a directory"):
        inspect.inspect_images([images], bundles_folder, as_json=False, annotated=out)
    assert list(out.iterdir()) == [blocked]


def test_a_folder_that_cannot_be_made(images: Path, bundles_folder: Path) -> None:
    done = run_device("inspect", images, "--bundle", bundles_folder, "--annotate", images / "part1.png")
    assert done.returncode == 9
    assert done.stdout == ""
    assert errors(done) == [f"error: {images}/part1.png: cannot be made: File exists"]


def test_a_damaged_bundle_is_refused_before_any_image(
    images: Path, bundles_folder: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree((bundles_folder / "current").resolve(), damaged)
    (damaged / "calibration.json").write_text("{}")
    with pytest.raises(BundleError, match=r"calibration\.json"):
        inspect.inspect_images([images], damaged, as_json=False, annotated=None)
    done = run_device("inspect", images, "--bundle", damaged)
    assert (done.returncode, done.stdout) == (4, "")
    assert len(errors(done)) == 1


@pytest.fixture
def can_be_interrupted() -> Iterator[None]:
    """Whoever runs the tests in the background has SIGINT ignored, and every process after it as well."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("can_be_interrupted")
def test_ctrl_c_ends_it_with_130(images: Path, bundles_folder: Path) -> None:
    command = command_line("inspect", *[images] * 2000, "--bundle", bundles_folder)
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"OK")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert b"Traceback" not in stderr


def test_a_reader_that_goes_away_is_no_fault(images: Path, bundles_folder: Path) -> None:
    command = command_line("inspect", *[images] * 200, "--bundle", bundles_folder, "--json")
    reader, writer = os.pipe()
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        assert os.read(reader, 1) == b"{"
        os.close(reader)
        _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 141
    assert b"Traceback" not in stderr
    assert b"Exception" not in stderr


def test_a_newline_in_a_name_is_no_line_of_its_own(images: Path, bundles_folder: Path) -> None:
    (images / "part1.png").rename(images / "a\nOK  0.0000  b.png")
    (images / "part2.png").rename(images / "c\nd.png")
    (images / "c\nd.png").write_bytes(b"no image")
    files = sorted(images.glob("*.png"))
    done = run_device("inspect", *files, "--bundle", bundles_folder)
    assert len(done.stdout.splitlines()) + len(errors(done)) == len(files)
    assert "a\\nOK  0.0000  b.png" in done.stdout
    assert "c\\nd.png" in done.stderr


def test_a_name_that_is_no_utf8_is_no_fault(images: Path, bundles_folder: Path) -> None:
    odd = Path(os.fsdecode(bytes(images) + b"/k\xe4se.png"))
    (images / "part1.png").rename(odd)
    for option in ((), ("--json",)):
        done = run_device(
            "inspect", odd, "--bundle", bundles_folder, *option, PYTHONIOENCODING="utf-8:strict"
        )
        assert done.returncode == 0, done.stderr
        assert (str(odd) in done.stdout) == (not option)
        assert "se.png" in done.stdout
