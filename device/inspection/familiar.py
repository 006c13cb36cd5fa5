"""Whether a picture is one that the model can judge, and what has changed where it is not.

The ranges in a bundle (calibration.FamiliarRanges) span what good training pictures looked like and the
changes that the model was seen to bear. A picture outside is MARGINAL, whatever its score: on it neither OK
nor NG is worth anything. What is measured is the picture as the model sees it, so what the model never gets
to see does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from device.bundle.calibration import FamiliarRanges, Range
from device.inspection.checks import Checks

Cause = Literal["darker", "brighter", "blurred", "noisy", "colour", "uneven", "strange"]

CHANGED_SD = 2.0  # of the median of some pictures from the usual, in sd of single ones: the cause is named
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
    "smear": ("blurred", "blurred"),
    "fineness": ("blurred", "noisy"),
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
    off_sd = {name: (value - known.usual) / known.sd for name, known, value in _quantities(familiar, checks)}
    for name, known, value in _quantities(familiar, checks):
        low, high = (0.0 if bound is None else bound - value for bound in (known.low, known.high))
        if low > 0 or high < 0:
            found.append(Doubt(_cause(name, off_sd), name, value, max(low, -high) / known.sd, known))
    return _worst(found)


def changed(familiar: FamiliarRanges, pictures: Sequence[Checks]) -> Doubt | None:
    """What is different in most of some pictures, whether the model bears it or not.

    Of a quantity whose either side has the same cause it is how far the pictures are off, to whichever side.
    """
    values: dict[str, list[float]] = {}
    ranges: dict[str, Range] = {}
    for checks in pictures:
        for name, known, value in _quantities(familiar, checks):
            values.setdefault(name, []).append(value)
            ranges[name] = known
    off_sd = {name: _off_sd(name, values[name], known) for name, known in ranges.items()}
    return _worst(
        [
            Doubt(_cause(name, off_sd), name, known.usual + off_sd[name] * known.sd, abs(off_sd[name]), known)
            for name, known in ranges.items()
            if abs(off_sd[name]) > CHANGED_SD
        ]
    )


def _off_sd(name: str, values: Sequence[float], known: Range) -> float:
    off = (np.asarray(values) - known.usual) / known.sd
    low, high = _CAUSES[name]
    middle = float(np.median(off))
    return float(np.copysign(np.median(np.abs(off)), middle)) if low == high else middle


def _cause(name: str, off_sd: Mapping[str, float]) -> Cause:
    """More detail is noise where the finest has gained the most; else it is the parts' own."""
    cause = _CAUSES[name][off_sd[name] > 0]
    if name == "sharpness" and cause == "noisy" and off_sd.get("fineness", np.inf) <= CHANGED_SD:
        return "strange"
    return cause


def _worst(found: Sequence[Doubt]) -> Doubt | None:
    """What is farthest off; what is only strange where nothing says why, and of that the model the last."""
    return max(
        found, key=lambda one: (one.cause != "strange", one.quantity != _LAST, one.excess_sd), default=None
    )


def _quantities(familiar: FamiliarRanges, checks: Checks) -> Iterator[tuple[str, Range, float]]:
    """(name, range, value) of what is known of a picture."""
    look = checks.look
    yield "brightness", familiar.brightness, checks.brightness_ratio
    if look is not None:
        yield "sharpness", familiar.sharpness, look.sharpness
        yield "warmth", familiar.warmth, look.warmth
        yield "slope_x", familiar.slope_x, look.slope_x
        yield "slope_y", familiar.slope_y, look.slope_y
        if familiar.smear is not None and familiar.fineness is not None:
            yield "smear", familiar.smear, look.smear
            yield "fineness", familiar.fineness, look.fineness
    if checks.evidence is not None:
        yield _LAST, familiar.evidence, checks.evidence
