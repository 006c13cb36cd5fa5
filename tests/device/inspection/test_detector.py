"""From the model's input to evidence and score."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_bundle import CELLS, TinyModel, make_frame, make_image, make_memory
from hypothesis import given
from hypothesis import strategies as st

from device.bundle.bundle import Bundle, Pooling, PreprocessSpec, Quantization, ScoreCalibration
from device.errors import InterpreterError
from device.image.geometry import Letterbox, Size
from device.inspection.detector import Detector, Prediction, pool, pooled_cells, sharpened
from device.inspection.framing import content_cells
from device.inspection.interpreter import Interpreter, Tensor
from device.inspection.preprocess import Preprocessor
from device.learning.coreset import remember


def predict(bundle: Bundle, image: np.ndarray) -> Prediction:
    model_input = Preprocessor(bundle.calibration.preprocess).prepare(make_frame(image))
    return Detector(bundle, threads=1).detect(model_input)


def test_the_evidence_is_where_the_defect_is(tiny_bundle: Bundle) -> None:
    prediction = predict(tiny_bundle, make_image(spot=(24, 40, 8, 8)))
    evidence = prediction.evidence
    assert evidence.shape == (CELLS, CELLS)
    assert evidence.dtype == np.float32
    assert np.unravel_index(evidence.argmax(), evidence.shape) == (5, 3)
    assert evidence.max() == pytest.approx(10, abs=0.4)
    assert np.median(evidence) == pytest.approx(-6, abs=0.4)


def test_the_evidence_is_dequantized_exactly(tiny_model: TinyModel, tiny_bundle: Bundle) -> None:
    image = make_image(spot=(24, 40, 8, 8))
    stored = Interpreter(tiny_bundle.model_path).run(image[np.newaxis])[0, :, :, 0].astype(np.float64)
    quantization = tiny_model.calibration.output_quantization
    expected = (stored - quantization.zero_point) * quantization.scale
    assert predict(tiny_bundle, image).evidence == pytest.approx(expected, rel=1e-6)


def test_the_evidence_is_the_mean_of_all_maps(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fraction of a step apart, they tell apart what one of them cannot."""
    [one] = maps_of(tiny_bundle)
    apart = np.concatenate([one, one, one, one + np.int8(1)], axis=2)
    monkeypatch.setattr(Detector, "_run", lambda *_: apart)
    image = make_image()
    found = predict(tiny_bundle, image).evidence
    step = tiny_bundle.calibration.output_quantization.scale
    exact = (one[:, :, 0].astype(np.float32) - tiny_bundle.calibration.output_quantization.zero_point) * step
    np.testing.assert_allclose(found, exact + step / 4, rtol=1e-5)


def maps_of(bundle: Bundle) -> list[np.ndarray]:
    """What the model of a bundle stores for a plain image."""
    detector = Detector(bundle)
    prepared = Preprocessor(bundle.calibration.preprocess).prepare(make_frame(make_image()))
    return [output.stored for output in detector.run(prepared)]


def test_the_score_is_the_calibrated_pool_of_the_evidence(tiny_model: TinyModel, tmp_path: Path) -> None:
    calibrated = ScoreCalibration(0.5, 1.0)
    bundle = tiny_model.bundle(tmp_path, pooling=Pooling("mean", 1.0), score_calibration=calibrated)
    prediction = predict(bundle, make_image(spot=(0, 0, 32, 32)))
    assert prediction.pooled == pytest.approx(prediction.evidence.mean(), rel=1e-6)
    assert prediction.score == pytest.approx(1 / (1 + math.exp(-(0.5 * prediction.pooled + 1))))


def test_good_and_defective_are_apart(tiny_bundle: Bundle) -> None:
    assert predict(tiny_bundle, make_image()).score < 0.01
    assert predict(tiny_bundle, make_image(spot=(30, 30, 16, 16))).score > 0.99


def test_padding_does_not_count(tiny_model: TinyModel, tmp_path: Path) -> None:
    """White padding would be a defect to this model; the score of a wide part is that of the part alone."""
    spec = PreprocessSpec(Size(64, 64), "letterbox", "rgb", 255)
    for pooling in (Pooling("mean", 1.0), Pooling("top", 0.1), Pooling("top", 0.1, 1.5)):
        bundle = tiny_model.bundle(tmp_path, pooling=pooling, preprocess=spec)
        prediction = predict(bundle, np.full((32, 64, 3), 50, np.uint8))
        assert prediction.evidence.max() > 9
        assert prediction.pooled == pytest.approx(-6, abs=0.2)


# ---- what does not fit the calibration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"preprocess": PreprocessSpec(Size(96, 64), "letterbox", "rgb", 0)},
            r"input shape must be \(1, 64, 96, 3\), as calibrated, got \(1, 64, 64, 3\)",
        ),
        (
            {"input_quantization": Quantization(0.01, 127)},
            r"input scale must be 0\.00999\d+, as calibrated, got 0.0078",
        ),
        (
            {"input_quantization": Quantization(0.007843137718737125, 3)},
            "input zero point must be 3, as calibrated, got",
        ),
        (
            {"output_quantization": Quantization(0.5, 0)},
            r"output scale must be 0.5, as calibrated, got 0\.07",
        ),
    ],
)
def test_a_model_that_is_not_what_its_calibration_says(
    tiny_model: TinyModel, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InterpreterError, match=rf"model.tflite: {message}"):
        Detector(tiny_model.bundle(tmp_path, **changes))


