"""From a wrong verdict to a new threshold: service, archive, review, export, trainer.threshold, service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber
from fixtures_daemon import ROOT, Station, run_device

from device.bundle import bundle as bundles
from device.image.frame import frame_from_file
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Verdict
from trainer import evaluate, threshold
from trainer.data import dataset as datasets

KEEP_ALL = '[archive]\nok_ratio = 1.0\nformat = "png"\nmin_free_bytes = 0\npublish_image_max_bytes = 5000\n'
PARTS = "o" * 12 + "n" * 12


def verdicts(subscriber: Subscriber) -> list[Verdict]:
    return [Verdict.from_json(payload) for payload in subscriber.payloads(f"{ROOT}/inspection")]


@pytest.fixture
def station(make_station: Callable[..., Station], broker: Broker, tmp_path: Path) -> Station:
    """Twelve good parts and twelve defective ones, a model of its own, everything kept."""
    made = make_station(broker.port, PARTS)
    made.bundle = shutil.copytree(made.bundle, tmp_path / "models", symlinks=True)
    made.configure(more=KEEP_ALL)
    return made


def test_a_wrong_verdict_becomes_a_threshold_that_is_right(
    station: Station, subscriber: Subscriber, tmp_path: Path
) -> None:
    """The good parts are lit more brightly than those the model knows: it calls them NG."""
    for number in range(1, 13):
        path = station.images / f"part{number}.png"
        assert cv2.imwrite(str(path), np.clip(cv2.imread(str(path)).astype(int) + 95, 0, 255))
    assert station.start().wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    wrong = verdicts(subscriber)
    assert [verdict.verdict for verdict in wrong] == ["NG"] * 24
    assert "images: 24 kept, 0 skipped, 0 failed" in station.log()

    state = station.folder / "state"
    assert len(list(state.glob("archive/*/*.png"))) == 24
    for verdict in wrong:
        label = "ok" if verdict.seq < 12 else "ng"
        done = run_device("review", verdict.event_id, "--label", label, "--config", station.config)
        assert done.returncode == 0, done.stderr
    exported = tmp_path / "set"
    given = ("export", "--reviewed", exported, "--apart", "0", "--config", station.config)
    done = run_device(*given)
    assert "24 images (12 ok, 12 ng) in 24 groups; left out: 0 unsure, 0 without an image" in done.stdout

    assert {sample.split for sample in datasets.load(exported).samples} == {
        "train",
        "test",
    }  # as trainer.fit does
    old = bundles.load(station.bundle)
    assert threshold.main(["--bundle", str(station.bundle), "--data", str(exported)]) == 0
    fresh = bundles.load(station.bundle)
    assert (fresh.sha256, fresh.path != old.path) == (old.sha256, True)
    assert fresh.calibration.thresholds.ng > old.calibration.thresholds.ng

    report = evaluate.evaluate(fresh, datasets.load(exported, protocol="given"), "all")
    assert report["confusion"] == {"tp": 12, "fp": 0, "tn": 12, "fn": 0}
    subscriber.forget()
    assert station.start().wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    assert [verdict.verdict for verdict in verdicts(subscriber)] == ["OK"] * 12 + ["NG"] * 12


def test_a_kept_image_has_the_score_that_was_published(station: Station, subscriber: Subscriber) -> None:
    assert station.start().wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    pipeline = Pipeline(bundles.load(station.bundle), "press-4", "again")
    for verdict in verdicts(subscriber):
        [image] = (station.folder / "state").glob(f"archive/*/{verdict.event_id}.png")
        assert pipeline.inspect(frame_from_file(image, 0)).score == verdict.score
        assert json.loads(image.with_suffix(".json").read_text())["event_id"] == verdict.event_id


def test_small_pictures_of_what_was_found_are_published(station: Station, subscriber: Subscriber) -> None:
    station.configure(camera="rate_hz = 20", more=KEEP_ALL)  # so that the broker is there before the first NG
    assert station.start().wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    pictures = {m.topic: m.payload for m in subscriber.messages if m.topic.startswith(f"{ROOT}/image/")}
    defects = {f"{ROOT}/image/{v.event_id}" for v in verdicts(subscriber) if v.verdict == "NG"}
    assert set(pictures) == {*defects, f"{ROOT}/image/last"}
    assert len(defects) == 12
    assert all(payload[:2] == b"\xff\xd8" and len(payload) <= 5000 for payload in pictures.values())


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_bad_disk_costs_images_and_no_verdict(
    make_station: Callable[..., Station], broker: Broker, subscriber: Subscriber, tmp_path: Path, fault: str
) -> None:
    station = make_station(broker.port, "onon", more=KEEP_ALL)
    (station.folder / "state").mkdir(exist_ok=True)
    archive = station.folder / "state" / "archive"
    if fault == "full":
        station.configure(more=KEEP_ALL.replace("min_free_bytes = 0", "min_free_bytes = 1000000000000000"))
    else:
        archive.mkdir()
        archive.chmod(0o555)  # for the daemon of these tests, which is not above permissions
    assert station.start().wait(DEADLINE_S) == 0
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    assert [verdict.verdict for verdict in verdicts(subscriber)] == ["OK", "NG", "OK", "NG"]
    assert "images: 0 kept, 0 skipped, 4 failed" in station.log()
    assert station.log().count("the image is not kept, inspection goes on") == 1
