"""Payloads: those of real stations are read, and everything else is refused whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulated import SimulatedStation
from deploy.bridge import payloads

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.mark.parametrize("word", ["ok", "ng", "error"])
def test_a_stations_verdict(word: str) -> None:
    raw = (GOLDEN / f"verdict-{word}.json").read_bytes()
    verdict, content = payloads.verdict_of(raw), json.loads(raw)
    for name in ("station", "event_id", "seq", "historical", "part_id", "verdict", "score", "threshold"):
        assert getattr(verdict, name) == content[name]
    assert verdict.regions == len(content["regions"])
    assert verdict.total_ms == content["timing_ms"].get("total")
    assert verdict.captured_s == 1790000000.123
    assert verdict.raw == raw


@pytest.mark.parametrize("name", ["event_id", "session_id"])
@pytest.mark.parametrize("hostile", ["\ud800", "a\r\nX: 1", "../../x", "x" * 129, "é"])
def test_an_id_that_no_station_makes_is_refused(name: str, hostile: str) -> None:
    content = json.loads((GOLDEN / "verdict-ng.json").read_bytes()) | {name: hostile}
    with pytest.raises(ValueError, match=f"^{name}: must be 1..128 letters, digits"):
        payloads.verdict_of(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("name", "file"),
    [("health", "health"), ("counters", "counters"), ("stats", "stats"), ("model", "model-active")],
)
def test_a_stations_state(name: str, file: str) -> None:
    raw = (GOLDEN / f"{file}.json").read_bytes()
    assert payloads.state_of(name, raw) == json.loads(raw)


def test_a_simulated_stations_state_is_as_the_schemas_say() -> None:
    station = SimulatedStation("press-4")
    for topic, payload in station.retained().items():
        name = topic.rpartition("/")[2]
        if name != "status":
            payloads.state_of(name, payload)
    payloads.verdict_of(json.dumps(station.verdict("NG")).encode())


def test_a_newer_station_may_say_more() -> None:
    content = json.loads((GOLDEN / "verdict-ng.json").read_text())
    content |= {"further": 1}
    content["model"]["further"] = content["regions"][0]["further"] = [{}]
    assert payloads.verdict_of(json.dumps(content).encode()).verdict == "NG"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schema": 2}, "schema"),
        ({"verdict": "GOOD"}, "verdict"),
        ({"verdict": None}, "verdict"),
        ({"score": 1.5}, "score"),
        ({"score": "0.5"}, "score"),
        ({"historical": 0}, "historical"),
        ({"ts": "yesterday"}, "ts"),
        ({"regions": None}, "regions"),
    ],
)
def test_what_is_not_as_the_schema_says_is_refused(changes: dict[str, Any], field: str) -> None:
    content = json.loads((GOLDEN / "verdict-ok.json").read_text()) | changes
    with pytest.raises(ValueError, match=rf"^{re.escape(field)}: must be"):
        payloads.verdict_of(json.dumps(content).encode())


@given(st.one_of(st.binary(max_size=200), st.text(max_size=50).map(lambda text: json.dumps(text).encode())))
def test_whatever_else_arrives_is_a_value_error(payload: bytes) -> None:
    for read in (payloads.verdict_of, payloads.answer_of, lambda raw: payloads.state_of("health", raw)):
        with pytest.raises(ValueError, match=r"."):
            read(payload)


@given(st.data())
def test_a_verdict_with_one_field_replaced_is_read_or_refused(data: st.DataObject) -> None:
    content = json.loads((GOLDEN / "verdict-ng.json").read_text())
    field = data.draw(st.sampled_from(sorted(content)))
    content[field] = data.draw(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
        )
    )
    try:
        verdict = payloads.verdict_of(json.dumps(content).encode())
    except ValueError:
        return
    assert verdict.verdict in ("OK", "NG", "MARGINAL", "ERROR")


def test_an_answer_with_a_verdict() -> None:
    verdict = json.loads((GOLDEN / "verdict-ok.json").read_text())
    answer = json.loads((GOLDEN / "answers.jsonl").read_text().splitlines()[0])
    answer |= {"ts": "2026-01-31T06:00:00.000Z", "command": "trigger", "change": None}
    old = payloads.answer_of(json.dumps(answer).encode())
    assert (old.ok, old.event_id, old.verdict) == (True, None, None), "one of 0.1.0"
    answer |= {"event_id": verdict["event_id"], "verdict": verdict}
    new = payloads.answer_of(json.dumps(answer).encode())
    assert new.event_id == verdict["event_id"]
    assert new.verdict is not None
    assert new.verdict.verdict == "OK"
    answer["verdict"] = {"verdict": "OK"}
    with pytest.raises(ValueError, match="missing"):
        payloads.answer_of(json.dumps(answer).encode())


@pytest.mark.parametrize("payload", [b"", b"Online", b"\xff", b"online "])
def test_a_status_that_is_none(payload: bytes) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        payloads.status_of(payload)
