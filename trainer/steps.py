"""Where a long command is: which step of how many it is at, and how long each took."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

log = logging.getLogger(__name__)


class Steps:
    """The steps of a command in their order; a step that is not needed may be left out."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self.took_s: dict[str, float] = {}

    @contextmanager
    def at(self, name: str) -> Iterator[None]:
        """Names the step in the log when it begins, and keeps its time when it ends."""
        number = self._names.index(name) + 1
        log.info("step %d of %d: %s", number, len(self._names), name)
        start = time.monotonic()
        try:
            yield
        finally:
            self.took_s[name] = time.monotonic() - start
