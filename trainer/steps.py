"""Where a long command is: which step of how many it is at, and how long each took.

A log gets one line a step. On a terminal a bar says the same beside what is being counted, and is gone when
that is done; a file or a pipe never gets one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
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

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self.took_s: dict[str, float] = {}

    @contextmanager
    def at(self, name: str) -> Iterator[None]:
        """Names the step in the log when it begins, and keeps its time when it ends."""
        place = f"step {self._names.index(name) + 1} of {len(self._names)}: {name}"
        log.info("%s", place)
        told = _where.set(place)
        start = time.monotonic()
        try:
            yield
        finally:
            _where.reset(told)
            self.took_s[name] = time.monotonic() - start


def bar(items: Iterable[Item] | None, what: str, total: int | None = None, unit: str = "image") -> tqdm[Item]:
    """The items as they are, counted on a terminal where it takes a while; without items, a bar to update."""
    said = ", ".join(filter(None, (_where.get(), what)))
    return tqdm(items, said, total, unit=unit, delay=BAR_AFTER_S, leave=False, disable=None)
