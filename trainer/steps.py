"""Where a long command is: which step of how many, about how many minutes are left, how long each took.

A log gets one line a step. On a terminal a bar says the same beside what is being counted, and is gone when
that is done; a file or a pipe never gets one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)

BAR_AFTER_S = 2.0  # what is done sooner needs none

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
        if not behind:
            return ""
        pace = sum(self.took_s.values()) / behind
        left_s = pace * sum(self._shares[name] for name in names[number - 1 :])
        return f", about {math.ceil(left_s / 60)} min left" if left_s >= 60 else ", less than a minute left"


def bar(items: Iterable[Item] | None, what: str, total: int | None = None, unit: str = "image") -> tqdm[Item]:
    """The items as they are, counted on a terminal where it takes a while; without items, a bar to update."""
    said = ", ".join(filter(None, (_where.get(), what)))
    return tqdm(items, said, total, unit=unit, delay=BAR_AFTER_S, leave=False, disable=None)
