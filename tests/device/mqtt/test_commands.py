"""Commands: each gate, repetitions, the audit, and whatever hostile senders can think of."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures_daemon import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import BundleError
from device.line.asked import AnswerListener
from device.mqtt import commands
from device.mqtt.audit import AuditLog
from device.mqtt.commands import (
    BURST,
    HARMLESS,
    LIMIT_BYTES,
    NAMES,
    REPEAT_S,
    Change,
    Commands,
    Refused,
    Request,
)
from device.schemas import strict_json

ANSWER = strict_json.schema("answer")
VALID = {
    "trigger": {"part_id": "P-17/3"},
    "rebirth": {},
    "reload": {},
    "threshold": {"ng": 0.7, "marginal": 0.4},
    "model": {"version": "20260304T050607Z-0a1b2c3d"},
    "rollback": {},
    "review": {"event_id": "5e55104-00000001", "label": "ok"},
    "picture": {"event_id": "5e55104-00000001"},
    "acknowledge": {"role": "disk", "reason": "disk_low"},
}


class Recorder:
    """Actions that note what they were asked for; `fault` is what the next of them raises."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.fault: Exception | None = None
        self.waiting: list[AnswerListener] = []  # who is to be told of a part; at once, unless `hold`
        self.hold = False

    def _do(self, *what: Any) -> Change:
        self.done.append(what)
        if self.fault is not None:
            raise self.fault
        return Change("old", "new")

    def trigger(self, part_id: str | None, told: AnswerListener, *, wait: bool) -> None:
        self._do("trigger", part_id)
        self.waiting.append(told)
        if not self.hold:
            told(len(self.waiting), json.dumps({"verdict": "OK"}) if wait else None)

    def rebirth(self) -> None:
        self._do("rebirth")

    def reload(self) -> Change:
        return self._do("reload")

    def set_threshold(self, ng: float | None, marginal: float | None) -> Change:
        return self._do("threshold", ng, marginal)

    def activate(self, version: str) -> Change:
        return self._do("model", version)

    def rollback(self) -> Change:
        return self._do("rollback")

    def review(self, event_id: str, label: str, by: str | None) -> Change:
        return self._do("review", event_id, label, by)

    def picture(self, event_id: str) -> None:
        self._do("picture", event_id)

    def acknowledge(self, role: str, reason: str, by: str | None) -> Change:
        return self._do("acknowledge", role, reason, by)


class Desk:
    """Commands with their Recorder, a clock that stands still, and the answers."""

    def __init__(self, state: Path, allow: tuple[str, ...] = NAMES, rate_hz: float = 5.0) -> None:
        self.now_s = 1000.0
        self.actions = Recorder()
        self.answers: list[tuple[str, dict[str, Any], bytes | None]] = []
        self.audit = AuditLog(state)
        self.commands = Commands(
            self.actions,
            self._reply,
            self.audit,
            "5e55104",
            allow=allow,
            rate_hz=rate_hz,
            monotonic=lambda: self.now_s,
        )

    def _reply(self, topic: str, payload: str, correlation: bytes | None) -> None:
        answer = json.loads(payload)
        strict_json.check(answer, ANSWER)
        self.answers.append((topic, answer, correlation))

    def send(self, name: str, content: Any = None, **more: Any) -> dict[str, Any] | None:
        """The answer to a command; None when there is none. Seconds pass after each."""
        payload = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        before = len(self.answers)
        self.commands.handle(Request(name, payload, **more))
        self.now_s += 1.0
        return self.answers[-1][1] if len(self.answers) > before else None


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_each_command_is_executed_and_answered(desk: Desk, name: str) -> None:
    answer = desk.send(name, VALID[name] | {"request_id": "r1"}, user="ann")
    expected = {
        "trigger": ("trigger", "P-17/3"),
        "rebirth": ("rebirth",),
        "reload": ("reload",),
        "threshold": ("threshold", 0.7, 0.4),
        "model": ("model", "20260304T050607Z-0a1b2c3d"),
        "rollback": ("rollback",),
        "review": ("review", "5e55104-00000001", "ok", "ann"),
        "picture": ("picture", "5e55104-00000001"),
        "acknowledge": ("acknowledge", "disk", "disk_low", "ann"),
    }
    assert desk.actions.done == [expected[name]]
    assert desk.answers[0][0] == f"cmd/{name}/response"
    assert answer is not None
    assert answer.pop("event_id", None) == ("5e55104-00000001" if name == "trigger" else None)
    assert {key: answer[key] for key in answer if key != "ts"} == {
        "schema": 1,
        "session_id": "5e55104",
        "command": name,
        "request_id": "r1",
        "ok": True,
        "reason": None,
        "change": None if name in HARMLESS else {"old": "old", "new": "new"},
        "repeated": False,
    }


