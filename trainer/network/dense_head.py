"""The head of older recipes: the mean of the last feature map through two small dense layers to one logit.

GAP, Dense 64, BatchNorm, dropout, Dense 32, BatchNorm, dropout, and a sigmoid, which the score's curve stands
for here. To show a place it has a surrogate: a class activation map of the same feature map, by the mean
gradient of the logit (Selvaraju et al., ICCV 2017), shifted so that its mean is the logit. So it ships
through the same contract as an evidence map, with the mean as its pooling.
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

LAST = "out_relu"
UNITS = (64, 32)
MOMENTUM = 0.9  # of the head's BatchNorms: Keras's 0.99 needs more steps than a small data set has
STEPS = 255  # of int8 over a map's range

Floats = NDArray[np.float32]


def trainable(base: keras.Model, dropout: float) -> keras.Model:
    """The backbone with an untrained head: (n, h, w, 3) in [-1, 1] to (n, 1) logits."""
    seen = keras.layers.GlobalAveragePooling2D(name="dense_mean")(base.outputs[-1])
    for units in UNITS:
        seen = keras.layers.Dense(units, activation="relu", name=f"dense_{units}")(seen)
        seen = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"dense_{units}_norm")(seen)
        seen = keras.layers.Dropout(dropout, name=f"dense_{units}_dropout")(seen)
    return keras.Model(base.input, keras.layers.Dense(1, name="dense_logit")(seen))


def with_map(model: keras.Model, typical: Floats, logits: Floats) -> keras.Model:
    """The trained model with a map in place of its logit, (n, h, w, 3) to (n, h', w', 1).

    The map's mean is the logit. `typical` (n, channels): what the head was fed with for defective images, for
    the gradient. `logits` (n,): of images, for their range. Each cell gets the logit with a small constant of
    its own: rounded to int8 in as many ways as there are cells, its mean keeps many more levels than 256.
    """
    features = model.get_layer(LAST).output
    rows, columns = features.shape[1:3]
    step = float(np.ptp(logits)) / STEPS
    repeated = keras.layers.Dense(rows * columns, name="dense_repeated")
    cells = keras.layers.Reshape((rows, columns, 1))(repeated(model.layers[-1].input))
    activation = keras.layers.Conv2D(1, 1, use_bias=False, name=f"evidence_{LAST}")
    shown = activation(features)
    centred = keras.layers.Subtract()([shown, keras.layers.GlobalAveragePooling2D(keepdims=True)(shown)])
    shipped = keras.Model(model.input, keras.layers.Add()([cells, centred]))
    kernel, bias = model.layers[-1].get_weights()
    spread = (np.arange(rows * columns) + 0.5) / (rows * columns) - 0.5
    repeated.set_weights([np.repeat(kernel, rows * columns, 1), bias + (spread * step).astype(np.float32)])
    activation.set_weights([gradient(model, typical)[np.newaxis, np.newaxis, :, np.newaxis]])
    return shipped


def gradient(model: keras.Model, typical: Floats) -> Floats:
    """(channels,): the mean over `typical` of how the logit rises with what the head is fed with."""
    kernel, _ = model.get_layer("dense_logit").get_weights()
    seen, passed = typical, []
    for units in UNITS:
        weights, bias = model.get_layer(f"dense_{units}").get_weights()
        gamma, beta, mean, variance = model.get_layer(f"dense_{units}_norm").get_weights()
        scale = gamma / np.sqrt(variance + model.get_layer(f"dense_{units}_norm").epsilon)
        before = seen @ weights + bias
        passed.append((weights, (before > 0) * scale))
        seen = (np.maximum(before, 0) - mean) * scale + beta
    rising = np.tile(kernel[:, 0], (len(typical), 1))
    for weights, slope in reversed(passed):
        rising = (rising * slope) @ weights.T
    return np.asarray(rising.mean(0), np.float32)
