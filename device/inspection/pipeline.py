"""One frame to one verdict: the stages in their order, timed. No thread, no waiting."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from device.bundle import bundle as bundles
from device.bundle.bundle import Bundle, Thresholds
from device.image.frame import BadFrame, Frame, frame_from_file
from device.image.geometry import Size
from device.image.region_of_interest import EVERYTHING, RegionOfInterest
from device.inspection import familiar
from device.inspection.checks import Checks, measure
from device.inspection.detector import Detector, Output, Prediction, mean_evidence
from device.inspection.familiar import Doubt
from device.inspection.heat import Heat, heat_over
from device.inspection.localizer import Localizer
from device.inspection.preprocess import ModelInput, Preprocessor
from device.inspection.reach import ScoreRange, require_judged
from device.inspection.verdict import Method, Model, Tile, Verdict, Word, decide, event_id
from device.system.clock import clock_synced

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFrame:
    """A frame as the model of a pipeline will see it, and what can be said of it without the model."""

    frame: Frame
    model_input: ModelInput
    checks: Checks
    timing_ms: Mapping[str, float]
    of: Pipeline

    @property
    def seq(self) -> int:
        """The number of the frame in its session."""
        return self.frame.seq

    @property
    def monotonic_ns(self) -> int:
        """When it was captured, on the clock that is never set."""
        return self.frame.monotonic_ns

    @property
    def trigger(self) -> str:
        """What asked for the frame."""
        return self.frame.trigger


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """What the model of a pipeline gave for a frame: see Detector.run."""

    frame: Frame
    model_input: ModelInput
    outputs: Sequence[Output]
    checks: Checks
    timing_ms: Mapping[str, float]
    of: Pipeline


class Pipeline:
    """A bundle at work for a station. `station` and `session_id` are written on every verdict."""

    def __init__(
        self,
        bundle: Bundle,
        station: str,
        session_id: str,
        threads: int | None = None,
        runtime: str = "auto",
        region: RegionOfInterest = EVERYTHING,
        *,
        doubts: bool = True,
    ) -> None:
        """Opens the model and lets it score the golden images. Raises InterpreterError, BundleError.

        `region`: where the station looks, beside what the bundle says. The golden images are not cut by it.
        `doubts`: whether a picture that the bundle says it cannot judge is MARGINAL.
        """
        calibration = bundle.calibration
        self.bundle = bundle
        self.station = station
        self.session_id = session_id
        self.model = Model(calibration.model_id, calibration.version, bundle.sha256)
        self._thresholds = calibration.thresholds
        self._familiar = calibration.familiar if doubts else None
        self._preprocessor = Preprocessor(calibration.preprocess, region)
        self._size_is_said = False
        self._detector = Detector(bundle, threads, runtime)
        method: Method = "evidence" if calibration.memory is None else "memory"
        self._localizer = Localizer(
            calibration.localization, calibration.score_calibration, bundle.reference(), method
        )
        golden = Preprocessor(calibration.preprocess)
        bundles.check_golden(
            bundle,
            lambda path: self._detector.detect(golden.prepare(frame_from_file(path, seq=0))).score,
        )

    @property
    def runtime(self) -> str:
        """The interpreter in use, as "ai-edge-litert 2.3.0"."""
        return self._detector.runtime

    @property
    def thresholds(self) -> Thresholds:
        return self._thresholds

    @property
    def scores(self) -> ScoreRange:
        """What the model can say at all."""
        return self._detector.scores

    def require_judged(self) -> None:
        """For all who take a bundle into use. Raises BundleError: see reach.require_judged."""
        require_judged(self.bundle, self.scores)

    @property
    def white_level(self) -> int | None:
        """Of images of more than 8 bits, the level that becomes 255."""
        return self.bundle.calibration.preprocess.white_level

    def read(self, path: str | Path, seq: int) -> Frame:
        """The image in a file as a frame, with more than 8 bits as the bundle says. Raises FrameError."""
        return frame_from_file(path, seq, self.white_level)

    def predict(self, frame: Frame) -> tuple[ModelInput, Prediction]:
        """What the model saw of a frame and what it said. Raises InterpreterError."""
        model_input = self._preprocessor.prepare(frame)
        return model_input, self._detector.detect(model_input)

    def invoke(self) -> None:
        """The model by itself, on what it saw last: what the time of a frame is compared with."""
        self._detector.invoke()

    def inspect(self, frame: Frame, thresholds: Thresholds | None = None) -> Verdict:
        """The verdict on a frame; regions are looked for when it is NG or MARGINAL. Raises InterpreterError.

        `thresholds`: other ones than the bundle's.

        timing_ms: preprocess, checks, inference, localization (about 0 for OK), and total.
        """
        return self.judge(self.detect(self.prepare(frame)), thresholds)

    def prepare(self, frame: Frame) -> PreparedFrame:
        """The first part of inspect(), which needs no model. Each part may be done in a thread of its own."""
        watch = _StopWatch()
        model_input = self._preprocessor.prepare(frame)
        watch.lap("preprocess")
        self._look_at_size(model_input)
        checks = measure(model_input)  # at once, while the image is still in the processor's cache
        watch.lap("checks")
        return PreparedFrame(frame, model_input, checks, watch.laps_ms, self)

    def detect(self, prepared: PreparedFrame) -> Detection:
        """The second part, the model alone, on what this pipeline has prepared. Raises InterpreterError."""
        watch = _StopWatch(prepared.timing_ms)
        outputs = self._detector.run(prepared.model_input)
        watch.lap("inference")
        return Detection(prepared.frame, prepared.model_input, outputs, prepared.checks, watch.laps_ms, self)

    def judge(self, detected: Detection, thresholds: Thresholds | None = None) -> Verdict:
        """The third part, on what this pipeline's model gave."""
        watch = _StopWatch(detected.timing_ms)
        frame, model_input = detected.frame, detected.model_input
        prediction = self._detector.read(model_input, detected.outputs)
        watch.lap("inference")
        seen = detected.checks
        evidence = mean_evidence(model_input.framing, prediction.evidence)
        checks = replace(seen, evidence=evidence)
        thresholds = thresholds or self._thresholds
        doubt = familiar.doubt(self._familiar, checks) if self._familiar else None
        word = self._word(prediction.score, thresholds, doubt)
        regions = () if word == "OK" else self._localizer.locate(model_input, prediction)
        heat = None if word == "OK" else self._heat(model_input, prediction)
        watch.lap("localization")
        return self._verdict(
            frame,
            word,
            thresholds,
            score=prediction.score,
            regions=regions,
            image_size=frame.size,
            image_sha256=frame.sha256,
            timing_ms=watch.timing_ms(),
            checks=checks,
            reason=str(doubt) if doubt else None,
            tiles=_tiles(model_input, prediction),
            camera_metadata=frame.metadata,
            heat=heat,
        )

    def _heat(self, model_input: ModelInput, prediction: Prediction) -> Heat:
        return heat_over(self.bundle.calibration, model_input.placement, prediction.evidence)

    def _word(self, score: float, thresholds: Thresholds, doubt: Doubt | None) -> Word:
        """MARGINAL in doubt; but what a memory finds stays NG, for it knows no pictures of defects."""
        word = decide(score, thresholds)
        kept = word == "NG" and self.bundle.calibration.memory is not None
        return "MARGINAL" if doubt and not kept else word

    def unseen(self, fault: BadFrame, thresholds: Thresholds | None = None) -> Verdict:
        """The ERROR verdict on a frame that could not be read. `thresholds`: as in inspect()."""
        return self._verdict(
            fault,
            "ERROR",
            thresholds or self._thresholds,
            score=None,
            regions=(),
            image_size=None,
            image_sha256=None,
            timing_ms={},
            checks=None,
            reason=str(fault),
        )

    def _verdict(self, seen: Frame | BadFrame, word: Word, thresholds: Thresholds, **judged: Any) -> Verdict:
        """What every verdict says of its frame and its station, and what was `judged`."""
        return Verdict(
            event_id=event_id(self.session_id, seen.seq),
            session_id=self.session_id,
            seq=seen.seq,
            historical=False,
            captured_ns=seen.captured_ns,
            clock_synced=clock_synced(),
            station=self.station,
            part_id=seen.part_id,
            trigger=seen.trigger,
            verdict=word,
            threshold=thresholds.ng,
            model=self.model,
            image_path=seen.path,
            camera=seen.camera,
            **judged,
        )

    def _look_at_size(self, model_input: ModelInput) -> None:
        """Say once that what is looked at has another size than what was trained on."""
        frames, region = self.bundle.calibration.frames, model_input.placement.region
        if frames is None or self._size_is_said:
            return
        if unlike := frames.unlike(Size(region.width, region.height)):
            log.warning("frames are unlike those that the model was trained on: %s", unlike)
            self._size_is_said = True


