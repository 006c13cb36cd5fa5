"""The thread that runs the model, between the real capture and whoever judges."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from fixtures_broker import DEADLINE_S
from fixtures_bundle import make_frame, make_image

from device.bundle.bundle import Bundle
from device.errors import FrameError, InterpreterError
from device.image.frame import BadFrame, Frame
from device.inspection.pipeline import Detection, Pipeline, PreparedFrame
from device.line.trigger import CommandTrigger, FreeRun
from device.station import inference as module
from device.station.capture import Capture, CaptureResult, Losses
from device.station.inference import AHEAD, FailedFrame, Inference, InferenceResult


class Scripted:
    """A recorded source of frames that are numbered from 0, in which one may be torn, or the source gone."""

    name = "scripted"
    live = False
    dropped = 0

    def __init__(self, frames: int, torn: int = -1, gone: int = -1) -> None:
        self.given = 0
        self._frames = frames
        self._torn = torn
        self._gone = gone

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def read(self, timeout_s: float, *, flush: bool = False) -> Frame | None:
        seq = self.given
        if seq == self._frames:
            return None
        self.given += 1
        if seq == self._gone:
            raise FrameError("scripted: unplugged")
        if seq == self._torn:
            raise BadFrame("torn", seq=seq, path=None, captured_ns=7, camera=self.name)
        return make_frame(make_image(spot=(24, 24, 8, 8)), seq=seq)


class Gated(Pipeline):
    """The real one, which waits in front of the model until the gate is open, and fails on one frame."""

    def __init__(self, bundle: Bundle, fails_on: int = -1) -> None:
        super().__init__(bundle, "press-4", "5e55", threads=1)
        self.gate = threading.Event()
        self.gate.set()
        self.fails_on = fails_on
        self.reached = threading.Event()

    def detect(self, prepared: PreparedFrame) -> Detection:
        self.reached.set()
        assert self.gate.wait(DEADLINE_S)
        if prepared.seq == self.fails_on:
            raise InterpreterError("the model fails")
        return super().detect(prepared)


Make = Callable[..., tuple[Capture, Inference]]


@pytest.fixture
def make(tiny_bundle: Bundle) -> Iterator[Make]:
    made: list[tuple[Capture, Inference]] = []

    def begin(
        source: Scripted, pipeline: Pipeline, trigger: object = None, **settings: object
    ) -> tuple[Capture, Inference]:
        capture = Capture(source, trigger or FreeRun(), 5.0, prepare=pipeline.prepare)
        made.append((capture, Inference(capture, pipeline, **settings)))
        capture.open()
        capture.start()
        made[-1][1].start()
        return made[-1]

    yield begin
    for capture, inference in made:
        capture.stop()
        inference.stop()


def take_all(inference: Inference) -> list[InferenceResult]:
    """Until nothing more comes."""
    seen = []
    end_s = time.monotonic() + DEADLINE_S
    while not inference.over:
        assert time.monotonic() < end_s
        if (item := inference.take(0.1)) is not None:
            seen.append(item)
    return seen


def number(seen: InferenceResult) -> int:
    return seen.seq if isinstance(seen, BadFrame) else seen.frame.seq


def test_everything_comes_in_the_order_of_the_capture(make: Make, tiny_bundle: Bundle) -> None:
    taken: list[CaptureResult] = []
    pipeline = Pipeline(tiny_bundle, "press-4", "5e55", threads=1)
    _, inference = make(Scripted(20, torn=7), pipeline, on_taken=taken.append)
    seen = take_all(inference)
    assert [number(item) for item in seen] == list(range(20)) == [item.seq for item in taken]
    assert [number(item) for item in seen if not isinstance(item, Detection)] == [7]
    assert isinstance(seen[0], Detection)
    assert pipeline.judge(seen[0]).score == pipeline.inspect(seen[0].frame).score
    assert inference.ended
    assert inference.idle
    assert inference.take(0) is None


def test_it_runs_ahead_of_the_verdicts_by_a_few_frames_only(make: Make, tiny_bundle: Bundle) -> None:
    pipeline = Gated(tiny_bundle)
    judged = threading.Event()
    taken: list[CaptureResult] = []

    def note(item: CaptureResult) -> None:
        taken.append(item)
        if len(taken) == AHEAD:
            judged.set()

    _, inference = make(Scripted(20), pipeline, on_taken=note)
    assert judged.wait(DEADLINE_S)
    while inference._in_hand is not None:
        time.sleep(0.001)
    assert len(taken) == AHEAD
    assert len(take_all(inference)) == 20


def test_a_lost_camera_is_raised_after_all_that_it_gave(make: Make, tiny_bundle: Bundle) -> None:
    _, inference = make(Scripted(9, gone=3), Gated(tiny_bundle))
    numbers = [number(inference.take(DEADLINE_S)) for _ in range(3)]
    assert numbers == [0, 1, 2]
    with pytest.raises(FrameError, match="unplugged"):
        inference.take(DEADLINE_S)
    with pytest.raises(FrameError, match="unplugged"):
        inference.take(0)
    assert inference.over
    assert not inference.ended


def test_a_model_that_fails_ends_it_with_the_frame(make: Make, tiny_bundle: Bundle) -> None:
    capture, inference = make(Scripted(9), Gated(tiny_bundle, fails_on=2))
    *before, last = take_all(inference)
    assert [number(item) for item in before] == [0, 1]
    assert isinstance(last, FailedFrame)
    assert (last.frame.seq, str(last.fault)) == (2, "the model fails")
    capture.stop()
    assert inference.stop() == []


def test_after_a_stop_what_was_taken_is_finished(make: Make, tiny_bundle: Bundle) -> None:
    pipeline = Gated(tiny_bundle)
    pipeline.gate.clear()
    source = Scripted(1000)
    capture, inference = make(source, pipeline)
    assert pipeline.reached.wait(DEADLINE_S)
    capture.stop()
    inference.finish()
    pipeline.gate.set()
    assert [number(item) for item in take_all(inference)] == list(range(source.given))
    assert source.given < 1000


def test_what_has_no_verdict_at_a_fault_is_accounted_for(make: Make, tiny_bundle: Bundle) -> None:
    """Of parts each is named; other frames are counted."""
    trigger = CommandTrigger(99)
    trigger.open()
    for part in "ABCD":
        trigger.fire(part)
    pipeline = Gated(tiny_bundle)
    pipeline.gate.clear()
    capture, inference = make(Scripted(4), pipeline, trigger)
    assert pipeline.reached.wait(DEADLINE_S)
    capture.stop()
    pipeline.gate.set()
    parts = capture.discard(inference.stop())
    assert [part.part_id for part in parts] == list("ABCD")
    assert capture.losses == Losses(skipped=0, dropped=0)
    assert inference.stop() == []


def test_a_model_that_does_not_come_back_is_left_behind(
    make: Make, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.1)
    pipeline = Gated(tiny_bundle)
    pipeline.gate.clear()
    source = Scripted(1000)
    capture, inference = make(source, pipeline)
    assert pipeline.reached.wait(DEADLINE_S)
    assert not inference.idle
    capture.stop()
    left = inference.stop()
    assert [frame.seq for frame in left] == [0]
    assert capture.discard(left) == []
    assert capture.losses.dropped == source.given
    pipeline.gate.set()


def test_another_model_is_for_the_frames_that_come_after(make: Make, tiny_bundle: Bundle) -> None:
    first, second = Gated(tiny_bundle), Gated(tiny_bundle)
    first.gate.clear()
    _, inference = make(Scripted(5), first)
    assert first.reached.wait(DEADLINE_S)
    inference.pipeline = second
    first.gate.set()
    seen = take_all(inference)
    assert [item.of for item in seen] == [first, *[second] * 4]
