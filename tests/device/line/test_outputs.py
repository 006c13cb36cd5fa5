"""Reject, busy and ready, on gpiozero's mock pins, which record what happened to them and when."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_camera import wait_until
from gpiozero.pins.mock import MockFactory, MockPin

from device import config
from device.errors import PinError
from device.line import outputs
from device.line.outputs import Outputs

REJECT, BUSY, READY = 5, 6, 13
MS = 1_000_000
LATE_S = 15.0  # by which a thread of a loaded machine has had its turn

Make = Callable[..., Outputs]


@pytest.fixture
def pins() -> Iterator[MockFactory]:
    factory = MockFactory()
    yield factory
    factory.reset()


@pytest.fixture
def make(pins: MockFactory, tmp_path: Path) -> Iterator[Make]:
    made: list[Outputs] = []

    def make_outputs(**changes: object) -> Outputs:
        keys = {"reject_pin": REJECT, "busy_pin": BUSY, "ready_pin": READY, **changes}
        lines = [f"{key} = {value!r}".replace("'", '"') for key, value in keys.items()]
        (tmp_path / "config.toml").write_text("[outputs]\n" + "\n".join(lines))
        made.append(Outputs(config.load(tmp_path / "config.toml").outputs, pins))
        made[-1].open()
        return made[-1]

    yield make_outputs
    for each in made:
        each.close(0)


def pulses(pin: MockPin) -> list[tuple[float, float]]:
    """(start after the one before or the beginning, length) of each high pulse so far, in s."""
    states = pin.states[1:]
    return [
        (up.timestamp, down.timestamp)
        for up, down in zip(states[::2], states[1::2], strict=False)
        if up.state
    ]


def wait_for_pulses(pin: MockPin, count: int) -> list[tuple[float, float]]:
    wait_until(lambda: len(pulses(pin)) >= count)
    return pulses(pin)


def now() -> int:
    return time.monotonic_ns()


@pytest.mark.parametrize(("word", "rejected"), [("OK", 0), ("NG", 1), ("MARGINAL", 1), ("ERROR", 1)])
def test_by_default_everything_that_is_not_ok_is_thrown_out(
    make: Make, pins: MockFactory, word: str, rejected: int
) -> None:
    parts = make()
    parts.triggered(0, now())
    wait_until(lambda: pins.pin(BUSY).state)
    parts.judged(0, word)
    wait_until(lambda: not parts._parts)
    parts.close()
    assert (parts.rejected, len(pulses(pins.pin(REJECT)))) == (rejected, rejected)


def test_which_verdicts_throw_out_is_a_setting(make: Make, pins: MockFactory) -> None:
    parts = make(reject_on=["NG"])
    for number, word in enumerate(("MARGINAL", "ERROR", "NG")):
        parts.triggered(number, now())
        parts.judged(number, word)
    parts.close()
    assert parts.rejected == 1


def test_the_pulse_comes_after_the_delay_from_the_trigger_and_has_its_length(
    make: Make, pins: MockFactory
) -> None:
    parts = make(reject_delay_ms=200.0, reject_pulse_ms=80.0)
    pins.pin(REJECT).clear_states()
    parts.triggered(0, now())
    parts.judged(0, "NG")
    [(start_s, length_s)] = wait_for_pulses(pins.pin(REJECT), 1)
    assert 0.199 <= start_s < LATE_S
    assert 0.079 <= length_s < LATE_S


def test_the_delay_counts_from_the_trigger_and_not_from_the_verdict(make: Make, pins: MockFactory) -> None:
    parts = make(reject_delay_ms=60_300.0, reject_pulse_ms=20.0)
    pins.pin(REJECT).clear_states()
    parts.triggered(0, now() - 60_000 * MS)
    parts.judged(0, "NG")
    [(start_s, _)] = wait_for_pulses(pins.pin(REJECT), 1)
    assert 0.298 <= start_s < LATE_S


def test_a_part_without_a_verdict_at_the_gate_is_thrown_out_and_counted(
    make: Make, pins: MockFactory, caplog: pytest.LogCaptureFixture
) -> None:
    parts = make(reject_delay_ms=30.0, reject_pulse_ms=10.0)
    with caplog.at_level(logging.ERROR):
        for number in range(2):
            parts.triggered(number, now())
            wait_for_pulses(pins.pin(REJECT), number + 1)
    parts.judged(0, "OK")  # too late to call it back
    parts.judged(1, "OK")
    parts.triggered(2, now())
    parts.judged(2, "OK")
    wait_until(lambda: not pins.pin(BUSY).state)
    assert (parts.rejected, parts.late) == (2, 2)
    assert caplog.text.count("passes the gate without a verdict") == 1


def test_a_part_without_a_verdict_passes_where_errors_do(make: Make) -> None:
    parts = make(reject_delay_ms=10.0, reject_on=["NG"])
    parts.triggered(0, now())
    wait_until(lambda: parts.late == 1)
    assert parts.rejected == 0


def test_a_gate_so_many_parts_behind(make: Make, pins: MockFactory) -> None:
    parts = make(reject_after_parts=2, reject_pulse_ms=10.0)
    reject = pins.pin(REJECT)
    for number, word in enumerate(("NG", "OK")):
        parts.triggered(number, now())
        parts.judged(number, word)
    assert not pulses(reject)
    assert parts.rejected == 0
    parts.triggered(2, now())  # the first one is in front of the gate
    wait_for_pulses(reject, 1)
    parts.judged(2, "OK")
    parts.triggered(3, now())
    parts.judged(3, "NG")
    parts.triggered(4, now())
    wait_until(lambda: len(parts._parts) == 2)  # 3 and 4 are on their way
    assert parts.rejected == 1
    parts.triggered(5, now())
    wait_for_pulses(reject, 2)
    assert (parts.rejected, parts.late) == (2, 0)


def test_so_many_parts_and_then_a_delay(make: Make, pins: MockFactory) -> None:
    parts = make(reject_after_parts=1, reject_delay_ms=150.0, reject_pulse_ms=10.0)
    parts.triggered(0, now())
    parts.judged(0, "NG")
    pins.pin(REJECT).clear_states()
    parts.triggered(1, now())
    [(start_s, _)] = wait_for_pulses(pins.pin(REJECT), 1)
    assert 0.149 <= start_s < LATE_S


def test_pulses_that_overlap_become_one_that_ends_with_the_last(make: Make, pins: MockFactory) -> None:
    parts = make(reject_delay_ms=100.0, reject_pulse_ms=150.0)
    pins.pin(REJECT).clear_states()
    at_ns = now()
    for number in range(3):
        parts.triggered(number, at_ns + number * 80 * MS)
        parts.judged(number, "NG")
    wait_until(lambda: parts.rejected == 3)
    [(start_s, length_s)] = wait_for_pulses(pins.pin(REJECT), 1)
    assert start_s + length_s >= 0.409  # 100 + 160 + 150 ms; the first alone would end after 250


def test_busy_from_the_trigger_to_the_last_verdict(make: Make, pins: MockFactory) -> None:
    parts = make()
    busy = pins.pin(BUSY)
    assert not busy.state
    parts.triggered(0, now())
    wait_until(lambda: busy.state)
    parts.triggered(1, now())
    parts.judged(0, "OK")
    wait_until(lambda: len(parts._parts) == 1)
    assert busy.state
    parts.judged(1, "OK")
    wait_until(lambda: not busy.state)


def test_a_verdict_that_is_there_at_once_still_shows_as_busy(make: Make, pins: MockFactory) -> None:
    parts = make()
    for count in range(1, 6):
        parts.triggered(count, now())
        parts.judged(count, "OK")
        wait_for_pulses(pins.pin(BUSY), count)
    assert all(length_s >= 0.0049 for _, length_s in pulses(pins.pin(BUSY)))


def test_ready_while_it_is_said_and_not_after_the_end(make: Make, pins: MockFactory) -> None:
    parts = make()
    ready = pins.pin(READY)
    assert not ready.state
    parts.ready(True)
    wait_until(lambda: ready.state)
    parts.ready(False)
    wait_until(lambda: not ready.state)
    parts.ready(True)
    wait_until(lambda: ready.state)
    parts.close()
    assert not ready.state


def test_outputs_that_are_active_when_low(make: Make, pins: MockFactory) -> None:
    parts = make(reject_active="low", ready_active="low", reject_pulse_ms=10.0)
    reject, ready = pins.pin(REJECT), pins.pin(READY)
    assert (reject.state, ready.state) == (True, True)
    parts.ready(True)
    wait_until(lambda: not ready.state)
    parts.triggered(0, now())
    parts.judged(0, "NG")
    wait_until(lambda: [s.state for s in reject.states[-3:]] == [True, False, True])


def test_what_is_bad_and_on_its_way_is_thrown_out_before_the_end(make: Make, pins: MockFactory) -> None:
    parts = make(reject_delay_ms=150.0, reject_pulse_ms=40.0)
    reject, ready = pins.pin(REJECT), pins.pin(READY)
    parts.ready(True)
    wait_until(lambda: ready.state)
    parts.triggered(0, now())
    parts.judged(0, "NG")
    closing = threading.Thread(target=parts.close)
    closing.start()
    wait_until(lambda: len(ready.states) == 3 and not ready.state)  # at once
    closing.join(20.0)
    assert len(pulses(reject)) == 1
    assert pulses(reject)[0][1] >= 0.039


def test_the_end_is_not_delayed_for_longer_than_it_may(
    make: Make, pins: MockFactory, caplog: pytest.LogCaptureFixture
) -> None:
    parts = make(reject_delay_ms=600_000.0)
    parts.triggered(0, now())
    parts.judged(0, "NG")
    started_s = time.monotonic()
    parts.close(0.05)
    assert time.monotonic() - started_s < 3
    assert "stopped with 1 rejected parts still on their way" in caplog.text
    assert not pins.pin(REJECT).state


def test_at_a_fault_everything_goes_to_rest_at_once(make: Make, pins: MockFactory) -> None:
    parts = make(reject_pulse_ms=10_000.0)
    parts.ready(True)
    parts.triggered(0, now())
    parts.judged(0, "NG")
    parts.triggered(1, now())
    wait_until(lambda: all(pins.pin(number).state for number in (REJECT, BUSY, READY)))
    levels = {number: pins.pin(number) for number in (REJECT, BUSY, READY)}
    outputs.rest_all()
    assert [pin.states[-1].state for pin in levels.values()] == [False] * 3


def test_telling_it_something_never_waits_for_the_pins(make: Make, pins: MockFactory) -> None:
    parts = make()
    started_s = time.monotonic()
    for number in range(2000):
        parts.triggered(number, now())
        parts.judged(number, "OK")
    assert time.monotonic() - started_s < 2.0
    wait_until(lambda: not pins.pin(BUSY).state and not parts._parts)


def test_without_pins_there_is_no_thread_and_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    parts = Outputs(config.load(tmp_path / "config.toml").outputs)
    before = threading.active_count()
    parts.open()
    parts.ready(True)
    for number in range(10):
        parts.triggered(number, now())
    parts.judged(0, "NG")
    assert threading.active_count() == before
    assert not parts._parts
    parts.close()


def test_a_pin_that_is_taken_leaves_none_of_the_others_taken(pins: MockFactory, make: Make) -> None:
    from gpiozero import DigitalInputDevice

    taken = DigitalInputDevice(READY, pin_factory=pins)
    with pytest.raises(PinError, match=f"pin {READY}: GPIOPinInUse"):
        make()
    taken.close()
    make()
