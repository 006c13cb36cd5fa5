"""Whether a picture is one that the model can judge, and what has changed where it is not.

The ranges in a bundle (calibration.FamiliarRanges) span what good training pictures looked like and the
changes that the model was seen to bear. A picture outside is MARGINAL, whatever its score: on it neither OK
nor NG is worth anything. What is measured is the picture as the model sees it, so what the model never gets
to see does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from device.bundle.calibration import FamiliarRanges, Range
from device.inspection.checks import Checks

Cause = Literal["darker", "brighter", "blurred", "noisy", "colour", "uneven", "strange"]

CHANGED_SD = 4.0  # of the median of some pictures from the usual, in sd of single ones: the cause is named
WORDS: dict[Cause, str] = {
    "darker": "darker than the pictures of the training",
    "brighter": "brighter than the pictures of the training",
    "blurred": "less sharp than the pictures of the training",
    "noisy": "noisier than the pictures of the training",
    "colour": "of another colour than the pictures of the training",
    "uneven": "lit from another side than the pictures of the training",
    "strange": "unlike the pictures of the training",
}
# what it means for a quantity to be below its range, and above
_CAUSES: dict[str, tuple[Cause, Cause]] = {
    "brightness": ("darker", "brighter"),
    "sharpness": ("blurred", "noisy"),
    "warmth": ("colour", "colour"),
    "slope_x": ("uneven", "uneven"),
    "slope_y": ("uneven", "uneven"),
    "evidence": ("strange", "strange"),
}
_LAST = "evidence"  # of the model: it changes with all the others, and speaks where they are silent


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a picture cannot be judged, or how some have changed. `excess_sd`: how far outside it lies."""

    cause: Cause
    quantity: str
    value: float
    excess_sd: float
    known: Range

    def __str__(self) -> str:
        known = self.known
        bounds = [f"{bound:.3g}" for bound in (known.low, known.high) if bound is not None]
        return f"{WORDS[self.cause]}: {self.quantity} {self.value:.3g}, known {' to '.join(bounds)}"


def doubt(familiar: FamiliarRanges, checks: Checks) -> Doubt | None:
    """Why a picture cannot be judged: the quantity that is farthest outside; None where none is."""
    found = []
    for name, known, value in _quantities(familiar, checks):
        low, high = (0.0 if bound is None else bound - value for bound in (known.low, known.high))
        if low > 0 or high < 0:
            cause = _CAUSES[name][0 if low > 0 else 1]
            found.append(Doubt(cause, name, value, max(low, -high) / known.sd, known))
    return _worst(found)


def changed(familiar: FamiliarRanges, pictures: Sequence[Checks]) -> Doubt | None:
    """What is different in most of some pictures, whether the model bears it or not."""
    values: dict[str, list[float]] = {}
    ranges: dict[str, Range] = {}
    for checks in pictures:
        for name, known, value in _quantities(familiar, checks):
            values.setdefault(name, []).append(value)
            ranges[name] = known
    found = []
    for name, known in ranges.items():
        middle = float(np.median(values[name]))
        off_sd = (middle - known.usual) / known.sd
        if abs(off_sd) > CHANGED_SD:
            found.append(Doubt(_CAUSES[name][off_sd > 0], name, middle, abs(off_sd), known))
    return _worst(found)


def _worst(found: Sequence[Doubt]) -> Doubt | None:
    return max(found, key=lambda one: (one.quantity != _LAST, one.excess_sd), default=None)


def _quantities(familiar: FamiliarRanges, checks: Checks) -> Iterator[tuple[str, Range, float]]:
    """(name, range, value) of what is known of a picture."""
    look = checks.look
    yield "brightness", familiar.brightness, checks.brightness_ratio
    if look is not None:
        yield "sharpness", familiar.sharpness, look.sharpness
        yield "warmth", familiar.warmth, look.warmth
        yield "slope_x", familiar.slope_x, look.slope_x
        yield "slope_y", familiar.slope_y, look.slope_y
    if checks.evidence is not None:
        yield _LAST, familiar.evidence, checks.evidence
