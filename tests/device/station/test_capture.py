"""The thread that takes frames, and what waits behind it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from fixtures_broker import DEADLINE_S
from fixtures_bundle import make_frame
from fixtures_camera import wait_until
from fixtures_daemon import REPOSITORY
from fixtures_verdict import wait_for
from gpiozero.pins.mock import MockFactory
from hypothesis import given, settings
from hypothesis import strategies as st

from device.bundle.bundle import Bundle
from device.config import OutputsConfig, TriggerConfig
from device.errors import BundleError, FrameError
from device.image.frame import BadFrame, Frame
from device.inspection.pipeline import Pipeline, PreparedFrame
from device.line.asked import VerdictRequests
from device.line.outputs import Outputs
from device.line.trigger import CommandTrigger, FreeRun, GpioEdge
from device.station import capture as module
from device.station.capture import AHEAD, MOST_PARTS, Capture, HandOver, Losses


class Scripted:
    """A camera that does one thing after the other, and then comes to its end."""

    name = "scripted"

    def __init__(self, *acts: Callable[[], Frame | None], live: bool = True) -> None:
        self.live = live
        self.acts = list(acts)
        self.read_count = 0
        self.flushed: list[bool] = []
        self.closed = threading.Event()

    def open(self) -> None:
        pass

    def read(self, timeout_s: float, *, flush: bool = False) -> Frame | None:
        self.flushed.append(flush)
        self.read_count += 1
        return self.acts.pop(0)() if self.acts else None

    def close(self) -> None:
        self.closed.set()


def commanded(*parts: str, queue_limit: int = 99) -> CommandTrigger:
    """A trigger that was fired for these parts already."""
    trigger = CommandTrigger(queue_limit)
    trigger.open()
    for part in parts:
        trigger.fire(part)
    return trigger


def frame() -> Frame:
    return make_frame(seq=0)


def bad() -> Frame:
    raise BadFrame("torn", seq=99, path="a.png", captured_ns=7, camera="scripted")


def lost() -> Frame:
    raise FrameError("scripted: unplugged")


@pytest.fixture
def make_capture() -> Iterator[Callable[..., Capture]]:
    made: list[Capture] = []

    def make(camera: Scripted, trigger: object = None, timeout_s: float = 5.0, **settings: object) -> Capture:
        made.append(Capture(camera, trigger or FreeRun(), timeout_s, **settings))
        made[-1].open()
        made[-1].start()
        return made[-1]

    yield make
    for capture in made:
        capture.stop()


def take_all(capture: Capture) -> list[Frame | BadFrame]:
    """Everything until the end of the source."""
    taken = []
    end = time.monotonic() + DEADLINE_S
    while not capture.ended:
        assert time.monotonic() < end, "the source does not come to its end"
        if (item := capture.take(0.1)) is not None:
            taken.append(item)
    return taken


def test_a_recorded_source_waits_and_nothing_of_it_is_skipped(make_capture: Callable[..., Capture]) -> None:
    camera = Scripted(*[frame] * 50, live=False)
    capture = make_capture(camera)
    first = capture.take(DEADLINE_S)
    threading.Event().wait(0.05)  # time enough for a source that did not wait to run ahead
    assert camera.read_count <= 1 + AHEAD + 1
    assert [item.seq for item in (first, *take_all(capture))] == list(range(50))
    assert capture.losses == Losses(0, 0)
    assert camera.closed.wait(DEADLINE_S)


def test_who_asked_for_a_part_is_told_its_number_whatever_becomes_of_it(
    make_capture: Callable[..., Capture],
) -> None:
    """Judged, torn, asked for after the end of the source, and still waiting when it ended."""
    asked, told = VerdictRequests(), {}
    trigger = commanded()
    for part in "ABCDE":
        asker = asked.asker(lambda seq, _, part=part: told.__setitem__(part, seq), wait=False)
        assert trigger.fire(part, asker)
    taken = take_all(make_capture(Scripted(frame, bad, frame), trigger))
    assert [(item.part_id, item.seq) for item in taken] == list(zip("ABCDE", range(5), strict=True))
    assert told == {item.part_id: item.seq for item in taken}


def test_who_waits_for_a_part_that_nobody_has_room_for_is_told_so(
    make_capture: Callable[..., Capture],
) -> None:
    asked, told = VerdictRequests(), []
    trigger = commanded(*["x"] * MOST_PARTS, queue_limit=2 * MOST_PARTS)
    assert trigger.fire("late", asked.asker(lambda *what: told.append(what), wait=True))
    camera = Scripted(*[frame] * (MOST_PARTS + 1))
    make_capture(camera, trigger, dropped=asked.dropped)
    wait_for(lambda: told)
    assert told == [(MOST_PARTS, None)]


def test_of_a_live_camera_the_newest_frame_wins_and_the_others_are_counted(
    make_capture: Callable[..., Capture],
) -> None:
    camera = Scripted(*[frame] * 20)
    capture = make_capture(camera)
    assert camera.closed.wait(DEADLINE_S)
    assert [item.seq for item in take_all(capture)] == [19]
    assert capture.losses == Losses(skipped=19, dropped=0)


def test_triggered_parts_are_first_come_first_served(make_capture: Callable[..., Capture]) -> None:
    camera = Scripted(*[frame] * 3)
    taken = take_all(make_capture(camera, commanded(*"ABCD")))
    assert [(item.seq, item.part_id, item.trigger) for item in taken] == [
        (0, "A", "mqtt"),
        (1, "B", "mqtt"),
        (2, "C", "mqtt"),
        (3, "D", "mqtt"),
    ]
    assert all(camera.flushed)
    assert isinstance(taken[3], BadFrame)  # asked for after the end of the source
    assert "has come to its end" in str(taken[3])


def test_when_too_many_triggered_frames_wait_a_part_gets_an_error_in_its_turn(
    make_capture: Callable[..., Capture],
) -> None:
    camera = Scripted(*[frame] * 4)
    capture = make_capture(camera, commanded(*"ABCDE"), most_waiting=2)
    assert camera.closed.wait(DEADLINE_S)
    taken = take_all(capture)
    assert [item.part_id for item in taken] == list("ABCDE")
    assert [isinstance(item, Frame) for item in taken] == [True, True, False, False, False]
    assert "not inspected: 2 triggered frames waited already" in str(taken[2])


def test_more_parts_than_anything_can_hold_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PARTS", 5)
    handed = HandOver(live=True)
    for _ in range(8):
        handed.put(make_frame(trigger="mqtt"))
    assert handed.losses == Losses(skipped=0, dropped=3)


def test_a_bad_frame_is_handed_on_with_its_part(make_capture: Callable[..., Capture]) -> None:
    first, second, _ = take_all(make_capture(Scripted(bad, frame), commanded(*"ABC")))
    assert isinstance(first, BadFrame)
    assert (first.seq, first.part_id, first.trigger) == (0, "A", "mqtt")
    assert (first.path, first.captured_ns, str(first)) == ("a.png", 7, "torn")
    assert (second.seq, second.part_id) == (1, "B")


def test_the_part_that_a_lost_camera_failed_gets_its_error_before_the_end(
    make_capture: Callable[..., Capture],
) -> None:
    capture = make_capture(Scripted(lost), commanded("A"))
    part = capture.take(DEADLINE_S)
    assert isinstance(part, BadFrame)
    assert (part.part_id, str(part)) == ("A", "scripted: unplugged")
    with pytest.raises(FrameError, match="unplugged"):
        capture.take(DEADLINE_S)
    assert not capture.ended


def test_a_part_whose_trigger_found_no_room_or_came_too_late_has_its_error(
    make_capture: Callable[..., Capture],
) -> None:
    trigger = commanded(*"ABCD", queue_limit=2)
    entered, closed = threading.Event(), threading.Event()

    close = trigger.close
    trigger.close = lambda: (close(), closed.set())

    def slow() -> Frame:
        entered.set()
        closed.wait(DEADLINE_S)  # stop() closes the trigger before it waits for this
        return frame()

    capture = make_capture(Scripted(slow), trigger)
    assert entered.wait(DEADLINE_S)
    assert capture.stop()
    taken = []
    while (item := capture.take(0)) is not None:
        taken.append(item)
    assert sorted(item.part_id for item in taken) == list("ABCD")
    assert {item.part_id for item in taken if isinstance(item, Frame)} == {"A"}
    reasons = {item.part_id: str(item) for item in taken if isinstance(item, BadFrame)}
    assert "too many triggers waited" in reasons["C"]
    assert "too many triggers waited" in reasons["D"]
    assert "the station stopped" in reasons["B"]
    assert len({item.seq for item in taken}) == 4


def test_what_a_free_camera_lost_itself_is_a_gap_and_is_counted(make_capture: Callable[..., Capture]) -> None:
    camera = Scripted(frame, lambda: make_frame(seq=5), frame, live=False)
    capture = make_capture(camera)
    assert [item.seq for item in take_all(capture)] == [0, 5, 6]
    assert capture.losses == Losses(skipped=4, dropped=0)


def test_a_bug_of_the_camera_does_not_swallow_the_part(make_capture: Callable[..., Capture]) -> None:
    def fail() -> Frame:
        raise ZeroDivisionError("bug")

    capture = make_capture(Scripted(fail), commanded("A"))
    assert str(capture.take(DEADLINE_S)) == "bug"
    with pytest.raises(ZeroDivisionError):
        capture.take(DEADLINE_S)


@pytest.mark.parametrize("fault", [FrameError("unplugged"), ZeroDivisionError("bug")])
def test_a_fault_of_the_thread_is_raised_after_what_was_taken_before(
    make_capture: Callable[..., Capture], fault: Exception
) -> None:
    def fail() -> Frame:
        raise fault

    camera = Scripted(frame, fail, live=False)
    capture = make_capture(camera)
    assert capture.take(DEADLINE_S).seq == 0
    with pytest.raises(type(fault)):
        capture.take(DEADLINE_S)


def test_what_waits_at_a_stop_can_still_be_taken_or_is_counted(make_capture: Callable[..., Capture]) -> None:
    reading = threading.Event()

    def last() -> Frame:
        reading.set()
        return frame()

    capture = make_capture(Scripted(*[frame] * AHEAD, last, *[frame] * 9, live=False))
    assert reading.wait(DEADLINE_S)
    assert capture.stop()
    assert capture.take(0).seq == 0
    assert capture.discard() == []
    assert capture.take(0) is None
    assert capture.losses == Losses(skipped=0, dropped=AHEAD)


def test_a_camera_that_hangs_is_a_fault_and_is_left_behind(
    make_capture: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HUNG_S", 0.1)
    monkeypatch.setattr(module, "STOP_S", 0.1)
    release = threading.Event()
    capture = make_capture(Scripted(lambda: release.wait(DEADLINE_S) and None), timeout_s=0.1)
    with pytest.raises(
        FrameError, match=r"scripted: hangs: was given 0.1 s for a frame, and has not come back"
    ):
        take_all(capture)
    assert not capture.stop()
    release.set()


def test_the_parts_of_a_camera_that_hangs_are_not_forgotten(
    make_capture: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HUNG_S", 0.1)
    monkeypatch.setattr(module, "STOP_S", 0.1)
    release = threading.Event()
    camera = Scripted(frame, lambda: release.wait(DEADLINE_S) and frame())
    capture = make_capture(camera, commanded(*"ABC"), timeout_s=0.1)
    assert capture.take(DEADLINE_S).part_id == "A"
    with pytest.raises(FrameError, match="hangs"):
        take_all(capture)
    assert not capture.stop()
    release.set()
    assert camera.closed.wait(DEADLINE_S)  # it came back after all, too late
    parts = capture.discard()
    assert [part.part_id for part in parts] == ["B", "C"]
    assert len({part.seq for part in parts} | {0}) == 3
    assert "does not come back" in str(parts[0])
    assert capture.losses == Losses(0, 0)


def test_a_thread_in_the_kernel_does_not_keep_the_process(tmp_path: os.PathLike[str]) -> None:
    """A read from a pipe that nobody writes to, in a thread: the command still ends, with its exit code."""
    program = (
        "import os, threading\n"
        "from device import __main__ as command\n"
        "threading.Thread(target=os.read, args=(os.pipe()[0], 1)).start()\n"
        "command._leave(5)\n"
    )
    done = subprocess.run((sys.executable, "-c", program), cwd=REPOSITORY, check=False, timeout=DEADLINE_S)
    assert done.returncode == 5


def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event; it comes with the thread's next look."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_capture_that_waits_for_its_trigger_says_so(make_capture: Callable[..., Capture]) -> None:
    trigger = CommandTrigger(4)
    capture = make_capture(Scripted(frame, frame), trigger)
    until(lambda: capture.waits_for_part)
    trigger.fire("A")
    until(lambda: capture.waiting == 1)
    assert not capture.waits_for_part
    assert capture.take(DEADLINE_S).part_id == "A"
    until(lambda: capture.waits_for_part)


def test_a_trigger_that_does_not_answer_is_not_waited_for(
    make_capture: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = make_capture(Scripted(frame), CommandTrigger(4))
    until(lambda: capture.waits_for_part)
    monkeypatch.setattr(module, "ANSWER_S", 0.0)
    assert not capture.waits_for_part


def test_a_camera_that_runs_freely_never_waits_for_a_part(make_capture: Callable[..., Capture]) -> None:
    capture = make_capture(Scripted(frame))
    assert capture.take(DEADLINE_S) is not None
    until(lambda: capture.ended)
    assert not capture.waits_for_part


def test_what_is_inspected_is_prepared_ahead(
    make_capture: Callable[..., Capture], tiny_bundle: Bundle
) -> None:
    pipeline = Pipeline(tiny_bundle, "press-4", "5e55", threads=1)
    recorded = take_all(make_capture(Scripted(frame, bad, live=False), prepare=pipeline.prepare))
    assert [type(item) for item in recorded] == [PreparedFrame, BadFrame]
    assert recorded[0].of is pipeline
    part, _ = take_all(make_capture(Scripted(frame), commanded(*"AB"), prepare=pipeline.prepare))
    assert (type(part), part.frame.part_id) == (PreparedFrame, "A")
    free = take_all(make_capture(Scripted(frame), prepare=pipeline.prepare))
    assert [type(item) for item in free] == [PreparedFrame]


def test_frames_that_come_faster_than_they_are_inspected_are_not_prepared_ahead(
    make_capture: Callable[..., Capture],
) -> None:
    prepared: list[int] = []

    def prepare(frame: Frame) -> PreparedFrame:
        prepared.append(frame.seq)
        raise BundleError("noted")

    camera = Scripted(*[frame] * 20)
    make_capture(camera, prepare=prepare)
    assert camera.closed.wait(DEADLINE_S)  # nobody has taken any
    assert prepared == [0, 1]  # the second took the first one's place


def test_a_frame_that_cannot_be_prepared_is_handed_on_as_it_is(make_capture: Callable[..., Capture]) -> None:
    def refuse(frame: Frame) -> PreparedFrame:
        raise BundleError("not for frames of this size")

    [item] = take_all(make_capture(Scripted(frame, live=False), prepare=refuse))
    assert isinstance(item, Frame)


SENSOR, REJECT = 17, 5
SENSED = TriggerConfig(
    kind="gpio",
    interval_s=1.0,
    pin=SENSOR,
    edge="falling",
    pull="up",
    debounce_ms=0.0,
    queue_limit=2,
    timeout_s=5.0,
)


def gate(parts_behind: int) -> OutputsConfig:
    return OutputsConfig(
        reject_pin=REJECT,
        reject_active="high",
        reject_on=("NG",),
        reject_after_parts=parts_behind,
        reject_delay_ms=0.0,
        reject_pulse_ms=1.0,
        busy_pin=-1,
        busy_active="high",
        ready_pin=-1,
        ready_active="high",
    )


def passed_gate(acts: list[str], parts_behind: int) -> tuple[int, int]:
    """(parts on their way, parts thrown out) after these acts, if commands move nothing."""
    words: dict[int, str | None] = {}  # of the line's parts by their numbers
    unjudged: list[tuple[int, bool]] = []  # what waits for a verdict: its number, and whether it is a part
    gone: set[int] = set()
    rejected = 0
    for number, act in enumerate(acts):
        if act in ("part", "command"):
            unjudged.append((number, act == "part"))
            if act == "part":
                words[number] = None
        elif unjudged:
            first, is_part = unjudged.pop(0)
            if is_part:
                words[first] = act
        for part in list(words)[: max(0, len(words) - parts_behind)]:
            if part not in gone and (parts_behind or words[part]):
                gone.add(part)
                rejected += words[part] == "NG"
    return len(words) - len(gone), rejected


@settings(max_examples=60)
@given(
    parts_behind=st.integers(0, 3),
    acts=st.lists(st.sampled_from(("part", "part", "command", "NG", "OK")), max_size=16),
)
def test_commands_anywhere_among_parts_and_verdicts_leave_the_pulses_as_they_are(
    parts_behind: int, acts: list[str]
) -> None:
    """A part is thrown out by its own verdict, if it has one when so many parts more have passed."""
    pins = MockFactory()
    outputs = Outputs(gate(parts_behind), pins)
    outputs.open()
    trigger = GpioEdge(SENSED, pins)
    capture = Capture(Scripted(*[frame] * len(acts)), trigger, 5.0, outputs=outputs)
    capture.open()
    capture.start()
    unjudged: list[int] = []
    try:
        for count, act in enumerate(acts, 1):
            if act in ("NG", "OK"):
                if unjudged:
                    outputs.judged(unjudged.pop(0), act)
            else:
                if act == "command":
                    assert trigger.fire("one more look")
                else:
                    pins.pin(SENSOR).drive_low()
                    pins.pin(SENSOR).drive_high()
                taken = capture.take(DEADLINE_S)
                assert taken is not None
                assert taken.trigger == ("mqtt" if act == "command" else "gpio")
                unjudged.append(taken.seq)
            expected = passed_gate(acts[:count], parts_behind)
            wait_until(lambda expected=expected: (len(outputs._parts), outputs.rejected) == expected)
    finally:
        capture.stop()
        outputs.close(0)
