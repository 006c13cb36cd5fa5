"""What the training runs on: chosen from what is there, and the same step on one device and several."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from fixtures_network import CPU
from fixtures_trainer import REPOSITORY

from trainer import config
from trainer.network import hardware

SHARED = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from fixtures_network import CPU, GRID, POOLING, evidence_of
from trainer.network import hardware
from trainer.network import network
from trainer.data.batches import Batch
from trainer.training.learner import Learner, Phase, Teaching
from device.image.geometry import Size
import keras
keras.utils.set_random_seed(0)
model = evidence_of(network.backbone(Size(64, 64), "none", 0.35))
rng = np.random.default_rng(0)
labels = np.float32([0, 1] * 4)
cells = np.zeros((8, *GRID), np.float32); cells[1::2, 2:4, 2:4] = 1
pixels = rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
batches = [Batch(pixels, labels, cells, np.ones(8, np.float32), np.arange(8))] * 2
both = hardware.of("tensorflow", ["CPU:0", "CPU:1"], "float32", gpu=False)
print(both.describe(), both.share(7), both.share(1))
start = [np.array(v) for v in model.variables]
for one in (CPU, both):
    learner = Learner(model, Phase(2, 3, 1e-3, 0.5), Teaching(POOLING, 0.0, 0.5, 0.0), 2, one)
    learner.begin(start)
    line = learner.epoch(batches, 2)
    moved = [abs(a - b).sum() for a, b in zip(learner.state, start)]
    print(round(line["image_loss"], 4), round(float(sum(moved)), 1), learner.judge(batches, 2).shape)
    learner.resume(learner.state)
"""


def test_here_there_is_a_cpu(caplog):
    with caplog.at_level("INFO"):
        found = hardware.found(config.load(None).hardware)
    if found.gpu:
        pytest.skip("this machine has a GPU")
    assert (found.backend, found.devices, found.precision) == ("tensorflow", ("cpu:0",), "float32")
    assert "training on: Keras 3" in caplog.text
    assert "on tensorflow, one CPU (cpu:0), float32" in caplog.text


def test_what_is_asked_for_is_used():
    asked = replace(config.load(None).hardware, precision="mixed_bfloat16")
    assert hardware.found(asked).precision == "mixed_bfloat16"


def test_a_batch_is_divided_evenly():
    three = replace(CPU, devices=("gpu:0", "gpu:1", "gpu:2"))
    assert [three.share(size) for size in (8, 9, 10, 1)] == [9, 9, 9, 3]
    assert CPU.share(7) == 7


@pytest.mark.parametrize(
    ("capability", "expected"),
    [(9.0, "mixed_bfloat16"), (8.0, "mixed_bfloat16"), (7.5, "mixed_float16"), (6.1, "float32")],
)
def test_the_precision_suits_the_gpu(capability, expected, monkeypatch):
    monkeypatch.setattr(hardware, "_capability", lambda backend: capability)
    assert hardware.of("tensorflow", ["gpu:0"], "auto", gpu=True).precision == expected


def test_two_devices_share_each_batch():
    """Two logical processors in a process of their own: the same loss, the same steps."""
    done = subprocess.run(
        (sys.executable, "-c", SHARED),
        cwd=REPOSITORY,
        env={
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/tests",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    described, alone, shared = done.stdout.splitlines()[-3:]
    assert described == f"{replace(CPU, devices=('CPU:0', 'CPU:1')).describe()} 8 2"
    losses, steps = zip(*(map(float, line.split()[:2]) for line in (alone, shared)), strict=True)
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert steps[1] == pytest.approx(steps[0], rel=0.05)
    assert alone.endswith("(16, 8, 8)")
    assert np.all(shared.endswith("(16, 8, 8)"))
