"""When a frame is taken: free run, interval, edges of a pin, commands."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fixtures_daemon import REPOSITORY
from gpiozero.pins.mock import MockFactory, MockPin

from device.config import TriggerConfig
from device.errors import ConfigError, PinError
from device.line.trigger import CommandTrigger, FreeRun, GpioEdge, Interval, TriggerEvent, make_trigger

CONFIG = TriggerConfig(
    kind="gpio",
    interval_s=1.0,
    pin=17,
    edge="falling",
    pull="up",
    debounce_ms=20.0,
    queue_limit=4,
    timeout_s=1.0,
)
DEADLINE_S = 10.0


@pytest.fixture
def pins() -> Iterator[MockFactory]:
    factory = MockFactory()
    yield factory
    factory.reset()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The monotonic clock that triggers see, in s: a list of one number."""
    now = [100.0]
    monkeypatch.setattr("device.line.trigger.time.monotonic", lambda: now[0])
    monkeypatch.setattr("device.line.trigger.time.monotonic_ns", lambda: round(now[0] * 1e9))
    return now


def opened(pins: MockFactory, **changes: object) -> tuple[GpioEdge, MockPin]:
    config = replace(CONFIG, **changes)
    trigger = GpioEdge(config, pins)
    trigger.open()
    return trigger, pins.pin(config.pin)


def count(trigger: GpioEdge) -> int:
    events = 0
    while trigger.wait(0) is not None:
        events += 1
    return events


def test_free_run_never_waits_and_takes_no_command() -> None:
    trigger = make_trigger(replace(CONFIG, kind="free-run"))
    assert isinstance(trigger, FreeRun)
    trigger.open()
    before_ns = time.monotonic_ns()
    event = trigger.wait(0)
    assert (event.kind, event.part_id) == ("free-run", None)
    assert before_ns <= event.monotonic_ns <= time.monotonic_ns()
    assert not trigger.fire("A")
    assert trigger.lost() == []
    trigger.close()


def test_commands_come_in_order_with_their_part_ids() -> None:
    trigger = make_trigger(replace(CONFIG, kind="mqtt"))
    assert isinstance(trigger, CommandTrigger)
    trigger.open()
    assert trigger.wait(0) is None
    assert trigger.fire("A-1")
    assert trigger.fire(None)
    first, second = trigger.wait(0), trigger.wait(0)
    assert [(e.kind, e.part_id) for e in (first, second)] == [("mqtt", "A-1"), ("mqtt", None)]
    assert first.monotonic_ns <= second.monotonic_ns
    assert trigger.wait(0) is None


def test_what_does_not_fit_is_lost_and_told_once() -> None:
    trigger = CommandTrigger(2)
    trigger.open()
    assert [trigger.fire(part) for part in "ABCD"] == [True, True, False, False]
    assert [e.part_id for e in trigger.lost()] == ["C", "D"]
    assert trigger.lost() == []
    assert [trigger.wait(0).part_id for _ in range(2)] == ["A", "B"]


def test_a_trigger_that_is_not_open_takes_no_command() -> None:
    trigger = CommandTrigger(2)
    assert not trigger.fire("A")
    trigger.open()
    trigger.close()
    trigger.close()
    assert not trigger.fire("B")
    assert trigger.wait(0) is None
    assert trigger.lost() == []


@pytest.mark.parametrize("make", [lambda: CommandTrigger(2), lambda: Interval(1000.0, 2)])
def test_closing_wakes_who_waits(make: object) -> None:
    trigger = make()
    trigger.open()
    trigger.wait(0)  # an interval's first beat
    seen: list[TriggerEvent | None] = []
    waiting = threading.Thread(target=lambda: seen.append(trigger.wait(4 * DEADLINE_S)))
    waiting.start()
    trigger.close()
    waiting.join(DEADLINE_S)
    assert seen == [None]


def test_a_command_wakes_who_waits() -> None:
    trigger = CommandTrigger(2)
    trigger.open()
    seen: list[TriggerEvent | None] = []
    waiting = threading.Thread(target=lambda: seen.append(trigger.wait(4 * DEADLINE_S)))
    waiting.start()
    trigger.fire("A")
    waiting.join(DEADLINE_S)
    assert [e.part_id for e in seen] == ["A"]


def test_an_interval_keeps_its_beat_and_does_not_catch_up(clock: list[float]) -> None:
    trigger = Interval(0.5, 2)
    trigger.open()
    assert trigger.wait(0).kind == "interval"  # at once
    assert trigger.wait(0) is None
    clock[0] = 100.6
    assert trigger.wait(0).monotonic_ns == 100_600_000_000
    clock[0] = 100.9
    assert trigger.wait(0) is None
    clock[0] = 101.0  # the beat, not half a second after the late frame
    assert trigger.wait(0) is not None
    clock[0] = 105.2
    assert trigger.wait(0) is not None
    assert trigger.wait(0) is None
    clock[0] = 105.5
    assert trigger.wait(0) is not None


