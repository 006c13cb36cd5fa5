"""The training step on every backend of Keras that is installed: the same losses, the same int8 file.

Each runs in a process of its own, since a process has one backend. EDGEVISION_BACKENDS names a Python with
JAX and PyTorch, where this one has neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from fixtures_trainer import REPOSITORY

STEP = """
import json
import sys

import keras
import numpy as np

from device.bundle.bundle import Pooling
from device.image.geometry import Size
from trainer import config
from trainer.network import fake_quant
from trainer.network import hardware
from trainer.network import network
from trainer.data.batches import Batch
from trainer.training.learner import Learner, Phase, Teaching
from trainer.network.network import Head, scaled

base = network.backbone(Size(64, 64), "none", 0.35)
rng = np.random.default_rng(0)
for variable in base.variables:
    if "kernel" in variable.path:
        fan = np.prod(variable.shape[:3]) if "depthwise" not in variable.path else 9
        variable.assign(rng.normal(0, np.sqrt(2 / fan), variable.shape))
cut = "block_6_expand_relu"
weights = rng.normal(0, 0.05, (base.outputs[0].shape[-1], 1)).astype(np.float32)
model = network.evidence_model(base, Head((cut,), weights, np.zeros(1, np.float32)))
labels = np.float32([0, 1] * 4)
cells = np.zeros((8, 8, 8), np.float32)
cells[1::2, 2:4, 2:4] = 1
pixels = rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
pixels[1::2, 16:32, 16:32] = 255
batch = Batch(pixels, labels, cells, np.ones(8, np.float32), np.arange(8))
machine = hardware.found(config.load(None).hardware)
learner = Learner(model, Phase(3, 3, 1e-3, 0.1), Teaching(Pooling("top", 0.1), 2.0, 0.5, 0.5), 2, machine)
learner.begin([np.array(keras.ops.convert_to_numpy(one)) for one in model.variables])
lines = [learner.epoch([batch, batch], 2) for _ in range(3)]
state = learner.state
learner.resume(state)
plain = fake_quant.folded(learner.network)
rounding = fake_quant.simulated(plain, fake_quant.ranges(plain, [scaled(pixels)]))
rounded = Learner(rounding, Phase(1, 3, 1e-3, 0.1), Teaching(Pooling("top", 0.1), 2.0, 0.5, 0.5), 1, machine)
print(json.dumps({
    "backend": machine.backend,
    "losses": [line["loss"] for line in lines],
    "maps": learner.judge([batch], 1).ravel().tolist(),
    "rounded_loss": rounded.epoch([batch], 1)["loss"],
}))
"""


def python_with(package: str) -> str:
    """One that has it; skips where none has."""
    for python in (sys.executable, os.environ.get("EDGEVISION_BACKENDS", "")):
        command = (python, "-c", f"import {package}")
        if python and not subprocess.run(command, capture_output=True, check=False).returncode:
            return python
    pytest.skip(f"{package} is not installed, here or for the Python that EDGEVISION_BACKENDS names")


def step_on(backend: str, python: str) -> dict:
    done = subprocess.run(
        (python, "-c", STEP),
        cwd=REPOSITORY,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def on_tensorflow() -> dict:
    return step_on("tensorflow", sys.executable)


def test_it_learns_on_tensorflow(on_tensorflow):
    losses = on_tensorflow["losses"]
    assert on_tensorflow["backend"] == "tensorflow"
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_same_step_on_another_backend(backend, on_tensorflow):
    found = step_on(backend, python_with(backend))
    assert found["backend"] == backend
    assert found["losses"] == pytest.approx(on_tensorflow["losses"], rel=0.02)
    assert found["maps"] == pytest.approx(on_tensorflow["maps"], abs=0.1)
    assert found["rounded_loss"] == pytest.approx(on_tensorflow["rounded_loss"], rel=0.05)
