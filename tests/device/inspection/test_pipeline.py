"""One frame to one verdict, with a real model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import TinyModel, make_frame, make_image, png_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.bundle import bundle as bundles
from device.bundle.bundle import Bundle, GoldenSpec, GoldenVector, LocalizationSpec, Thresholds
from device.bundle.calibration import FamiliarRanges, Range, TrainedFrames
from device.errors import BundleError, ConfigError, FrameError, InterpreterError
from device.image.frame import BadFrame, frame_from_file
from device.image.geometry import Box, Polygon, Size
from device.image.region_of_interest import RegionOfInterest
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Verdict


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


def test_frames_of_another_size_are_said_once(
    tiny_model: TinyModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_model.write(tmp_path, frames=TrainedFrames((60, 64), (60, 64), (1.0, 1.0)))
    pipeline = Pipeline(bundles.load(tmp_path), "press-4", "5e55")
    pipeline.inspect(make_frame(make_image(width=70, height=70)))
    assert caplog.messages == []
    for _ in range(3):
        pipeline.inspect(make_frame(make_image(width=640, height=480)))
    [message] = caplog.messages
    assert message == (
        "frames are unlike those that the model was trained on: 640 px wide (trained on 60 to 64), "
        "480 px high (trained on 60 to 64), of aspect 1.33 (trained on 1 to 1)"
    )


def test_what_the_region_of_interest_shows_has_the_size_that_counts(
    tiny_model: TinyModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_model.write(tmp_path, frames=TrainedFrames((64, 64), (64, 64), (1.0, 1.0)))
    corner = RegionOfInterest((Polygon(((0, 0), (64, 0), (64, 64), (0, 64))),), ())
    pipeline = Pipeline(bundles.load(tmp_path), "press-4", "5e55", region=corner)
    pipeline.inspect(make_frame(make_image(width=640, height=480)))
    assert caplog.messages == []


def test_an_image_of_12_bits_is_read_as_the_bundle_says(tiny_model: TinyModel, tmp_path: Path) -> None:
    bright = np.uint16(make_image(spot=(24, 24, 14, 14))) * 16
    assert cv2.imwrite(str(tmp_path / "deep.png"), bright)
    preprocess = replace(tiny_model.calibration.preprocess, white_level=4080)
    tiny_model.write(tmp_path / "models", preprocess=preprocess)
    pipeline = Pipeline(bundles.load(tmp_path / "models"), "press-4", "5e55")
    assert pipeline.inspect(pipeline.read(tmp_path / "deep.png", 0)).verdict == "NG"
    tiny_model.write(tmp_path / "others")
    with pytest.raises(FrameError, match="which level is white is not known"):
        Pipeline(bundles.load(tmp_path / "others"), "press-4", "5e55").read(tmp_path / "deep.png", 0)


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


@pytest.mark.parametrize("spot", [None, (24, 24, 14, 14)])
def test_a_picture_that_cannot_be_judged_is_marginal_whatever_its_score(
    tiny_model: TinyModel, tmp_path: Path, spot: tuple[int, int, int, int] | None
) -> None:
    """Darker than the bundle knows: neither OK nor NG is worth anything, and the verdict says why."""
    wide = Range(0.0, 1.0, None, None)
    brightness = Range(0.6, 0.05, 0.5, 0.7)
    known = FamiliarRanges(0.01, brightness, wide, wide, wide, wide, replace(wide, low=-1e6))
    tiny_model.write(tmp_path, familiar=known)
    frame = make_frame(make_image(spot=spot))
    doubting, judging = (
        Pipeline(bundles.load(tmp_path), "press-4", "5e55", doubts=doubts).inspect(frame)
        for doubts in (True, False)
    )
    assert judging.verdict == ("OK" if spot is None else "NG")
    assert judging.reason is None
    assert doubting.verdict == "MARGINAL"
    assert doubting.score == judging.score
    assert doubting.reason is not None
    assert doubting.reason.startswith("darker than the pictures of the training: brightness 0.")
    assert Verdict.from_json(doubting.to_json()).reason == doubting.reason


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
    assert verdict.threshold == pipeline.thresholds.ng
    assert pipeline.unseen(fault, replace(pipeline.thresholds, ng=0.9)).threshold == 0.9


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


# ---- a part of the frame, masks, tiles


def rectangle(x: int, y: int, width: int, height: int) -> Polygon:
    return Polygon(((x, y), (x + width, y), (x + width, y + height), (x, y + height)))


def looking(bundle: Bundle, roi: Sequence[Polygon] = (), ignore: Sequence[Polygon] = ()) -> Pipeline:
    return Pipeline(bundle, "press-4", "5e55", region=RegionOfInterest(tuple(roi), tuple(ignore)))


def centre(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2


@pytest.fixture
def tiled(tiny_model: TinyModel, tmp_path: Path) -> Bundle:
    spec = replace(tiny_model.calibration.preprocess, tiles=Size(64, 64), overlap=0.25)
    localization = LocalizationSpec(0.0, 4, 5.0, 40.0, 0.0)
    tiny_model.write(tmp_path, preprocess=spec, localization=localization)
    return bundles.load(tmp_path)


def test_the_region_is_seen_at_its_own_scale(tiny_bundle: Bundle) -> None:
    """A spot of 16 px in 640 would be less than two px of the model's input."""
    frame = make_frame(make_image(width=640, height=480, spot=(424, 240, 16, 16)))
    assert looking(tiny_bundle).inspect(frame).verdict == "OK"
    verdict = looking(tiny_bundle, roi=[rectangle(400, 200, 64, 64)]).inspect(frame)
    assert verdict.verdict == "NG"
    [region] = verdict.regions
    assert centre(region.box) == pytest.approx((432, 248), abs=4)
    assert max(region.box.width, region.box.height) <= 24


