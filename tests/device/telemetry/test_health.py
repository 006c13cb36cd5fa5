"""Every reason of health: provoked and cleared, and what its states add up to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fixtures_board import recorded
from fixtures_bundle import make_frame
from fixtures_daemon import REPOSITORY
from fixtures_health import REFERENCE, Bench
from fixtures_scene import scene

from device.bundle.calibration import DriftReference, Reference
from device.schemas.strict_json import parse_as
from device.telemetry import health
from device.telemetry.health import REASONS, ROLES, Alarm, Reason

DATA = REPOSITORY / "tests" / "data"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# ---- every reason: how it comes, how grave it is, how it goes


def _drifting(name: str, by: float) -> Callable[[Bench], None]:
    mean = {"brightness": 0.4, "focus": 300.0, "score": 0.1, "evidence": -6.0}[name]

    def provoke(bench: Bench) -> None:
        for _ in range(100):
            random = np.random.default_rng(bench.frames)
            bench.see(**{name: mean + by + random.normal(0, abs(by) / 4)})

    return provoke


def _moved(bench: Bench) -> None:
    bench.restart()
    for seed in range(8):
        bench.see(image=scene(seed))
    assert bench.standing() == set()
    for seed in range(6):
        bench.see(image=scene(seed + 20, (40, 0)))


def _put_back(bench: Bench) -> None:
    for seed in range(16):
        bench.see(image=scene(seed + 40))


def _still_image(bench: Bench) -> None:
    bench.see(10, image=np.full((64, 64, 3), 99, np.uint8))


def _lost(bench: Bench) -> None:
    bench.health.unseen("part7.png: truncated PNG")


def _away(bench: Bench) -> None:
    bench.poll(8, connected=False)


def _skipping(bench: Bench) -> None:
    for _ in range(4):
        bench.poll(frames=bench.links.frames + 5, skipped_frames=bench.links.skipped_frames + 95)


def _not_skipping(bench: Bench) -> None:
    for _ in range(4):
        bench.poll(frames=bench.links.frames + 5)


def _linked(**links: object) -> Callable[[Bench], None]:
    return lambda bench: bench.poll(4, **links)


def _sensed(**values: object) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        bench.fake.set(**values)
        bench.poll(4)

    return change


def _disk(name: str, value: object) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        setattr(bench.fake, name, value)
        bench.poll(4)

    return change


def _seen(count: int = 20, **values: float) -> Callable[[Bench], None]:
    return lambda bench: bench.see(count, **values)


def _quiet(polls: int) -> Callable[[Bench], None]:
    return lambda bench: bench.poll(polls)


def _supply_back(bench: Bench) -> None:
    bench.fake.set(throttled="50000")
    bench.poll(125)


PROVOKED: dict[str, tuple[Callable[[Bench], None], str, Callable[[Bench], None]]] = {
    "frozen": (_still_image, "alert", _seen()),
    "frame_lost": (_lost, "warn", _seen()),
    "frames_skipped": (_skipping, "warn", _not_skipping),
    "triggers_dropped": (_linked(dropped_triggers=1), "alert", _quiet(125)),
    "too_dark": (_seen(15, brightness=0.15), "warn", _seen(100)),
    "too_bright": (_seen(15, brightness=0.8), "warn", _seen(100)),
    "out_of_focus": (_seen(15, focus=120.0), "warn", _seen(100)),
    "moved": (_moved, "warn", _put_back),
    "brightness_drift": (_drifting("brightness", 0.04), "warn", _seen(100)),
    "focus_drift": (_drifting("focus", -80.0), "warn", _seen(100)),
    "score_drift": (_drifting("score", 0.1), "warn", _seen(100)),
    "evidence_drift": (_drifting("evidence", 1.0), "warn", _seen(100)),
    "model_rejected": (
        _linked(rejected_model="the golden images differ"),
        "warn",
        _linked(rejected_model=None),
    ),
    "broker_away": (_away, "warn", _linked(connected=True)),
    "outbox_filling": (_linked(waiting_ratio=0.6), "warn", _linked(waiting_ratio=0.1)),
    "events_dropped": (_linked(dropped_events=3), "alert", _quiet(125)),
    "disk_low": (_disk("free_ratio", 0.07), "warn", _disk("free_ratio", 0.5)),
    "inodes_low": (_disk("free_inodes_ratio", 0.07), "warn", _disk("free_inodes_ratio", 0.5)),
    "disk_read_only": (_disk("read_only", True), "alert", _disk("read_only", False)),
    "storage_failing": (_linked(storage_fault="archive: no space"), "warn", _linked(storage_fault=None)),
    "too_hot": (_sensed(temperature_c=77), "warn", _sensed(temperature_c=60)),
    "slowed": (_sensed(throttled="4"), "warn", _sensed(throttled="40000")),
    "under_voltage": (_sensed(throttled="50001"), "alert", _supply_back),
    "memory_low": (_sensed(available_kib=80 * 1024), "warn", _sensed(available_kib=900 * 1024)),
    "memory_grown": (_sensed(resident_kib=400 * 1024), "warn", _sensed(resident_kib=90 * 1024)),
    "clock_unset": (_linked(clock_synced=False), "warn", _linked(clock_synced=True)),
}


def test_no_reason_is_without_its_test() -> None:
    assert PROVOKED.keys() == REASONS.keys()


@pytest.mark.parametrize("code", REASONS)
def test_every_reason_comes_alone_and_goes(tmp_path: Path, code: str) -> None:
    provoke, state, clear = PROVOKED[code]
    bench = Bench(tmp_path, {"clock_warn_s": 12.0})
    bench.see(3)
    bench.poll(4)
    assert bench.health.total == "ready"
    provoke(bench)
    beside = {
        "too_dark": {"brightness_drift"},
        "too_bright": {"brightness_drift"},
        "out_of_focus": {"focus_drift"},
    }
    assert code in bench.standing()
    assert bench.standing() - {code} <= beside.get(code, set())
    role = bench.health.roles()[REASONS[code].role]
    assert (role.state, role.reason) == (state, code)
    assert role.text
    assert bench.health.total == {"warn": "degraded", "alert": "alert"}[state]
    parse_as("health", bench.health.to_json())
    clear(bench)
    assert bench.standing() == set()
    assert bench.health.total == "ready"


GRAVE: dict[str, Callable[[Bench], None]] = {
    "frame_lost": lambda bench: [_lost(bench), _lost(bench)],
    "too_dark": _seen(15, brightness=0.05),
    "too_bright": _seen(15, brightness=0.95),
    "out_of_focus": _seen(15, focus=20.0),
    "broker_away": lambda bench: bench.poll(125, connected=False),
    "outbox_filling": _linked(waiting_ratio=0.95),
    "disk_low": _disk("free_ratio", 0.01),
    "inodes_low": _disk("free_inodes_ratio", 0.01),
    "too_hot": _sensed(temperature_c=84),
    "memory_low": _sensed(available_kib=30 * 1024),
}


@pytest.mark.parametrize("code", GRAVE)
def test_what_is_worse_is_an_alert(bench: Bench, code: str) -> None:
    bench.see(3)
    GRAVE[code](bench)
    assert bench.state(code) == "alert"
    assert bench.health.total == "alert"


# ---- nothing flaps


def test_a_value_that_wavers_about_its_limit_does_not_flap(bench: Bench) -> None:
    bench.see(3)
    states = []
    random = np.random.default_rng(4)
    for _ in range(400):
        bench.see(brightness=random.normal(0.2, 0.01))  # the limit is 0.2
        states.append(bench.state("too_dark"))
    changes = sum(before != after for before, after in pairwise(states))
    assert changes <= 2


def test_single_bad_frames_raise_nothing(bench: Bench) -> None:
    for _ in range(60):
        bench.see(9)
        bench.see(brightness=0.0)
    assert "too_dark" not in bench.standing()


def test_an_alarm_takes_the_least_level_of_its_streak() -> None:
    alarm = Alarm(Reason("camera", 3, 2, "", hold_s=0), lambda: 0.0)
    for level in (2, 1, 2):
        alarm.observe(level, lambda: "why")
    assert alarm.level == health.WARN
    for level in (2, 2, 2):
        alarm.observe(level, lambda: "why")
    assert alarm.level == health.ALERT
    for level in (0, 1):
        alarm.observe(level, lambda: "why")
    assert alarm.level == health.WARN
    for level in (0, 1, 0):
        alarm.observe(level, str)
    assert alarm.level == health.WARN
    alarm.observe(0, str)
    assert (alarm.level, alarm.text) == (health.OK, "")


def test_an_alarm_stands_for_a_while() -> None:
    times_s = iter((0.0, 1.0, 5.0, 9.9, 10.0, 10.0))
    alarm = Alarm(Reason("camera", 1, 1, "", hold_s=10), lambda: next(times_s))
    alarm.observe(health.WARN, lambda: "why")
    levels = []
    for _ in range(4):
        alarm.observe(health.OK, str)
        levels.append(alarm.level)
    assert levels == [health.WARN, health.WARN, health.WARN, health.OK]


# ---- sequences of a board


def followed(bench: Bench, name: str, code: str) -> list[tuple[int, str]]:
    """(seconds, state) whenever the state of a reason's role changes, over a recorded sequence."""
    bench.see()
    changes = [(0, "ok")]
    for second, temperature_c, throttled in recorded(DATA / name):
        bench.fake.set(temperature_c=float(temperature_c), throttled=throttled)
        bench.poll()
        role = bench.health.roles()[REASONS[code].role]
        state = role.state if role.reason == code or code in role.others else "ok"
        if state != changes[-1][1]:
            changes.append((int(second), state))
    return changes


