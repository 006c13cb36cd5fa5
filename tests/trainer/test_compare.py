"""Two bundles on the same images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import GOLDEN, TinyModel, make_bundle
from fixtures_data import make_dagm

from device.bundle import bundle as bundles
from device.bundle.bundle import Bundle
from device.errors import DataError
from trainer.compare import BundleResult, Difference, advice, compare, differences, main, table
from trainer.data.dataset import load, split_csv


def bundle_of(tiny_model: TinyModel, parent: Path, *, ng: float = 0.6, data: Path | None = None) -> Bundle:
    """With another threshold, and made from the data, if any."""
    calibration = tiny_model.calibration
    thresholds = replace(calibration.thresholds, ng=ng, marginal=min(ng, calibration.thresholds.marginal))
    extra = {"split.csv": split_csv(load(data))} if data else {}
    path = make_bundle(
        parent,
        "made",
        tiny_model.content,
        replace(calibration, thresholds=thresholds),
        {GOLDEN: tiny_model.golden},
        extra,
    )
    return bundles.load(path)


def judged(name: str, scores: list[float], *, ng: float = 0.5, latency_ms: float = 10.0) -> BundleResult:
    words = tuple("NG" if score >= ng else "OK" for score in scores)
    return BundleResult(name, np.array(scores), words, ng, latency_ms, 1000)


# ---- the figures


def test_a_difference_is_that_of_the_same_images() -> None:
    """Both rank alike, so whatever images are drawn, the ranking differs by nothing."""
    labels = np.repeat([0, 1], [60, 20])
    scores = [*np.linspace(0.1, 0.55, 60), *np.linspace(0.4, 0.9, 20)]
    found = differences(labels, judged("a", scores), judged("b", scores, ng=0.45))
    assert found["auroc"] == Difference(found["auroc"].first, found["auroc"].first, 0.0, 0.0)
    assert found["recall"].second > found["recall"].first
    assert found["false_reject_rate"].sure
    assert 0 < found["false_reject_rate"].low < found["false_reject_rate"].high


def test_one_class_has_the_figures_that_it_defines() -> None:
    scores = [0.1, 0.2, 0.9]
    assert list(differences(np.zeros(3, int), judged("a", scores), judged("b", scores))) == [
        "false_reject_rate"
    ]
    assert list(differences(np.ones(3, int), judged("a", scores), judged("b", scores))) == ["recall"]


# ---- the advice


def told(second: list[float], first: list[float] | None = None, **fields: float) -> str:
    labels = np.repeat([0, 1], [40, 40])
    one = judged("A", first or [0.2] * 40 + [0.3] * 20 + [0.8] * 20)
    other = replace(judged("B", second), **fields)
    return advice(differences(labels, one, other), one, other)


def test_what_finds_more_at_no_price_is_shipped() -> None:
    found = told([0.2] * 40 + [0.8] * 40)
    assert found.startswith("Ship B: it finds more of the defective parts")


def test_the_first_is_shipped_where_it_is_better() -> None:
    assert told([0.6] * 20 + [0.2] * 20 + [0.3] * 20 + [0.8] * 20).startswith(
        "Ship A: it rejects fewer good parts"
    )


def test_a_price_is_named() -> None:
    found = told([0.6] * 20 + [0.2] * 20 + [0.8] * 40, [0.2] * 40 + [0.1] * 20 + [0.8] * 20)
    assert found.startswith("It depends on what a miss and a false reject cost")


def test_of_equals_the_faster_is_shipped_or_none() -> None:
    same = [0.2] * 40 + [0.3] * 20 + [0.8] * 20
    assert told(same, latency_ms=5.0).startswith(
        "These images do not tell which is more accurate. Ship B: it takes 5.0 ms"
    )
    assert (
        told(same)
        == "These images do not tell which is better: keep the one that runs, and judge more images."
    )


# ---- bundles


def test_every_changed_verdict_is_named(tiny_model, tmp_path) -> None:
    root = make_dagm(tmp_path / "Class1")
    kept, strict = bundle_of(tiny_model, tmp_path / "a"), bundle_of(tiny_model, tmp_path / "b", ng=0.0001)
    found = compare(kept, strict, load(root, protocol="given"))
    assert (found["n_images"], found["n_defective"]) == (7, 3)
    changed = {line["path"]: (line["label"], line["second"]) for line in found["changed_verdicts"]}
    assert changed == {f"Test/{number:04d}.PNG": (0, "NG") for number in range(4, 8)}
    assert found["differences"]["false_reject_rate"]["second"] == 1.0
    assert found["advice"].startswith(f"Ship {kept.name}: it rejects fewer good parts")
    assert "  Test/0004.PNG (good): OK -> NG" in list(table(found))


def test_images_that_one_was_trained_on_are_left_out(tiny_model, tmp_path) -> None:
    root = make_dagm(tmp_path / "Class1")
    knows, other = bundle_of(tiny_model, tmp_path / "a", data=root), bundle_of(tiny_model, tmp_path / "b")
    assert compare(other, knows, load(root, protocol="given"))["n_images"] == 7
    assert compare(other, knows, load(root, protocol="given"), "all")["n_images"] == 14


def test_bundles_that_were_trained_on_each_others_test(tiny_model, tmp_path) -> None:
    root = make_dagm(tmp_path / "Class1")
    one = bundle_of(tiny_model, tmp_path / "a", data=root)
    turned = {"train": "test", "test": "train"}
    sides = load(root)
    swapped = replace(sides, samples=tuple(replace(s, split=turned[s.split]) for s in sides.samples))
    extra = {"split.csv": split_csv(swapped)}
    path = make_bundle(
        tmp_path / "b", "made", tiny_model.content, tiny_model.calibration, {GOLDEN: tiny_model.golden}, extra
    )
    with pytest.raises(DataError, match=r"no image was held out by both bundles.*pass --split all"):
        compare(one, bundles.load(path), load(root, protocol="given"))


def test_the_command(tiny_model, tmp_path, capsys) -> None:
    root = make_dagm(tmp_path / "Class1")
    paths = [str(bundle_of(tiny_model, tmp_path / name).path) for name in "ab"]
    assert main([*paths, "--data", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "7 images, 3 defective, that neither bundle was trained on"
    assert "verdicts that change: 0" in lines
    assert main([*paths, "--data", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed_verdicts"] == []
    assert main([paths[0], str(tmp_path), "--data", str(root)]) == 4
