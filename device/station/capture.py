"""Trigger -> camera -> hand-over: the thread that takes frames, and what waits between it and inspection.

A frame is taken while the one before it is inspected. What happens when they come faster than they are
inspected depends on who can wait:

    recorded source, free run   The source waits. Every file gets its verdict, in order; nothing is skipped.
    live camera, free run       The newest frame wins: it takes the place of the one that waits, which is
                                skipped and counted. A verdict is on what is in front of the camera now.
    triggered                   First come, first served: each event is a part. When `most_waiting` frames
                                wait, a further one is dropped at once and its part gets an ERROR verdict
                                instead, in its turn; when MOST_PARTS wait, the event is dropped and counted.

A frame is prepared for the model here, while the model is at work on the one before. Not so where frames of a
live camera come faster than they are inspected: after one that was skipped, the next may be as well.

Everything taken has a number, `seq`, that only grows: one verdict or one counted loss for each. A camera that
runs freely may leave gaps in it, which are frames that it lost itself. A frame that could not be read, a
trigger that got no frame in time, and one that found the trigger's own queue full, is a BadFrame: an ERROR
verdict.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from device.camera.camera import Camera
from device.errors import EdgeVisionError, FrameError
from device.image.frame import FREE_RUN, BadFrame, Cause, Frame
from device.inspection.pipeline import PreparedFrame
from device.line.outputs import Outputs
from device.line.trigger import Trigger, TriggerEvent
from device.system import process

log = logging.getLogger(__name__)

CaptureResult = Frame | PreparedFrame | BadFrame
Prepare = Callable[[Frame], PreparedFrame]

MOST_WAITING = 4  # triggered frames; a 12-megapixel frame takes 36 MB
MOST_PARTS = 1000  # triggered parts, with or without their frames
AHEAD = 1  # frames that wait, read ahead of a recorded source; a further one is in the making
STOP_S = 2.0  # how long stop() waits for the camera to come back
HUNG_S = 2.0  # a camera that is so much later than the wait it was given does not come back
ANSWER_S = 3.0  # a trigger's thread that has said nothing for so long does not answer
_LISTEN_S = 0.5  # between two looks at whether to stop


@dataclass(frozen=True, slots=True)
class Losses:
    """What was taken and has no verdict."""

    skipped: int  # frames of a camera that runs freely: replaced by a newer one, or lost in the camera
    dropped: int  # parts that nobody had time for, and what still waited when a fault ended the service

    def __str__(self) -> str:
        return f"{self.skipped} skipped, {self.dropped} dropped"


class HandOver:
    """What waits between the two threads: put() in the one, take() in the other."""

    def __init__(self, *, live: bool, most_waiting: int = MOST_WAITING) -> None:
        self._live = live
        self._most_waiting = most_waiting
        self._changed = threading.Condition()  # guards all that follows
        self._waiting: deque[CaptureResult] = deque()
        self._closed = False
        self._overtaken = False
        self._skipped = 0
        self._dropped = 0

    def put(self, taken: CaptureResult) -> bool:
        """Let something wait, by the rule of its kind (see above). Blocks only for a recorded source.

        False when a part was dropped: it gets no verdict.
        """
        with self._changed:
            kept = True
            if taken.trigger != FREE_RUN:
                kept = self._queue(taken)
            elif self._live:
                self._overtaken = bool(self._waiting)
                self._skipped += len(self._waiting)
                self._waiting.clear()
                self._waiting.append(taken)
            else:
                self._changed.wait_for(lambda: self._closed or len(self._waiting) < AHEAD)
                self._waiting.append(taken)
            self._changed.notify_all()
            return kept

    def take(self, timeout_s: float) -> CaptureResult | None:
        """What has waited longest; None when nothing came within timeout_s, or nothing will come any more."""
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait(timeout_s)
            if not self._waiting:
                return None
            taken = self._waiting.popleft()
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """No put() and no take() waits any more. What waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def discard(self, before: Sequence[CaptureResult] = ()) -> list[BadFrame]:
        """Empty it: the parts among what waits, as not inspected; the others are counted as dropped.

        `before`: what was taken and has no verdict either.
        """
        with self._changed:
            waiting = [*before, *self._waiting]
            parts = [taken for taken in waiting if taken.trigger != FREE_RUN]
            self._dropped += len(waiting) - len(parts)
            self._waiting.clear()
        return [not_inspected(part, "the station ended by a fault") for part in parts]

    @property
    def overtaken(self) -> bool:
        """The last frame of a live camera that runs freely took the place of one that waited."""
        return self._overtaken

    @property
    def empty(self) -> bool:
        return not self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def losses(self) -> Losses:
        with self._changed:
            return Losses(self._skipped, self._dropped)

    def _queue(self, taken: CaptureResult) -> bool:
        if len(self._waiting) >= MOST_PARTS:
            self._dropped += 1
            return False
        if not isinstance(taken, BadFrame) and self._frames(taken.trigger) >= self._most_waiting:
            reason = f"{self._most_waiting} triggered frames waited already"
            self._waiting.append(not_inspected(taken, reason))
        else:
            self._waiting.append(taken)
        return True

    def _frames(self, trigger: str) -> int:
        """Those that wait for the same trigger: what is asked for by command takes no part's room."""
        return sum(not isinstance(t, BadFrame) and t.trigger == trigger for t in self._waiting)


