"""What good frames say together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from device.bundle.bundle import MemorySpec, Reference
from device.learning import good_frames

SPEC = MemorySpec("nearest", 4, 4, 20, False, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0)


def frame(level: int) -> Any:
    """Features of one tile, 8 x 8 cells of 4 channels, and what was measured of the frame."""
    stored = np.random.default_rng(level).integers(level, level + 9, (8, 8, 4)).astype(np.int8)
    checks = SimpleNamespace(brightness_ratio=level / 100, focus=2.0, evidence=float(level))
    return SimpleNamespace(parts=[SimpleNamespace(stored=stored)], rows=stored.reshape(-1, 4), checks=checks)


def test_a_memory_has_as_many_rows_as_its_spec_of_what_was_seen() -> None:
    frames = [frame(level) for level in range(10)]
    memory = good_frames.remember(frames, SPEC)
    assert memory.good.items.shape == (SPEC.items, SPEC.row_channels)
    assert memory.spec.items == SPEC.items
    seen = {row.tobytes() for one in frames for row in one.rows}
    assert {row.tobytes() for row in memory.good.items} <= seen
    again = good_frames.remember(frames, SPEC)
    assert np.array_equal(memory.good.items, again.good.items)


def test_what_was_known_is_remembered_beside_it() -> None:
    known = np.full((5, 4), 100, np.int8)  # far from all that is seen
    memory = good_frames.remember([frame(level) for level in range(4)], SPEC, known)
    assert known[0].tobytes() in {row.tobytes() for row in memory.good.items}


def test_the_reference_of_drift() -> None:
    frames = [frame(level) for level in (10, 20, 30)]
    found = good_frames.drift_reference(frames, [one.checks for one in frames], [0.1, 0.3])
    assert found.brightness_ratio == Reference.of([0.1, 0.2, 0.3])
    assert found.focus == Reference(2.0, 0.0)
    assert found.score == Reference.of([0.1, 0.3])
    assert found.evidence == Reference.of([10.0, 20.0, 30.0])
