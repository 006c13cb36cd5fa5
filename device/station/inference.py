"""The thread that runs the model: from what the capture gives to what the service judges.

While it runs the model on one frame, the service says its word on the frame before, and the capture prepares
the next. AHEAD frames wait for the service at most; then the model waits. The order is that of the capture.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from device.errors import InterpreterError
from device.image.frame import BadFrame, Frame
from device.inspection.pipeline import Detection, Pipeline, PreparedFrame
from device.station.capture import Capture, CaptureResult

AHEAD = 2  # frames that the model has seen and that wait for their verdict
STOP_S = 2.0  # how long stop() waits for the model to come back
_LISTEN_S = 0.2  # between two looks at whether to stop


@dataclass(frozen=True, slots=True, eq=False)
class FailedFrame:
    """A frame that could not be shown to the model, or on which the model failed: then it is the last."""

    frame: Frame
    fault: Exception


InferenceResult = Detection | FailedFrame | BadFrame


def _nobody(taken: CaptureResult) -> None:
    """Nobody wants to know."""


class Inference:
    """start(), take() until `ended`, finish() for what was taken already, stop()."""

    def __init__(
        self, capture: Capture, pipeline: Pipeline, on_taken: Callable[[CaptureResult], None] = _nobody
    ) -> None:
        """`on_taken` is called in this thread for all that the capture gives."""
        self.pipeline = pipeline  # may be exchanged at any time: for the frames that come after
        self._capture = capture
        self._on_taken = on_taken
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._seen: queue.SimpleQueue[InferenceResult | None] = queue.SimpleQueue()  # None: the end
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(AHEAD):
            self._slots.put(None)
        self._in_hand: CaptureResult | None = None
        self._finishing = self._closing = self._over = False
        self._fault: Exception | None = None

    @property
    def ended(self) -> bool:
        """The source has come to its end without a fault, and all of it was taken."""
        return self._over and self._fault is None

    @property
    def over(self) -> bool:
        """Nothing more will come, for whatever reason, and all was taken."""
        return self._over

    @property
    def idle(self) -> bool:
        """No frame is here."""
        return self._in_hand is None and self._seen.empty()

    def start(self) -> None:
        """Begin to take from the capture."""
        self._thread.start()

    def take(self, timeout_s: float) -> InferenceResult | None:
        """What comes next; None when nothing did within timeout_s, or nothing will any more.

        Raises what ended the capture, once all that it gave before has been taken; not after finish().
        """
        if not self._over:
            with contextlib.suppress(queue.Empty):
                if (seen := self._seen.get(timeout=timeout_s)) is not None:
                    self._slots.put(None)
                    return seen
                self._over = True
        if self._over and self._fault is not None and not self._finishing:
            raise self._fault
        return None

    def finish(self) -> None:
        """After the capture has stopped: what it has given can still be taken, until it is `over`."""
        self._finishing = True

    def stop(self) -> list[Frame | BadFrame]:
        """Take no more frames. What has no verdict, in order.

        A model that does not come back is left behind: nothing can end it but the end of the process.
        """
        self._closing = True
        self._slots.put(None)
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
        left: list[Frame | BadFrame] = []
        with contextlib.suppress(queue.Empty):
            while True:
                if (seen := self._seen.get_nowait()) is not None:
                    left.append(_frame_of(seen))
        hanging = self._in_hand if self._thread.is_alive() else None
        if hanging is not None and all(frame.seq != hanging.seq for frame in left):
            left.append(_frame_of(hanging))
        self._over = True
        return left

    # -- the thread

    def _run(self) -> None:
        try:
            while (taken := self._next()) is not None:
                seen = self._look_at(taken)
                self._seen.put(seen)
                self._in_hand = None
                if isinstance(seen, FailedFrame) and isinstance(seen.fault, InterpreterError):
                    break
        except Exception as fault:  # noqa: BLE001 - of the capture: raised again by take(), in the main thread
            self._fault = fault
        finally:
            self._seen.put(None)

    def _next(self) -> CaptureResult | None:
        """What the capture gives, once there is room for it. None: nothing more will come."""
        self._slots.get()
        while not (self._closing or self._capture.ended):
            finishing = self._finishing
            taken = self._capture.take(0 if finishing else _LISTEN_S)
            if taken is not None:
                self._in_hand = taken
                self._on_taken(taken)
                return taken
            if finishing:
                break
        return None

    def _look_at(self, taken: CaptureResult) -> InferenceResult:
        if isinstance(taken, BadFrame):
            return taken
        pipeline = self.pipeline
        try:
            if isinstance(taken, PreparedFrame) and taken.of is pipeline:
                return pipeline.detect(taken)
            return pipeline.detect(pipeline.prepare(_frame(taken)))  # or prepared for the model before
        except Exception as fault:  # noqa: BLE001 - the service says an ERROR on this frame, and raises it
            return FailedFrame(_frame(taken), fault)


def _frame(taken: Frame | PreparedFrame) -> Frame:
    return taken.frame if isinstance(taken, PreparedFrame) else taken


def _frame_of(seen: InferenceResult | CaptureResult) -> Frame | BadFrame:
    return seen if isinstance(seen, Frame | BadFrame) else seen.frame
