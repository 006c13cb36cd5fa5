"""The report: in the bundle, on a test set, in a browser."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from fixtures_bundle import SIDE, TinyModel, make_image
from fixtures_data import write_mask
from fixtures_trainer import Fitted, gray_input, make_sample, wish

from device.bundle import bundle as bundles
from device.bundle.bundle import Pooling
from device.inspection.detector import pool
from trainer import config
from trainer.bundle import calibration as calibrations
from trainer.data.dataset import Dataset
from trainer.network.export import Int8Model
from trainer.network.features import inputs
from trainer.recipes.learned import Judges, Learned
from trainer.report import page as pages
from trainer.report import report
from trainer.report.__main__ import main
from trainer.scoring import thresholds

NASTY = '<img src=x onerror="alert(1)">&$title'
RECORD = {
    "judged_by": "12 images kept aside",
    "recipe": "probe",
    "chosen": {"cuts": ["out_relu"]},
    "fine_tuning": {"shipped": "probe", "probe": {"int8_ap": 0.99}, "fine_tuned": {"int8_ap": 0.98}},
    "quantization_aware": {"shipped": "post-training", "not_done": "frames are seen in tiles"},
    "warnings": ["no epoch was better than <guessing>"],
    "history": [
        {
            "run": "head <1>",
            "epoch": epoch,
            "loss": 1 / epoch,
            "val_ap": 0.5 + epoch / 20,
            "learning_rate": 1e-4 * epoch,
        }
        for epoch in range(1, 6)
    ],
}


def float_network() -> keras.Model:
    """Much as tiny_model.py has it."""
    image = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(image, keras.layers.Conv2D(1, 8, strides=8)(image))
    model.set_weights([np.full((8, 8, 3, 1), 10 / 192), np.zeros(1)])
    return model


@pytest.fixture(scope="module")
def learned(tmp_path_factory, tiny_model: TinyModel) -> Learned:
    """Parts of which every other one has a bright spot; one defect is not to be seen, one good one has it."""
    folder = tmp_path_factory.mktemp("parts")
    samples = []
    for number in range(14):
        path = folder / f"{number:02d}.png"
        label = number % 2
        mask = write_mask(folder / f"{number}-mask.png", side=SIDE, marked=16) if label else None
        name = NASTY if number == 3 else path.name
        sample = make_sample(path, (SIDE, SIDE), number, label=label, mask=mask)
        spot = (8, 8, 6 + number, 12) if (label and number != 3) or number == 6 else None
        assert cv2.imwrite(str(path), make_image(spot=spot, seed=number))
        samples.append(replace(sample, name=name))
    model, pooling = Int8Model(tiny_model.content), Pooling("top", 0.05)
    pooled = np.array(
        [pool(model.evidence(one.tensor), pooling) for one in inputs(samples, gray_input(), "testing")]
    )
    judges = Judges(float_network(), tiny_model.content, np.zeros(len(samples), np.int64))
    return Learned(
        tiny_model.content,
        judges.network,
        gray_input(),
        pooling,
        tuple(samples),
        pooled,
        pooled + 0.01,
        judges,
        RECORD,
    )


def written(learned: Learned, **changes: Any) -> str:
    scores = thresholds.calibrate(learned.labels, learned.pooled)
    chosen = thresholds.choose(learned.labels, learned.pooled, scores, wish())
    golden = calibrations.golden_images(learned, scores, chosen.ng, 2)
    training = {**learned.record, "config": {"split": {"folds": 7}}, "versions": {"keras": "3"}, "seed": 5}
    calibration = calibrations.calibration(
        learned, scores, chosen, golden, model_id="spots", training=training
    )
    dataset = Dataset(learned.judged[0].path.parent, "csv", learned.judged, (), "d1", "by hand")
    settings = replace(config.load(None).report, **changes)
    return report.of_fit(learned, calibration, dataset, None, settings, {"model": 12.5}).decode()


@pytest.fixture(scope="module")
def page(learned) -> str:
    return written(learned, images=3)


def section(page: str, title: str) -> str:
    return re.search(rf"<section><h2>{title}</h2>(.*?)</section>", page, re.DOTALL)[1]


def test_every_section_is_there(page):
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "How good",
        "Curves",
        "Thresholds",
        "Mistakes, and what was nearest to one",
        "Where it looks",
        "float and int8",
        "How it was learned",
        "The recipe, part by part",
        "Data",
        "Environment",
    ]
    assert page.count("<svg") == 6  # ROC, precision-recall, histogram; loss, rate, measures


def test_a_warning_of_the_training_stands_first(page):
    assert (
        section(page, "How good")
        .strip()
        .startswith("<p>Warning: no epoch was better than &lt;guessing&gt;.</p>")
    )


def test_the_mistakes_are_shown_with_their_maps(page):
    mistakes = section(page, "Mistakes, and what was nearest to one")
    assert "False rejects: 1" in mistakes
    assert "Misses: 1" in mistakes
    shown = re.findall(r"<figcaption>(.*?): \w+, score", mistakes)
    assert shown[:2] == ["06.png", "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;$title"]
    assert mistakes.count("data:image/jpeg;base64,") == len(shown) == 5


def test_the_three_maps_are_measured(page):
    places = section(page, "Where it looks")
    assert re.findall(r'<th scope="row">(\w+)</th>', places) == ["evidence", "gradient", "difference"]
    assert "Against the masks of 7 defective images, with 7 good ones" in places


def test_every_part_of_the_recipe_has_its_line(page):
    recipe = section(page, "The recipe, part by part")
    for part in report.PARTS:
        assert f'<th scope="row">{part}</th>' in recipe
    assert "<b>folds = 7</b> (default 5)" in recipe


def test_the_ways_that_were_tried(page):
    learning = section(page, "How it was learned")
    assert '<th scope="row">fine_tuned</th><td>0.9800</td>' in learning
    assert "Fine-tuned against the probe: shipped: probe." in learning
    assert "shipped: post-training; not_done: frames are seen in tiles." in learning
    assert "epoch by epoch: head &lt;1&gt;" in learning
    assert "learning rate: learning_rate." in learning


def test_the_environment(page):
    environment = section(page, "Environment")
    assert '<th scope="row">seed</th><td>5</td>' in environment
    assert '<th scope="row">model</th><td>12.5</td>' in environment


def test_nothing_is_loaded_or_run(page):
    assert "default-src 'none'" in page
    assert not re.search(r"<script|<link|https?://|<img src=x", page)


def test_pictures_are_left_out_before_it_grows_too_large(learned, page):
    small = written(learned, max_bytes=4000, gradient=False)
    assert 0 < small.count("<img ") < page.count("<img ")
    assert "no picture: the report would be larger than max_bytes" in small
    assert "gradient</th>" not in small


def test_one_class_has_no_curve(learned):
    good = replace(learned, pooled=learned.pooled.copy())
    calibration = calibrations.calibration(
        good,
        (curve := thresholds.calibrate(good.labels, good.pooled)),
        (chosen := thresholds.choose(good.labels, good.pooled, curve, wish())),
        calibrations.golden_images(good, curve, chosen.ng, 2),
        model_id="spots",
        training={},
    )
    only = [index for index, sample in enumerate(good.judged) if sample.label == 0]
    judged = report.Judged(
        [good.judged[index] for index in only],
        thresholds.scored(good.pooled, curve)[only],
        None,
        "good images",
        lambda index: report._look_of(good)(only[index]),
        None,
    )
    made = report.render(
        calibration, judged, None, config.load(None).report, report.Facts("python", {}, {})
    ).decode()
    assert made.count("<svg") == 1
    assert "No defective image has a mask" in made


# ---- the bundle's own, and the command


def test_the_bundle_of_a_fit_has_its_report(fitted: Fitted):
    bundle = bundles.load(fitted.out)
    made = (bundle.path / pages.FILE).read_text("utf-8")
    assert f"<h1>{bundle.calibration.model_id} {bundle.calibration.version}</h1>" in made
    assert "python -m trainer.fit --data" in section(made, "Environment")
    assert len(made) < 1_700_000


def test_a_report_on_the_test_part(fitted: Fitted, tmp_path, capsys):
    out = tmp_path / "test.html"
    given = ["--bundle", str(fitted.out), "--data", str(fitted.data), "--out", str(out)]
    assert main(given) == 0
    assert capsys.readouterr().out == f"{out}\n"
    made = out.read_text("utf-8")
    assert "judged by 20 images: images that the model has not seen." in made
    assert re.findall(r'<th scope="row">(\w+)</th>', section(made, "Where it looks")) == [
        "evidence",
        "difference",
    ]


def test_a_network_that_is_none(fitted: Fitted, tmp_path, capsys):
    wrong = tmp_path / "n.keras"
    wrong.write_text("no network")
    given = ["--bundle", str(fitted.out), "--data", str(fitted.data), "--out", str(tmp_path / "r.html")]
    assert main([*given, "--network", str(wrong)]) == 3
    assert f"error: --network {wrong}: must be a file of --keep-network: " in capsys.readouterr().err


def test_an_out_that_cannot_be_written(fitted: Fitted, tmp_path, capsys):
    given = [
        "--bundle",
        str(fitted.out),
        "--data",
        str(fitted.data),
        "--out",
        str(tmp_path / "no" / "r.html"),
    ]
    assert main(given) == 9
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


# ---- in a browser


@pytest.mark.parametrize(("size", "scheme"), [((1280, 900), "light"), ((390, 844), "dark")])
def test_a_browser_has_nothing_to_complain_of(page, tmp_path, chromium, size, scheme):
    path = tmp_path / "report.html"
    path.write_text(page, "utf-8")
    context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    opened, faults = context.new_page(), []
    opened.on("console", lambda message: faults.append(message.text))
    opened.on("dialog", lambda dialog: faults.append(dialog.message))
    opened.goto(path.as_uri())
    assert faults == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= size[0]
    loaded = opened.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert loaded
    found = Axe().run(opened).response["violations"]
    assert [f"{rule['id']}: {[node['html'][:120] for node in rule['nodes']]}" for rule in found] == []
    context.close()