class Register:
    """Numbers what is taken, tells those who wait for a part its number, and lets it wait for its verdict."""

    def __init__(
        self,
        handed: HandOver,
        camera: str,
        outputs: Outputs | None,
        dropped: Callable[[int], None] | None,
    ) -> None:
        """`camera`: its name. `outputs`, `dropped`: see Capture."""
        self._handed = handed
        self._camera = camera
        self._outputs = outputs
        self._dropped = dropped
        self._seq = 0  # of the next
        self.gaps = 0  # frames that the camera counted and nobody saw

    def number(self, event: TriggerEvent, camera_seq: int) -> None:
        """The number of what was taken: of a camera that runs freely its own, so that a loss is a gap."""
        if event.kind == FREE_RUN and camera_seq > self._seq:
            self.gaps += camera_seq - self._seq
            self._seq = camera_seq

    def numbered(self, event: TriggerEvent, frame: Frame) -> Frame:
        """The frame with its number, and what it was taken for."""
        self.number(event, frame.seq)
        if event.kind == FREE_RUN and frame.seq == self._seq:
            return frame
        return replace(frame, seq=self._seq, part_id=event.part_id, trigger=event.kind)

    def announce(self, event: TriggerEvent) -> None:
        """The part of this event will have the next number."""
        self.tell_asker(event)
        if self._outputs is not None and event.moves_line:
            self._outputs.triggered(self._seq, event.monotonic_ns)

    def tell_asker(self, event: TriggerEvent) -> None:
        """Who asked for it, where somebody did."""
        if event.asker is not None:
            event.asker.taken(self._seq)

    def hand_over(self, taken: CaptureResult) -> None:
        """Let it wait; where there is no room for it, say that it gets no verdict."""
        if not self._handed.put(taken):
            if self._outputs is not None:
                self._outputs.judged(taken.seq, "ERROR")
            if self._dropped is not None:
                self._dropped(taken.seq)
        self._seq += 1

    def speak_for(self, event: TriggerEvent, reason: str) -> None:
        """An ERROR verdict for a part that the capture thread cannot speak for any more."""
        self._handed.put(self.bad(event, reason))
        self._seq += 1

    def bad(
        self,
        event: TriggerEvent,
        reason: str,
        fault: BadFrame | None = None,
        cause: Cause = "unreadable",
    ) -> BadFrame:
        """What stands for the frame that did not come. `fault`: what came in its place."""
        return BadFrame(
            reason,
            seq=self._seq,
            path=fault.path if fault else None,
            captured_ns=fault.captured_ns if fault else time.time_ns(),
            camera=fault.camera if fault else self._camera,
            part_id=event.part_id,
            trigger=event.kind,
            cause=fault.cause if fault else cause,
        )