def test_a_board_that_heats_up_until_it_throttles_and_cools_down(bench: Bench) -> None:
    changes = followed(bench, "throttling.txt", "too_hot")
    assert [state for _, state in changes] == ["ok", "warn", "alert", "warn", "ok"]


def test_a_supply_that_dips_between_two_polls_is_noticed(bench: Bench) -> None:
    changes = followed(bench, "under_voltage.txt", "under_voltage")
    assert [state for _, state in changes] == ["ok", "warn", "alert", "warn", "ok"]


def test_what_the_firmware_remembers_from_before_is_no_reason(bench: Bench) -> None:
    bench.see()
    bench.fake.set(throttled="50000")
    bench.poll(10)
    assert bench.health.total == "ready"


# ---- states and the message


def test_it_is_init_until_a_frame_was_inspected(bench: Bench) -> None:
    assert bench.health.total == "init"
    bench.poll(3)
    assert bench.health.total == "init"
    bench.see()
    assert bench.health.total == "ready"


def test_what_was_lost_in_an_earlier_session_is_no_news(bench: Bench) -> None:
    bench.see()
    bench.poll(4, dropped_events=12, dropped_triggers=3, skipped_frames=1000)
    assert bench.standing() == set()


def test_an_alert_is_told_even_before_the_first_frame(bench: Bench) -> None:
    bench.poll()
    bench.poll(4, dropped_events=1)
    assert bench.health.total == "alert"


