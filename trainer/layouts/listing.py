"""What a layout on disk says of its images, before any of them is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.layouts.words import Split


@dataclass(frozen=True, slots=True)
class Entry:
    """One image as the layout describes it; nothing of it has been opened.

    `label` None: the mask tells. `more_masks`: of further defects of the same image.
    """

    name: str  # as the layout writes it, relative to the root where it lies under it
    path: Path
    label: int | None
    kind: str
    mask: Path | None
    group: str
    split: Split
    more_masks: tuple[Path, ...] = ()

    @property
    def masks(self) -> tuple[Path, ...]:
        return ((self.mask,) if self.mask else ()) + self.more_masks


@dataclass(frozen=True, slots=True)
class Listing:
    """What a layout says, what was wrong with how it says it, and (`notes`) how it was understood."""

    root: Path
    format: str
    entries: tuple[Entry, ...]
    problems: tuple[str, ...]
    split_rule: str
    notes: tuple[str, ...] = ()
