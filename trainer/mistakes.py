"""Misjudged images as pictures: what the device shows, the mask's outline, and the evidence as heat."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from device.errors import StorageError
from device.image.frame import Frame, Pixels
from device.inspection.annotate import annotate, heat_map
from device.inspection.localizer import evidence_in_frame
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Verdict
from trainer.data.dataset import Sample, read_mask

TRUTH = (40, 190, 90)  # RGB of the mask's outline
GAP_PX = 8
QUALITY = 92


class JudgedImage(Protocol):
    """An image and the verdict on it."""

    @property
    def sample(self) -> Sample: ...
    @property
    def verdict(self) -> Verdict: ...


def is_mistake(one: JudgedImage) -> bool:
    """A good part that is NG, or a defective one that is not; MARGINAL does not reject."""
    return (one.verdict.verdict == "NG") != bool(one.sample.label)


def write(folder: Path, pipeline: Pipeline, inspected: Iterable[JudgedImage]) -> tuple[Path, ...]:
    """A JPEG for each mistake, `missed-...` or `rejected-...`; their paths. Raises StorageError."""
    mistakes = [one for one in inspected if is_mistake(one)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(_write(folder, pipeline, one) for one in mistakes)
    except OSError as error:
        raise StorageError(f"--mistakes {folder}: cannot be written: {error.strerror}") from None


def _write(folder: Path, pipeline: Pipeline, one: JudgedImage) -> Path:
    sample, verdict = one.sample, one.verdict
    frame = pipeline.read(sample.path, verdict.seq)
    word = "missed" if sample.label else "rejected"
    path = folder / f"{word}-{verdict.score or 0.0:.4f}-{sample.path.stem}-{sample.sha256[:12]}.jpg"
    shown = _outlined(annotate(frame.image, verdict), sample)
    gap = np.full((shown.shape[0], GAP_PX, 3), 255, np.uint8)
    picture = np.concatenate([shown, gap, _heat(pipeline, frame)], axis=1)
    encoded = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    path.write_bytes(encoded.tobytes())
    return path


def _outlined(image: Pixels, sample: Sample) -> Pixels:
    mask = read_mask(sample) if sample.mask else None
    if mask is None:
        return image
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, outlines, -1, TRUTH, max(1, min(image.shape[:2]) // 400))
    return image


def _heat(pipeline: Pipeline, frame: Frame) -> Pixels:
    calibration = pipeline.bundle.calibration
    model_input, prediction = pipeline.predict(frame)
    evidence = evidence_in_frame(
        prediction.evidence, model_input.placement, calibration.localization.shift_px
    )
    logits = calibration.score_calibration.logits(evidence)
    return heat_map(frame.image, logits, calibration.preprocess.region.mask(frame.size))
