"""A real, tiny int8 model, and bundles around it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from device.bundle import bundle as bundles
from device.bundle import store
from device.bundle.bundle import (
    Bundle,
    Calibration,
    Contents,
    DriftReference,
    GoldenSpec,
    GoldenVector,
    LocalizationSpec,
    MemorySpec,
    Pooling,
    PreprocessSpec,
    Quantization,
    Reference,
    ScoreCalibration,
    ThresholdRow,
    Thresholds,
)
from device.bundle.calibration import SCHEMA_VERSION
from device.bundle.memory import GoodFeatures, Memory
from device.image.frame import Frame
from device.image.geometry import Size
from device.inspection.detector import Detector
from device.inspection.interpreter import Interpreter
from device.inspection.preprocess import Preprocessor

SIDE = 64  # px, of the tiny model's input
CELLS = 8  # on a side of its evidence map
GOLDEN = "golden-0.png"


def make_image(
    *, width: int = SIDE, height: int = SIDE, spot: tuple[int, int, int, int] | None = None, seed: int = 0
) -> np.ndarray:
    """Dark gray with a little noise, RGB; `spot` is x, y, width, height of a white rectangle: the defect."""
    image = np.random.default_rng(seed).integers(40, 60, (height, width, 1), dtype=np.uint8).repeat(3, axis=2)
    if spot is not None:
        x, y, spot_width, spot_height = spot
        image[y : y + spot_height, x : x + spot_width] = 255
    return image


def make_frame(image: np.ndarray | None = None, seq: int = 0, **changes: Any) -> Frame:
    """A frame of the image (of a good one by default) at a fixed time."""
    values = {
        "image": make_image() if image is None else image,
        "seq": seq,
        "captured_ns": 1_790_000_000_123_456_789,
        "monotonic_ns": 5_000_000_000,
        "camera": "replay",
        "path": None,
        "sha256": None,
    }
    return Frame(**{**values, **changes})


def png_bytes(image: np.ndarray) -> bytes:
    """An RGB image as the bytes of a PNG file."""
    encoded, content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert encoded
    return content.tobytes()


def make_calibration(**changes: Any) -> Calibration:
    """A legal calibration of no model in particular, with fields replaced."""
    calibration = Calibration(
        schema_version=SCHEMA_VERSION,
        model_id="tiny",
        created="2026-03-04T05:06:07Z",
        model_sha256="0" * 64,
        preprocess=PreprocessSpec(Size(SIDE, SIDE), "letterbox", "rgb", 114),
        input_quantization=Quantization(1 / 127.5, 127),
        output_quantization=Quantization(0.078, 0),
        pooling=Pooling("top", 0.05),
        score_calibration=ScoreCalibration(1.0, 0.0),
        thresholds=Thresholds(0.6, 0.3, "chosen by hand", (ThresholdRow(0.6, 1.0, 0.9, 0.947, 9, 0, 10, 1),)),
        localization=LocalizationSpec("otsu", 4, 5.0, 40.0, 0.0),
        drift_reference=DriftReference(
            Reference(0.2, 0.05), Reference(300.0, 100.0), Reference(0.1, 0.05), Reference(-6.0, 0.5)
        ),
        golden=GoldenSpec(0.02, (GoldenVector(GOLDEN, 0.0),)),
        training={"seed": 0, "data": {"digest": "ab", "images": 20}},
        metrics={"float": {"auroc": 0.99}, "int8": {"auroc": 0.98, "ap": None}},
    )
    return replace(calibration, **changes)


def make_memory(
    items: np.ndarray, channels: int | None = None, head: np.ndarray | None = None, **changes: Any
) -> Memory:
    """A memory with these rows, the whole image left out; `changes` to its spec."""
    count, own = items.shape
    both = 2 * (channels or own)
    good = GoodFeatures(
        items,
        np.zeros((0, own), np.float16),
        np.zeros((0, own, own), np.float16),
        np.zeros(both, np.float32),
        np.eye(both, dtype=np.float32),
        np.zeros(0, np.float32) if head is None else head,
    )
    spec = MemorySpec("nearest", channels or own, own, count, False, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0)
    return Memory(good, replace(spec, **changes))


@dataclass(frozen=True)
class TinyModel:
    """The converted model and a calibration whose facts and golden score are really its own."""

    content: bytes
    calibration: Calibration
    golden: bytes  # PNG

    def write(self, parent: Path, name: str = "tiny", **changes: Any) -> Path:
        """A bundle of it beside others in `parent`, with fields of its calibration replaced."""
        calibration = replace(self.calibration, **changes)
        return make_bundle(parent, name, self.content, calibration, {GOLDEN: self.golden}, {})

    def bundle(self, folder: Path, **changes: Any) -> Bundle:
        """Only what a Detector needs, unchecked: for models and calibrations that do not fit each other."""
        folder.mkdir(exist_ok=True)
        (folder / "model.tflite").write_bytes(self.content)
        return Bundle(folder, replace(self.calibration, **changes), folder.name)


def make_bundle(
    parent: Path,
    name: str,
    model: bytes,
    calibration: Calibration,
    golden: Mapping[str, bytes],
    extra: Mapping[str, bytes],
) -> Path:
    """A bundle beside others in `parent`, in use as where a trainer has made it."""
    return store.lead_to(store.publish(parent, name, Contents(model, calibration, golden, extra)))


def tree(folder: Path) -> dict[str, bytes | str]:
    """Everything under a folder."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Converted once for all tests, which takes some seconds."""
    folder = tmp_path_factory.mktemp("tiny_model")
    path = folder / "model.tflite"
    script = Path(__file__).with_name("tiny_model.py")
    done = subprocess.run(
        (sys.executable, str(script), str(path)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    opened = Interpreter(path)
    image = make_image(spot=(24, 24, 16, 16))
    model = TinyModel(
        path.read_bytes(),
        make_calibration(
            model_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            input_quantization=Quantization(opened.input.scale, opened.input.zero_point),
            output_quantization=Quantization(opened.output.scale, opened.output.zero_point),
        ),
        png_bytes(image),
    )
    bundle = model.bundle(folder)
    frame = make_frame(image)
    score = Detector(bundle).detect(Preprocessor(bundle.calibration.preprocess).prepare(frame)).score
    golden = GoldenSpec(0.02, (GoldenVector(GOLDEN, score),))
    return replace(model, calibration=replace(model.calibration, golden=golden))


@pytest.fixture(scope="session")
def bundles_folder(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one bundle and `current`. For reading only: write your own to damage it."""
    folder = tmp_path_factory.mktemp("bundles")
    tiny_model.write(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(bundles_folder: Path) -> Bundle:
    """The bundle of bundles_folder, loaded."""
    return bundles.load(bundles_folder)
