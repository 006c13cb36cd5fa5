"""Where a long command is: which step of how many, about how many minutes are left, how long each took.

A log gets one line a step, and one for whatever takes minutes within it, as soon as its pace is known. On a
terminal a bar says the same beside what is being counted, and is gone when that is done; a file or a pipe
never gets one.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from operator import length_hint
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)

BAR_AFTER_S = 2.0  # what is done sooner needs none
LONG_S = 60.0  # what takes longer is told
LEAST_SHARE = 0.1  # of the usual time, that tells how long the rest will take
LEAST_ITEMS, PACE_SHARE = 5, 0.05  # that tell how long all of them will take

Item = TypeVar("Item")

_where: ContextVar[str] = ContextVar("where", default="")  # the command is, in words


class Steps:
    """The steps of a command in their order; a step that is not needed may be left out."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        """{name: its usual share of the time}, in any unit: what is left is told by those that are done."""
        self._shares = dict(shares)
        self.took_s: dict[str, float] = {}

    @contextmanager
    def at(self, name: str) -> Iterator[None]:
        """Names the step in the log when it begins, and keeps its time when it ends."""
        number = list(self._shares).index(name) + 1
        place = f"step {number} of {len(self._shares)}: {name}{self._left(number)}"
        log.info("%s", place)
        told = _where.set(place)
        start = time.monotonic()
        try:
            yield
        finally:
            _where.reset(told)
            self.took_s[name] = time.monotonic() - start

    def _left(self, number: int) -> str:
        """About how long it takes from here, if this run goes as they usually go."""
        names = list(self._shares)
        behind = sum(self._shares[name] for name in self.took_s)
        if behind < LEAST_SHARE * sum(self._shares.values()):
            return ""
        pace = sum(self.took_s.values()) / behind
        left_s = pace * sum(self._shares[name] for name in names[number - 1 :])
        return f", about {_minutes(left_s)} left" if left_s >= LONG_S else ", less than a minute left"


def bar(items: Iterable[Item] | None, what: str, total: int | None = None, unit: str = "image") -> tqdm[Item]:
    """The items as they are, counted on a terminal where it takes a while; without items, a bar to update."""
    said = ", ".join(filter(None, (_where.get(), what)))
    known = total or length_hint(items)
    if items is not None and known and not sys.stderr.isatty():
        items = _told(items, said, known)
    return tqdm(items, said, known or None, unit=unit, delay=BAR_AFTER_S, leave=False, disable=None)


def _told(items: Iterable[Item], said: str, total: int) -> Iterator[Item]:
    """The items as they are; the log says how long all of them take, if that is long."""
    start, enough = time.monotonic(), max(LEAST_ITEMS, round(PACE_SHARE * total))
    for number, item in enumerate(items):
        if number == enough:
            left_s = (time.monotonic() - start) / number * (total - number)
            if left_s >= LONG_S:
                log.info("%s: about %s for this", said, _minutes(left_s))
        yield item


def _minutes(seconds: float) -> str:
    return f"{math.ceil(seconds / 60)} min"