def test_an_interval_waits_in_real_time_and_also_obeys_the_command() -> None:
    trigger = make_trigger(replace(CONFIG, kind="interval", interval_s=0.02))
    trigger.open()
    started_s = time.monotonic()
    assert [trigger.wait(DEADLINE_S).kind for _ in range(4)] == ["interval"] * 4
    assert time.monotonic() - started_s >= 0.06
    trigger.fire("A")
    assert trigger.wait(DEADLINE_S).part_id == "A"


def test_an_edge_of_the_pin_is_a_trigger(pins: MockFactory, clock: list[float]) -> None:
    trigger, pin = opened(pins)
    assert pin.pull == "up"
    assert trigger.wait(0) is None  # that the pin rests is no edge
    clock[0] = 101.0
    pin.drive_low()
    assert trigger.wait(0) == TriggerEvent("gpio", None, 101_000_000_000)
    clock[0] = 102.0
    pin.drive_high()
    assert trigger.wait(0) is None
    trigger.close()


@pytest.mark.parametrize("pull", ["up", "down", "none"])
@pytest.mark.parametrize("edge", ["rising", "falling"])
def test_every_edge_with_every_pull(pins: MockFactory, clock: list[float], pull: str, edge: str) -> None:
    trigger, pin = opened(pins, pull=pull, edge=edge)
    assert pin.pull == {"up": "up", "down": "down", "none": "floating"}[pull]
    for drive in (pin.drive_high, pin.drive_low, pin.drive_high, pin.drive_low):
        clock[0] += 1
        drive()
    resting_high = pull == "up"
    assert count(trigger) == (2 if edge == "falling" else 1 if resting_high else 2)


def test_of_a_bouncing_contact_the_first_edge_counts_and_counts_at_once(
    pins: MockFactory, clock: list[float]
) -> None:
    trigger, pin = opened(pins)
    for start in (101.0, 102.0):
        for bounce in range(6):  # makes, and bounces for 11 ms
            clock[0] = start + bounce * 0.002
            pin.drive_low()
            clock[0] += 0.001
            pin.drive_high()
        clock[0] += 0.001
        pin.drive_low()
        clock[0] = start + 0.2
        for _ in range(6):  # breaks, and bounces
            pin.drive_high()
            clock[0] += 0.001
            pin.drive_low()
            clock[0] += 0.001
        pin.drive_high()
    assert trigger.wait(0).monotonic_ns == 101_000_000_000
    assert trigger.wait(0).monotonic_ns == 102_000_000_000
    assert trigger.wait(0) is None


def test_without_debounce_every_edge_counts(pins: MockFactory, clock: list[float]) -> None:
    trigger, pin = opened(pins, debounce_ms=0.0)
    for _ in range(3):
        pin.drive_low()
        pin.drive_high()
    assert count(trigger) == 3


def test_edges_that_do_not_fit_are_lost_and_told(pins: MockFactory, clock: list[float]) -> None:
    trigger, pin = opened(pins)
    for _ in range(6):
        clock[0] += 1
        pin.drive_low()
        clock[0] += 1
        pin.drive_high()
    assert [e.kind for e in trigger.lost()] == ["gpio", "gpio"]
    assert count(trigger) == 4


def test_a_pin_trigger_also_obeys_the_command(pins: MockFactory) -> None:
    trigger, _ = opened(pins)
    assert trigger.fire("A-7")
    assert trigger.wait(0).part_id == "A-7"


def test_closing_gives_the_pin_back(pins: MockFactory) -> None:
    trigger, pin = opened(pins)
    trigger.close()
    trigger.close()
    pin.drive_low()
    again, pin = opened(pins)
    pin.drive_low()
    assert count(again) == 1


def test_a_pin_in_use_is_named(pins: MockFactory) -> None:
    opened(pins)
    with pytest.raises(PinError, match=r"pin 17: GPIOPinInUse: "):
        opened(pins)


def test_a_machine_without_pins_says_what_is_missing() -> None:
    trigger = make_trigger(CONFIG)
    with pytest.raises(PinError, match="pin 17: "):
        trigger.open()


def test_gpiozero_is_imported_when_it_is_opened() -> None:
    command = "import device.line.trigger, sys; assert 'gpiozero' not in sys.modules"
    done = subprocess.run((sys.executable, "-c", command), cwd=REPOSITORY, check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize("part_id", ["", "x" * 129, "a\nb", "\0"])
def test_a_part_id_that_is_none(part_id: str) -> None:
    trigger = CommandTrigger(2)
    trigger.open()
    with pytest.raises(ValueError, match=r"part_id: must be 1..128 printable characters"):
        trigger.fire(part_id)


def test_a_kind_that_is_none() -> None:
    with pytest.raises(ValueError, match="kind: must be one of"):
        TriggerEvent("knock", None, 0)
    with pytest.raises(ConfigError):
        make_trigger(replace(CONFIG, kind="knock"))
