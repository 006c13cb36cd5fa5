"""Parts that somebody has asked for by command, and what he is told of them.

He is told once: as soon as the part has its number, which is when its frame is taken; or, if he waits for it,
when the part has its verdict. Every part that was accepted has one in the end, an ERROR where there was no
frame, but for those that nobody had room for any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

AnswerListener = Callable[[int, str | None], None]
"""A part's number, and its verdict as JSON; None: not waited for, or there will be none."""


class VerdictView(Protocol):
    """What is needed of a verdict."""

    @property
    def seq(self) -> int:
        """The part's number."""

    def to_json(self) -> str:
        """As it goes to MQTT."""


class Asker:
    """Who asked for one part; goes with its trigger."""

    def __init__(self, asked: VerdictRequests, told: AnswerListener, *, wait: bool) -> None:
        self._asked = asked
        self._told = told
        self._wait = wait

    def taken(self, seq: int) -> None:
        """The part has this number."""
        if self._wait:
            self._asked.wait(seq, self._told)
        else:
            self._told(seq, None)


class VerdictRequests:
    """Those who wait for a verdict. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, AnswerListener] = {}

    def asker(self, told: AnswerListener, *, wait: bool) -> Asker:
        """One who is to be told, at once or with the verdict."""
        return Asker(self, told, wait=wait)

    def wait(self, seq: int, told: AnswerListener) -> None:
        """Tell of that part when it has its verdict."""
        with self._lock:
            self._waiting[seq] = told

    def judged(self, verdict: VerdictView) -> None:
        """A verdict was made."""
        if (told := self._pop(verdict.seq)) is not None:
            told(verdict.seq, verdict.to_json())

    def dropped(self, seq: int) -> None:
        """A part gets no verdict."""
        if (told := self._pop(seq)) is not None:
            told(seq, None)

    def _pop(self, seq: int) -> AnswerListener | None:
        with self._lock:
            return self._waiting.pop(seq, None)
