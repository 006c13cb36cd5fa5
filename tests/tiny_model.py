"""Convert a tiny Keras model to an all-int8 TFLite file, as a real one is: python tiny_model.py OUT.tflite.

Input: uint8 (1, 64, 64, 3), level 0 is -1 and 255 is 1. Output: int8 (1, 8, 8, 1); the logit of a cell is
about 10 times the mean of its 8 x 8 pixels, so a bright spot is a defect: black gives -10, white 10.
Its own process, so that TensorFlow stays out of the one that tests the device.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import numpy as np
import tensorflow as tf

SIDE, CELL, FILTERS = 64, 8, 4


def build() -> keras.Model:
    image = keras.Input((SIDE, SIDE, 3), batch_size=1)
    features = keras.layers.Conv2D(FILTERS, CELL, strides=CELL, name="features")(image)
    evidence = keras.layers.Conv2D(1, 1, name="evidence")(features)
    model = keras.Model(image, evidence)
    noise = np.random.default_rng(7).normal(0, 1e-3, (CELL, CELL, 3, FILTERS))
    mean = np.full((CELL, CELL, 3, FILTERS), 1 / (CELL * CELL * 3))
    model.get_layer("features").set_weights([mean + noise * mean, np.zeros(FILTERS)])
    model.get_layer("evidence").set_weights([np.full((1, 1, FILTERS, 1), 10 / FILTERS), np.zeros(1)])
    return model


def representative() -> Iterator[list[np.ndarray]]:
    rng = np.random.default_rng(8)
    for level in np.linspace(-1, 1, 9):
        image = rng.uniform(-1, 1, (1, SIDE, SIDE, 3)) * 0.1 + level
        yield [np.clip(image, -1, 1).astype(np.float32)]


def convert() -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(build())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    model: bytes = converter.convert()
    return model


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(convert())