def test_the_golden_answers_byte_for_byte(desk: Desk) -> None:
    desk.send("threshold", VALID["threshold"] | {"request_id": "r1"})
    desk.send("threshold", {"ng": 0.3, "marginal": 0.4, "request_id": "r2"})
    lines = [
        json.dumps(answer | {"ts": "TIME"}, separators=(",", ":")) + "\n" for _, answer, _ in desk.answers
    ]
    assert "".join(lines) == (REPOSITORY / "tests" / "golden" / "answers.jsonl").read_text()


def test_nothing_is_an_empty_object(desk: Desk) -> None:
    assert desk.send("trigger", b"")["ok"]
    assert desk.actions.done == [("trigger", None)]


def test_the_answer_goes_where_the_requester_said_with_its_correlation_data(desk: Desk) -> None:
    desk.send("rebirth", response_topic="response/panel-7/a", correlation=b"\x00\xff")
    assert [(topic, data) for topic, _, data in desk.answers] == [("response/panel-7/a", b"\x00\xff")]


@pytest.mark.parametrize(
    "topic",
    [
        "status",
        "inspection/last",
        "response",
        "response/",
        "response/#",
        "response/+/a",
        "response/a\n",
        "response//a",
        "response/a b",
        "response/" + "a" * 65,
        "response" + "/a" * 9,
        "cmd/rollback",
        "homeassistant/device/press-4/config",
        "",
        "response/../status",
    ],
)
def test_a_response_topic_elsewhere_is_refused(desk: Desk, topic: str) -> None:
    allowed = topic == "response/../status"  # to MQTT, ".." is a level like any other
    answer = desk.send("rebirth", response_topic=topic)
    assert answer["ok"] is allowed
    assert desk.answers[0][0] == (topic if allowed else "cmd/rebirth/response")
    assert bool(desk.actions.done) is allowed


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("threshold", {}, "ng: missing"),
        ("threshold", {"ng": 0.3}, "marginal: missing"),
        ("threshold", {"NG": 0.7}, "NG: unknown field"),
        ("threshold", {"ng": 0.3, "marginal": 0.4}, "marginal: must be 0..0.3 (ng), got 0.4"),
        ("threshold", {"ng": 1.1, "marginal": 0.4}, "ng: must be a number 0..1 or null, got 1.1"),
        ("threshold", {"ng": None, "marginal": 0.4}, "ng, marginal: must be two numbers, or both null"),
        ("threshold", {"ng": True, "marginal": False}, "ng: must be a number 0..1 or null, got true"),
        ("threshold", b'{"ng": NaN, "marginal": 0}', "every number must be finite, got NaN"),
        ("threshold", b'{"ng": 0.5, "ng": 0.9, "marginal": 0}', "ng: must stand only once"),
        ("trigger", {"part": "x"}, "part: unknown field"),
        ("trigger", {"part_id": "a\nb"}, "part_id: must be 1..128 characters"),
        ("trigger", b'{"part_id": "\\ud800"}', "part_id: must be 1..128 characters"),
        ("trigger", b"PRESS", "line 1 column 1: not JSON"),
        ("trigger", b"\xff\xfe", "must be UTF-8 text"),
        ("trigger", b"[" * 4000, "nested too deeply"),
        ("rebirth", [], "the whole: must be an object, got []"),
        ("model", {"version": "../../etc"}, "version: must be 1..128 letters"),
        ("model", {"version": "-rf"}, "version: must be 1..128 letters"),
        ("model", {"version": "a\n"}, "version: must be 1..128 letters"),
        ("review", {"event_id": "e1", "label": "good"}, 'label: must be one of "ok", "ng", "unsure"'),
        ("reload", b" " * (LIMIT_BYTES + 1), "payload: must be 4096 bytes or fewer, got 4097"),
    ],
)
def test_what_is_not_as_the_schema_says_is_refused_by_name(
    desk: Desk, caplog: pytest.LogCaptureFixture, name: str, content: Any, reason: str
) -> None:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    answer = desk.send(name, payload)
    assert answer["ok"] is False
    assert answer["reason"].startswith(reason)
    assert f'command "{name}" refused: {reason}' in caplog.text
    assert desk.actions.done == []
    assert desk.audit.records() == []


