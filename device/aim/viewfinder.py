"""The camera's newest picture with its figures, and the same through the model's eyes; a thread of its own.

The camera is the configured one, through its own adapter. Other exposure, gain and white balance are tried by
opening it anew with them; what it does not take is told, and those before are back. Nothing is kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np

from device.aim import figures
from device.archive.encode import jpeg
from device.bundle.reference import GoldenReference
from device.camera.camera import Camera
from device.config import CameraConfig
from device.errors import EdgeVisionError, FrameError
from device.image.frame import Frame, Pixels, read_image
from device.inspection.annotate import heat_map
from device.inspection.localizer import evidence_in_frame
from device.inspection.pipeline import Pipeline

PICTURES_HZ = 4.0  # enough for an eye and a hand, and little for the processor
RETRY_S = 2.0
QUALITY = 80
MOST_SIDE_PX = 1280  # of the picture that is shown
CONTROLS = {"picamera2": ("exposure_us", "gain_ratio", "colour_gains"), "opencv": ("exposure_us",)}

MakeCamera = Callable[[CameraConfig], Camera]


@dataclass(frozen=True, slots=True, eq=False)
class ViewfinderPicture:
    """A picture (its own memory) and what can be said of it. `fault`: why there is no newer one, or None."""

    number: int
    frame: Frame | None
    figures: dict[str, Any]
    fault: str | None


class Viewfinder:
    """start(), newest() from any thread, try_camera(), stop()."""

    def __init__(self, config: CameraConfig, make: MakeCamera, pipeline: Pipeline | None) -> None:
        self._config = config
        self._make = make
        self._pipeline = pipeline
        self._model = threading.Lock()  # an interpreter belongs to one thread at a time
        self._goldens = _goldens(pipeline)
        self._reference = _reference(self._goldens[0]) if self._goldens else None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="viewfinder", daemon=True)
        self._changed = threading.Condition()  # guards all that follows
        self._view = ViewfinderPicture(0, None, {}, "the camera is being opened")
        self._wanted: CameraConfig | None = None
        self._refused: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(self._config.timeout_s + RETRY_S)

    @property
    def camera(self) -> CameraConfig:
        """The settings that are at work."""
        return self._config

    @property
    def controls(self) -> tuple[str, ...]:
        """The keys of [camera] that this kind can change."""
        return CONTROLS.get(self._config.kind, ())

    @property
    def golden_count(self) -> int:
        return len(self._goldens)

    def newest(self, after: int, wait_s: float) -> ViewfinderPicture:
        """The newest view, of a number above `after` when one comes within this time."""
        with self._changed:
            self._changed.wait_for(lambda: self._view.number > after or self._stop.is_set(), wait_s)
            return self._view

    def try_camera(self, wait_s: float, **settings: Any) -> str | None:
        """Open the camera anew with these keys of [camera]; why it does not take them, or None."""
        with self._changed:
            self._wanted = replace(self._config, **settings)
            if not self._changed.wait_for(self._is_settled, wait_s):
                return "the camera does not answer"
            return self._refused

    def picture(self, heat: bool) -> bytes | None:
        """The newest picture as a JPEG, with the model's evidence over it where that is asked for."""
        frame = self._view.frame
        if frame is None:
            return None
        image = frame.image
        if heat and self._pipeline is not None:
            with self._model:
                image = _heat(self._pipeline, frame)
        return jpeg(_small(image), QUALITY)

    def golden(self, number: int) -> bytes | None:
        """A golden image as a JPEG."""
        return jpeg(_small(self._goldens[number]), QUALITY) if 0 <= number < len(self._goldens) else None

    def _is_settled(self) -> bool:
        return self._wanted is None or self._stop.is_set()

    # -- the thread

    def _watch(self) -> None:
        while not self._stop.is_set():
            camera = self._make(self._config)
            try:
                camera.open()
                self._settle(None)
                self._look(camera)
            except EdgeVisionError as error:
                self._fail(str(error))
            finally:
                camera.close()
        with self._changed:
            self._changed.notify_all()

    def _look(self, camera: Camera) -> None:
        """Picture after picture, until other settings are wanted or it is time to stop. Raises FrameError."""
        while not self._stop.is_set() and not self._take_wanted():
            due_s = time.monotonic() + 1 / PICTURES_HZ
            frame = camera.read(self._config.timeout_s, flush=camera.live)
            if frame is None:
                raise FrameError(f"{camera.name}: ended; set [camera] loop to see it again and again")
            kept = replace(frame, image=frame.image.copy())
            self._show(kept, self._figures(kept))
            self._stop.wait(max(0.0, due_s - time.monotonic()))

    def _take_wanted(self) -> bool:
        with self._changed:
            if self._wanted is None:
                return False
            self._before, self._config = self._config, self._wanted
            return True

    def _settle(self, refused: str | None) -> None:
        with self._changed:
            self._wanted, self._refused = None, refused
            self._changed.notify_all()

    def _fail(self, why: str) -> None:
        """Settings that were only tried are given up; else the camera is tried again after a pause."""
        if self._wanted is not None:
            self._config = self._before
            self._settle(why)
            return
        with self._changed:
            self._view = replace(self._view, number=self._view.number + 1, fault=why)
            self._changed.notify_all()
        self._stop.wait(RETRY_S)

    def _show(self, frame: Frame, said: dict[str, Any]) -> None:
        with self._changed:
            self._view = ViewfinderPicture(self._view.number + 1, frame, said, None)
            self._changed.notify_all()

    def _figures(self, frame: Frame) -> dict[str, Any]:
        whole, fields = figures.sharpness(frame.image)
        return {
            "width": frame.size.width,
            "height": frame.size.height,
            "sharpness": whole,
            "fields": fields,
            **asdict(figures.light(frame.image)),
            "camera": dict(frame.metadata),
            "model": self._through_the_model(frame),
            "shift": self._shift(frame.image),
        }

    def _through_the_model(self, frame: Frame) -> dict[str, Any] | None:
        """What the service would say of it, beside what good images had. None without a bundle."""
        if self._pipeline is None:
            return None
        usual = self._pipeline.bundle.calibration.drift_reference
        try:
            with self._model:
                verdict = self._pipeline.inspect(frame)
        except EdgeVisionError as error:
            return {"fault": str(error)}
        checks = verdict.checks
        return {
            "fault": None,
            "verdict": verdict.verdict,
            "score": verdict.score,
            "threshold": verdict.threshold,
            "focus": checks.focus if checks else None,
            "brightness": checks.brightness_ratio if checks else None,
            "usual_focus": asdict(usual.focus),
            "usual_brightness": asdict(usual.brightness_ratio),
        }

    def _shift(self, image: Pixels) -> dict[str, float] | None:
        """How far the part lies right of and below where it lies in the first golden image, px of the frame.

        None where that cannot be told: another size, another picture.
        """
        if self._reference is None or image.shape[:2] != self._reference.mean.shape:
            return None
        found = self._reference.align(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        return None if found is None else {"right_px": found.right, "down_px": found.down}


def _reference(golden: Pixels) -> GoldenReference:
    gray = cv2.cvtColor(golden, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return GoldenReference(gray, np.zeros_like(gray))


def _goldens(pipeline: Pipeline | None) -> list[Pixels]:
    if pipeline is None:
        return []
    bundle = pipeline.bundle
    return [read_image(bundle.golden_path(vector))[0] for vector in bundle.calibration.golden.vectors]


def _heat(pipeline: Pipeline, frame: Frame) -> Pixels:
    calibration = pipeline.bundle.calibration
    model_input, prediction = pipeline.predict(frame)
    evidence = evidence_in_frame(
        prediction.evidence, model_input.placement, calibration.localization.shift_px
    )
    return heat_map(frame.image, calibration.heat(evidence), calibration.preprocess.region.mask(frame.size))


def _small(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    scale = MOST_SIDE_PX / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
