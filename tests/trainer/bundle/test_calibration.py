"""What a bundle says of its model: checked with a tiny real one."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from fixtures_bundle import TinyModel, make_bundle
from fixtures_trainer import learned_spots, make_sample, wish, with_mask

from device.bundle import bundle as bundles
from device.bundle.bundle import PreprocessSpec, ScoreCalibration
from device.image.frame import frame_from_file, read_image
from device.image.geometry import Size
from device.inspection.checks import measure
from device.inspection.pipeline import Pipeline
from device.inspection.preprocess import Preprocessor
from trainer.bundle import calibration as calibrations
from trainer.network.export import Int8Model
from trainer.network.features import inputs
from trainer.recipes.learned import TrainedModel
from trainer.scoring import thresholds


@pytest.fixture
def learned(tmp_path, tiny_model: TinyModel) -> TrainedModel:
    return learned_spots(tmp_path, tiny_model)


def contract_of(learned, count=3):
    scores = thresholds.calibrate(learned.labels, learned.pooled)
    chosen = thresholds.choose(learned.labels, learned.pooled, scores, wish())
    golden = calibrations.golden_images(learned, scores, chosen.ng, count)
    calibration = calibrations.calibration(
        learned, scores, chosen, golden, model_id="spots", training={"seed": 0}
    )
    return calibration, golden


def test_the_device_accepts_the_bundle(tmp_path, learned):
    calibration, golden = contract_of(learned)
    images = {name: calibrations.png(sample, learned.preprocess) for name, sample in golden.items()}
    path = make_bundle(tmp_path / "out", "spots", learned.content, calibration, images, {})
    pipeline = Pipeline(bundles.load(path), "press-4", "s")  # it lets the model score the golden images
    assert pipeline.bundle.calibration == calibration


def test_it_says_what_the_model_is(learned):
    calibration, _ = contract_of(learned)
    assert calibration.model_id == "spots"
    assert calibration.pooling == learned.pooling
    assert calibration.preprocess == learned.preprocess
    assert calibration.input_quantization.scale == pytest.approx(1 / 127.5, rel=1e-3)
    assert calibration.training == {"seed": 0}
    assert calibration.metrics["judged_by"] == "12 images kept aside"
    assert calibration.metrics["int8"]["auroc"] == 1.0
    assert calibration.metrics["int8"]["n_defective"] == 6
    assert calibration.metrics["int8"].keys() == calibration.metrics["float"].keys()


def test_the_drift_reference_is_of_the_good_images(learned):
    calibration, _ = contract_of(learned)
    good = [sample for sample in learned.judged if sample.label == 0]
    seen = [measure(one) for one in inputs(good, learned.preprocess, "testing")]
    reference = calibration.drift_reference
    assert reference.brightness_ratio.mean == pytest.approx(np.mean([one.brightness_ratio for one in seen]))
    assert reference.focus.sd == pytest.approx(np.std([one.focus for one in seen]))
    assert reference.score.mean < 0.2 < calibration.thresholds.ng
    model = Int8Model(learned.content)
    maps = [model.evidence(one.tensor) for one in inputs(good, learned.preprocess, "testing")]
    assert reference.evidence.mean == pytest.approx(np.mean([one.mean() for one in maps]))


@pytest.mark.parametrize(("side", "sigma_px"), [(64, 3.84), (512, 30.72), (4096, 100.0)])
def test_the_background_is_as_wide_as_the_device_allows(learned, side, sigma_px):
    spec = replace(learned.preprocess, size=Size(side, side))
    found = calibrations.localization(replace(learned, preprocess=spec))
    assert found.difference_sigma_px == pytest.approx(sigma_px)
    assert found.min_area_px == 64  # a cell of 8 x 8


# ---- golden images


def test_golden_images_are_typical_ones_and_those_nearest_to_the_threshold(learned):
    scores = ScoreCalibration(1.0, 0.0)
    order = np.argsort(learned.pooled, kind="stable")
    nearest = np.argsort(np.abs(thresholds.scored(learned.pooled, scores) - 0.9), kind="stable")
    golden = calibrations.golden_images(learned, scores, 0.9, 4)
    assert [name.partition("-")[0] for name in golden] == ["0", "1", "2", "3"]
    found = [learned.judged.index(sample) for sample in golden.values()]
    assert found[0] == order[3]  # the middle of six good ones
    assert found[1] == order[9]
    assert found[2:] == [one for one in nearest if one not in found[:2]][:2]


def test_no_more_golden_images_than_there_are(learned):
    assert len(contract_of(learned, count=100)[1]) == 12
    assert [sample.label for sample in contract_of(learned, count=1)[1].values()] == [0]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("good", "0-good.png"),
        ("Class8/good", "0-Class8-good.png"),
        ("thread side", "0-thread-side.png"),
        ("Kratzer ü/ö", "0-Kratzer-.png"),
        ("../x", "0-..-x.png"),
        ("x" * 300, f"0-{'x' * 64}.png"),
    ],
)
def test_a_kind_of_any_name_gives_a_file_that_a_bundle_may_hold(tmp_path, learned, kind, name):
    named = tuple(replace(sample, kind=kind) for sample in learned.judged)
    calibration, golden = contract_of(replace(learned, judged=named), count=2)
    assert list(golden) == [name, f"1{name[1:]}"]
    images = {file: calibrations.png(sample, learned.preprocess) for file, sample in golden.items()}
    make_bundle(tmp_path / "out", "spots", learned.content, calibration, images, {})


@pytest.mark.parametrize("coloured", [False, True])
def test_a_golden_image_is_kept_without_loss(tmp_path, coloured):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3 if coloured else 1), dtype=np.uint8)
    sample = make_sample(tmp_path / "0.bmp", (30, 20), 0)
    assert cv2.imwrite(str(sample.path), image)
    spec = PreprocessSpec(Size(32, 32), "stretch", "rgb", 114)
    (tmp_path / "copy.png").write_bytes(calibrations.png(sample, spec))
    np.testing.assert_array_equal(read_image(tmp_path / "copy.png")[0], read_image(sample.path)[0])


@pytest.mark.parametrize("colour", ["gray", "rgb"])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_golden_image_of_many_pixels_is_kept_as_the_model_sees_it(tmp_path, colour, resize):
    sample = make_sample(tmp_path / "0.png", (900, 600), 0)
    spec = PreprocessSpec(Size(64, 64), resize, colour, 114)
    (tmp_path / "golden.png").write_bytes(calibrations.png(sample, spec))
    small, large = (frame_from_file(path, 0) for path in (tmp_path / "golden.png", sample.path))
    assert small.size == Size(64, 64 if resize == "stretch" else 43)
    preprocessor = Preprocessor(spec)
    np.testing.assert_array_equal(preprocessor.prepare(small).tensor, preprocessor.prepare(large).tensor)


def test_of_a_tiled_image_the_tile_with_the_defect_is_kept(tmp_path):
    sample = with_mask(make_sample(tmp_path / "0.png", (512, 128), 0), (300, 40, 20, 20))
    spec = PreprocessSpec(Size(64, 64), "stretch", "gray", 114, tiles=Size(128, 128))
    frame = calibrations.golden_frame(sample, spec)
    assert frame.size == Size(128, 128)
    np.testing.assert_array_equal(frame.image, read_image(sample.path)[0][:, 256:384])
    assert len(Preprocessor(spec).prepare(frame).framing.tiles) == 1


def test_the_size_of_what_was_trained_on_is_kept(learned):
    frames = contract_of(learned)[0].frames
    size = learned.judged[0].size
    assert (frames.width_px, frames.height_px) == ((size.width,) * 2, (size.height,) * 2)


@pytest.mark.parametrize(("slope", "tolerance"), [(1e-3, 0.002), (0.4, 0.4 * 0.25), (1e3, 0.2)])
def test_the_tolerance_is_a_step_of_the_output_within_reason(learned, slope, tolerance):
    """One step of int8 moves a score by slope * scale / 4 where the curve is steepest."""
    model = Int8Model(learned.content)
    golden = {"0-good.png": learned.judged[0]}
    found = calibrations._golden_spec(model, learned, ScoreCalibration(slope, 0.0), golden)
    expected = tolerance * model.output_quantization.scale if slope == 0.4 else tolerance
    assert found.tolerance == pytest.approx(expected)


def test_without_a_rate_any_picture_is_judged(learned):
    calibration, _ = contract_of(learned)
    assert calibration.familiar is None
    scores = calibration.score_calibration
    golden = calibrations.golden_images(learned, scores, calibration.thresholds.ng, 3)
    known = calibrations.calibration(
        learned, scores, calibration.thresholds, golden, model_id="spots", training={}, unfamiliar_rate=0.02
    ).familiar
    assert known is not None
    assert known.rate == 0.02