def test_a_scale_with_fewer_digits_is_the_same_float32(tiny_model: TinyModel, tmp_path: Path) -> None:
    output = tiny_model.calibration.output_quantization
    shorter = Quantization(float(f"{output.scale:.9g}"), output.zero_point)
    Detector(tiny_model.bundle(tmp_path, output_quantization=shorter))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"shape": (1, 2)}, r"output shape must be \(1, h, w, 1 to 16\), got \(1, 2\)"),
        ({"shape": (1, 8, 8, 17)}, r"output shape must be \(1, h, w, 1 to 16\), got \(1, 8, 8, 17\)"),
        ({"dtype": "float32"}, "output dtype must be int8 or uint8, got float32"),
    ],
)
def test_an_output_that_is_no_evidence_map(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, output: dict[str, Any], message: str
) -> None:
    genuine = Interpreter.__init__

    def opened(self: Interpreter, *arguments: Any) -> None:
        genuine(self, *arguments)
        facts = {name: getattr(self.output, name) for name in Tensor.__slots__}
        self.output = Tensor(**{**facts, **output})

    monkeypatch.setattr(Interpreter, "__init__", opened)
    with pytest.raises(InterpreterError, match=message):
        Detector(tiny_bundle)


# ---- pooling


def test_the_mean_of_the_greatest() -> None:
    evidence = np.arange(100, dtype=np.float32).reshape(10, 10)[::-1]
    assert pool(evidence, Pooling("mean", 1.0)) == 49.5
    assert pool(evidence, Pooling("top", 1.0)) == 49.5
    assert pool(evidence, Pooling("top", 0.05)) == 97.0
    assert pool(evidence, Pooling("top", 0.001)) == 99.0
    assert pool(evidence, Pooling("top", 0.041)) == 97.0  # ceil(4.1) = 5


@pytest.mark.parametrize(
    ("share", "cells", "count"), [(0.1, 30, 3), (0.07, 100, 7), (0.2, 64, 13), (1 / 3, 3, 1)]
)
def test_the_count_is_not_a_victim_of_rounding(share: float, cells: int, count: int) -> None:
    evidence = np.zeros(cells, np.float32)
    evidence[:count] = 1
    assert pool(evidence, Pooling("top", share)) == 1.0
    evidence[count - 1] = 0
    assert pool(evidence, Pooling("top", share)) < 1.0


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=80), st.floats(0.01, 1))
def test_pooling_is_what_sorting_says(values: list[float], share: float) -> None:
    count = max(1, math.ceil(round(share * len(values), 6)))
    expected = np.mean(sorted(values, reverse=True)[:count])
    assert pool(np.array(values, np.float32), Pooling("top", share)) == pytest.approx(expected, abs=1e-5)


def test_a_small_peak_stands_out_of_a_sharpened_map_more_than_a_broad_swell() -> None:
    rows, columns = np.mgrid[:24, :24].astype(np.float32)
    swell = 1.2 * np.exp(-((rows - 12) ** 2 + (columns - 12) ** 2) / 100, dtype=np.float32)
    peak = np.zeros((24, 24), np.float32)
    peak[5, 7] = 1.0
    everywhere, plain, sharp = (slice(0, 24),) * 2, Pooling("top", 0.001), Pooling("top", 0.001, 1.5)
    assert pooled_cells(swell, everywhere, plain) > pooled_cells(peak, everywhere, plain)
    assert pooled_cells(swell, everywhere, sharp) < pooled_cells(peak, everywhere, sharp)
    assert sharpened(swell, 0.0) is swell
    flat = np.full((6, 5), -2.0, np.float32)
    np.testing.assert_allclose(sharpened(flat, 1.5), flat, atol=1e-5)  # up to its edges
    np.testing.assert_allclose(sharpened(2 * peak + 3, 1.5), 2 * sharpened(peak, 1.5) + 3, atol=1e-4)


def test_a_bundle_says_how_its_map_is_sharpened(tiny_model: TinyModel, tmp_path: Path) -> None:
    image = make_image(spot=(24, 40, 8, 8))
    found, sharper = (
        predict(tiny_model.bundle(tmp_path / str(times), pooling=Pooling("top", 0.01, times)), image)
        for times in (0.0, 1.5)
    )
    np.testing.assert_array_equal(found.evidence, sharper.evidence)
    assert found.pooled == pytest.approx(found.evidence.max())
    assert sharper.pooled == pytest.approx(sharpened(found.evidence, 1.5).max())
    assert sharper.pooled > found.pooled + 1


