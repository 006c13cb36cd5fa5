"""What good frames say together: a memory of them, and what is usual of their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from device.bundle.bundle import DriftReference, MemorySpec, Reference
from device.bundle.memory import Memory
from device.inspection.checks import Checks
from device.learning import coreset
from device.learning.coreset import POOL
from device.learning.features import Features, FrameFeatures

DRIFT_FRAMES = 50  # that the evidence of good frames is measured on
SEED = 0


def remember(seen: Sequence[FrameFeatures], spec: MemorySpec, known: Features | None = None) -> Memory:
    """As many rows as `spec` has, or what each place shows; its spec says nothing of what is usual yet."""
    rng = np.random.default_rng(SEED)
    parts = np.stack([part.stored for one in seen for part in one.parts])
    rows = np.concatenate([_sampled(one.rows, -(-POOL // len(seen)), rng) for one in seen])
    if known is not None:
        rows = np.concatenate([known, rows[:, : spec.row_channels]])
    good = coreset.remember(parts, spec.kind, spec.row_channels, spec.items, rng, rows)
    items = len(good.items) or len(good.means)
    return Memory(good, replace(spec, items=items))


def _sampled(rows: Features, most: int, rng: np.random.Generator) -> Features:
    """At most so many of them: the coreset looks at no more."""
    return rows if len(rows) <= most else rows[rng.choice(len(rows), most, replace=False)]


def drift_reference(
    seen: Sequence[FrameFeatures], shown: Sequence[Checks], scores: Sequence[float]
) -> DriftReference:
    """Of good frames, of some of them with their evidence, and of their scores."""
    return DriftReference(
        brightness_ratio=Reference.of([one.checks.brightness_ratio for one in seen]),
        focus=Reference.of([one.checks.focus for one in seen]),
        score=Reference.of(scores),
        evidence=Reference.of([one.evidence for one in shown if one.evidence is not None]),
    )


def pictures(seen: Sequence[FrameFeatures], memory: Memory) -> list[Checks]:
    """Of some of the frames, with their evidence: a mean over all cells."""
    return [
        replace(one.checks, evidence=float(np.mean([memory.evidence(part).mean() for part in one.parts])))
        for one in seen[:: max(1, len(seen) // DRIFT_FRAMES)]
    ]
