"""`python -m trainer.fit`, as a user starts it: from images to a bundle that the device accepts."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_data import write_image
from fixtures_trainer import FAST, REPOSITORY, SIDE, Fitted, run_fit

from device.bundle import bundle as bundles
from device.image.geometry import Size
from device.inspection.pipeline import Pipeline
from trainer import evaluate, fit
from trainer.data.dataset import load
from trainer.synthetic import generate

INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
runpy.run_module("trainer.fit", run_name="__main__")
"""


def left_in(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir()) if out.is_dir() else []


def refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one message of a command that failed as it should."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    [message] = [line for line in lines if "error: " in line]
    assert lines[-1] == message
    return message.partition("error: ")[2]


def fit_here(*arguments: str | Path) -> int:
    """The command in this process, where TensorFlow is there already; its exit code."""
    return fit.main([str(word) for word in arguments])


# ---- the probe


def test_the_last_line_is_the_path_of_the_bundle(fitted: Fitted):
    assert fitted.done.returncode == 0, fitted.done.stderr
    [path] = fitted.done.stdout.splitlines()
    assert Path(path).parent == fitted.out
    assert left_in(fitted.out) == ["current", Path(path).name]
    assert (fitted.out / "current").resolve() == Path(path)
    assert re.fullmatch(r"textures-\d{8}T\d{6}Z-[0-9a-f]{8}", Path(path).name)


def test_the_log_says_where_it_is_and_where_the_report_is(fitted: Fitted):
    said = fitted.done.stderr.splitlines()
    [path] = fitted.done.stdout.splitlines()
    assert f"report: {path}/report.html" in said
    assert "12 good: were none of them rejected, up to 26.5 % of good parts could be (95 %)" in said
    steps = [line for line in said if line.startswith("step ") and not line.endswith(" for this")]
    assert len(steps) == 8
    assert all(line.endswith(" left") for line in steps[2:])  # the images alone tell nothing
    for noise in ("XNNPACK", "oneDNN", "absl", "image/s", "it/s"):
        assert noise not in fitted.done.stderr
    assert (Path(path) / "MODEL_CARD.md").read_text().startswith("# textures\n")


def test_the_device_takes_the_bundle_and_its_golden_images(fitted: Fitted):
    bundle = bundles.load(fitted.out)
    assert len(bundle.calibration.golden.vectors) == 3
    Pipeline(bundle, "press-4", "s")
    assert (bundle.calibration.preprocess.size.width, bundle.calibration.preprocess.colour) == (SIDE, "gray")


def test_the_bundle_can_be_evaluated_on_what_was_held_out(fitted: Fitted, capsys):
    given = ["--bundle", str(fitted.out), "--data", str(fitted.data), "--json"]
    assert evaluate.main(given) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n_images"], report["n_defective"], report["n_seen_in_training"]) == (20, 8, 0)
    assert report["threshold"] == bundles.load(fitted.out).calibration.thresholds.ng
    assert len({line["score"] for line in report["scores"]}) > 5


def test_the_bundle_says_where_it_comes_from(fitted: Fitted, weights_file):
    bundle = bundles.load(fitted.out)
    training, dataset = bundle.calibration.training, load(fitted.data)
    assert training["recipe"] == "probe"
    assert training["weights"]["source"] == weights_file.name
    assert training["data"]["digest"] == dataset.digest
    assert training["config"]["split"]["folds"] == 2
    assert bundle.calibration.metrics["int8"]["n_images"] == 20
    rows = list(csv.DictReader(io.StringIO((bundle.path / "split.csv").read_text())))
    assert {row["sha256"] for row in rows if row["split"] == "train"} == {one.sha256 for one in dataset.train}


def test_the_log_tells_the_story(fitted: Fitted):
    said = fitted.done.stderr
    story = [
        "step 1 of 8: images",
        "images are 64x64 (gray); inputs to try: 64x64",
        "chosen: 64x64 px, ",
        "float, 2-fold cross-validation: AUROC",
        "int8, 2-fold cross-validation: AUROC",
        "thresholds: NG from 0.",
    ]
    places = [said.index(words) for words in story]
    assert places == sorted(places)


# ---- images that are too large for one input

TILED = """
[input]
max_size = 128
tile_size = 64
scales = [0.125]
[split]
folds = 2
[probe]
strengths = [1.0]
pooling_shares = [0.03]
max_megapixels = 1.0
finalists = 1
mask_weights = [1.0]
[scratch]
epochs = 1
[quantization]
images = 8
[report]
gradient = false
"""