def test_where_parts_of_the_map_are_masked_the_others_are_sharpened_alike() -> None:
    rng = np.random.default_rng(0)
    evidence, counted = rng.normal(0, 1, (12, 12)).astype(np.float32), np.ones((12, 12), np.bool_)
    counted[4:6, 4:6] = False
    way = Pooling("top", 0.01, 1.5)
    expected = pool(sharpened(evidence, 1.5)[counted], way)
    assert pooled_cells(evidence, counted, way) == pytest.approx(expected)


def test_nothing_cannot_be_pooled() -> None:
    with pytest.raises(ValueError, match=r"must have cells to pool, got \(0, 4\)"):
        pool(np.zeros((0, 4), np.float32), Pooling("mean", 1.0))


# ---- cells on the image


def test_cells_whose_centre_lies_on_the_image() -> None:
    target = Size(64, 64)
    assert content_cells(Letterbox.fit(target, target, "letterbox"), (8, 8)) == (slice(0, 8), slice(0, 8))
    assert content_cells(Letterbox.fit(Size(64, 32), target, "letterbox"), (8, 8)) == (
        slice(2, 6),
        slice(0, 8),
    )
    # rows 13..51 are the image; the centres of the cells are at 4, 12, 20, ...
    assert content_cells(Letterbox.fit(Size(64, 38), target, "letterbox"), (8, 8)) == (
        slice(2, 6),
        slice(0, 8),
    )
    # rows 12..52: the centre at 12 is on the image, the one at 52 is where it ends
    assert content_cells(Letterbox.fit(Size(64, 40), target, "letterbox"), (8, 8)) == (
        slice(1, 6),
        slice(0, 8),
    )


@given(
    st.builds(Size, st.integers(1, 3000), st.integers(1, 3000)),
    st.builds(Size, st.integers(8, 600), st.integers(8, 600)),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_cells_are_those_that_a_loop_finds(source: Size, target: Size, shape: tuple[int, int]) -> None:
    placement = Letterbox.fit(source, target, "letterbox")
    box = placement.content
    rows, columns = content_cells(placement, shape)
    axes = (
        (rows, box.y, box.height, target.height, shape[0]),
        (columns, box.x, box.width, target.width, shape[1]),
    )
    for cells, start, length, whole, count in axes:
        centres = [(2 * cell + 1) * whole for cell in range(count)]  # in units of 1 / (2 * count) px
        inside = [at for at, centre in enumerate(centres) if start <= centre / (2 * count) < start + length]
        assert 0 <= cells.start < cells.stop <= count
        if inside:
            assert list(range(cells.start, cells.stop)) == inside
        else:
            assert cells.stop - cells.start == 1


def test_a_prediction_checks_itself() -> None:
    with pytest.raises(ValueError, match=r"evidence must be float32 \(h, w\), got int8 \(1, 8, 8, 1\)"):
        Prediction(np.zeros((1, 8, 8, 1), np.int8), 0.0, 0.5)


def remembering(tiny_model: TinyModel, folder: Path, items: list[int]) -> Bundle:
    memory = make_memory(np.array(items, np.int8)[:, np.newaxis], centre=20.0, spread=4.0)
    bundle = tiny_model.bundle(folder, memory=memory.spec)
    (folder / "memory.npz").write_bytes(memory.good.to_bytes())
    return bundle


def test_evidence_is_the_distance_from_a_memory(tiny_model: TinyModel, tmp_path: Path) -> None:
    image = make_image(spot=(24, 40, 8, 8))
    bundle = remembering(tiny_model, tmp_path, [-70, -80])
    stored = Interpreter(bundle.model_path).run(image[np.newaxis])[0, :, :, 0].astype(np.float64)
    expected = np.minimum(abs(stored + 70), abs(stored + 80))
    prediction = predict(bundle, image)
    assert prediction.evidence == pytest.approx((expected - 20) / 4, abs=1e-5)
    assert prediction.score > 0.99
    assert predict(bundle, make_image()).score < 0.02


def test_a_memory_of_another_model(tiny_model: TinyModel, tmp_path: Path) -> None:
    memory = make_memory(np.zeros((1, 2), np.int8))
    bundle = tiny_model.bundle(tmp_path, memory=memory.spec)
    (tmp_path / "memory.npz").write_bytes(memory.good.to_bytes())
    with pytest.raises(InterpreterError, match=r"output shape must be \(1, h, w, 2\), got \(1, 8, 8, 1\)"):
        Detector(bundle)


def test_a_memory_by_position_for_another_map(tiny_model: TinyModel, tmp_path: Path) -> None:
    good = remember(np.zeros((10, 2, 2, 1), np.int8), "position", 1, 1, np.random.default_rng(0))
    spec = replace(make_memory(np.zeros((4, 1), np.int8)).spec, kind="position")
    bundle = tiny_model.bundle(tmp_path, memory=spec)
    (tmp_path / "memory.npz").write_bytes(good.to_bytes())
    with pytest.raises(InterpreterError, match="output must have 4 cells, one for each place of the memory"):
        Detector(bundle)
