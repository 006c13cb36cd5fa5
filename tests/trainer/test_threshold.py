"""Thresholds chosen anew: the same model, a new bundle, and none where the images cannot carry one."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import GOLDEN, TinyModel, make_bundle, make_image
from fixtures_daemon import REPOSITORY
from fixtures_data import make_dagm, write_image
from fixtures_trainer import wish

from device.bundle import bundle as bundles
from device.bundle import model_card
from device.bundle.bundle import Bundle
from device.errors import DataError
from device.inspection.pipeline import Pipeline
from trainer.config import load as load_config
from trainer.data.dataset import load, split_csv
from trainer.report import page
from trainer.threshold import LEAST_IMAGES, choose, judge, main, retune

WISH = wish()


@pytest.fixture
def bundle(tiny_model: TinyModel, tmp_path: Path) -> Bundle:
    """NG from 0.6; it says that it was made from another data set, and brings a file of its own."""
    made_from = load(make_dagm(tmp_path / "made-from"))
    extra = {
        "split.csv": split_csv(made_from),
        "notes/how.txt": b"by hand",
        page.FILE: b"of the old thresholds",
    }
    golden = {GOLDEN: tiny_model.golden}
    path = make_bundle(
        tmp_path / "models", "press", tiny_model.content, tiny_model.calibration, golden, extra
    )
    return bundles.load(path)


def reviewed(folder: Path, levels: dict[int, str]) -> Path:
    """A manifest of flat gray images; the tiny model's logit is about (level - 127.5) / 12.75."""
    (folder / "images").mkdir(parents=True)
    lines = ["path,label,mask,group,split"]
    for level, label in levels.items():
        image = make_image(seed=level) // 20 + level  # a little noise
        assert cv2.imwrite(str(folder / f"images/{level:03d}.png"), image)
        lines.append(f"images/{level:03d}.png,{label},,,")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def line(good: range, bad: range) -> dict[int, str]:
    return {**dict.fromkeys(good, "ok"), **dict.fromkeys(bad, "ng")}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_line_whose_good_parts_are_brighter_gets_a_threshold_between(bundle, tmp_path):
    """By the old threshold (a level of 132 and more) every one of these good parts is NG."""
    dataset = load(reviewed(tmp_path / "set", line(range(134, 150), range(170, 186))), protocol="given")
    judged = judge(bundle, dataset, WISH)
    assert (judged.scores[judged.labels == 0] >= bundle.calibration.thresholds.ng).all()
    path = retune(bundle, dataset, tmp_path / "out", WISH)
    chosen = bundles.load(path).calibration.thresholds
    assert judged.scores[judged.labels == 0].max() < chosen.ng <= judged.scores[judged.labels == 1].min()
    assert chosen.marginal <= chosen.ng
    row = next(row for row in chosen.table if row.threshold == chosen.ng)
    assert (row.tp, row.fp, row.tn, row.fn) == (16, 0, 16, 0)
    pipeline = Pipeline(bundles.load(path), "press-4", "s")
    assert {
        pipeline.inspect(frame_of(sample)).verdict for sample in dataset.samples if sample.label == 0
    } == {"OK"}


def frame_of(sample):
    from device.image.frame import frame_from_file

    return frame_from_file(sample.path, 0)


def test_all_but_the_thresholds_is_kept_and_the_old_bundle_is_not_touched(bundle, tmp_path):
    before = digests(bundle.path)
    dataset = load(reviewed(tmp_path / "set", line(range(80, 92), range(170, 182))), protocol="given")
    path = retune(bundle, dataset, bundle.path.parent, WISH)
    assert digests(bundle.path) == before
    fresh = bundles.load(bundle.path.parent)
    assert fresh.path == path.resolve()
    assert fresh.sha256 == bundle.sha256
    assert fresh.name.startswith("press-2")
    assert fresh.name.removeprefix("press-") == fresh.calibration.version != bundle.calibration.version
    after = digests(path)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"calibration.json", "manifest.json", model_card.FILE, page.FILE, "thresholds.csv"}
    assert page.FILE not in after  # it was about the old thresholds
    old, new = bundle.calibration, fresh.calibration
    assert replace(new, created=old.created, thresholds=old.thresholds, training=old.training) == old
    assert new.thresholds != old.thresholds