class Capture:
    """open(), start(), take() until `ended`, stop()."""

    def __init__(
        self,
        camera: Camera,
        trigger: Trigger,
        timeout_s: float,
        most_waiting: int = MOST_WAITING,
        outputs: Outputs | None = None,
        prepare: Prepare | None = None,
        dropped: Callable[[int], None] | None = None,
    ) -> None:
        """`timeout_s`: how long a frame may take to come. `outputs`: who is told of parts.

        `prepare`: what can be done to a frame ahead of the model. `dropped`: who is told the number of a part
        that gets no verdict.
        """
        self._camera = camera
        self._trigger = trigger
        self._timeout_s = timeout_s
        self._handed = HandOver(live=camera.live, most_waiting=most_waiting)
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._register = Register(self._handed, camera.name, outputs, dropped)
        self._prepare = prepare
        self._stopping = False
        self._done = False
        self._fault: Exception | None = None
        self._in_hand: TriggerEvent | None = None
        self._reading_since_s: float | None = None
        self._listened_s = -math.inf  # when the trigger last said that there was none
        self._left_behind = False

    @property
    def name(self) -> str:
        """The camera and what asks it for frames, for the log."""
        return f"{self._camera.name}, {self._trigger.name}"

    @property
    def ended(self) -> bool:
        """The source has come to its end without a fault, and all of it was taken."""
        return self._done and self._fault is None and self._handed.empty

    @property
    def waiting(self) -> int:
        """Frames and faults that were taken and wait for their verdict."""
        return len(self._handed)

    @property
    def waits_for_part(self) -> bool:
        """A trigger is awaited, its thread has just said so, and nothing waits: there is nothing to do.

        Never so for a camera that runs freely: there a missing frame is a fault.
        """
        answers = time.monotonic() - self._listened_s < ANSWER_S
        return answers and self._reading_since_s is None and self._handed.empty

    @property
    def losses(self) -> Losses:
        """What has no verdict so far."""
        losses = self._handed.losses
        return replace(losses, skipped=losses.skipped + self._register.gaps)

    def open(self) -> None:
        """Open the camera and begin to listen. Raises FrameError."""
        self._camera.open()
        self._trigger.open()

    def prove(self) -> None:
        """See that the camera gives a frame, before anybody waits for the first part. Raises FrameError.

        Not of a recorded source: there each frame is somebody's.
        """
        if self._camera.live:
            self._camera.read(self._timeout_s)

    def start(self) -> None:
        """Begin to take frames."""
        self._thread.start()

    def take(self, timeout_s: float) -> CaptureResult | None:
        """The next frame or fault; None when there was none within timeout_s, or nothing more will come.

        Raises what ended the capture, once all that was taken before it has been given away; FrameError also
        when the camera does not come back from a call.
        """
        taken = self._handed.take(timeout_s)
        if taken is None and not self._stopping:
            if self._fault is not None and self._handed.empty:
                raise self._fault
            self._require_answer()
        return taken

    def stop(self) -> bool:
        """Take no more frames; what waits can still be taken. False when the camera does not come back.

        Such a thread is left behind: nothing can end it but the end of the process.
        """
        self._stopping = True
        self._handed.close()
        self._trigger.close()
        if self._thread.ident is None:  # never started
            self._camera.close()
            return True
        self._thread.join(STOP_S)
        if self._thread.is_alive() and not self._left_behind:
            log.warning("%s: does not come back; it is left behind", self._camera.name)
            self._leave_behind()
        return not self._left_behind

    def discard(self, before: Sequence[CaptureResult] = ()) -> list[BadFrame]:
        """What still waits when a fault ends the service: of parts an ERROR each, of other frames a count.

        `before`: what was taken and has no verdict either.
        """
        return self._handed.discard(before)

    def _leave_behind(self) -> None:
        """Speak for the parts that the thread cannot speak for."""
        self._left_behind = True
        event, self._in_hand = self._in_hand, None
        reason = f"{self._camera.name}: does not come back"
        if event is not None and event.kind != FREE_RUN:  # its asker knows already
            self._register.speak_for(event, reason)
        for part in self._trigger.lost():
            self._register.tell_asker(part)
            self._register.speak_for(part, reason)

    # -- the capture thread

    def _run(self) -> None:
        if not self._camera.live:  # a recorded source can wait
            process.step_back()
        try:
            while not self._stopping:
                event = self._trigger.wait(_LISTEN_S)
                if event is None:
                    self._listened_s = time.monotonic()
                self._account_for_lost("not inspected: too many triggers waited")
                if event is not None and not self._serve(event):
                    break
        except Exception as fault:  # noqa: BLE001 - raised again by take(), in the main thread
            self._fault = fault
        finally:
            self._trigger.close()
            self._account_for_lost("not inspected: the station stopped")
            self._camera.close()
            self._done = True
            self._handed.close()

    def _serve(self, event: TriggerEvent) -> bool:
        """One event, one frame or fault. False at the end of the source."""
        register, triggered = self._register, event.kind != FREE_RUN
        self._in_hand = event
        if triggered:
            register.announce(event)
        taken: CaptureResult | None
        try:
            taken = self._read(triggered)
        except BadFrame as fault:
            register.number(event, fault.seq)
            taken = register.bad(event, str(fault), fault)
        except Exception as lost:  # the camera is lost, and this part with it, which must not go unsaid
            if triggered:
                self._hand_over(register.bad(event, str(lost) or type(lost).__name__))
            raise
        if taken is None:
            log.info("the camera %s has come to its end", self._camera.name)
            if triggered:
                self._hand_over(register.bad(event, f"{self._camera.name}: has come to its end"))
            return False
        if isinstance(taken, Frame):
            taken = self._ahead(register.numbered(event, taken))
        self._hand_over(taken)
        return True

    def _ahead(self, frame: Frame) -> CaptureResult:
        """The frame, prepared for the model unless it is likely to be skipped."""
        if self._prepare is None or (frame.trigger == FREE_RUN and self._handed.overtaken):
            return frame
        try:
            return self._prepare(frame)
        except EdgeVisionError:  # it will be met again, and told, by the one who inspects
            return frame

    def _hand_over(self, taken: CaptureResult) -> None:
        self._in_hand = None
        if not self._left_behind:  # else the main thread has spoken for it
            self._register.hand_over(taken)

    def _account_for_lost(self, reason: str) -> None:
        """An ERROR verdict for each part whose trigger nobody came to serve."""
        for event in self._trigger.lost():
            self._register.announce(event)
            self._hand_over(self._register.bad(event, reason, cause="overload"))

    def _read(self, triggered: bool) -> Frame | None:
        self._reading_since_s = time.monotonic()
        try:
            if triggered:
                return self._camera.read(self._timeout_s, flush=True)
            return self._camera.read(self._timeout_s)
        finally:
            self._reading_since_s = None

    def _require_answer(self) -> None:
        since_s = self._reading_since_s
        if since_s is None:
            return
        asked_s = time.monotonic() - since_s
        if asked_s > self._timeout_s + HUNG_S:
            raise FrameError(
                f"{self._camera.name}: hangs: was given {self._timeout_s:g} s for a frame, and has not come "
                f"back after {asked_s:.1f} s"
            )


def not_inspected(taken: CaptureResult, reason: str, cause: Cause = "overload") -> BadFrame:
    """What stands for a frame that nobody can judge. A BadFrame keeps its own reason and cause."""
    if isinstance(taken, BadFrame):
        return taken
    frame = taken.frame if isinstance(taken, PreparedFrame) else taken
    return BadFrame(
        f"not inspected: {reason}",
        seq=frame.seq,
        path=frame.path,
        captured_ns=frame.captured_ns,
        camera=frame.camera,
        part_id=frame.part_id,
        trigger=frame.trigger,
        cause=cause,
    )
