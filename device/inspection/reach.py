"""Whether thresholds leave a model room: where no part could be NG, or none OK, it judges nothing."""

from __future__ import annotations

from dataclasses import dataclass

from device.bundle import calibration as calibrations
from device.bundle.bundle import Bundle
from device.bundle.calibration import Thresholds
from device.errors import BundleError


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """The least and the greatest score that a model can give, 0..1: all cells at one end of its output.

    0 and 1 where it gives features for a memory, which bound nothing.
    """

    least: float
    greatest: float

    def refusal(self, ng: float) -> str | None:
        """What a threshold must be, where no score can reach it; a score of 1 is where floats end."""
        if ng < 1 and ng <= self.greatest:
            return None
        limit = "below 1" if self.greatest == 1 else f"{self.greatest:.6g} or less"
        return f"must be {limit}, the greatest score that this model can give, got {ng:g}"


def require_judged(bundle: Bundle, scores: ScoreRange) -> None:
    """Raise BundleError where no part could be NG, or none OK, or NG begins where no image was judged."""
    thresholds = bundle.calibration.thresholds
    source = f"{bundle.path / calibrations.FILE}: thresholds"
    if (why := scores.refusal(thresholds.ng) or _beyond_table(thresholds)) is not None:
        raise BundleError(f"{source}.ng: {why}")
    least, marginal = scores.least, thresholds.marginal
    if marginal <= least:
        raise BundleError(
            f"{source}.marginal: must be above {least:.6g}, the least score that this model can give, "
            f"got {marginal:g}"
        )


def _beyond_table(thresholds: Thresholds) -> str | None:
    """The table has a row for `ng`: what lies beyond all of them was put there by hand."""
    last = max((row.threshold for row in thresholds.table), default=1.0)
    if thresholds.ng <= last:
        return None
    found = f"{thresholds.ng:g}"
    return f"must be {last:.6g} or less, the last threshold that images were judged at (table), got {found}"
