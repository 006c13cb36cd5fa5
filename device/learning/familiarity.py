"""What good parts' pictures look like, as ranges that a further one rarely leaves (inspection.familiar)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev

from device.bundle.calibration import FamiliarRanges, Range
from device.inspection.checks import Checks
from device.learning.confidence import student_quantile

SIDES = 15  # of ranges, which share the rate: eight quantities, and the evidence counts below only
LEAST_SD = {  # no camera and no lamp is steadier than that
    "brightness": 0.01,
    "sharpness": 0.1,
    "warmth": 0.03,
    "slope_x": 0.01,
    "slope_y": 0.01,
    "evidence": 0.05,
    "smear": 0.1,
    "fineness": 0.05,
}
LEAST = 5  # pictures; of fewer there is no spread to speak of


def natural(pictures: Sequence[Checks], rate: float) -> FamiliarRanges:
    """Ranges that the picture of a further good part leaves with probability `rate`, as far as these tell.

    Each side by the bound of Whitmore (confidence.limit) for a normal quantity, and never within what was
    seen. Raises ValueError for fewer than LEAST pictures, or where one was not looked at in full.
    """
    if len(pictures) < LEAST:
        raise ValueError(f"pictures must be {LEAST} or more, got {len(pictures)}")
    values = _values(pictures)
    return FamiliarRanges(rate, **{name: _range(name, found, rate) for name, found in values.items()})


def _values(pictures: Sequence[Checks]) -> dict[str, list[float]]:
    looks = [one.look for one in pictures if one.look is not None]
    evidence = [one.evidence for one in pictures if one.evidence is not None]
    if not len(looks) == len(evidence) == len(pictures):
        raise ValueError("pictures must have their look and their evidence")
    return {
        "brightness": [one.brightness_ratio for one in pictures],
        "sharpness": [one.sharpness for one in looks],
        "warmth": [one.warmth for one in looks],
        "slope_x": [one.slope_x for one in looks],
        "slope_y": [one.slope_y for one in looks],
        "evidence": evidence,
        "smear": [one.smear for one in looks],
        "fineness": [one.fineness for one in looks],
    }


def _range(name: str, values: Sequence[float], rate: float) -> Range:
    n, usual = len(values), fmean(values)
    sd = max(pstdev(values), LEAST_SD[name])
    reach = student_quantile(1 - rate / SIDES, n - 1) * sd * math.sqrt(1 + 1 / n)
    low, high = min(usual - reach, *values), max(usual + reach, *values)
    return Range(usual, sd, low, None if name == "evidence" else high)