def large_parts(folder: Path) -> Path:
    """A manifest of 18 images of 1600 x 1216 px: a third has a defect of 40 px, half of these a mask."""
    folder.mkdir()
    rng = np.random.default_rng(8)
    rows = ["path,label,split,mask"]
    for number in range(18):
        defective, mask_name = number % 3 == 0, f"{number}.mask.png"
        width, height = 1600 - 16 * (number % 2), 1216
        image = cv2.resize(rng.normal(110, 2, (height // 8, width // 8)).astype(np.float32), (width, height))
        mask = np.zeros((height, width), np.uint8)
        if defective:
            x, y = (int(rng.integers(0, side - 40)) for side in (width, height))
            mask[y : y + 40, x : x + 40] = 255
            image[mask > 0] += 140
            assert cv2.imwrite(str(folder / mask_name), mask)
        assert cv2.imwrite(str(folder / f"{number}.png"), image.clip(0, 255).astype(np.uint8))
        split = "train" if number < 12 else "test"
        rows.append(f"{number}.png,{int(defective)},{split},{mask_name if number % 6 == 0 else ''}")
    (folder / "parts.csv").write_text("\n".join(rows))
    return folder / "parts.csv"


def test_tiny_defects_on_large_images(tmp_path, weights_file, capsys, caplog):
    """They would be 3 px on an input of 128: in tiles they are 5, on an eighth of the image."""
    data, out = large_parts(tmp_path / "parts"), tmp_path / "out"
    (tmp_path / "fit.toml").write_text(TILED)
    given = ("--data", data, "--out", out, "--weights", weights_file, "--config", tmp_path / "fit.toml")
    with caplog.at_level(logging.INFO):
        assert fit_here(*given) == 0
    capsys.readouterr()
    assert "inputs to try: 64x64 in 24 tiles of 512x512 px" in caplog.text
    calibration = bundles.load(out).calibration
    spec = calibration.preprocess
    assert (spec.tiles, spec.overlap, spec.size) == (Size(512, 512), 0.2, Size(64, 64))
    assert calibration.training["chosen"]["tiles_px"] == [512, 512]
    assert calibration.metrics["int8"]["n_images"] == 12
    assert calibration.metrics["int8"]["auroc"] > 0.7  # with random weights, and four defective images
    assert evaluate.main(["--bundle", str(out), "--data", str(data), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n_images"], report["n_defective"]) == (6, 2)
    assert report["auroc"] >= 0.75
    assert report["pixel_auroc"] > 0.7  # chance is 0.5


def test_a_decoder_is_taught_unless_it_must_be_quick(textures, weights_file, fast_config, tmp_path):
    """Whatever ships, the record compares both; --quick is the probe alone."""
    config = tmp_path / "fit.toml"
    taught = '[decoder]\nwhen = "auto"\nsteps = 6\nfolds = 2\nbatch_size = 1\n'
    config.write_text(fast_config.read_text().replace('[decoder]\nwhen = "never"\n', taught))
    given = ("--data", textures, "--weights", weights_file, "--config", config, "--input-size", SIDE)
    for out, more in (("taught", ()), ("quick", ("--quick",))):
        assert fit_here(*given, "--out", tmp_path / out, *more) == 0
    loaded = [bundles.load(tmp_path / out) for out in ("taught", "quick")]
    said, none = (one.calibration.training.get("decoder") for one in loaded)
    assert set(said) == {"shipped", "probe", "decoder"}
    assert said["shipped"] == max(("probe", "decoder"), key=lambda name: said[name]["merit"])
    assert none is None


# ---- from random weights


def test_the_smoke_config_on_its_images(textures, tmp_path):
    """From the command line to a bundle and its logs, in seconds."""
    smoke = REPOSITORY / "trainer" / "configs" / "smoke.toml"
    logs = tmp_path / "logs"
    given = ("--data", textures, "--out", tmp_path / "out", "--weights", "none", "--config", smoke)
    done = run_fit(*given, "--logs", logs)
    assert done.returncode == 0, done.stderr
    bundle = bundles.load(tmp_path / "out")
    assert bundle.name.startswith("smoke-")
    assert len(list(logs.glob("scratch/events.out.tfevents.*"))) == 1
    assert not list(bundle.path.rglob("events.*"))
    assert [row["epoch"] for row in bundle.calibration.training["history"]] == [1]
    assert "Training, epoch by epoch" in (bundle.path / "report.html").read_text("utf-8")
    steps = re.findall(r"^step (\d) of 6: ", done.stderr, re.MULTILINE)
    assert steps == ["1", "2", "3", "4", "5", "6"]


def test_random_weights_and_few_defective_images(tmp_path, capsys, caplog):
    """Three groups are fewer than five folds: each fold must still judge one."""
    data, out = tmp_path / "few", tmp_path / "out"
    generate(data, images=40, size=SIDE, defective_share=0.15, textures=("weave",))
    (tmp_path / "fit.toml").write_text(FAST.replace("folds = 2", "folds = 5") + '[bundle]\nname = "Few"\n')
    given = ("--data", data, "--out", out, "--weights", "none", "--config", tmp_path / "fit.toml")
    with caplog.at_level(logging.INFO):
        assert fit_here(*given) == 0
    [path] = capsys.readouterr().out.splitlines()
    bundle = bundles.load(out)
    assert bundle.path == Path(path)
    assert Path(path).name.startswith("Few-")
    assert bundle.calibration.training["recipe"] == "from random weights"
    assert bundle.calibration.metrics["int8"]["n_defective"] == 1
    assert "epoch 2: AP" in caplog.text
    assert evaluate.main(["--bundle", str(out), "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_seen_in_training"] == 0


def test_an_interrupt_leaves_no_bundle(textures, tmp_path):
    (tmp_path / "fit.toml").write_text(FAST.replace("epochs = 2", "epochs = 9999"))
    given = ("--data", textures, "--out", tmp_path / "out", "--weights", "none", "--config", "fit.toml")
    with subprocess.Popen(
        (sys.executable, "-c", INTERRUPTIBLE, *map(str, given)),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("epoch 1: "):
                process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, "".join(said)
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert said[-1] == "interrupted\n"
    assert "Traceback" not in "".join(said)
    assert left_in(tmp_path / "out") == []


# ---- what it refuses


def test_weights_that_are_not_there(textures, tmp_path):
    done = run_fit("--data", textures, "--out", tmp_path / "out", "--weights", tmp_path / "gone.h5")
    assert (
        refused(done, 3)
        == f"--weights: must be imagenet, none or a file, got {tmp_path}/gone.h5 (no such file)"
    )
    assert left_in(tmp_path / "out") == []


def test_weights_that_are_none(textures, tmp_path, capsys):
    path = tmp_path / "text.weights.h5"
    path.write_text("text")
    assert fit_here("--data", textures, "--out", tmp_path / "out", "--weights", path) == 3
    wanted = f"error: --weights {path}: must be weights of Keras's MobileNetV2 1.0, include_top=False: "
    assert capsys.readouterr().err.splitlines()[-1].startswith(wanted)
    assert left_in(tmp_path / "out") == []


def test_imagenet_weights_without_a_network(textures, tmp_path):
    """Behind a proxy that refuses every connection, with nothing downloaded before."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        proxy = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
        offline |= {"no_proxy": "", "NO_PROXY": "", "KERAS_HOME": str(tmp_path / "keras")}
        done = run_fit("--data", textures, "--out", tmp_path / "out", **offline)
    message = refused(done, 3)
    assert message.startswith("--weights imagenet: Keras could not download them (")
    assert (
        "pass --weights FILE (Keras's MobileNetV2 1.0, include_top=False, .h5), or --weights none" in message
    )
    assert left_in(tmp_path / "out") == []


def test_a_size_that_the_network_cannot_have(textures, tmp_path):
    done = run_fit("--data", textures, "--out", tmp_path / "out", "--weights", "none", "--input-size", "100")
    assert refused(done, 3) == "--input-size: must be a multiple of 32 from 32 to 4096, got 100"
    assert left_in(tmp_path / "out") == []


def test_a_file_in_the_way_of_the_bundle(textures, tmp_path):
    (tmp_path / "out").write_text("mine")
    done = run_fit("--data", textures, "--out", tmp_path / "out", "--weights", "none")
    assert refused(done, 9) == f"--out {tmp_path}/out: cannot be written: File exists"
    assert (tmp_path / "out").read_text() == "mine"


def test_data_without_a_defect(tmp_path):
    for number in range(6):
        write_image(tmp_path / "screw/train/good" / f"{number}.png", number)
        write_image(tmp_path / "screw/test/good" / f"{number}.png", number + 10)
    done = run_fit("--data", tmp_path / "screw", "--out", tmp_path / "out", "--weights", "none")
    message = refused(done, 8)
    assert message.startswith(
        f"{tmp_path}/screw: supervised training needs good and defective images in train"
    )
    assert left_in(tmp_path / "out") == []


def test_one_defective_image_is_too_few(tmp_path, capsys):
    images = [write_image(tmp_path / f"{n}.png", n, defective=n == 0) for n in range(6)]
    rows = [f"{path.name},{int(path == images[0])},train" for path in images]
    (tmp_path / "parts.csv").write_text("\n".join(["path,label,split", *rows]))
    assert fit_here("--data", tmp_path / "parts.csv", "--out", tmp_path / "out", "--weights", "none") == 8
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith(
        "needs 2 or more groups of defective images, found 1; --mode good-only learns from good images alone"
    )
    assert left_in(tmp_path / "out") == []


def test_a_setting_that_does_not_exist(textures, tmp_path):
    config = tmp_path / "fit.toml"
    config.write_text("[split]\nfold = 3\n")
    done = run_fit("--data", textures, "--out", tmp_path / "out", "--config", config)
    assert refused(done, 3) == f"{config}: [split] fold: unknown key; did you mean folds?"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--keep-network", "--logs"])
def test_what_cannot_be_written_is_known_before_the_images_are_read(tmp_path, capsys, option):
    (tmp_path / "file").write_text("in the way")
    inside = tmp_path / "file" / "n.keras"
    given = ("--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), option, str(inside))
    assert fit.main(given) == 9
    assert f"error: {option} {inside}: cannot be written: " in capsys.readouterr().err


def test_the_folder_of_the_network_that_is_kept_is_made(tmp_path, capsys):
    kept = tmp_path / "new" / "n.keras"
    given = ("--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), "--keep-network", str(kept))
    assert fit.main(given) == 8
    assert kept.parent.is_dir()


@pytest.mark.parametrize(
    "given",
    [
        ("--seed", "-1"),
        ("--seed", "x"),
        ("--keep-network", "n.h5"),
        ("--head", "sparse"),
        ("--mode", "bad-only"),
        ("--format", "x"),
    ],
)
def test_a_wrong_command_line(tmp_path, capsys, given):
    with pytest.raises(SystemExit) as ended:
        fit.main(["--data", "x", "--out", str(tmp_path / "out"), *given])
    assert ended.value.code == 2
    assert f"argument {given[0]}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--mode good-only --from b", "--from: needs --mode supervised"),
        ("--mode good-only --qat", "--mode good-only: trains no network: not with --qat"),
        ("--mode good-only --head dense --logs l", "trains no network: not with --head, --logs"),
        (
            "--qat --head dense --weights w.h5",
            "--head dense: there is no probe's model to train on: not",
        ),
        ("--qat --weights none", "--weights none: there is no probe's model to train on: not with --qat"),
        ("--quick --qat --weights w.h5", "--quick: nothing is trained after the probe: not with --qat"),
        ("--quick --weights none", "there is no probe's model to train on: not with --quick"),
        ("--from b --quick", "the bundle's network and its input: not with --quick"),
        ("--head dense --weights none", "--weights none: an evidence head is trained: not with --head"),
        (
            "--from b --qat --weights w.h5",
            "keeps the bundle's network and its input: not with --qat, --weights",
        ),
        ("--from b --weights imagenet", "network and its input: not with --weights"),
        ("--from b --keep-network n.keras --input-size 64", "not with --keep-network, --input-size"),
    ],
)
def test_what_does_not_go_together(tmp_path, capsys, monkeypatch, given, message):
    (tmp_path / "w.h5").touch()
    monkeypatch.chdir(tmp_path)
    assert fit.main(["--data", "x", "--out", "out", *given.split()]) == 3
    assert message in capsys.readouterr().err
    assert left_in(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Class8", "class8"),
        ("Class1+bolt", "class1-bolt"),
        ("Teile Größe 3", "teile-gr-e-3"),
        ("---", "model"),
        ("x" * 80, "x" * 64),
    ],
)
def test_a_bundle_is_called_like_its_data(words, name):
    assert fit._name(words) == name