def test_a_refusal_still_tells_which_request_it_refused(desk: Desk) -> None:
    answer = desk.send("threshold", {"ng": 2, "marginal": 0, "request_id": "r9"})
    assert (answer["ok"], answer["request_id"]) == (False, "r9")


def test_what_is_not_allowed_by_name_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path, allow=("trigger",))
    assert desk.send("rollback")["reason"] == "not among [commands] allow of this station"
    assert desk.send("trigger")["ok"]
    assert desk.actions.done == [("trigger", None)]


def test_an_unknown_name_is_answered_where_it_is_a_name(desk: Desk) -> None:
    assert desk.send("shut down") is None
    assert desk.send("shutdown")["ok"] is False
    assert desk.answers[-1][0] == "cmd/shutdown/response"
    answer = desk.send("shutdown", response_topic="response/a")
    assert answer["command"] is None
    assert answer["reason"].startswith("unknown command; known are trigger, ")


def test_a_retained_command_is_ignored(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    assert desk.send("rollback", retained=True) is None
    assert desk.actions.done == []
    assert 'command "rollback": retained, so ignored' in caplog.text


def test_long_correlation_data_are_refused_and_not_sent_back(desk: Desk) -> None:
    desk.send("rebirth", correlation=b"x" * 129)
    topic, answer, correlation = desk.answers[0]
    assert (topic, answer["ok"], correlation) == ("cmd/rebirth/response", False, None)


def test_a_repetition_is_answered_again_and_not_executed(desk: Desk) -> None:
    first = desk.send("rollback", correlation=b"1", response_topic="response/a")
    again = desk.send("rollback", correlation=b"1", response_topic="response/a")
    assert desk.actions.done == [("rollback",)]
    assert again == {**first, "repeated": True}


def test_a_repetition_is_known_by_its_request_id_or_by_the_brokers_word(desk: Desk) -> None:
    desk.send("rollback", {"request_id": "r1"})
    assert desk.send("rollback", {"request_id": "r1"})["repeated"]
    desk.send("trigger")
    assert desk.send("trigger", repeated=True)["repeated"]
    assert desk.actions.done == [("rollback",), ("trigger", None)]


def test_a_trigger_is_answered_with_its_event(desk: Desk) -> None:
    desk.actions.hold = True
    assert desk.send("trigger", {"part_id": "a", "request_id": "r1"}) is None
    assert desk.send("rebirth")["ok"], "others do not wait for it"
    desk.actions.waiting[0](7, None)
    topic, answer, _ = desk.answers[-1]
    assert (topic, answer["ok"], answer["request_id"]) == ("cmd/trigger/response", True, "r1")
    assert answer["event_id"] == "5e55104-00000007"
    assert "verdict" not in answer


def test_a_trigger_that_waits_is_answered_with_its_verdict(desk: Desk) -> None:
    answer = desk.send("trigger", {"wait": True})
    assert (answer["ok"], answer["event_id"]) == (True, "5e55104-00000001")
    assert answer["verdict"] == {"verdict": "OK"}


def test_a_trigger_whose_part_is_dropped_is_no_success(desk: Desk) -> None:
    desk.actions.hold = True
    desk.send("trigger", {"wait": True})
    desk.actions.waiting[0](7, None)
    _, answer, _ = desk.answers[-1]
    assert (answer["ok"], answer["verdict"], answer["event_id"]) == (False, None, "5e55104-00000007")
    assert answer["reason"] == "dropped: too many parts wait for their verdict"


def test_a_repetition_of_a_trigger_gets_its_answer_once_and_then_again(desk: Desk) -> None:
    desk.actions.hold = True
    for _ in range(2):
        assert desk.send("trigger", {"wait": True}, correlation=b"1") is None
    assert len(desk.actions.waiting) == 1
    desk.actions.waiting[0](7, json.dumps({"verdict": "NG"}))
    [(_, first, _)] = desk.answers
    assert desk.send("trigger", {"wait": True}, correlation=b"1") == {**first, "repeated": True}


@pytest.mark.parametrize("wait", ["yes", 1, None])
def test_wait_is_true_or_false(desk: Desk, wait: Any) -> None:
    assert desk.send("trigger", {"wait": wait})["reason"].startswith("wait: must be true or false")


def test_what_only_looks_like_a_repetition_is_executed(desk: Desk) -> None:
    desk.send("trigger")
    desk.send("trigger")  # nothing says that it is the same one
    desk.send("trigger", {"part_id": "a"}, correlation=b"1", response_topic="response/a")
    desk.send("trigger", {"part_id": "b"}, correlation=b"1", response_topic="response/a")
    desk.send("trigger", {"part_id": "a"}, correlation=b"1", response_topic="response/b")
    desk.send("trigger", repeated=True, correlation=b"2")  # its first delivery was lost
    desk.now_s += REPEAT_S
    desk.send("trigger", {"part_id": "a"}, correlation=b"1", response_topic="response/a")
    assert len(desk.actions.done) == 7


def test_a_repetition_is_known_after_a_restart(tmp_path: Path) -> None:
    first = Desk(tmp_path).send("rollback", correlation=b"1")
    restarted = Desk(tmp_path)
    assert restarted.send("rollback", correlation=b"1") == {**first, "repeated": True}
    assert restarted.actions.done == []


def test_a_command_that_a_crash_interrupted_is_not_executed_twice(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.actions.fault = KeyboardInterrupt()  # passes through everything, as a kill would
    with pytest.raises(KeyboardInterrupt):
        desk.send("rollback", correlation=b"1")
    restarted = Desk(tmp_path)
    answer = restarted.send("rollback", correlation=b"1")
    assert (answer["ok"], answer["repeated"], restarted.actions.done) == (False, True, [])
    assert answer["reason"].startswith("it was begun, and its end is not known")


def test_an_edited_audit_log_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_text('{"fingerprint":5}\n{"ts":"noon"}\nnotes\n[]\n')
    assert Desk(tmp_path).send("reload")["ok"]


def test_who_did_what_when_and_what_changed_is_audited(desk: Desk) -> None:
    desk.send("threshold", {**VALID["threshold"], "by": "bob"}, user="ann")
    desk.send("threshold", {**VALID["threshold"], "by": "bob"})
    desk.send("trigger")  # changes nothing
    records = desk.audit.records()
    assert [(r["phase"], r["by"], r["command"]) for r in records] == [
        ("begun", "ann", "threshold"),
        ("done", "ann", "threshold"),
        ("begun", "bob", "threshold"),
        ("done", "bob", "threshold"),
    ]
    assert records[1]["change"] == {"old": "old", "new": "new"}
    assert records[1]["ts"].endswith("Z")


def test_what_cannot_be_audited_is_not_done(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.audit.path.mkdir()
    answer = desk.send("rollback")
    assert answer["ok"] is False
    assert "audit.jsonl: cannot be written: " in answer["reason"]
    assert desk.actions.done == []


@pytest.mark.parametrize("fault", [Refused("not now"), BundleError("not now")])
def test_an_action_that_cannot_be_done_is_answered_with_its_reason(desk: Desk, fault: Exception) -> None:
    desk.actions.fault = fault
    answer = desk.send("model", VALID["model"])
    assert (answer["ok"], answer["reason"], answer["change"]) == (False, "not now", None)
    assert desk.audit.records()[-1]["reason"] == "not now"


def test_a_fault_in_an_action_is_told_and_the_next_command_is_taken(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.actions.fault = ZeroDivisionError("planted")
    assert desk.send("reload")["reason"] == "a fault of the station: see its log"
    assert "ZeroDivisionError: planted" in caplog.text
    desk.actions.fault = None
    assert desk.send("reload")["ok"]


def test_more_than_the_rate_is_refused_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, rate_hz=0.5)
    for _ in range(BURST + 20):
        desk.commands.handle(Request("trigger", b""))
    assert len(desk.actions.done) == BURST
    refused = [answer for _, answer, _ in desk.answers if not answer["ok"]]
    assert {answer["reason"] for answer in refused} == {"more than 0.5 a second ([commands] rate_hz)"}
    assert len(refused) == 20
    for _ in range(5):  # the flood goes on: one more is within the rate from time to time
        desk.now_s += 2.0
        for _ in range(4):
            desk.commands.handle(Request("trigger", b""))
    assert len(desk.actions.done) == BURST + 5
    assert caplog.text.count("over the rate were refused") == 0
    desk.now_s += 60.0
    desk.commands.handle(Request("trigger", b""))
    assert len(desk.actions.done) == BURST + 6
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert warnings[1] == "command trigger: 35 over the rate were refused"


@pytest.mark.parametrize(
    "flood",
    [
        Request("trigger", b"{"),
        Request("trigger", b'{"nonsense":1}'),
        Request("trigger", b"", retained=True),
        Request("trigger", b"", response_topic="/elsewhere"),
        Request("nonsense", b""),
        Request("picture", json.dumps(VALID["picture"]).encode()),
        Request("review", json.dumps(VALID["review"]).encode()),
        Request("trigger", b'{"request_id":"a repetition"}', correlation=b"1"),
    ],
)
def test_nothing_but_triggers_uses_up_the_rate_of_triggers(tmp_path: Path, flood: Request) -> None:
    desk = Desk(tmp_path, rate_hz=0.01)
    for _ in range(5 * BURST):
        desk.commands.handle(flood)
    done = desk.actions.done.count(("trigger", None))
    for _ in range(BURST - done):
        desk.commands.handle(Request("trigger", b""))
    assert desk.actions.done.count(("trigger", None)) == BURST
    desk.commands.handle(Request("trigger", b""))
    assert desk.actions.done.count(("trigger", None)) == BURST


def test_a_refusal_by_rate_tells_which_request_it_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path, rate_hz=0.5)
    for number in range(BURST + 1):
        desk.commands.handle(Request("trigger", json.dumps({"request_id": f"r{number}"}).encode()))
    [(ok, request_id)] = [(a["ok"], a["request_id"]) for _, a, _ in desk.answers if not a["ok"]]
    assert (ok, request_id) == (False, f"r{BURST}")


HOSTILE_TEXT = st.one_of(
    st.text(st.characters(codec=None), max_size=200),
    st.sampled_from(
        [
            "../../etc/passwd",
            "$(reboot)",
            "'; DROP TABLE outbox;--",
            "a\x00b",
            "\r\nMQTT",
            "{{7*7}}",
            "%s%n",
            "\ud800",
        ]
    ),
)
HOSTILE_VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), HOSTILE_TEXT),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE_TEXT, inner, max_size=4),
    max_leaves=12,
)
FIELD = st.sampled_from(
    ["ng", "marginal", "version", "event_id", "label", "part_id", "by", "request_id", "__proto__", "schema"]
)
HOSTILE_PAYLOAD = st.one_of(
    st.binary(max_size=600),
    HOSTILE_VALUE.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    st.dictionaries(FIELD, HOSTILE_VALUE, max_size=5).map(lambda value: json.dumps(value).encode()),
    st.integers(4000, 4200).map(lambda size: b"[" * size),
)


TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,128}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def may_be_done(action: str, *values: Any) -> bool:
    """What the documents promise of the arguments of an action, in words of its own."""
    match action:
        case "trigger":
            return values[0] is None or bool(TEXT.fullmatch(values[0]))
        case "threshold":
            return values == (None, None) or 0 <= values[1] <= values[0] <= 1
        case "model":
            return bool(NAME.fullmatch(values[0]))
        case "picture":
            return bool(NAME.fullmatch(values[0]))
        case "acknowledge":
            role, reason, by = values
            return bool(NAME.fullmatch(role) and NAME.fullmatch(reason)) and (by is None or len(by) <= 128)
        case "review":
            event_id, label, by = values
            legal = NAME.fullmatch(event_id) and label in ("ok", "ng", "unsure")
            return bool(legal) and (by is None or len(by) <= 128)
    return not values


@settings(max_examples=200)
@given(
    name=st.sampled_from(NAMES) | HOSTILE_TEXT,
    payload=HOSTILE_PAYLOAD,
    topic=st.none() | HOSTILE_TEXT | st.just("response/a"),
    correlation=st.none() | st.binary(max_size=200),
    user=st.none() | HOSTILE_TEXT,
)
def test_hostile_commands_neither_raise_nor_do_what_no_schema_allows(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    payload: bytes,
    topic: str | None,
    correlation: bytes | None,
    user: str | None,
) -> None:
    desk = Desk(tmp_path_factory.mktemp("hostile"))
    with no_fault_logged():
        desk.commands.handle(Request(name, payload, topic, correlation, user))
    done = desk.actions.done
    assert all(may_be_done(*action) for action in done)
    assert all(action[0] == name for action in done)
    assert len(done) == sum(answer["ok"] for _, answer, _ in desk.answers) <= 1
    assert all(
        where.startswith("response/") or where == f"cmd/{name}/response" for where, _, _ in desk.answers
    )
    assert len(desk.audit.records()) == 2 * (bool(done) and name not in ("trigger", "rebirth"))