def test_the_bundle_says_where_its_thresholds_come_from(bundle, tmp_path):
    dataset = load(reviewed(tmp_path / "set", line(range(80, 92), range(170, 190))), protocol="given")
    fresh = bundles.load(retune(bundle, dataset, tmp_path / "out", WISH)).calibration
    record = fresh.training["thresholds"]
    assert {name: value for name, value in fresh.training.items() if name != "thresholds"} == (
        bundle.calibration.training
    )
    assert (record["from_bundle"], record["from_version"]) == (bundle.name, bundle.calibration.version)
    assert record["from_thresholds"]["ng"] == 0.6
    assert record["data"]["digest"] == dataset.digest
    assert (record["data"]["good"], record["data"]["defective"]) == (12, 20)
    assert "32 judged images (20 defective)" in fresh.thresholds.rule


# ---- what cannot carry a threshold


@pytest.mark.parametrize(
    ("good", "bad", "found"),
    [
        (range(80, 110), range(0), "found 30 good and 0 defective"),
        (range(0), range(170, 200), "found 0 good and 30 defective"),
        (range(80, 110), range(170, 179), "found 30 good and 9 defective"),
    ],
)
def test_too_few_of_a_label_are_refused(bundle, tmp_path, good, bad, found):
    dataset = load(reviewed(tmp_path / "set", line(good, bad)), protocol="given")
    with pytest.raises(DataError, match=f"thresholds need {LEAST_IMAGES} good and .*: {found}"):
        retune(bundle, dataset, tmp_path / "out", WISH)
    assert not (tmp_path / "out").exists()


def test_scores_that_do_not_tell_good_from_bad_are_refused(bundle, tmp_path):
    """The defective ones are the darker ones: F1 would be greatest with everything NG."""
    dataset = load(reviewed(tmp_path / "set", line(range(140, 152), range(80, 110))), protocol="given")
    with pytest.raises(DataError, match="F1 is greatest where every image is NG"):
        retune(bundle, dataset, tmp_path / "out", WISH)
    assert not (tmp_path / "out").exists()


def test_images_that_the_bundle_was_trained_on_do_not_count(bundle, tmp_path, caplog):
    made_from = load(tmp_path / "made-from")
    with pytest.raises(DataError, match="not trained on: found 4 good and 3 defective"):
        judge(bundle, made_from, WISH)


def test_an_image_that_has_gone_is_named_and_the_others_count(bundle, tmp_path, caplog):
    dataset = load(reviewed(tmp_path / "set", line(range(80, 92), range(170, 190))), protocol="given")
    (tmp_path / "set/images/085.png").unlink()
    assert len(judge(bundle, dataset, WISH).labels) == 31
    assert "images/085.png: not scored: " in caplog.text


def test_scores_of_exactly_one_and_zero_have_a_place(bundle):
    """A steep calibration saturates."""
    from trainer.threshold import ScoredImages

    labels = np.array([0] * 10 + [1] * 10)
    chosen = choose(ScoredImages(labels, labels.astype(float)), bundle.calibration.score_calibration, WISH)
    assert 0 < chosen.ng < 1


# ---- the command


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "trainer.threshold", *map(str, arguments)),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command_prints_the_new_bundle_and_both_tables(bundle, tmp_path):
    data = reviewed(tmp_path / "set", line(range(134, 150), range(170, 186)))
    done = run("--bundle", bundle.path.parent, "--data", data)
    assert done.returncode == 0, done.stderr
    assert bundles.load(bundle.path.parent).path == Path(done.stdout.strip()).resolve()
    assert "before NG from 0.6000 (tp 16, fp 16, tn 0, fn 0)" in done.stderr
    assert "after  NG from " in done.stderr
    assert "(tp 16, fp 0, tn 16, fn 0)" in done.stderr


