"""The report: in the bundle, on a test set, in a browser."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from fixtures_report import section
from fixtures_trainer import Fitted

from device.bundle import bundle as bundles
from trainer.report import page as pages
from trainer.report.__main__ import main


def test_every_section_is_there(report_page):
    assert re.findall(r"<h2>(.*?)</h2>", report_page) == [
        "How good",
        "Mistakes, and what was nearest to one",
        "Curves",
        "Thresholds",
        "Where it looks",
        "float and int8",
        "How it was learned",
        "The recipe, part by part",
        "Data",
        "Environment",
    ]
    assert report_page.count("<svg") == 6  # ROC, precision-recall, histogram; loss, rate, measures


def test_nothing_is_loaded_or_run(report_page):
    assert "default-src 'none'" in report_page
    assert not re.search(r"<script|<link|https?://|<img src=x", report_page)


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
def test_a_browser_has_nothing_to_complain_of(report_page, tmp_path, chromium, size, scheme):
    path = tmp_path / "report.html"
    path.write_text(report_page, "utf-8")
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


def test_a_click_enlarges_and_paper_shows_what_is_folded(report_page, tmp_path, chromium):
    path = tmp_path / "report.html"
    path.write_text(report_page, "utf-8")
    opened = chromium.new_page(viewport={"width": 1280, "height": 900})
    opened.goto(path.as_uri())
    width = "document.querySelector('.picture img').getBoundingClientRect().width"
    small = opened.evaluate(width)
    opened.click(".picture > summary")
    assert opened.evaluate(width) > 1.5 * small
    folded = (
        "[...document.querySelectorAll('section > details svg')]"
        ".map(one => one.checkVisibility() && one.getBoundingClientRect().height > 0)"
    )
    assert not any(opened.evaluate(folded))
    opened.emulate_media(media="print")
    assert all(opened.evaluate(folded))
    opened.close()