@settings(max_examples=100)
@given(name=st.sampled_from(NAMES), field=FIELD, value=HOSTILE_VALUE, user=st.none() | HOSTILE_TEXT)
def test_one_hostile_field_in_a_legal_command(
    tmp_path_factory: pytest.TempPathFactory, name: str, field: str, value: Any, user: str | None
) -> None:
    desk = Desk(tmp_path_factory.mktemp("hostile"))
    with no_fault_logged():
        desk.commands.handle(Request(name, json.dumps(VALID[name] | {field: value}).encode(), user=user))
    assert all(may_be_done(*action) for action in desk.actions.done)
    if field in ("__proto__", "schema"):
        assert desk.actions.done == []
    assert len(desk.answers) == 1


@contextlib.contextmanager
def no_fault_logged() -> Iterator[None]:
    """Every log line can be written as UTF-8, on one line, and none is of a fault."""
    written = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
    handler = logging.StreamHandler(written)
    handler.handleError = lambda record: pytest.fail(f"cannot be logged: {record}")
    commands.log.addHandler(handler)
    try:
        yield
    finally:
        commands.log.removeHandler(handler)
    written.flush()
    text = written.buffer.getvalue().decode()
    assert not text.startswith("fault")  # what was sent may say the word, too
    assert text.count("\n") == len(text.splitlines()) <= 1


def test_the_fingerprint_tells_apart_what_runs_together() -> None:
    request = Request("model", b"ab", "response/c", b"d")
    others = [
        replace(request, payload=b"b", correlation=b"da"),
        replace(request, correlation=b"", payload=b"abd"),
        replace(request, name="modela", payload=b"b"),
    ]
    assert request.fingerprint not in {other.fingerprint for other in others}
