"""Commands from the broker: what they must look like, who may give them, and what became of them.

    <prefix>/<station>/cmd/<name>            a JSON object (commands.schema.json), or nothing for {}
    <prefix>/<station>/response/...          the answer (answer.schema.json), to an MQTT 5 response topic
    <prefix>/<station>/cmd/<name>/response   the answer to a command without a response topic

A command passes these gates in this order; the first that is closed refuses it, with a reason in the answer
and in the log: not retained (it would be executed again on every connect, and is not even answered); a name
that is known and allowed; not too large; a response topic below response/; a payload as its schema says; not
a repetition; within the rate of its name. A repetition (QoS 1 may deliver twice) gets the answer of the
first, marked `repeated`. Only what is executed counts for a rate, and each name has its own: neither nonsense
nor commands of another kind use up what a trigger may have.

What changes the station is audited (audit.py): before it is done, so that a command that is delivered again
after a crash in the middle of it is not executed twice, and after. A trigger, a rebirth and a picture change
nothing; they are in the log now and then, and a trigger in the verdict that follows.

One thread calls `handle`. Nothing that arrives makes it raise. The answer to a trigger comes when its part
has a number, or its verdict, from the thread that knows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Protocol

from device.config import COMMANDS
from device.errors import EdgeVisionError
from device.inspection.verdict import event_id
from device.line.asked import AnswerListener
from device.mqtt.audit import AuditLog
from device.mqtt.connection import IncomingMessage
from device.schemas import strict_json
from device.system import clock
from device.system.loudness import Loudness
from device.system.printable import printable
from device.system.token_bucket import TokenBucket

log = logging.getLogger(__name__)

SCHEMA = 1
NAMES = COMMANDS
HARMLESS = ("trigger", "rebirth", "picture")  # change nothing, so are not in the audit log
LIMIT_BYTES = 4096  # of a payload
REPEAT_S = 600.0  # for so long, and for the last _REMEMBERED commands, a repetition is known as one
BURST = 10  # so many may come at once, whatever the rate
_REMEMBERED = 256
_CORRELATION_LIMIT_BYTES = 128
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RESPONSE_TOPIC = re.compile(r"response(/[A-Za-z0-9._-]{1,64}){1,8}")
_OF_THE_AUDIT = ("phase", "by", "fingerprint")  # what a record has beside the answer
_UNKNOWN_END = "it was begun, and its end is not known: see the state of the station"


class Refused(Exception):
    """An action that cannot be done now; the message is the reason in the answer."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an action changed: JSON values."""

    old: Any
    new: Any

    def content(self) -> dict[str, Any]:
        return {"old": self.old, "new": self.new}


class Actions(Protocol):
    """What a station does on command. Each raises Refused or an EdgeVisionError where it did not do it."""

    def trigger(self, part_id: str | None, told: AnswerListener, *, wait: bool) -> None:
        """Inspect the next part now. `told` which one it is, from any thread, or with `wait` its verdict."""

    def rebirth(self) -> None:
        """Publish all retained state again."""

    def reload(self) -> Change:
        """Load the bundle that `current` leads to."""

    def set_threshold(self, ng: float | None, marginal: float | None) -> Change:
        """Decide by these scores from now on; None and None: by those of the bundle."""

    def activate(self, version: str) -> Change:
        """Change to the bundle of that version, which is on the device."""

    def rollback(self) -> Change:
        """Change to the bundle before this one."""

    def review(self, event_id: str, label: str, by: str | None) -> Change:
        """Note what a person says that a verdict should have been."""

    def picture(self, event_id: str) -> None:
        """Publish the picture of an event, from the archive."""

    def acknowledge(self, role: str, reason: str, by: str | None) -> Change:
        """Note that somebody has seen this reason of health, which stands."""