def test_the_worst_reason_speaks_and_the_others_are_named(bench: Bench) -> None:
    bench.see()
    bench.fake.set(throttled="1", temperature_c=77)
    bench.poll(4)
    role = bench.health.roles()["board"]
    assert (role.state, role.reason, role.others) == ("alert", "under_voltage", ("too_hot",))


def test_the_message(bench: Bench) -> None:
    bench.see()
    before_ns = time.time_ns()
    bench.poll(4, rejected_model="golden/0.png: must score 0.9, got 0.1")
    content = json.loads(bench.health.to_json())
    assert (content["schema"], content["state"]) == (1, "degraded")
    assert tuple(content["roles"]) == ROLES
    since = content["roles"]["model"].pop("since")
    assert since[:10] == time.strftime("%Y-%m-%d", time.gmtime(before_ns // 10**9))
    assert content["roles"]["model"] == {
        "state": "warn",
        "reason": "model_rejected",
        "text": "golden/0.png: must score 0.9, got 0.1",
        "mend": REASONS["model_rejected"].mend,
        "others": [],
    }
    assert content["roles"]["disk"] == {
        "state": "ok",
        "reason": None,
        "text": "",
        "mend": "",
        "since": None,
        "others": [],
    }


def test_the_golden_payload_byte_for_byte(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that is well, one with a reason, one with two."""
    monkeypatch.setattr(health.time, "time_ns", lambda: 1_769_839_200_123_000_000)
    bench.see()
    bench.fake.set(throttled="1", temperature_c=77)
    bench.poll(4, rejected_model="golden/0.png: must score 0.9, got 0.1")
    found = bench.health.to_json()
    assert found + "\n" == (REPOSITORY / "tests" / "golden" / "health.json").read_text()
    parse_as("health", found)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state": "fine"}, "state: must be"),
        ({"roles": {}}, "roles.camera: missing"),
        ({"schema": 2}, "schema: must be 1"),
        ({"more": 1}, "more: unknown field"),
    ],
)
def test_the_schema_refuses_what_is_wrong(bench: Bench, change: dict[str, object], told: str) -> None:
    content = {**json.loads(bench.health.to_json()), **change}
    with pytest.raises(ValueError, match=told):
        parse_as("health", json.dumps(content))


# ---- what is asked for may be turned off; another model begins anew


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("frozen_frames", "frozen"),
        ("focus_ratio", "out_of_focus"),
        ("bright_ratio", "too_bright"),
        ("moved_ratio", "moved"),
        ("drift_limit", "evidence_drift"),
        ("skipped_ratio", "frames_skipped"),
        ("resident_warn_mib", "memory_grown"),
    ],
)
def test_what_is_set_to_0_is_off(tmp_path: Path, limit: str, code: str) -> None:
    bench = Bench(tmp_path, {limit: 0})
    PROVOKED[code][0](bench)
    assert code not in bench.standing()


def test_another_model_begins_anew(bench: Bench) -> None:
    PROVOKED["evidence_drift"][0](bench)
    assert bench.standing() == {"evidence_drift"}
    bench.health.calibrate(replace(REFERENCE, evidence=Reference(-5.0, 0.5)))
    assert bench.standing() == set()
    PROVOKED["evidence_drift"][0](bench)
    assert bench.standing() == set()


def test_a_bundle_without_the_evidence_is_not_watched_for_it(bench: Bench) -> None:
    bench.health.calibrate(replace(REFERENCE, evidence=None))
    PROVOKED["evidence_drift"][0](bench)
    assert bench.standing() == set()


def test_a_spread_of_nothing_is_widened(bench: Bench) -> None:
    nothing = DriftReference(Reference(0.4, 0.0), Reference(300.0, 0.0), Reference(0.1, 0.0), None)
    bench.health.calibrate(nothing)
    for _ in range(200):
        bench.see(brightness=0.401, focus=301.0, score=0.1001)
    assert bench.standing() == set()


def test_a_view_that_was_lost_is_an_alert(bench: Bench) -> None:
    for seed in range(8):
        bench.see(image=scene(seed))
    for seed in range(6):
        bench.see(image=scene(seed + 20, turn=60))
    assert bench.state("moved") == "alert"


# ---- what it costs


def test_a_frame_costs_little(bench: Bench) -> None:
    image = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    frame, verdict = make_frame(image), bench.verdict(np.random.default_rng(0))
    bench.health.observe(frame, verdict)
    fastest_ns = 10**9
    for _ in range(300):  # the clock stands: neither the view nor the drift is due
        begin = time.perf_counter_ns()
        bench.health.observe(frame, verdict)
        fastest_ns = min(fastest_ns, time.perf_counter_ns() - begin)
    assert fastest_ns < 200_000


def test_every_reason_is_explained_to_people() -> None:
    text = (REPOSITORY / "docs" / "health.md").read_text("utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert REASONS.keys() <= rows.keys()
    for code, reason in REASONS.items():
        assert reason.mend in rows[code]


def test_a_reason_that_was_seen_says_by_whom_until_it_falls(bench: Bench) -> None:
    bench.see(8)
    _away(bench)
    assert not bench.health.acknowledge("disk", "broker_away", "ann"), "that is no reason of this role"
    assert not bench.health.acknowledge("disk", "disk_low", "ann"), "it does not stand"
    assert bench.health.acknowledge("broker", "broker_away", "ann")
    said = bench.health.content()
    assert said["state"] == "degraded", "it changes no state"
    assert said["roles"]["broker"]["acknowledged"]["by"] == "ann"
    assert "acknowledged" not in said["roles"]["disk"]
    bench.poll(150, connected=False)
    worse = bench.health.content()["roles"]["broker"]
    assert (worse["state"], "acknowledged" in worse) == ("alert", False), "worse than what was seen"
    bench.poll(8, connected=True)
    _away(bench)
    assert "acknowledged" not in bench.health.content()["roles"]["broker"], "it came again"
