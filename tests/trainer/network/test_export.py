"""From Keras to an all-int8 file that takes pixels as they are."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from fixtures_bundle import TinyModel, make_frame, make_image
from fixtures_trainer import SIDE

from device.bundle.bundle import Pooling, PreprocessSpec
from device.errors import InterpreterError
from device.image.geometry import Size
from device.inspection.detector import Detector
from device.inspection.preprocess import Preprocessor
from trainer.network import export
from trainer.network.network import CHANNELS, STRIDES, scaled


@pytest.fixture(scope="module")
def examples() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(60, 180, (1, 32, 32, 3), dtype=np.uint8) for _ in range(12)]


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """What the evidence models are made of: strided convolutions, ReLU6, upsampling, a sum, a 1x1 head."""
    keras.utils.set_random_seed(4)
    image = keras.Input((32, 32, 3))
    fine = keras.layers.Conv2D(40, 3, strides=4, padding="same")(image)
    fine = keras.layers.ReLU(6.0)(fine)
    coarse = keras.layers.Conv2D(48, 3, strides=2, padding="same", activation="relu")(fine)
    raised = keras.layers.UpSampling2D(2, interpolation="bilinear")(keras.layers.Conv2D(1, 1)(coarse))
    return keras.Model(image, keras.layers.Add()([keras.layers.Conv2D(1, 1)(fine), raised]))


@pytest.fixture(scope="module")
def converted(small, examples) -> bytes:
    return export.to_int8(small, examples)


def test_a_stored_pixel_is_a_pixel(converted):
    """Though the examples reach from 60 to 180 only, 0..255 are -1..1, to the rounding of the zero point."""
    quantization = export.Int8Model(converted).input_quantization
    assert quantization.scale == pytest.approx(1 / 127.5, rel=1e-4)
    assert quantization.zero_point in (127, 128)


def test_every_tensor_is_an_integer(converted):
    interpreter = Interpreter(model_content=converted)
    kinds = {np.dtype(detail["dtype"]).name for detail in interpreter.get_tensor_details()}
    assert kinds <= {"int8", "uint8", "int32"}
    assert np.dtype(interpreter.get_input_details()[0]["dtype"]) == np.uint8
    assert np.dtype(interpreter.get_output_details()[0]["dtype"]) == np.int8


def test_int8_says_what_float_says(small, converted, examples):
    model = export.Int8Model(converted)
    floats = np.asarray(small(scaled(np.concatenate(examples)), training=False))
    ints = model.run_batch(np.concatenate(examples))
    assert ints.shape == floats.shape == (12, 8, 8, 1)
    assert np.abs(ints - floats).max() < 0.03 * np.ptp(floats)
    assert np.corrcoef(ints.ravel(), floats.ravel())[0, 1] > 0.995


def test_the_float_file_says_what_keras_says(small, examples):
    floats = np.asarray(small(scaled(np.concatenate(examples)), training=False))
    found = export.FloatModel(export.to_float(small)).run_batch(np.concatenate(examples))
    np.testing.assert_allclose(found, floats, rtol=1e-4, atol=1e-4)


def test_the_examples_stay_as_they_were(converted, examples):
    assert min(example.min() for example in examples) >= 60


def test_the_same_model_and_images_give_the_same_file(small, converted, examples):
    assert export.to_int8(small, examples) == converted


def test_a_batch_is_one_image_after_the_other(converted, examples):
    model = export.Int8Model(converted)
    batch = model.run_batch(np.concatenate(examples[:3]))
    for values, example in zip(batch, examples, strict=False):
        np.testing.assert_array_equal(values, next(model.run(example)))


def convert(small, *optimizations) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(small)
    converter.optimizations = list(optimizations)
    content: bytes = converter.convert()
    return content


def test_a_float_model_is_refused(small):
    with pytest.raises(InterpreterError, match=r"every tensor must be an integer, found .*\(float32\)"):
        export.require_all_int8(convert(small))


def test_a_hybrid_model_is_refused(small):
    """int8 weights and float activations: what the converter makes without examples."""
    content = convert(small, tf.lite.Optimize.DEFAULT)
    kinds = {np.dtype(detail["dtype"]) for detail in Interpreter(model_content=content).get_tensor_details()}
    assert np.dtype("int8") in kinds
    with pytest.raises(InterpreterError, match=r"\(float32\)"):
        export.require_all_int8(content)


def test_the_cuts_of_the_backbone_come_in_the_order_of_their_strides(int8_backbone):
    model = export.Int8Model(int8_backbone)
    cuts = list(model.run(np.full((1, SIDE, SIDE, 3), 90, np.uint8)))
    shapes = [(SIDE // STRIDES[cut], SIDE // STRIDES[cut], CHANNELS[cut]) for cut in STRIDES]
    assert [cut.shape for cut in cuts] == shapes
    assert model.stride == 8


def test_it_says_of_an_image_what_the_device_says(tiny_model: TinyModel, tiny_bundle):
    """An image of 64x32 in an input of 64x64: four of eight rows lie on it, as the device pools them."""
    model = export.Int8Model(tiny_model.content)
    frame = make_frame(make_image(width=64, height=32, spot=(0, 0, 8, 8)))
    spec = PreprocessSpec(Size(64, 64), "letterbox", "rgb", 255)
    model_input = Preprocessor(spec).prepare(frame)
    calibration = tiny_bundle.calibration
    scores = calibration.score_calibration
    found = model.predict(model_input, Pooling("top", 1 / 32), scores)
    assert found.evidence.shape == (8, 8)
    assert found.evidence[2, 0] > 9  # white
    assert found.pooled == found.evidence[2, 0]
    assert (found.evidence[2:6].ravel()[1:] < 0).all()
    whole = model.predict(model_input, calibration.pooling, scores)
    expected = Detector(tiny_bundle).detect(model_input)
    np.testing.assert_array_equal(whole.evidence, expected.evidence)
    assert whole.score == expected.score


def test_another_process_converts_to_the_same_file(small, examples, converted):
    """What is done where Keras runs on JAX or PyTorch: layers are named alike, so the files are too."""
    content = export._in_a_process(small, examples)
    given, expected = (next(export.Int8Model(one).run(examples[0])) for one in (content, converted))
    np.testing.assert_array_equal(given, expected)


def test_a_process_that_cannot_convert_says_why(small, examples):
    class Unsaved:
        def save(self, path):
            path.write_text("no model")

    with pytest.raises(InterpreterError, match=r"conversion by TensorFlow failed \(1\): "):
        export._in_a_process(Unsaved(), examples)
