"""The demo: the real service, an embedded broker, what a person sees of them; and the venv that it makes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fixtures_broker import DEADLINE_S
from fixtures_daemon import REPOSITORY, write_images
from playwright.sync_api import expect

from deploy import demo
from device.image.frame import read_image
from device.inspection.verdict import Verdict

MANIFEST = "path,label,mask,group,split\npart1.png,0,,a,test\npart2.png,1,,b,test\npart3.png,1,,c,test\n"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A good part, a defective one, a good one that is known as defective, and a file that was cut off."""
    folder = tmp_path / "images"
    write_images(folder, "onox")
    (folder / "labels.csv").write_text(MANIFEST)
    return folder


def test_every_image_has_its_verdict_over_mqtt(
    images: Path, bundles_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    demo.run(bundles_folder, images, out)
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split() for line in lines if line.startswith("part")]
    assert [(name, word) for name, word, *_ in shown] == [
        ("part1.png", "OK"),
        ("part2.png", "NG"),
        ("part3.png", "OK"),
        ("part4.png", "ERROR"),
    ]
    assert [("(!)" in line) for line in shown] == [False, False, True, False]
    assert "4 images: 2 OK, 1 NG, 0 MARGINAL, 1 ERROR" in lines
    assert "2 of 3 agree with what is known" in lines
    assert any(line.startswith("model tiny on ") for line in lines)

    verdicts = [Verdict.from_json(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]
    assert [verdict.image_path for verdict in verdicts] == [f"part{n}.png" for n in (1, 2, 3, 4)]
    assert {verdict.station for verdict in verdicts} == {"demo"}
    assert sorted(path.name for path in (out / "annotated").iterdir()) == [f"part{n}.png" for n in (1, 2, 3)]
    assert read_image(out / "annotated" / "part2.png")[1] != verdicts[1].image_sha256


def test_a_service_that_fails_is_an_error_with_its_log(images: Path, tmp_path: Path) -> None:
    with pytest.raises(demo.DemoError, match=r"exit code 4(.|\n)*nowhere"):
        demo.run(tmp_path / "nowhere", images, tmp_path / "out")


def test_an_image_without_a_verdict_is_an_error() -> None:
    with pytest.raises(demo.DemoError, match=r"1 of 1 images .* lost\.png: 0 verdicts"):
        demo.require_all(["lost.png"], [])


def test_a_wrong_manifest_is_an_error(tmp_path: Path) -> None:
    manifest = tmp_path / "labels.csv"
    manifest.write_text("path,label\n1.png,maybe\n")
    with pytest.raises(demo.DemoError, match=r"labels\.csv: .* got 'maybe'"):
        demo.known_labels(manifest)


def test_with_keep_the_dashboard_shows_the_station_until_ctrl_c(chromium: Any, tmp_path: Path) -> None:
    process = subprocess.Popen(
        (sys.executable, "-m", "deploy.demo", "--keep", "--out", str(tmp_path)),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = [
        process.stdout.readline() for _ in range(7)
    ]  # up to the first verdict: a busy machine starts slowly
    address = said[1].removeprefix("dashboard: ").strip()
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(address)
        card = page.get_by_role("article", name="demo", exact=True)
        expect(card.locator("[data-part=word]")).to_have_text(re.compile("OK|NG"))
        expect(card.locator("[data-part=state]")).to_have_text("Online")
        expect(card.get_by_role("img", name="NG part")).to_be_visible()  # its picture, too
        assert page.locator("#connection-word").text_content() == "Connected"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=2 * DEADLINE_S)
    assert process.returncode == 0, [*said, rest]
    assert "panicked" not in rest


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_terminal_that_is_closed_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        (sys.executable, "-m", "deploy.demo", "--keep", "--out", str(tmp_path / "out")),
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(4)]  # up to the first verdicts
    process.send_signal(number)
    rest, _ = process.communicate(timeout=2 * DEADLINE_S)
    assert process.returncode == 0, [*said, rest]
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in running if str(tmp_path).encode() in line]
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}


def test_the_demo_that_is_shipped(tmp_path: Path) -> None:
    """As deploy/demo.sh runs it, once the packages are there: every image judged, and nearly all rightly."""
    done = subprocess.run(
        (sys.executable, "-m", "deploy.demo", "--out", str(tmp_path)),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    [(agreeing, known)] = [line.split()[:3:2] for line in lines if "agree with what is known" in line]
    assert int(known) >= 10
    assert int(agreeing) >= 0.9 * int(known)
    assert ", 0 ERROR" in done.stdout


def prepare_venv(venv: Path, requirements: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """prepare_venv of deploy/venv.sh, with the Python that runs the tests unless another is asked for."""
    script = 'source deploy/venv.sh; prepare_venv "$1" test "$2"'
    return subprocess.run(
        ("bash", "-euo", "pipefail", "-c", script, "bash", str(venv), str(requirements)),
        cwd=REPOSITORY,
        env={**os.environ, "PYTHON": sys.executable, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing in it, as prepare_venv makes one; making it takes seconds."""
    folder = tmp_path_factory.mktemp("venv")
    (folder / "nothing.txt").write_text("# nothing\n")
    made = prepare_venv(folder / ".venv", folder / "nothing.txt")
    assert made.returncode == 0, made.stderr
    assert "making" in made.stderr
    return folder / ".venv"


def test_the_venv_is_updated_when_a_list_changes_and_only_then(venv: Path, tmp_path: Path) -> None:
    included, requirements = tmp_path / "base.txt", tmp_path / "all.txt"
    included.write_text("# nothing yet\n")
    requirements.write_text("-r base.txt\n")
    assert prepare_venv(venv, requirements).stderr.startswith("installing")
    assert prepare_venv(venv, requirements).stderr == ""
    included.write_text("# changed\n")
    assert prepare_venv(venv, requirements).stderr.startswith("installing")
    assert prepare_venv(venv, requirements).stderr == ""


def test_a_list_that_could_not_be_installed_is_tried_again(venv: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "all.txt"
    requirements.write_text(f"nothing @ {(tmp_path / 'nothing.whl').as_uri()}\n")
    for _ in range(2):
        failed = prepare_venv(venv, requirements)
        assert failed.returncode == 1
        assert "error: pip could not install" in failed.stderr


def test_a_broken_venv_is_made_anew(venv: Path) -> None:
    (venv / "bin" / "python").unlink()
    mended = prepare_venv(venv, venv.with_name("nothing.txt"))
    assert mended.returncode == 0
    assert mended.stderr.startswith("making")
    assert "installing" in mended.stderr


def test_an_unfit_python_is_named(tmp_path: Path) -> None:
    failed = prepare_venv(tmp_path / ".venv", tmp_path / "all.txt", PYTHON="/bin/false")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: /bin/false is not Python 3.11, 3.12 or 3.13")
