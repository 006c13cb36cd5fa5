"""`inspect`: verdicts on image files, by hand, with the bundle that the service would run."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import cv2

from device.bundle import bundle
from device.camera.replay import image_files
from device.errors import FrameError, StorageError
from device.image.frame import Frame, Pixels
from device.inspection.annotate import annotate, heat_map
from device.inspection.localizer import evidence_in_frame
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Verdict
from device.system.printable import one_line

log = logging.getLogger(__name__)

STATION = "inspect"


def inspect_images(
    sources: list[Path],
    bundle_path: Path,
    *,
    as_json: bool,
    annotated: Path | None = None,
    heat_maps: bool = False,
) -> int:
    """Print a verdict a line for every image, and for every image directly in a folder.

    `annotated` is a folder for pictures with the regions drawn in, and with `heat_maps` for pictures of the
    evidence, which the model is asked for once more. An image that cannot be read is an error
    on stderr, and the others are still inspected. Returns the exit code: 0, or 5 (FrameError) where there was
    one.
    Raises BundleError, InterpreterError, StorageError.
    """
    pipeline = Pipeline(bundle.load(bundle_path), station=STATION, session_id=uuid.uuid4().hex)
    if annotated is not None:
        make_folder(annotated)
    exit_code = 0
    for result in _frames(pipeline, sources):
        if isinstance(result, FrameError):
            print(f"error: {one_line(str(result))}", file=sys.stderr)
            exit_code = FrameError.exit_code
            continue
        verdict = pipeline.inspect(result)
        print(verdict.to_json() if as_json else _line(verdict), flush=True)
        if annotated is not None:
            write_image(annotated / _name(result), annotate(result.image, verdict))
            if heat_maps:
                heat = annotate(_heat_map(pipeline, result), verdict)
                write_image(annotated / _name(result, "-heat"), heat)
    return exit_code


def _frames(pipeline: Pipeline, sources: list[Path]) -> Iterator[Frame | FrameError]:
    """Every image as its frame, or as what is wrong with it."""
    seq = 0
    for source in sources:
        try:
            files = image_files(source) if source.is_dir() else [source]
        except FrameError as error:
            yield error
            continue
        except OSError as error:  # of is_dir: a folder on the way to it is closed
            yield FrameError(f"{source}: cannot be read: {error.strerror}")
            continue
        for file in files:
            try:
                yield pipeline.read(file, seq)
            except FrameError as error:
                yield error
            seq += 1


def _line(verdict: Verdict) -> str:
    """A verdict for a person: OK  0.0123  parts/7.png, and the boxes as x,y wxh."""
    boxes = [f"{r.box.x},{r.box.y} {r.box.width}x{r.box.height}" for r in verdict.regions]
    at = f"  at {'; '.join(boxes)}" if boxes else ""
    return f"{verdict.verdict:<8}  {verdict.score:.4f}  {one_line(verdict.image_path or '')}{at}"


def _name(frame: Frame, kind: str = "") -> str:
    """<name of the image>-<digest of its file>.png: images of one name from two folders do not clash."""
    return f"{Path(frame.path or 'frame').stem}-{(frame.sha256 or '')[:12]}{kind}.png"


def _heat_map(pipeline: Pipeline, frame: Frame) -> Pixels:
    calibration = pipeline.bundle.calibration
    model_input, prediction = pipeline.predict(frame)
    shift_px = calibration.localization.shift_px
    evidence = evidence_in_frame(prediction.evidence, model_input.placement, shift_px)
    return heat_map(frame.image, calibration.heat(evidence), calibration.preprocess.region.mask(frame.size))


def write_image(path: Path, image: Pixels) -> None:
    """Write a PNG whole or not at all. Raises StorageError."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(encoded.tobytes())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None


def make_folder(folder: Path) -> None:
    """Make a folder where it is missing. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error.strerror}") from None
