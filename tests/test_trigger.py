"""What asks for a frame."""

from __future__ import annotations

import time

from device.trigger import FreeRun


def test_free_run_wants_a_frame_at_once() -> None:
    trigger = FreeRun()
    trigger.open()
    begin_ns = time.monotonic_ns()
    event = trigger.wait(60)
    assert (event.kind, event.part_id) == ("free-run", None)
    assert begin_ns <= event.monotonic_ns <= time.monotonic_ns()
    assert trigger.dropped == 0
    trigger.close()
