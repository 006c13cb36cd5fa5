"""Evaluation: the device's own scores, of the right images, in one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import GOLDEN, TinyModel, make_bundle, make_image
from fixtures_data import make_dagm, make_manifest, make_mvtec, write_image, write_mask
from sklearn.metrics import average_precision_score, roc_auc_score

from device.bundle import bundle as bundles
from device.bundle.calibration import TrainedFrames
from device.errors import DataError
from device.image.frame import frame_from_file
from device.image.geometry import Size
from device.inspection.localizer import evidence_in_frame
from device.inspection.pipeline import Pipeline
from trainer.data.dataset import Dataset, load, split_csv
from trainer.evaluate import evaluate, main, table

ROOT = Path(__file__).resolve().parents[2]
FIELDS = [
    "bundle",
    "model_sha256",
    "runtime",
    "split",
    "split_rule",
    "n_seen_in_training",
    "n_images",
    "n_defective",
    "auroc",
    "auroc_error",
    "ap",
    "ap_error",
    "f1_max",
    "threshold",
    "precision",
    "recall",
    "false_reject_rate",
    "confusion",
    "sorted",
    "pixel_auroc",
    "aupro",
    "pointing_hit_rate",
    "boxes",
    "latency_ms",
    "mistakes",
    "problems",
    "scores",
]


def bundle_of(tiny_model: TinyModel, parent: Path, dataset: Dataset) -> bundles.Bundle:
    """A bundle that says it was made from the data set."""
    extra = {"split.csv": split_csv(dataset)}
    golden = {GOLDEN: tiny_model.golden}
    path = make_bundle(parent, "made", tiny_model.content, tiny_model.calibration, golden, extra)
    return bundles.load(path)


def paths(report) -> set[str]:
    return {line["path"] for line in report["scores"]}


# ---- the report


def test_the_report_agrees_with_its_own_scores(tiny_bundle, tmp_path):
    root = make_dagm(tmp_path / "Class1", good=5, defective=3)
    gray = np.full((24, 24), 118, np.uint8)  # between the thresholds
    assert cv2.imwrite(str(root / "Test/0001.PNG"), gray)
    assert cv2.imwrite(str(root / "Test/0008.PNG"), gray + 60)  # good, and bright enough to be NG
    report = evaluate(tiny_bundle, load(root, protocol="given"))
    scores = {line["path"]: line for line in report["scores"]}
    labels = [line["label"] for line in report["scores"]]
    values = [line["score"] for line in report["scores"]]

    assert list(report) == FIELDS
    assert (report["n_images"], report["n_defective"], report["threshold"]) == (8, 3, 0.6)
    assert scores["Test/0001.PNG"]["verdict"] == "MARGINAL"
    assert scores["Test/0002.PNG"]["verdict"] == scores["Test/0008.PNG"]["verdict"] == "NG"
    assert scores["Test/0005.PNG"]["verdict"] == "OK"
    assert report["confusion"] == {"tp": 2, "fp": 1, "tn": 4, "fn": 1}  # MARGINAL is not rejected
    assert report["precision"] == pytest.approx(2 / 3)
    assert report["recall"] == pytest.approx(2 / 3)
    assert report["false_reject_rate"] == pytest.approx(1 / 5)
    assert report["auroc"] == pytest.approx(roc_auc_score(labels, values))
    assert report["ap"] == pytest.approx(average_precision_score(labels, values))
    assert 0.67 < report["f1_max"] <= 1
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"]
    assert report["runtime"].split()[0] in {"ai-edge-litert", "tflite-runtime"}
    assert report["problems"] == []


def test_shares_sorted_for_good_have_their_intervals(tiny_bundle, tmp_path):
    report = evaluate(tiny_bundle, load(make_dagm(tmp_path / "Class1", good=5), protocol="given"))

    assert list(report["sorted"]) == ["PB1", "PG1", "PB2", "PG2", "PB5", "PG5"]
    assert report["sorted"]["PG5"] == {"hits": 5, "of": 5, "low": pytest.approx(0.478, abs=1e-3), "high": 1.0}


def test_boxes_are_compared_with_the_masks(tiny_bundle, tmp_path):
    report = evaluate(tiny_bundle, load(make_dagm(tmp_path / "Class1"), protocol="given"))

    boxes = report["boxes"]
    assert boxes["n"] == 3
    assert 0.2 < boxes["best_iou"] <= 1
    assert boxes["large_share"] == 0
    assert 0 <= boxes["ap30"] <= 1


def test_misjudged_images_are_named_and_drawn(tiny_bundle, tmp_path):
    root = make_dagm(tmp_path / "Class1", good=5, defective=3)
    plain = np.full((24, 24), 118, np.uint8)
    assert cv2.imwrite(str(root / "Test/0001.PNG"), plain)  # defective, and not to be seen
    assert cv2.imwrite(str(root / "Test/0008.PNG"), plain + 60)  # good, and bright enough to be NG
    report = evaluate(tiny_bundle, load(root, protocol="given"), mistakes_in=tmp_path / "wrong")

    mistakes = {line["path"]: (line["label"], line["verdict"]) for line in report["mistakes"]}
    assert mistakes == {"Test/0001.PNG": (1, "MARGINAL"), "Test/0008.PNG": (0, "NG")}
    written = sorted(path.name.split("-")[0] for path in (tmp_path / "wrong").iterdir())
    assert written == ["missed", "rejected"]
    lines = "\n".join(table(report))
    assert "\n  Test/0001.PNG: defective, MARGINAL at 0." in lines
    assert "\nPG1                 0." in lines


def test_images_of_another_size_than_those_trained_on_are_a_problem(tiny_model, tmp_path):
    root = make_dagm(tmp_path / "Class1")
    tiny_model.write(tmp_path / "models", frames=TrainedFrames((96, 96), (96, 96), (1.0, 1.0)))
    report = evaluate(bundles.load(tmp_path / "models"), load(root, protocol="given"))
    [problem] = report["problems"]
    assert problem == (
        "7 of 7 images are unlike those that were trained on: "
        "24 px wide (trained on 96 to 96), 24 px high (trained on 96 to 96)"
    )


def test_scores_are_the_devices_own(tiny_bundle, tmp_path):
    root = make_dagm(tmp_path / "Class1")
    report = evaluate(tiny_bundle, load(root, protocol="given"))
    pipeline = Pipeline(tiny_bundle, station="a", session_id="b")

    for line in report["scores"]:
        verdict = pipeline.inspect(frame_from_file(root / line["path"], 0))
        assert (line["score"], line["verdict"]) == (verdict.score, verdict.verdict)


def test_pixel_metrics_compare_the_map_over_the_frame_with_the_mask(tiny_bundle, tmp_path):
    root = make_dagm(tmp_path / "Class1")
    dataset = load(root, protocol="given")
    report = evaluate(tiny_bundle, dataset)
    pipeline = Pipeline(tiny_bundle, station="a", session_id="b")
    maps, masks = [], []
    for sample in dataset.test:
        model_input, prediction = pipeline.predict(frame_from_file(sample.path, 0))
        maps.append(evidence_in_frame(prediction.evidence, model_input.placement))
        mask = np.zeros((24, 24), bool)
        mask[8:14, 8:14] = sample.label == 1
        masks.append(mask)
    exact = roc_auc_score(np.stack(masks).ravel(), np.stack(maps).ravel())

    assert report["pixel_auroc"] == pytest.approx(exact, abs=1e-4)
    assert 0.5 < report["aupro"] <= 1
    assert report["pointing_hit_rate"] == 1.0


def test_a_defective_image_without_a_mask_counts_in_image_metrics_only(tiny_bundle, tmp_path):
    root = make_dagm(tmp_path / "Class1", defective=2)
    write_mask(root / "Test/Label/0001_label.PNG", marked=0)
    write_mask(root / "Test/Label/0002_label.PNG", side=12)
    report = evaluate(tiny_bundle, load(root, protocol="given"))

    assert report["n_defective"] == 2
    assert report["pixel_auroc"] is report["aupro"] is report["pointing_hit_rate"] is None
    assert len(report["problems"]) == 2


def test_good_images_only_leave_curves_undefined(tiny_bundle, tmp_path):
    rows = [f"images/{n:02d}.png,ok,test" for n in range(4)]
    manifest = make_manifest(tmp_path, ["path,label,split", *rows])
    report = evaluate(tiny_bundle, load(manifest, protocol="given"))

    ranked = {"auroc", "auroc_error", "ap", "ap_error", "f1_max", "precision", "recall"}
    placed = {"pixel_auroc", "aupro", "pointing_hit_rate"}
    assert report["sorted"] == {}
    assert report["boxes"]["best_iou"] is report["boxes"]["ap30"] is report["boxes"]["large_share"] is None
    assert {name for name, value in report.items() if value is None} == ranked | placed
    assert report["false_reject_rate"] == 0.0
    assert json.loads(json.dumps(report, allow_nan=False))["auroc"] is None


def test_large_images_are_compared_at_a_bounded_size(tiny_bundle, tmp_path):
    image = make_image(width=2400, height=1200, spot=(1200, 300, 300, 300))
    mask = np.zeros((1200, 2400), np.uint8)
    mask[300:600, 1200:1500] = 255
    assert cv2.imwrite(str(tmp_path / "image.png"), image)
    assert cv2.imwrite(str(tmp_path / "mask.png"), mask)
    (tmp_path / "m.csv").write_text("path,label,mask,split\nimage.png,ng,mask.png,test\n")
    dataset = load(tmp_path / "m.csv", protocol="given")
    report = evaluate(tiny_bundle, dataset)

    assert dataset.samples[0].size == Size(2400, 1200)
    assert report["pixel_auroc"] > 0.95
    assert report["pointing_hit_rate"] == 1.0


# ---- which images


def test_the_layouts_own_test_split_is_scored_where_the_bundle_knows_nothing(tiny_bundle, tmp_path):
    report = evaluate(tiny_bundle, load(make_mvtec(tmp_path / "screw"), protocol="given"))

    assert report["n_images"] == 12
    assert all(path.startswith("test/") for path in paths(report))
    assert report["n_seen_in_training"] == 0
    assert report["split_rule"] == (
        "0 held out by the bundle's own split.csv, 12 by MVTec's own train and test folders"
    )


def test_what_the_bundle_held_out_is_scored_wherever_it_lies(tiny_model, tmp_path):
    """Trained on a re-split of MVTec's images: the bundle's record stands, not the folders."""
    root = make_mvtec(tmp_path / "screw")
    trained = load(root, seed=0)
    bundle = bundle_of(tiny_model, tmp_path / "bundles", trained)
    report = evaluate(bundle, load(root, protocol="given"))

    assert paths(report) == {sample.name for sample in trained.test}
    assert any(path.startswith("train/") for path in paths(report))
    assert report["n_seen_in_training"] == 0
    assert report["split_rule"].startswith("10 held out by the bundle's own split.csv, 0 by")


def test_nothing_trained_on_is_scored_as_test_under_any_name(tiny_model, tmp_path):
    root = make_dagm(tmp_path / "Class1")
    trained = load(root)
    bundle = bundle_of(tiny_model, tmp_path / "bundles", trained)
    seen = trained.train[0].path
    manifest = make_manifest(tmp_path, ["path,label,split", "new name.png,1,test", "images/00.png,0,test"])
    (tmp_path / "new name.png").write_bytes(seen.read_bytes())
    report = evaluate(bundle, load(manifest, protocol="given"))

    assert paths(report) == {"images/00.png"}
    assert report["problems"] == [
        "1 images of the layout's test split left out: the bundle was trained on them"
    ]


def test_all_scores_everything_and_says_what_was_seen(tiny_model, tmp_path):
    root = make_mvtec(tmp_path / "screw")
    bundle = bundle_of(tiny_model, tmp_path / "bundles", load(root))
    report = evaluate(bundle, load(root, protocol="given"), "all")

    assert report["n_images"] == 20
    assert report["n_seen_in_training"] == 10
    assert report["split_rule"] == "every readable image"


def test_without_a_test_image_the_way_out_is_named(tiny_bundle, tmp_path):
    manifest = make_manifest(tmp_path, ["path,label", "images/00.png,0", "images/09.png,1"])
    dataset = load(manifest, protocol="given")

    with pytest.raises(DataError, match=r"none of 2 images is a test image.*pass --split all"):
        evaluate(tiny_bundle, dataset)
    assert evaluate(tiny_bundle, dataset, "all")["n_images"] == 2


def test_images_without_a_split_are_left_out_and_counted(tiny_bundle, tmp_path):
    rows = ["images/00.png,0,test", "images/01.png,0,", "images/09.png,1,"]
    manifest = make_manifest(tmp_path, ["path,label,split", *rows])
    report = evaluate(tiny_bundle, load(manifest, protocol="given"))

    assert paths(report) == {"images/00.png"}
    assert report["problems"] == ["2 images left out: they have no split and the bundle does not know them"]


# ---- the command


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainer.evaluate", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_json_is_all_that_standard_output_carries(bundles_folder, tmp_path):
    root = make_dagm(tmp_path / "Class1")
    (root / "Test/0007.PNG").write_bytes((root / "Test/0007.PNG").read_bytes()[:-30])
    done = run("--bundle", bundles_folder, "--data", root, "--json")
    report = json.loads(done.stdout)

    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert list(report) == FIELDS
    assert report["n_images"] == 6
    assert len(report["problems"]) == 1
    assert report["problems"][0].startswith("Test/0007.PNG: left out: ")
    assert "Test/0007.PNG: left out: " in done.stderr


def test_a_person_gets_a_table(tiny_bundle, bundles_folder, tmp_path, capsys):
    root = make_mvtec(tmp_path / "screw")
    (root / "ground_truth/bent/000_mask.png").unlink()
    assert main(["--bundle", str(bundles_folder), "--data", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert f"bundle              {tiny_bundle.name}" in lines
    assert "n_images            12" in lines
    assert "confusion           tp 8  fp 0  tn 4  fn 0" in lines
    assert "  test/bent/000.png: no ground_truth/bent/000_mask.png: kept without a mask" in lines
    assert list(table({"auroc": None, "problems": []})) == [
        "auroc               not defined",
        "problems            none",
    ]


def test_neither_tensorflow_nor_keras_is_loaded(bundles_folder, tmp_path):
    root = make_dagm(tmp_path / "Class1")
    script = (
        "import sys\n"
        "from trainer.evaluate import main\n"
        f"assert main(['--bundle', {str(bundles_folder)!r}, '--data', {str(root)!r}, '--json']) == 0\n"
        "heavy = {name.split('.')[0] for name in sys.modules} & {'tensorflow', 'keras'}\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_each_fault_has_its_exit_code(bundles_folder, tmp_path, capsys):
    root = make_dagm(tmp_path / "Class1")
    (tmp_path / "nothing").mkdir()

    assert main(["--bundle", str(tmp_path / "nothing"), "--data", str(root)]) == 4
    assert main(["--bundle", str(bundles_folder), "--data", str(tmp_path / "nothing")]) == 8
    assert main(["--bundle", str(bundles_folder), "--data", str(tmp_path / "nowhere")]) == 8
    errors = capsys.readouterr().err.splitlines()
    assert len([line for line in errors if line.startswith("error: ")]) == 3
    assert "Traceback" not in "\n".join(errors)
    with pytest.raises(SystemExit) as ended:
        main(["--bundle", str(bundles_folder), "--data", str(root), "--split", "train"])
    assert ended.value.code == 2


def test_a_data_set_of_unreadable_images_only_is_an_error(bundles_folder, tmp_path, capsys):
    write_image(tmp_path / "a.png", 0).write_bytes(b"")
    (tmp_path / "m.csv").write_text("path,label,split\na.png,ng,test\n")

    assert main(["--bundle", str(bundles_folder), "--data", str(tmp_path / "m.csv")]) == 8
    assert "none of 1 images is usable: a.png: left out: is empty" in capsys.readouterr().err
