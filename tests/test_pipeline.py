"""One frame to one verdict, with a real model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import TinyModel, make_frame, make_image, png_bytes

from device import bundle as bundles
from device.bundle import Bundle, GoldenSpec, GoldenVector, LocalizationSpec, Thresholds
from device.camera import BadFrame
from device.errors import BundleError, InterpreterError
from device.frame import frame_from_file
from device.geometry import Size
from device.pipeline import Pipeline
from device.verdict import Verdict


@pytest.fixture
def pipeline(tiny_bundle: Bundle) -> Pipeline:
    return Pipeline(tiny_bundle, station="press-4", session_id="5e55", threads=1)


def test_a_good_part(pipeline: Pipeline, tiny_bundle: Bundle) -> None:
    verdict = pipeline.inspect(make_frame(seq=12, part_id="A-1"))
    assert (verdict.verdict, verdict.regions) == ("OK", ())
    assert verdict.score is not None
    assert verdict.score < 0.01
    assert verdict.threshold == tiny_bundle.calibration.thresholds.ng
    assert (verdict.event_id, verdict.seq, verdict.part_id) == ("5e55-00000012", 12, "A-1")
    assert (verdict.station, verdict.session_id, verdict.camera) == ("press-4", "5e55", "replay")
    assert verdict.image_size == Size(64, 64)
    assert verdict.captured_ns == 1_790_000_000_123_456_789
    assert not verdict.historical
    assert verdict.checks is not None
    assert verdict.checks.brightness_ratio == pytest.approx(50 / 255, abs=0.02)


def test_a_defective_part_and_where(pipeline: Pipeline) -> None:
    verdict = pipeline.inspect(make_frame(make_image(width=640, height=480, spot=(400, 240, 160, 160))))
    assert verdict.verdict == "NG"
    [region] = verdict.regions
    box = region.box
    assert region.method == "evidence"
    assert box.x + box.width / 2 == pytest.approx(480, abs=20)
    assert box.y + box.height / 2 == pytest.approx(320, abs=20)
    assert 120 < box.width < 220
    assert 120 < box.height < 220
    assert verdict.image_size == Size(640, 480)


def test_a_marginal_part_has_regions_too(tiny_model: TinyModel, tmp_path: Path) -> None:
    tiny_model.write(tmp_path, thresholds=Thresholds(1.0, 0.5, "by hand", ()))
    pipeline = Pipeline(bundles.load(tmp_path), "press-4", "5e55")
    verdict = pipeline.inspect(make_frame(make_image(spot=(24, 24, 14, 14))))
    assert verdict.verdict == "MARGINAL"
    assert len(verdict.regions) == 1


def test_a_part_that_is_defective_all_over(tiny_model: TinyModel, tmp_path: Path) -> None:
    tiny_model.write(tmp_path, localization=LocalizationSpec(0.0, 1, 5.0, 40.0, 0.0))
    pipeline = Pipeline(bundles.load(tmp_path), "press-4", "5e55")
    verdict = pipeline.inspect(make_frame(np.full((30, 50, 3), 250, np.uint8)))
    [region] = verdict.regions
    assert (region.box.x, region.box.y, region.box.width, region.box.height) == (0, 0, 50, 30)


def test_every_stage_is_timed(pipeline: Pipeline) -> None:
    timing_ms = pipeline.inspect(make_frame(make_image(spot=(24, 24, 8, 8)))).timing_ms
    assert list(timing_ms) == ["preprocess", "checks", "inference", "localization", "total"]
    stages = [ms for stage, ms in timing_ms.items() if stage != "total"]
    assert all(ms >= 0 for ms in stages)
    assert timing_ms["inference"] > 0
    assert sum(stages) <= timing_ms["total"] + 0.005


def test_a_verdict_survives_the_wire(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(png_bytes(make_image(spot=(24, 24, 8, 8))))
    verdict = pipeline.inspect(frame_from_file(path, 3))
    back = Verdict.from_json(verdict.to_json())
    assert back == replace(verdict, captured_ns=verdict.captured_ns // 1_000_000 * 1_000_000)
    assert json.loads(verdict.to_json())["image"]["path"] == str(path)


def test_the_model_and_runtime_in_use_are_named(pipeline: Pipeline, tiny_bundle: Bundle) -> None:
    assert pipeline.model.id == "tiny"
    assert tiny_bundle.name == f"tiny-{pipeline.model.version}"
    assert pipeline.model.sha256 == tiny_bundle.sha256
    assert pipeline.runtime.startswith("ai-edge-litert ")
    assert (pipeline.station, pipeline.session_id) == ("press-4", "5e55")
    assert pipeline.thresholds == tiny_bundle.calibration.thresholds


def test_predict_gives_the_map_behind_the_verdict(pipeline: Pipeline) -> None:
    frame = make_frame(make_image(spot=(24, 40, 8, 8)))
    model_input, prediction = pipeline.predict(frame)
    assert model_input.placement.source == frame.size
    assert prediction.score == pipeline.inspect(frame).score


def test_the_same_frame_gives_the_same_verdict(pipeline: Pipeline) -> None:
    frame = make_frame(make_image(spot=(24, 40, 8, 8)))
    first, second = (replace(pipeline.inspect(frame), timing_ms={}, clock_synced=True) for _ in range(2))
    assert first == second


def test_a_frame_that_could_not_be_read_is_an_error_and_never_ok(pipeline: Pipeline) -> None:
    fault = BadFrame(
        "x.png: truncated", seq=5, path="x.png", captured_ns=1_790_000_000_000_000_000, camera="replay"
    )
    verdict = pipeline.unseen(fault)
    assert (verdict.verdict, verdict.score, verdict.regions, verdict.checks) == ("ERROR", None, (), None)
    assert (verdict.seq, verdict.event_id, verdict.image_path) == (5, "5e55-00000005", "x.png")
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_a_bundle_whose_golden_score_is_not_met_is_not_opened(tiny_model: TinyModel, tmp_path: Path) -> None:
    [vector] = tiny_model.calibration.golden.vectors
    wrong = GoldenSpec(0.02, (GoldenVector(vector.file, 0.1),))
    tiny_model.write(tmp_path, golden=wrong)
    loaded = bundles.load(tmp_path)
    with pytest.raises(
        BundleError, match=rf"golden/{vector.file}: must score 0.100000 within 0.02, scores 0.99"
    ):
        Pipeline(loaded, "press-4", "5e55")


def test_a_runtime_that_is_not_there(tiny_bundle: Bundle) -> None:
    with pytest.raises(InterpreterError, match="got 'other'"):
        Pipeline(tiny_bundle, "press-4", "5e55", runtime="other")


def test_the_frame_is_not_written_to(pipeline: Pipeline) -> None:
    image = make_image(spot=(24, 40, 8, 8))
    copy = image.copy()
    image.flags.writeable = False
    pipeline.inspect(make_frame(image))
    assert np.array_equal(image, copy)
    assert cv2.countNonZero(image[:, :, 0]) > 0