def test_the_command_needs_no_tensorflow():
    program = "import sys, trainer.threshold; print({'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run(
        (sys.executable, "-c", program), cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("--data", "DATA"), 8, "thresholds need 10 good"),
        (("--data", "NOWHERE"), 8, "no such file or folder"),
        (("--bundle", "NOWHERE", "--data", "DATA"), 4, "must be a folder, does not exist"),
    ],
)
def test_what_is_wrong_ends_with_its_code(bundle, tmp_path, capsys, arguments, exit_code, message):
    write_image(tmp_path / "set" / "a.png", 0)
    (tmp_path / "set/manifest.csv").write_text("path,label\na.png,ok\n")
    places = {"DATA": str(tmp_path / "set"), "NOWHERE": str(tmp_path / "nowhere")}
    given = [places.get(argument, argument) for argument in ("--bundle", str(bundle.path), *arguments)]
    assert main(given) == exit_code
    assert message in capsys.readouterr().err


def test_the_scores_are_those_of_the_station_that_looks_at_a_part_of_the_frame(bundle, tmp_path):
    data = reviewed(tmp_path / "set", line(range(80, 100), range(170, 190)))
    for path in (data / "images").iterdir():
        image = cv2.imread(str(path))
        image[:, 32:] = 250  # a lamp
        assert cv2.imwrite(str(path), image)
    (tmp_path / "config.toml").write_text("[inspection]\nroi = [[[0, 0], [32, 0], [32, 64], [0, 64]]]\n")
    given = ["--bundle", str(bundle.path), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(given) == 8  # every image is as bright as the lamp
    assert main([*given, "--config", str(tmp_path / "config.toml")]) == 0
    assert main([*given, "--config", str(tmp_path / "none.toml")]) == 3


@pytest.mark.parametrize("share", ["-0.1", "1.5", "many"])
def test_a_share_that_is_none(share, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--bundle", "b", "--data", "d", "--marginal-share", share])
    assert caught.value.code == 2
    assert "--marginal-share" in capsys.readouterr().err


def test_the_share_is_the_trainers_unless_given(bundle, tmp_path):
    data = reviewed(tmp_path / "set", line(range(80, 100), range(170, 190)))
    for given, expected in (
        ((), load_config(None).threshold.marginal_share),
        (("--marginal-share", "0.3"), 0.3),
    ):
        out = tmp_path / f"out-{expected}"
        assert main(["--bundle", str(bundle.path), "--data", str(data), "--out", str(out), *given]) == 0
        content = json.loads((bundles.load(out).path / "calibration.json").read_text())
        assert content["training"]["thresholds"]["marginal_share"] == expected


# ---- wishes


def test_a_wish_is_granted_with_its_intervals(bundle, tmp_path, capsys):
    data = reviewed(tmp_path / "set", line(range(20, 120), range(150, 190)))
    given = ["--bundle", str(bundle.path), "--data", str(data), "--out", str(tmp_path / "out")]
    done = run(*given, "--choose", "false_reject_rate", "--false-reject-rate", "0.05")
    assert done.returncode == 0, done.stderr
    assert (
        "NG chosen by false_reject_rate (false_reject_rate 0.05); at it, with 95% intervals:" in done.stderr
    )
    assert "false_reject_rate 0.0000 (0.0000 to 0.0362)" in done.stderr
    assert re.search(r"^0\.5 +0?[.0-9]+ +1\.0000 .* 40 ", done.stderr, re.MULTILINE)
    fresh = bundles.load(tmp_path / "out")
    record = fresh.calibration.training["thresholds"]
    assert (record["choose"], record["wanted"]) == ("false_reject_rate", {"false_reject_rate": 0.05})
    assert record["at_ng"]["recall"] == [1.0, pytest.approx(0.9119, abs=1e-4), 1.0]
    assert "a false-reject rate of 0.05 at a confidence of 0.95" in fresh.calibration.thresholds.rule
    rows = (fresh.path / "thresholds.csv").read_text().splitlines()
    assert rows[0] == "threshold,tp,fp,tn,fn,precision,recall,f1"
    assert rows[-1].split(",")[1:5] == ["40", "100", "0", "0"]


@pytest.mark.parametrize("defective", [1, 6, 9])
def test_a_few_defective_images_do_no_harm(bundle, tmp_path, defective):
    """Where the limit finds none of them it is that of the good ones alone, and what it misses is told."""
    data = reviewed(tmp_path / "set", line(range(20, 90), range(30, 30 + defective)))
    alone = reviewed(tmp_path / "good", line(range(20, 90), range(0)))
    asked = ["--choose", "false_reject_rate", "--false-reject-rate", "0.05"]
    limits = []
    for number, images in enumerate((data, alone)):
        out = tmp_path / f"out{number}"
        given = ["--bundle", str(bundle.path), "--data", str(images), "--out", str(out)]
        assert main([*given, *asked]) == 0
        limits.append(bundles.load(out).calibration)
    few, none = limits
    assert few.thresholds.ng == pytest.approx(none.thresholds.ng)
    assert few.training["thresholds"]["at_ng"]["recall"][0] == 0.0


def test_a_few_defective_images_that_are_found_are_told(bundle, tmp_path):
    data = reviewed(tmp_path / "set", line(range(20, 90), range(150, 156)))
    given = ["--bundle", str(bundle.path), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main([*given, "--choose", "false_reject_rate", "--false-reject-rate", "0.05"]) == 0
    at_ng = bundles.load(tmp_path / "out").calibration.training["thresholds"]["at_ng"]
    assert (at_ng["recall"][0], at_ng["false_reject_rate"][0]) == (1.0, 0.0)


def test_it_is_said_where_nothing_will_be_marginal(bundle, tmp_path, caplog):
    data = reviewed(tmp_path / "set", line(range(20, 60), range(150, 190)))
    given = ["--bundle", str(bundle.path), "--data", str(data), "--out", str(tmp_path / "out")]
    with caplog.at_level(logging.INFO):
        assert main([*given, "--marginal-share", "0"]) == 0
    chosen = bundles.load(tmp_path / "out").calibration.thresholds
    said = "MARGINAL begins where NG does: no part will be MARGINAL" in caplog.text
    assert said == (chosen.ng == chosen.marginal)


def test_a_wish_that_the_images_do_not_carry_is_refused(bundle, tmp_path, capsys):
    data = reviewed(tmp_path / "set", line(range(60, 100), range(150, 190)))
    given = ["--bundle", str(bundle.path), "--data", str(data), "--out", str(tmp_path / "out")]
    given += ["--choose", "false_reject_rate", "--false-reject-rate", "0.001"]
    assert main(given) == 8
    assert "needs 2995 good images or more, found 40" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_good_images_alone_carry_a_false_reject_rate(bundle, tmp_path):
    data = reviewed(tmp_path / "set", line(range(20, 90), range(0)))
    given = ["--bundle", str(bundle.path), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main([*given, "--choose", "f1"]) == 8
    assert main([*given, "--choose", "false_reject_rate", "--false-reject-rate", "0.05"]) == 0
    fresh = bundles.load(tmp_path / "out").calibration
    assert fresh.training["thresholds"]["at_ng"]["recall"] is None
    asked = wish(choose="false_reject_rate", false_reject_rate=0.05)
    judged = judge(bundle, load(data, protocol="given"), asked)
    assert (judged.scores >= fresh.thresholds.ng).sum() == 0  # of 70, none may be: 59 to 92
    assert fresh.thresholds.marginal <= fresh.thresholds.ng


@pytest.mark.parametrize(
    ("option", "value"), [("--choose", "luck"), ("--precision", "1"), ("--confidence", "2")]
)
def test_a_wish_that_is_none(option, value, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--bundle", "b", "--data", "d", option, value])
    assert caught.value.code == 2
    assert f"{option}: must be" in capsys.readouterr().err
