"""Verdicts between put() and their commit, which may take minutes, and the loss rule where it takes more."""

from __future__ import annotations

import logging
from collections import Counter, deque
from pathlib import Path

from device.outbox.database import OutboxEntry

log = logging.getLogger(__name__)

LIMIT = 10_000  # verdicts


class UnstoredQueue:
    """A queue of entries. Its owner's lock is held at each call."""

    def __init__(self, path: Path) -> None:
        """`path` of the file that they are for, for the log."""
        self._path = path
        self._entries: deque[OutboxEntry] = deque()
        self._is_overrun = False
        self.size_bytes = 0
        self.dropped: Counter[str] = Counter()  # by word, since they were last taken

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: OutboxEntry) -> None:
        """One more; over LIMIT the oldest of those that are missed least goes."""
        if len(self._entries) >= LIMIT:
            self._drop()
        self._entries.append(entry)
        self.size_bytes += entry.size_bytes

    def take(self, most: int) -> list[OutboxEntry]:
        """The oldest."""
        taken = [self._entries.popleft() for _ in range(min(most, len(self._entries)))]
        self.size_bytes -= sum(entry.size_bytes for entry in taken)
        return taken

    def take_dropped(self) -> Counter[str]:
        """What has been dropped since the last call, by word."""
        dropped, self.dropped = self.dropped, Counter()
        return dropped

    def _drop(self) -> None:
        at, entry = min(enumerate(self._entries), key=lambda pair: pair[1].rank)  # the first of the lowest
        del self._entries[at]
        self.size_bytes -= entry.size_bytes
        self.dropped[entry.word] += 1
        if not self._is_overrun:
            self._is_overrun = True
            log.warning(
                "%s: the disk stands still, and %d verdicts wait for it: the oldest are dropped, OK first",
                self._path,
                LIMIT,
            )
