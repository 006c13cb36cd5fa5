"""From what the inference gives to a verdict: the model's own, an ERROR, or the last word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_bundle import make_frame, make_image

from device import config
from device.bundle.bundle import Bundle
from device.config import Config
from device.errors import FrameError, InterpreterError
from device.image.frame import BadFrame, Frame
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Verdict
from device.station.camera_mode import CameraMode
from device.station.capture import not_inspected
from device.station.inference import FailedFrame
from device.station.judge import Judge
from device.station.threshold_override import ThresholdOverride

DEFECT = make_image(spot=(16, 16, 24, 24))


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.words: list[tuple[str, str | None]] = []
        self.faults: list[BadFrame] = []
        self.published: list[Verdict] = []

    def inspected(self, frame: Frame, verdict: Verdict, mode_change: str | None) -> None:
        self.words.append((verdict.verdict, mode_change))

    def unseen(self, fault: BadFrame) -> None:
        self.faults.append(fault)

    def publish(self, verdict: Verdict) -> None:
        self.published.append(verdict)


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    path = tmp_path / "config.toml"
    path.write_text('[station]\nname = "press-4"\n[camera]\nmax_failures = 3\n')
    return replace(config.load(path), state=tmp_path)


@pytest.fixture
def pipeline(tiny_bundle: Bundle) -> Pipeline:
    return Pipeline(tiny_bundle, "press-4", "5e55", threads=1)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def judge(settings: Config, pipeline: Pipeline, heard: Heard) -> Judge:
    mode = CameraMode(settings.state, "scripted", settings.health)
    return Judge(settings, pipeline, ThresholdOverride(settings.state), mode, heard)


def bad(reason: str = "torn", cause: str = "unreadable") -> BadFrame:
    return not_inspected(make_frame(), reason, cause=cause)  # type: ignore[arg-type]


def seen(judge: Judge, frame: Frame) -> Verdict:
    return judge.judge(judge.pipeline.detect(judge.pipeline.prepare(frame)))


def test_a_frame_has_the_models_verdict_and_is_the_newest(judge: Judge, heard: Heard) -> None:
    frame = make_frame(DEFECT)
    assert seen(judge, frame).verdict == "NG"
    assert heard.words == [("NG", None)]
    assert judge.newest is frame


def test_what_the_model_before_has_seen_is_judged_by_the_one_of_now(
    judge: Judge, pipeline: Pipeline, tiny_bundle: Bundle
) -> None:
    before = pipeline.detect(pipeline.prepare(make_frame(DEFECT)))
    another = Pipeline(tiny_bundle, "press-4", "another", threads=1)
    judge.exchange(another)
    assert judge.judge(before).session_id == "another"


def test_unreadable_frames_in_a_row_end_the_service_and_no_others(judge: Judge, heard: Heard) -> None:
    for _ in range(3):
        assert judge.judge(bad(cause="overload")).verdict == "ERROR"
    for _ in range(2):
        judge.judge(bad())
    seen(judge, make_frame())
    for _ in range(2):
        judge.judge(bad())
    judge.require_frames("scripted")
    judge.judge(bad())
    with pytest.raises(FrameError, match="scripted: 3 unreadable frames one after the other"):
        judge.require_frames("scripted")
    assert len(heard.faults) == 8


def test_where_the_model_fails_the_error_verdict_is_published_first(judge: Judge, heard: Heard) -> None:
    fault = InterpreterError("no more")
    with pytest.raises(InterpreterError) as raised:
        judge.judge(FailedFrame(make_frame(), fault))
    assert raised.value is fault
    [last] = heard.published
    assert (last.verdict, "no more" in str(last.reason)) == ("ERROR", True)


@pytest.mark.parametrize(("wanted", "word"), [("ERROR", "ERROR"), ("MARGINAL", "MARGINAL")])
def test_another_mode_is_no_ok(
    settings: Config, pipeline: Pipeline, heard: Heard, wanted: str, word: str
) -> None:
    asked = replace(settings, camera=replace(settings.camera, mode_change=wanted))
    mode = CameraMode(settings.state, "scripted", settings.health)
    judge = Judge(asked, pipeline, ThresholdOverride(settings.state), mode, heard)
    assert seen(judge, make_frame(make_image())).verdict == "OK"
    verdict = seen(judge, make_frame(make_image()[::2, ::2]))
    assert (verdict.verdict, "gives " in str(verdict.reason)) == (word, True)


def test_thresholds_are_read_when_that_is_asked(judge: Judge, settings: Config) -> None:
    own = judge.thresholds
    judge.reread_thresholds()
    assert judge.thresholds == own
    raised = replace(own, ng=(own.ng + judge.pipeline.scores.greatest) / 2)
    ThresholdOverride(settings.state).keep(judge.pipeline.model, raised)
    assert judge.thresholds == own
    judge.reread_thresholds()
    assert judge.thresholds.ng == raised.ng