@dataclass(frozen=True, slots=True)
class Request:
    """A message on cmd/<name> as it arrived.

    `response_topic` is what follows <prefix>/<station>/; of a topic elsewhere, "/" and all of it. `retained`
    and `repeated` are the message's retain and DUP flags. `user`: who says so, unproven.
    """

    name: str
    payload: bytes
    response_topic: str | None = None
    correlation: bytes | None = None
    user: str | None = None
    retained: bool = False
    repeated: bool = False

    @classmethod
    def of(cls, incoming: IncomingMessage, root: str) -> Request:
        """From a message on <root>/cmd/<name>, where `root` is <prefix>/<station>."""
        properties = incoming.properties
        topic = properties.get("ResponseTopic")
        return cls(
            name=incoming.topic.removeprefix(f"{root}/cmd/"),
            payload=incoming.payload,
            response_topic=None if topic is None else _below(root, topic),
            correlation=properties.get("CorrelationData"),
            user=_user(properties.get("UserProperty", ())),
            retained=incoming.retained,
            repeated=incoming.repeated,
        )

    @property
    def fingerprint(self) -> str:
        """What tells a repeated command: equal for one requester, one correlation data and one content."""
        parts = (self.name.encode(), (self.response_topic or "").encode("utf-8", "replace"))
        digest = hashlib.sha256()
        for part in (*parts, self.correlation or b"", self.payload):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()


Reply = Callable[[str, str, bytes | None], None]
"""Publishes an answer: the topic below <prefix>/<station>/, the payload, the correlation data."""


