"""Every reason of health: provoked and cleared, and what its states add up to."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY
from fixtures_health import GRAVE, PROVOKED, Bench

from device.health import health
from device.health.reasons import REASONS, ROLES
from device.schemas.strict_json import parse_as

DATA = REPOSITORY / "tests" / "data"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# ---- every reason: how it comes, how grave it is, how it goes


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
        "picture_darker": {"brightness_drift"},
        "picture_brighter": {"brightness_drift"},
        "picture_strange": {"evidence_drift"},
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


@pytest.mark.parametrize("code", GRAVE)
def test_what_is_worse_is_an_alert(bench: Bench, code: str) -> None:
    bench.see(3)
    GRAVE[code](bench)
    assert bench.state(code) == "alert"
    assert bench.health.total == "alert"


# ---- states and the message


def test_it_is_init_until_a_frame_was_inspected(bench: Bench) -> None:
    assert bench.health.total == "init"
    bench.poll(3)
    assert bench.health.total == "init"
    bench.see()
    assert bench.health.total == "ready"


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


def test_every_reason_is_explained_to_people() -> None:
    text = (REPOSITORY / "docs" / "reference" / "health.md").read_text("utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert REASONS.keys() <= rows.keys()
    for code, reason in REASONS.items():
        assert reason.mend in rows[code]


def test_a_reason_that_was_seen_says_by_whom_until_it_falls(bench: Bench) -> None:
    bench.see(8)
    away, _, _ = PROVOKED["broker_away"]
    away(bench)
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
    away(bench)
    assert "acknowledged" not in bench.health.content()["roles"]["broker"], "it came again"


def test_defects_one_after_the_other_are_no_drift(bench: Bench) -> None:
    bench.see(60)
    bench.see(30, word="NG", score=0.95, evidence=4.0)
    assert bench.standing() == set()


def test_parts_that_nobody_had_time_for_say_nothing_of_the_camera(bench: Bench) -> None:
    bench.see(5)
    for _ in range(20):
        bench.health.unseen("too many triggers waited", "overload")
    assert bench.standing() == set()