def _tiles(model_input: ModelInput, prediction: Prediction) -> tuple[Tile, ...]:
    """With their boxes in px of the frame."""
    inverse = model_input.placement.inverse
    return tuple(Tile(inverse(tile.tile), tile.score) for tile in prediction.tiles)


def prove(bundle: Bundle, threads: int | None = None, runtime: str = "auto") -> None:
    """Open a bundle as the service will, golden images and all. Raises BundleError, InterpreterError."""
    Pipeline(bundle, "proof", "proof", threads, runtime).require_judged()


class _StopWatch:
    """Milliseconds of one stage after the other, to the microsecond; `before`: of stages done elsewhere."""

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._start_ns = self._last_ns = time.perf_counter_ns()
        self._before_ms = sum(before.values()) if before else 0.0
        self.laps_ms: dict[str, float] = dict(before or {})

    def lap(self, stage: str) -> None:
        now_ns = time.perf_counter_ns()
        before_ms = self.laps_ms.get(stage, 0.0)  # a stage may have parts
        self.laps_ms[stage] = round(before_ms + (now_ns - self._last_ns) // 1000 / 1000, 3)
        self._last_ns = now_ns

    def timing_ms(self) -> dict[str, float]:
        total_ms = self._before_ms + (time.perf_counter_ns() - self._start_ns) // 1000 / 1000
        return {**self.laps_ms, "total": round(total_ms, 3)}