def test_a_defect_outside_the_region_is_not_looked_at(tiny_bundle: Bundle) -> None:
    frame = make_frame(make_image(width=128, height=128, spot=(80, 80, 32, 32)))
    assert looking(tiny_bundle).inspect(frame).verdict == "NG"
    assert looking(tiny_bundle, roi=[rectangle(0, 0, 64, 128)]).inspect(frame).verdict == "OK"


def test_a_defect_under_a_mask_counts_neither_in_the_score_nor_as_a_region(tiny_bundle: Bundle) -> None:
    image = make_image(spot=(24, 24, 8, 8))
    masked = looking(tiny_bundle, ignore=[rectangle(20, 20, 16, 16)])
    assert masked.inspect(make_frame(image)).verdict == "OK"
    image[48:56, 40:56] = 255
    verdict = masked.inspect(make_frame(image))
    assert verdict.verdict == "NG"
    [region] = verdict.regions
    assert centre(region.box) == pytest.approx((48, 52), abs=4)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), *(st.integers(0, 40),) * 2, st.integers(1, 24), st.sampled_from([64, 150]))
def test_what_lies_under_a_mask_has_no_influence(
    tiny_bundle: Bundle, seed: int, x: int, y: int, side: int, frame_side: int
) -> None:
    """Also at 150 px, where the mask's edges lie between the pixels of the model's input."""
    left, top, length = (value * frame_side // 64 for value in (x, y, side))
    pipeline = looking(tiny_bundle, ignore=[rectangle(left, top, length, length)])
    one = make_image(width=frame_side, height=frame_side, seed=seed)
    other = one.copy()
    noise = np.random.default_rng(seed).integers(0, 256, (length, length, 3))
    other[top : top + length, left : left + length] = noise
    first, second = (pipeline.predict(make_frame(image))[1] for image in (one, other))
    assert first.score == second.score
    assert np.array_equal(first.evidence, second.evidence)


def test_the_golden_images_are_not_cut_by_the_station_s_region(tiny_bundle: Bundle) -> None:
    """They are 64 px wide: the station's polygons lie outside of them."""
    looking(tiny_bundle, roi=[rectangle(400, 200, 64, 64)])


def test_a_region_for_another_camera_is_refused_at_the_first_frame(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=r"\[inspection\] roi: every corner must lie in the frame of 64x64"):
        looking(tiny_bundle, roi=[rectangle(400, 200, 64, 64)]).inspect(make_frame())


def test_a_large_frame_is_seen_in_tiles_and_each_has_its_score(tiled: Bundle) -> None:
    frame = make_frame(make_image(width=200, height=100, spot=(150, 70, 24, 24)))
    verdict = looking(tiled).inspect(frame)
    assert verdict.verdict == "NG"
    assert len(verdict.tiles) == 18
    hit = [tile for tile in verdict.tiles if tile.score > 0.9]
    assert hit
    assert all(tile.box.x < 174 and tile.box.x + tile.box.width > 150 for tile in hit)
    assert verdict.score == max(tile.score for tile in verdict.tiles)
    assert max(tile.box.x + tile.box.width for tile in verdict.tiles) == 200
    assert max(tile.box.y + tile.box.height for tile in verdict.tiles) == 100
    back = Verdict.from_json(verdict.to_json())
    assert back.tiles == verdict.tiles
    assert looking(tiled).inspect(make_frame(make_image(width=200, height=100))).verdict == "OK"


def test_a_frame_of_one_tile_has_no_tiles(tiled: Bundle, tiny_bundle: Bundle) -> None:
    frame = make_frame(make_image(spot=(24, 24, 8, 8)))
    verdict = looking(tiled).inspect(frame)
    assert verdict.tiles == ()
    assert verdict.score == looking(tiny_bundle).inspect(frame).score


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(16, 240), st.integers(16, 160))
def test_a_defect_on_a_seam_is_one_region(tiled: Bundle, x: int, y: int) -> None:
    """Wherever it lies: in one tile, over a seam, where four tiles meet."""
    verdict = looking(tiled).inspect(make_frame(make_image(width=288, height=224, spot=(x, y, 24, 24))))
    assert verdict.verdict == "NG"
    [region] = verdict.regions
    assert centre(region.box) == pytest.approx((x + 12, y + 12), abs=5)
    assert 16 <= region.box.width <= 34
    assert 16 <= region.box.height <= 34


def test_tiles_in_which_nothing_is_looked_at_are_left_out(tiled: Bundle) -> None:
    frame = make_frame(make_image(width=640, height=64, spot=(500, 20, 16, 16)))
    verdict = looking(tiled, roi=[rectangle(0, 0, 40, 64), rectangle(600, 0, 40, 64)]).inspect(frame)
    assert verdict.verdict == "OK"
    assert 2 <= len(verdict.tiles) < 6


def test_the_parts_of_an_inspection_make_the_whole(pipeline: Pipeline) -> None:
    frame = make_frame(make_image(spot=(24, 40, 8, 8)))
    parts = pipeline.judge(pipeline.detect(pipeline.prepare(frame)))
    whole = pipeline.inspect(frame)
    assert replace(parts, timing_ms={}, clock_synced=True) == replace(whole, timing_ms={}, clock_synced=True)
    assert list(parts.timing_ms) == list(whole.timing_ms)
    stages = [ms for stage, ms in parts.timing_ms.items() if stage != "total"]
    assert sum(stages) <= parts.timing_ms["total"] + 0.005