class Commands:
    """The gates, the audit and the answers; `actions` does the work."""

    def __init__(
        self,
        actions: Actions,
        reply: Reply,
        audit: AuditLog,
        session_id: str,
        *,
        allow: tuple[str, ...],
        rate_hz: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the audit log's tail, to know repetitions from before a restart. Raises StorageError."""
        self._actions = actions
        self._reply = reply
        self._audit = audit
        self._session_id = session_id
        self._allow = allow
        self._buckets = {name: _Bucket(name, rate_hz, monotonic) for name in NAMES}
        self._monotonic = monotonic
        self._loudness = Loudness(monotonic)
        self._lock = threading.Lock()  # guards the answers: a trigger's comes from another thread
        self._answers: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()
        self._recall()

    def handle(self, request: Request) -> None:
        """Refuse or execute a command, and answer. Never raises."""
        try:
            self._handle(request)
        except Exception:
            log.exception("fault after command %s", _shown(request.name))

    def _handle(self, request: Request) -> None:
        if request.retained:
            log.log(self._level(request), "command %s: retained, so ignored", _shown(request.name))
            return
        try:
            content = self._checked(request)
        except ValueError as problem:
            reason = printable(str(problem))
            log.log(self._level(request), "command %s refused: %s", _shown(request.name), reason)
            self._answer(request, self._outcome(request, _request_id(request.payload), reason=reason))
            return
        if (known := self._known(request, content)) is not None:
            log.debug("command %s: a repetition, not executed again", request.name)
            if request.name == "trigger" and known["reason"] == _UNKNOWN_END:
                return  # its answer is still to come
            self._answer(request, {**known, "repeated": True})
            return
        bucket = self._buckets[request.name]
        if not bucket.take():
            refused = self._outcome(request, content.get("request_id"), reason=bucket.refusal())
            self._answer(request, refused)
            return
        self._execute(request, content)

    def _level(self, request: Request, end: str = "refused") -> int:
        """How loudly it is told that a command was done or refused: some clients ask all day."""
        return self._loudness.level(f"{request.name if request.name in NAMES else ''} {end}")

    # -- the gates

    def _checked(self, request: Request) -> dict[str, Any]:
        """The payload's content. Raises ValueError with the reason for a refusal."""
        if request.name not in NAMES:
            raise ValueError(f"unknown command; known are {', '.join(NAMES)}")
        if request.name not in self._allow:
            raise ValueError("not among [commands] allow of this station")
        if len(request.payload) > LIMIT_BYTES:
            raise ValueError(f"payload: must be {LIMIT_BYTES} bytes or fewer, got {len(request.payload)}")
        if request.correlation is not None and len(request.correlation) > _CORRELATION_LIMIT_BYTES:
            raise ValueError(f"correlation data: must be {_CORRELATION_LIMIT_BYTES} bytes or fewer")
        if request.response_topic is not None and not _RESPONSE_TOPIC.fullmatch(request.response_topic):
            raise ValueError("response topic: must be response/... of this station")
        content: dict[str, Any] = strict_json.parse(request.payload or b"{}")
        _require_known(content, request.name)
        strict_json.check(content, _schemas()[request.name])
        if request.name == "threshold":
            _require_thresholds(content["ng"], content["marginal"])
        return content

    def _known(self, request: Request, content: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer to this very command when it has been executed already.

        Without correlation data or a request id, equal commands are repetitions only when the broker says so.
        """
        if request.correlation is None and "request_id" not in content and not request.repeated:
            return None
        with self._lock:
            executed_s, answer = self._answers.get(request.fingerprint, (-REPEAT_S, None))
        return answer if self._monotonic() - executed_s < REPEAT_S else None

    # -- the work

    def _execute(self, request: Request, content: Mapping[str, Any]) -> None:
        by = printable(request.user or "")[:128] or content.get("by")
        request_id = content.get("request_id")
        try:
            self._note("begun", request, by, self._outcome(request, request_id, reason=_UNKNOWN_END))
            change = self._act(request, content, by)
        except (Refused, EdgeVisionError) as problem:
            outcome = self._outcome(request, request_id, reason=printable(str(problem)))
            log.log(self._level(request), "command %s by %s: %s", request.name, _shown(by), outcome["reason"])
        except Exception:
            log.exception("fault in command %s by %s", request.name, _shown(by))
            outcome = self._outcome(request, request_id, reason="a fault of the station: see its log")
        else:
            outcome = self._outcome(request, request_id, change=change)
            changed = "" if change is None else f": {_shown(change.old)} -> {_shown(change.new)}"
            quiet = request.name in HARMLESS and self._level(request, "done") == logging.DEBUG
            log.log(
                logging.DEBUG if quiet else logging.INFO,
                "command %s by %s: done%s",
                request.name,
                _shown(by),
                changed,
            )
            if request.name == "trigger":
                return  # the answer comes when the part is known
        self._answer(request, outcome)
        self._note("done", request, by, outcome)

    def _trigger(self, request: Request, content: Mapping[str, Any]) -> None:
        """Raises Refused. The answer names the event, and has its verdict where that is waited for."""
        wait = content.get("wait", False)

        def told(seq: int, verdict: str | None) -> None:
            reason = "dropped: too many parts wait for their verdict" if wait and verdict is None else None
            outcome = self._outcome(request, content.get("request_id"), reason=reason)
            outcome["event_id"] = event_id(self._session_id, seq)
            if wait:
                outcome["verdict"] = None if verdict is None else json.loads(verdict)
            self._answer(request, outcome)
            self._remember(request.fingerprint, self._monotonic(), outcome)

        self._actions.trigger(content.get("part_id"), told, wait=wait)

    def _act(self, request: Request, content: Mapping[str, Any], by: str | None) -> Change | None:
        match request.name:
            case "trigger":
                self._trigger(request, content)
            case "rebirth":
                self._actions.rebirth()
            case "reload":
                return self._actions.reload()
            case "threshold":
                return self._actions.set_threshold(content["ng"], content["marginal"])
            case "model":
                return self._actions.activate(content["version"])
            case "rollback":
                return self._actions.rollback()
            case "review":
                return self._actions.review(content["event_id"], content["label"], by)
            case "picture":
                self._actions.picture(content["event_id"])
            case "acknowledge":
                return self._actions.acknowledge(content["role"], content["reason"], by)
        return None

    def _note(self, phase: str, request: Request, by: str | None, outcome: dict[str, Any]) -> None:
        """Remember the outcome, and audit what is more than harmless. Raises StorageError."""
        self._remember(request.fingerprint, self._monotonic(), outcome)
        if request.name not in HARMLESS:
            self._audit.write({"phase": phase, "by": by, "fingerprint": request.fingerprint, **outcome})

    # -- what was executed

    def _remember(self, fingerprint: str, when_s: float, outcome: dict[str, Any]) -> None:
        with self._lock:
            self._answers[fingerprint] = when_s, outcome
            self._answers.move_to_end(fingerprint)
            if len(self._answers) > _REMEMBERED:
                self._answers.popitem(last=False)

    def _recall(self) -> None:
        """Remember what the audit log knows of the last minutes: the broker may deliver it again."""
        now = datetime.now(UTC)
        check = strict_json.schema("answer")
        for record in self._audit.records()[-2 * _REMEMBERED :]:
            fingerprint = str(record.get("fingerprint"))
            answer = {key: value for key, value in record.items() if key not in _OF_THE_AUDIT}
            try:
                strict_json.check(answer, check)
                age_s = max(0.0, (now - datetime.fromisoformat(answer["ts"])).total_seconds())
            except ValueError:
                continue  # not a record of ours; the log is there for people, and a person may have edited it
            self._remember(fingerprint, self._monotonic() - age_s, answer)

    # -- the answers

    def _outcome(
        self,
        request: Request,
        request_id: str | None,
        *,
        reason: str | None = None,
        change: Change | None = None,
    ) -> dict[str, Any]:
        """An answer (answer.schema.json); `reason` is why it was not done."""
        return {
            "schema": SCHEMA,
            "ts": clock.now(),
            "session_id": self._session_id,
            "command": request.name if request.name in NAMES else None,
            "request_id": request_id,
            "ok": reason is None,
            "reason": reason,
            "change": None if change is None else change.content(),
            "repeated": False,
        }

    def _answer(self, request: Request, outcome: dict[str, Any]) -> None:
        """To the response topic; where there is none, or none that is legal, to the command's own."""
        topic = request.response_topic
        if topic is None or not _RESPONSE_TOPIC.fullmatch(topic):
            if not _NAME.fullmatch(request.name):
                return
            topic = f"cmd/{request.name}/response"
        correlation = request.correlation
        if correlation is not None and len(correlation) > _CORRELATION_LIMIT_BYTES:
            correlation = None
        self._reply(topic, json.dumps(outcome, separators=(",", ":"), allow_nan=False), correlation)


class _Bucket:
    """The rate of one command. What is over it is logged twice: that, and how many."""

    def __init__(self, name: str, rate_hz: float, monotonic: Callable[[], float]) -> None:
        self._name = name
        self._rate_hz = rate_hz
        self._rate = TokenBucket(rate_hz, BURST, monotonic)
        self._refused = 0

    def take(self) -> bool:
        """Whether one more is within the rate."""
        calm = self._rate.is_calm
        if not self._rate.take():
            self._refused += 1
            if self._refused == 1:
                log.warning("command %s: %s; refused from now on", self._name, self.refusal())
            return False
        if self._refused and calm:
            log.warning("command %s: %d over the rate were refused", self._name, self._refused)
            self._refused = 0
        return True

    def refusal(self) -> str:
        """The reason in the answer."""
        return f"more than {self._rate_hz:g} a second ([commands] rate_hz)"


@cache
def _definitions() -> dict[str, Any]:
    """The schema of each command's payload, and what these refer to."""
    found: dict[str, Any] = json.loads(strict_json.schema_file("commands").read_text("utf-8"))["definitions"]
    return found


@cache
def _schemas() -> dict[str, strict_json.Schema]:
    """Of each command's payload."""
    definitions = _definitions()
    return {name: strict_json.Schema({**definitions[name], "definitions": definitions}) for name in NAMES}


def _require_known(content: Any, name: str) -> None:
    """No field that the command does not have: it may be the misspelling of one that is missing."""
    known = _definitions()[name]["properties"]
    for field in content if isinstance(content, dict) else ():
        if field not in known:
            raise ValueError(f"{printable(field)[:64]}: unknown field; known are {', '.join(known)}")


def _require_thresholds(ng: float | None, marginal: float | None) -> None:
    """Both numbers, 0 <= marginal <= ng <= 1, or both null. Raises ValueError."""
    if (ng is None) != (marginal is None):
        raise ValueError("ng, marginal: must be two numbers, or both null for those of the bundle")
    if ng is not None and marginal is not None and marginal > ng:
        raise ValueError(f"marginal: must be 0..{ng:g} (ng), got {marginal:g}")


def _below(root: str, topic: str) -> str:
    """What follows <root>/ in a topic; a topic elsewhere with a slash before it, which is never legal."""
    return topic.removeprefix(f"{root}/") if topic.startswith(f"{root}/") else f"/{topic}"


def _user(properties: Iterable[tuple[str, str]]) -> str | None:
    """Who gives the command: the user property `by`, or `user`."""
    said = dict(reversed(list(properties)))  # the first of a name counts
    return said.get("by", said.get("user"))


def _request_id(payload: bytes) -> str | None:
    """The request id of a payload that is refused, where it has one, so that the answer can be told apart."""
    if len(payload) > LIMIT_BYTES:
        return None
    try:
        content = strict_json.parse(payload)
    except ValueError:
        return None
    found = content.get("request_id") if isinstance(content, dict) else None
    return printable(found)[:128] if isinstance(found, str) else None


def _shown(value: Any) -> str:
    return printable(strict_json.shown(value))
